/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_supervisor_pool.c - the daemon itself: how it starts, and how it ends
 *
 * Each test runs the daemon itself, with fake_host.c in the place of Python.
 */
#include "tests/unit/fake_host.h"
#include "tests/unit/pool_support.h"
#include "tests/unit/support.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void
touch(const char *directory, const char *name)
{
    char path[256];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
}

static void
when_the_lifeline_ends_everything_is_gone(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lane;
    pid_t child;
    int status;

    (void)state;
    pool_start(&pool, true, NULL);
    touch(pool.directory, "node.sock");
    touch(pool.directory, "lock");
    host = pool_attach(&pool);
    lane = pool_must_open_lane(&pool, host.host);
    child = host_ask_pid(lane, FAKE_SETSID_CHILD);
    (void)close(pool.lifeline);
    pool.lifeline = -1;
    status = pool_wait(&pool);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_false(process_is_alive(host.pid));
    assert_false(process_is_alive(child));
    assert_false(path_exists(pool.directory));
    pool_await_stderr(&pool, "node Test node is gone: ending its Python processes");
    opb_lane_close(lane);
    pool_end(&pool);
}

static void
an_orderly_end_says_nothing(void **state)
{
    struct pool pool;
    char text[256];
    FILE *file;

    (void)state;
    pool_start(&pool, true, NULL);
    (void)pool_attach(&pool);
    pool_ask_detach(&pool, 0);
    pool_await_detached(&pool);
    (void)close(pool.lifeline);
    pool.lifeline = -1;
    assert_int_equal(pool_wait(&pool), 0);
    file = fopen(pool.stderr_path, "re");
    assert_non_null(file);
    assert_int_equal(fread(text, 1, sizeof(text), file), 0);
    (void)fclose(file);
    assert_false(path_exists(pool.directory));
    pool_end(&pool);
}

static void
when_the_control_connection_ends_a_managed_pool_ends(void **state)
{
    struct pool pool;
    struct host_news host;

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    opb_lane_close(pool.control);
    pool.control = NULL;
    assert_int_equal(pool_wait(&pool), 0);
    assert_false(process_is_alive(host.pid));
    assert_false(path_exists(pool.directory));
    pool_end(&pool);
}

static void
signals_do_not_end_a_managed_pool(void **state)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    struct pool pool;
    struct host_news host;

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(kill(pool.pid, numbers[i]), 0);
        assert_non_null(strstr(pool_news(&pool, OPB_CONTROL_LOG).text, "ignores signal"));
    }
    pool_expect_echo(&pool, host.host);
    pool_end(&pool);
}

static void
sighup_asks_the_node_for_its_next_generation(void **state)
{
    struct pool pool;
    struct host_news host;

    (void)state;
    for (int is_managed = 0; is_managed < 2; is_managed++) {
        pool_start(&pool, is_managed != 0, NULL);
        host = pool_attach(&pool);
        assert_int_equal(kill(pool.pid, SIGHUP), 0);
        (void)pool_news(&pool, OPB_CONTROL_RELOAD);
        pool_expect_echo(&pool, host.host);
        pool_end(&pool);
    }
}

static void
sigterm_lets_the_hosts_of_a_shared_pool_finish_and_kills_them_then(void **state)
{
    static const char *const options[] = {"--stop-timeout", "0.3", NULL};
    struct pool pool;
    struct host_news host;
    uint64_t began_ms;

    (void)state;
    pool_start(&pool, false, options);
    host = pool_attach(&pool);
    began_ms = opb_clock_ms();
    assert_int_equal(kill(pool.pid, SIGTERM), 0);
    (void)pool_news(&pool, OPB_CONTROL_LEAVING);
    assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).pid, host.pid);
    assert_true(opb_clock_ms() - began_ms >= 250);
    assert_int_equal(pool_wait(&pool), 0);
    assert_false(process_is_alive(host.pid));
    assert_false(path_exists(pool.socket_path));
    pool_end(&pool);
}

/* It has asked to be detached, and given its hosts more time than the pool has. */
static void
sigterm_of_a_shared_pool_does_not_wait_for_a_node_that_leaves_slowly(void **state)
{
    static const char *const options[] = {"--stop-timeout", "0.1", NULL};
    struct pool pool;
    struct host_news host;

    (void)state;
    pool_start(&pool, false, options);
    host = pool_attach(&pool);
    pool_ask_detach(&pool, 3600000);
    pool_limit_restarts(&pool, 5, 1000); /* what was sent before is read before this */
    pool_expect_echo(&pool, host.host);
    assert_int_equal(kill(pool.pid, SIGTERM), 0);
    assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).pid, host.pid);
    assert_int_equal(pool_wait(&pool), 0);
    pool_end(&pool);
}

/* He may try again and again. */
static void
the_log_is_not_flooded_by_who_is_refused(void **state)
{
    static const char greeting[64] = "nonsense";
    struct pool pool;

    (void)state;
    pool_start(&pool, false, NULL);
    for (int i = 0; i < 25; i++) {
        int fd = -1;
        char answer[512];

        assert_int_equal(
            opb_socket_connect(&fd, pool.socket_path, opb_deadline_ms(POOL_WAIT_MS)),
            OPB_OK);
        assert_int_equal(write(fd, greeting, sizeof(greeting)), sizeof(greeting));
        while (read(fd, answer, sizeof(answer)) > 0) {
        }
        (void)close(fd);
    }
    assert_int_equal(pool_count_stderr(&pool, "refused a connection of process"), 10);
    pool_end(&pool);
}

static void
killing_the_supervisor_leaves_no_host_and_no_child(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lane;
    pid_t child;

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    lane = pool_must_open_lane(&pool, host.host);
    child = host_ask_pid(lane, FAKE_CHILD);
    assert_int_equal(kill(pool.pid, SIGKILL), 0);
    assert_true(WIFSIGNALED(pool_wait(&pool)));
    process_await_end(host.pid);
    process_await_end(child);
    opb_lane_close(lane);
    pool_end(&pool);
}

/* A node that is killed while a process that it forked holds the lifeline. */
static void
a_killed_node_ends_its_pool_although_a_fork_holds_the_lifeline(void **state)
{
    struct pool pool;
    int report[2];
    pid_t node;
    pid_t holder = 0;

    (void)state;
    memset(&pool, 0, sizeof(pool));
    assert_int_equal(pipe2(report, O_CLOEXEC), 0);
    node = fork();
    assert_true(node >= 0);
    if (node == 0) {
        pool_start(&pool, true, NULL);
        (void)!write(report[1], &pool, sizeof(pool));
        if (fork() == 0) {
            (void)!write(report[1], &(pid_t){getpid()}, sizeof(pid_t));
        }
        (void)alarm(60); /* both end even if the test does not end them */
        (void)pause();
        _exit(0);
    }
    assert_int_equal(read(report[0], &pool, sizeof(pool)), sizeof(pool));
    assert_int_equal(read(report[0], &holder, sizeof(holder)), sizeof(holder));
    assert_true(process_is_alive(pool.pid));
    assert_int_equal(kill(node, SIGKILL), 0);
    assert_int_equal(waitpid(node, NULL, 0), node);
    process_await_end(pool.pid);
    assert_true(process_is_alive(holder)); /* and with it its copy of the lifeline */
    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_false(path_exists(pool.directory));
    (void)unlink(pool.stderr_path);
    (void)close(report[0]);
    (void)close(report[1]);
}

static void
what_orthanc_left_open_is_not_kept(void **state)
{
    struct pool pool;
    char path[64];
    char target[256];
    int leaked = open("/etc/passwd", O_RDONLY); /* as a listening socket would be */
    DIR *directory;
    const struct dirent *entry;
    bool has_stdin = false;

    (void)state;
    assert_true(leaked >= 0);
    pool_start(&pool, true, NULL);
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pool.pid);
    directory = opendir(path);
    assert_non_null(directory);
    while ((entry = readdir(directory)) != NULL) {
        ssize_t length =
            readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);

        target[length > 0 ? length : 0] = '\0';
        assert_string_not_equal(target, "/etc/passwd");
        if (strcmp(entry->d_name, "0") == 0) {
            assert_string_equal(target, "/dev/null");
            has_stdin = true;
        }
    }
    assert_true(has_stdin); /* else nothing was looked at */
    (void)closedir(directory);
    (void)close(leaked);
    pool_end(&pool);
}

static void
a_start_that_fails_says_why(void **state)
{
    static const char *const no_directory[] = {"--socket", "/nowhere/at/all/pool.sock",
                                               NULL};
    static const char *const no_host[] = {"--host-program", "/nowhere/host", NULL};
    static const char *const bad_option[] = {"--frobnicate", NULL};
    static const struct {
        const char *const *options;
        const char *line;
    } cases[] = {
        {no_directory, "ERROR cannot listen on /nowhere/at/all/pool.sock: "
                       "No such file or directory"},
        {no_host, "ERROR cannot run the host program: /nowhere/host"},
        {bad_option, "ERROR unknown option; see --help"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pool pool;
        char line[512];
        int status;

        pool_spawn(&pool, true, cases[i].options);
        pool_read_line(&pool, line, sizeof(line));
        assert_string_equal(line, cases[i].line);
        status = pool_wait(&pool);
        assert_true(WIFEXITED(status));
        assert_int_not_equal(WEXITSTATUS(status), 0);
        pool_end(&pool);
    }
}

static void
two_pools_do_not_share_a_socket(void **state)
{
    struct pool pool;
    struct pool second;
    const char *options[] = {"--socket", NULL, NULL};
    char line[512];

    (void)state;
    pool_start(&pool, true, NULL);
    options[1] = pool.socket_path;
    pool_spawn(&second, true, options);
    pool_read_line(&second, line, sizeof(line));
    assert_non_null(strstr(line, "another worker is using it"));
    assert_int_not_equal(pool_wait(&second), 0);
    pool_end(&second);
    assert_true(path_exists(pool.socket_path));
    (void)pool_attach(&pool);
    pool_end(&pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(when_the_lifeline_ends_everything_is_gone),
        OPB_TEST(an_orderly_end_says_nothing),
        OPB_TEST(when_the_control_connection_ends_a_managed_pool_ends),
        OPB_TEST(signals_do_not_end_a_managed_pool),
        OPB_TEST(sighup_asks_the_node_for_its_next_generation),
        OPB_TEST(sigterm_lets_the_hosts_of_a_shared_pool_finish_and_kills_them_then),
        OPB_TEST(sigterm_of_a_shared_pool_does_not_wait_for_a_node_that_leaves_slowly),
        OPB_TEST(the_log_is_not_flooded_by_who_is_refused),
        OPB_TEST(killing_the_supervisor_leaves_no_host_and_no_child),
        OPB_TEST(a_killed_node_ends_its_pool_although_a_fork_holds_the_lifeline),
        OPB_TEST(what_orthanc_left_open_is_not_kept),
        OPB_TEST(a_start_that_fails_says_why),
        OPB_TEST(two_pools_do_not_share_a_socket),
    };

    return OPB_RUN(tests);
}

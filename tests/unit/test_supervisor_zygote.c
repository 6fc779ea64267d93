/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_supervisor_zygote.c - hosts that a zygote forks, and zygotes that do not
 *
 * Each test runs the daemon itself, with fake_zygote.c in the place of Python.
 */
#include "tests/unit/fake_host.h"
#include "tests/unit/pool_support.h"
#include "tests/unit/support.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
start(struct pool *pool, const char *mode)
{
    assert_int_equal(setenv("FAKE_ZYGOTE", mode, 1), 0);
    pool_start(pool, true, NULL);
}

static void
end(struct pool *pool)
{
    pool_end(pool);
    (void)unsetenv("FAKE_ZYGOTE");
}

static pid_t
parent_of(pid_t pid)
{
    char path[64];
    int parent = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d (%*[^)]) %*c %d", &parent), 1);
    (void)fclose(file);
    return parent;
}

/* The host has its control socket and this lane, and soon not the lane before it. */
static void
check_descriptors(struct opb_lane *lane)
{
    uint64_t deadline_ms = opb_deadline_ms(5000);
    char text[512];

    do {
        assert_true(host_ask(lane, FAKE_FDS, "", text, sizeof(text)));
    } while (strcmp(text, "3 4") != 0 && strcmp(text, "3 5") != 0 &&
             opb_clock_ms() < deadline_ms);
    if (strcmp(text, "3 5") != 0) { /* the lane before was still there when it came */
        assert_string_equal(text, "3 4");
    }
}

/* The host answers, and is the supervisor's own. */
static void
check_host(struct pool *pool, const struct host_news *host)
{
    char text[512];
    struct opb_lane *lane = pool_must_open_lane(pool, host->host);

    assert_true(host_ask(lane, FAKE_ECHO, "here", text, sizeof(text)));
    assert_string_equal(text, "here");
    check_descriptors(lane);
    assert_int_equal(parent_of(host->pid), pool->pid);
    assert_int_equal(getsid(host->pid), host->pid);
    opb_lane_close(lane);
}

static void
a_zygote_forks_hosts_and_they_are_reaped(void **state)
{
    struct pool pool;
    struct host_news host;

    (void)state;
    start(&pool, "good");
    host = pool_attach(&pool);
    for (int i = 0; i < 5; i++) {
        struct host_news died;

        check_host(&pool, &host);
        assert_int_equal(kill(host.pid, SIGKILL), 0);
        died = pool_news(&pool, OPB_CONTROL_HOST_DIED);
        assert_int_equal(died.pid, host.pid);
        assert_string_equal(died.text, "was killed by signal 9 (Killed)");
        process_await_end(host.pid);
        host = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    }
    end(&pool);
    process_await_end(host.pid);
}

static void
the_next_host_comes_from_the_zygote_too(void **state)
{
    struct pool pool;
    struct host_news host;
    struct host_news next;

    (void)state;
    start(&pool, "good");
    host = pool_attach(&pool);
    next = pool_start_next(&pool);
    check_host(&pool, &next);
    pool_switch(&pool, next.host);
    check_host(&pool, &next);
    check_host(&pool, &host); /* has lost its place, and comes to its end by itself */
    end(&pool);
}

/* What it did is told in the node's log. */
static void
check_done_without(const char *mode, const char *log)
{
    struct pool pool;
    struct host_news host;
    struct host_news line;

    start(&pool, mode);
    pool.control = pool_connect_control(&pool);
    assert_int_equal(pool_ask_attach(&pool, pool.control, "Test node", pool.secret,
                                     sizeof(pool.secret), pool.node, sizeof(pool.node)),
                     -1);
    line = pool_news(&pool, OPB_CONTROL_LOG);
    if (strstr(line.text, log) == NULL) {
        fail_msg("the log says: %s", line.text);
    }
    host = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    check_host(&pool, &host);
    end(&pool);
    process_await_end(host.pid);
}

static void
a_host_is_started_without_a_zygote_that_ends(void **state)
{
    (void)state;
    check_done_without("dies", "has ended");
}

static void
a_host_is_started_without_a_zygote_that_ends_in_the_middle(void **state)
{
    (void)state;
    check_done_without("born", "has ended");
}

static void
a_host_is_started_without_a_zygote_that_talks_nonsense(void **state)
{
    (void)state;
    check_done_without("garbage", "something that this worker does not know");
}

static void
a_host_is_started_without_a_zygote_that_cannot_fork(void **state)
{
    (void)state;
    check_done_without("refuses", "cannot fork a host (Resource temporarily unavailable)");
}

/* And who was named, which is this process, lives on. */
static void
a_zygote_cannot_pass_off_a_stranger_as_a_host(void **state)
{
    (void)state;
    check_done_without("stranger", "named a process as a host that is none");
}

static void
a_host_that_is_about_to_be_born_holds_up_no_detach(void **state)
{
    struct pool pool;

    (void)state;
    start(&pool, "silent");
    pool.control = pool_connect_control(&pool);
    assert_int_equal(pool_ask_attach(&pool, pool.control, "Test node", pool.secret,
                                     sizeof(pool.secret), pool.node, sizeof(pool.node)),
                     -1);
    pool_ask_detach(&pool, 60000);
    pool_await_detached(&pool);
    end(&pool);
}

static void
check_needs_modules(const char *mode, const char *reason)
{
    struct pool pool;
    struct host_news died;

    start(&pool, mode);
    pool.preload = "bad";
    pool.is_starting = true;
    pool.control = pool_connect_control(&pool);
    assert_int_equal(pool_ask_attach(&pool, pool.control, "Test node", pool.secret,
                                     sizeof(pool.secret), pool.node, sizeof(pool.node)),
                     -1);
    died = pool_news(&pool, OPB_CONTROL_HOST_DIED);
    assert_int_equal(died.pid, 0);
    assert_string_equal(died.text, reason);
    end(&pool);
}

static void
a_node_that_starts_gets_no_host_without_its_modules(void **state)
{
    (void)state;
    check_needs_modules("fails",
                        "could not be started: the module \"bad\" cannot be imported");
    check_needs_modules("quits", "could not be started: The zygote ended while it imported "
                                 "the module \"bad\", named by Python.Preload");
}

static void
a_node_that_has_started_gets_hosts_without_its_modules(void **state)
{
    (void)state;
    check_done_without("fails", "the module \"bad\" cannot be imported");
    check_done_without("quits", "ended while it imported the module \"bad\"");
}

static void
a_name_that_is_no_module_ends_the_connection(void **state)
{
    static const char *const names[] = {"",    ".a", "a..b",   "a.",
                                        "a-b", "1a", "--help", "a b"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct pool pool;
        struct opb_frame *frame = NULL;

        start(&pool, "good");
        pool.preload = names[i];
        pool.control = pool_connect_control(&pool);
        pool_send_attach(&pool, pool.control, "Test node", pool.secret,
                         sizeof(pool.secret));
        assert_int_not_equal(
            opb_lane_receive(pool.control, &frame, opb_deadline_ms(POOL_WAIT_MS)), OPB_OK);
        end(&pool);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(a_zygote_forks_hosts_and_they_are_reaped),
        OPB_TEST(the_next_host_comes_from_the_zygote_too),
        OPB_TEST(a_host_is_started_without_a_zygote_that_ends),
        OPB_TEST(a_host_is_started_without_a_zygote_that_ends_in_the_middle),
        OPB_TEST(a_host_is_started_without_a_zygote_that_talks_nonsense),
        OPB_TEST(a_host_is_started_without_a_zygote_that_cannot_fork),
        OPB_TEST(a_zygote_cannot_pass_off_a_stranger_as_a_host),
        OPB_TEST(a_host_that_is_about_to_be_born_holds_up_no_detach),
        OPB_TEST(a_node_that_starts_gets_no_host_without_its_modules),
        OPB_TEST(a_node_that_has_started_gets_hosts_without_its_modules),
        OPB_TEST(a_name_that_is_no_module_ends_the_connection),
    };

    return OPB_RUN(tests);
}

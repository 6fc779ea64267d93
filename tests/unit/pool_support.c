/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/pool_support.c - a real supervisor with fake hosts, as processes and files
 *
 * Here:      starting and ending it, what it leaves behind, whether others are alive.
 * Elsewhere: its connections (pool_node.c), what is expected of it (test_supervisor_*.c).
 */
#include "tests/unit/pool_support.h"

#include "protocol/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX_OPTIONS 16

static void
pause_ms(long ms)
{
    struct timespec time = {0, ms * 1000000L};

    (void)nanosleep(&time, NULL);
}

static void
run_supervisor(const struct pool *pool, int managed_fd, const char *const *options)
{
    const char *arguments[MAX_OPTIONS + 9];
    char number[16];
    size_t count = 0;
    int fd = open(pool->stderr_path, O_WRONLY | O_CREAT | O_APPEND, 0600);

    arguments[count++] = OPB_TEST_SUPERVISOR;
    arguments[count++] = "--socket";
    arguments[count++] = pool->socket_path;
    arguments[count++] = "--host-program";
    arguments[count++] = OPB_TEST_FAKE_HOST;
    if (getenv("FAKE_ZYGOTE") == NULL) {
        arguments[count++] = "--without-zygotes";
    }
    if (managed_fd >= 0) {
        (void)snprintf(number, sizeof(number), "%d", managed_fd);
        (void)fcntl(managed_fd, F_SETFD, 0);
        arguments[count++] = "--managed-fd";
        arguments[count++] = number;
    }
    else {
        (void)prctl(PR_SET_PDEATHSIG,
                    SIGKILL); /* a test that fails leaves nothing running */
    }
    for (size_t i = 0; options != NULL && options[i] != NULL && i < MAX_OPTIONS; i++) {
        arguments[count++] = options[i];
    }
    arguments[count] = NULL;
    (void)dup2(fd, STDERR_FILENO);
    (void)setsid();
    (void)execv(OPB_TEST_SUPERVISOR, (char *const *)(uintptr_t)arguments);
    _exit(126);
}

void
pool_spawn(struct pool *pool, bool is_managed, const char *const *options)
{
    int pair[2] = {-1, -1};

    memset(pool, 0, sizeof(*pool));
    pool->lifeline = -1;
    (void)strcpy(pool->directory, "/tmp/opb-pool-XXXXXX");
    assert_non_null(mkdtemp(pool->directory));
    (void)snprintf(pool->socket_path, sizeof(pool->socket_path), "%s/pool.sock",
                   pool->directory);
    (void)snprintf(pool->stderr_path, sizeof(pool->stderr_path), "%s.stderr",
                   pool->directory);
    assert_int_equal(opb_random_bytes(pool->secret, sizeof(pool->secret)), OPB_OK);
    pool->message = opb_message_new();
    assert_non_null(pool->message);
    if (is_managed) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    }
    pool->pid = fork();
    assert_true(pool->pid >= 0);
    if (pool->pid == 0) {
        run_supervisor(pool, pair[1], options);
    }
    if (is_managed) {
        (void)close(pair[1]);
        pool->lifeline = pair[0];
    }
}

void
pool_read_line(struct pool *pool, char *out, size_t capacity)
{
    uint64_t deadline = opb_deadline_ms(POOL_WAIT_MS);
    size_t length = 0;

    while (length == 0 || out[length - 1] != '\n') {
        struct pollfd poll_fd = {.fd = pool->lifeline, .events = POLLIN};

        assert_true(length + 1 < capacity);
        assert_int_equal(poll(&poll_fd, 1, opb_deadline_poll(deadline)), 1);
        assert_int_equal(read(pool->lifeline, out + length, 1), 1);
        length++;
    }
    out[length - 1] = '\0';
}

void
pool_start(struct pool *pool, bool is_managed, const char *const *options)
{
    char line[256];
    char expected[64];

    pool_spawn(pool, is_managed, options);
    if (is_managed) {
        pool_read_line(pool, line, sizeof(line));
        (void)snprintf(expected, sizeof(expected), "READY %d %d", OPB_PROTOCOL_VERSION,
                       (int)pool->pid);
        assert_string_equal(line, expected);
        return;
    }
    pool_await_stderr(pool, "READY"); /* the socket is there before it listens */
}

int
pool_wait(struct pool *pool)
{
    uint64_t deadline = opb_deadline_ms(POOL_WAIT_MS);
    int status = 0;
    pid_t done;

    while ((done = waitpid(pool->pid, &status, WNOHANG)) == 0) {
        assert_true(opb_clock_ms() < deadline);
        pause_ms(5);
    }
    assert_int_equal(done, pool->pid);
    pool->pid = 0;
    return status;
}

static void
show_stderr(const struct pool *pool)
{
    char line[1024];
    FILE *file = fopen(pool->stderr_path, "re");

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        print_error("%s", line);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

void
pool_end(struct pool *pool)
{
    opb_lane_close(pool->control);
    if (pool->lifeline >= 0) {
        (void)close(pool->lifeline);
    }
    else if (pool->pid > 0) {
        (void)kill(pool->pid, SIGTERM);
    }
    if (pool->pid > 0) {
        int status = pool_wait(pool);

        if (status != 0) { /* a sanitizer's report, most likely */
            show_stderr(pool);
            fail_msg("the supervisor ended with wait status %d", status);
        }
    }
    opb_message_free(pool->message);
    (void)unlink(pool->socket_path);
    (void)unlink(pool->stderr_path);
    (void)rmdir(pool->directory);
    memset(pool, 0, sizeof(*pool));
}

bool
process_is_alive(pid_t pid)
{
    char path[64];
    char text[512] = "";
    const char *state;
    FILE *file;
    bool is_alive;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    is_alive = fgets(text, sizeof(text), file) != NULL;
    (void)fclose(file);
    state = strrchr(text, ')');
    return is_alive && state != NULL && state[2] != 'Z' && state[2] != 'X';
}

void
process_await_end(pid_t pid)
{
    uint64_t deadline = opb_deadline_ms(POOL_WAIT_MS);

    while (process_is_alive(pid)) {
        assert_true(opb_clock_ms() < deadline);
        pause_ms(5);
    }
}

bool
path_exists(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0;
}

uint32_t
pool_count_stderr(struct pool *pool, const char *text)
{
    char content[8192] = "";
    FILE *file = fopen(pool->stderr_path, "re");
    uint32_t count = 0;

    if (file != NULL) {
        content[fread(content, 1, sizeof(content) - 1, file)] = '\0';
        (void)fclose(file);
    }
    for (const char *at = content; (at = strstr(at, text)) != NULL; at++) {
        count++;
    }
    return count;
}

void
pool_await_stderr(struct pool *pool, const char *text)
{
    uint64_t deadline = opb_deadline_ms(POOL_WAIT_MS);

    while (pool_count_stderr(pool, text) == 0) {
        assert_true(opb_clock_ms() < deadline);
        pause_ms(5);
    }
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_supervisor_hosts.c - hosts of a real supervisor: start, lanes, DETACH
 *
 * Each test runs the daemon itself, with fake_host.c in the place of Python.
 */
#include "tests/unit/fake_host.h"
#include "tests/unit/pool_support.h"
#include "tests/unit/support.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void
attach_starts_a_host_and_a_lane_reaches_it(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lane;
    char answer[64];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    assert_string_equal(pool.node, "Test node");
    assert_int_equal(host.host, 1);
    assert_true(process_is_alive(host.pid));
    lane = pool_must_open_lane(&pool, host.host);
    assert_true(host_ask(lane, FAKE_ECHO, "grüß dich", answer, sizeof(answer)));
    assert_string_equal(answer, "grüß dich");
    opb_lane_close(lane);
    pool_end(&pool);
    process_await_end(host.pid);
}

static void
many_lanes_are_served_at_the_same_time(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lanes[20];
    char answer[64];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    for (size_t i = 0; i < 20; i++) {
        lanes[i] = pool_must_open_lane(&pool, host.host);
    }
    for (size_t i = 0; i < 20; i++) {
        char text[16];

        (void)snprintf(text, sizeof(text), "%zu", i);
        assert_true(host_ask(lanes[i], FAKE_ECHO, text, answer, sizeof(answer)));
        assert_string_equal(answer, text);
        opb_lane_close(lanes[i]);
    }
    pool_end(&pool);
}

static void
a_host_inherits_no_descriptor_and_no_signal_setting(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lane;
    char answer[512];

    (void)state;
    (void)setenv("FAKE_HOST_MARK", "inherited", 1);
    (void)signal(SIGUSR1, SIG_IGN);
    pool_start(&pool, true, NULL);
    (void)signal(SIGUSR1, SIG_DFL);
    (void)unsetenv("FAKE_HOST_MARK");
    host = pool_attach(&pool);
    lane = pool_must_open_lane(&pool, host.host);
    assert_true(host_ask(lane, FAKE_ENV, "FAKE_HOST_MARK", answer, sizeof(answer)));
    assert_string_equal(answer, "inherited");
    assert_true(host_ask(lane, FAKE_SIGNALS, "", answer, sizeof(answer)));
    assert_string_equal(answer, "0000000000000000 0000000000000000");
    assert_true(host_ask(lane, FAKE_FDS, "", answer, sizeof(answer)));
    assert_string_equal(answer, "3 4"); /* its control socket, and this lane */
    opb_lane_close(lane);
    pool_end(&pool);
}

/* Connects and greets without waiting for the welcome. */
static struct opb_lane *
greet(struct pool *pool, uint32_t host)
{
    struct opb_hello hello = pool_hello(pool, host);
    struct opb_lane *lane = NULL;
    int fd = -1;

    assert_int_equal(
        opb_socket_connect(&fd, pool->socket_path, opb_deadline_ms(POOL_WAIT_MS)), OPB_OK);
    assert_int_equal(opb_lane_open(&lane, &fd, &opb_segment_malloc), OPB_OK);
    assert_int_equal(opb_hello_send(lane, &hello, opb_deadline_ms(POOL_WAIT_MS)), OPB_OK);
    return lane;
}

static void
a_stopped_host_takes_no_lanes_and_the_node_is_told_why(void **state)
{
    static const char *const options[] = {"--handshake-timeout-ms", "300", NULL};
    enum { MOST = 600 };
    static struct opb_lane *lanes[MOST];
    struct pool pool;
    struct host_news host;
    uint32_t version = 0;

    (void)state;
    pool_start(&pool, true, options);
    host = pool_attach(&pool);
    assert_int_equal(kill(host.pid, SIGSTOP), 0);
    for (size_t i = 0; i < MOST; i++) {
        lanes[i] = greet(&pool, host.host); /* the last ones find the socket full */
    }
    assert_int_equal(
        opb_welcome_receive(lanes[MOST - 1], &version, opb_deadline_ms(POOL_WAIT_MS)),
        OPB_REFUSED);
    assert_string_equal(
        opb_lane_failure(lanes[MOST - 1]),
        "host 1 did not take the lane within 300 ms: it hangs or is stopped");
    for (size_t i = 0; i < MOST; i++) {
        opb_lane_close(lanes[i]);
    }
    pool_replace_host(&pool, host.host, "was stopped");
    assert_string_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).text, "was stopped");
    host = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    opb_lane_close(pool_must_open_lane(&pool, host.host));
    pool_end(&pool);
}

static void
detach_waits_for_hosts_that_end_by_themselves(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lane;
    struct host_news died;
    char answer[64];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    lane = pool_must_open_lane(&pool, host.host);
    pool_ask_detach(&pool, 15000);
    assert_false(host_ask(lane, FAKE_EXIT, "0", answer, sizeof(answer)));
    opb_lane_close(lane);
    died = pool_news(&pool, OPB_CONTROL_HOST_DIED);
    assert_string_equal(died.text, "ended with exit code 0");
    pool_await_detached(&pool);
    assert_false(process_is_alive(host.pid));
    assert_null(pool_open_lane(&pool, host.host, answer, sizeof(answer)));
    assert_true(process_is_alive(pool.pid)); /* it ends with its node, not before */
    pool_end(&pool);
}

static void
detach_ends_what_does_not_end_by_itself(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lane;
    pid_t child;
    char answer[64];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    lane = pool_must_open_lane(&pool, host.host);
    assert_true(host_ask(lane, FAKE_IGNORE_TERM, "", answer, sizeof(answer)));
    child = host_ask_pid(lane, FAKE_SETSID_CHILD);
    pool_ask_detach(&pool, 50);
    assert_string_equal(pool_news(&pool, OPB_CONTROL_LOG).text,
                        "Python did not finish in time: sending it SIGTERM");
    assert_string_equal(pool_news(&pool, OPB_CONTROL_LOG).text,
                        "Python did not end on SIGTERM: killing it");
    assert_string_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).text,
                        "was killed by signal 9 (Killed)");
    pool_await_detached(&pool);
    assert_false(process_is_alive(child));
    opb_lane_close(lane);
    pool_end(&pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(attach_starts_a_host_and_a_lane_reaches_it),
        OPB_TEST(many_lanes_are_served_at_the_same_time),
        OPB_TEST(a_host_inherits_no_descriptor_and_no_signal_setting),
        OPB_TEST(a_stopped_host_takes_no_lanes_and_the_node_is_told_why),
        OPB_TEST(detach_waits_for_hosts_that_end_by_themselves),
        OPB_TEST(detach_ends_what_does_not_end_by_itself),
    };

    return OPB_RUN(tests);
}

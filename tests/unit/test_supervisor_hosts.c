/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_supervisor_hosts.c - hosts of a real supervisor: start, lanes, death
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
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct opb_lane *
must_open_lane(struct pool *pool, uint32_t host)
{
    char text[512];
    struct opb_lane *lane = pool_open_lane(pool, host, text, sizeof(text));

    if (lane == NULL) {
        fail_msg("no lane: %s", text);
    }
    return lane;
}

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
    lane = must_open_lane(&pool, host.host);
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
        lanes[i] = must_open_lane(&pool, host.host);
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
    lane = must_open_lane(&pool, host.host);
    assert_true(host_ask(lane, FAKE_ENV, "FAKE_HOST_MARK", answer, sizeof(answer)));
    assert_string_equal(answer, "inherited");
    assert_true(host_ask(lane, FAKE_SIGNALS, "", answer, sizeof(answer)));
    assert_string_equal(answer, "0000000000000000 0000000000000000");
    assert_true(host_ask(lane, FAKE_FDS, "", answer, sizeof(answer)));
    assert_string_equal(answer, "3 4"); /* its control socket, and this lane */
    opb_lane_close(lane);
    pool_end(&pool);
}

static void
a_killed_host_is_reported_and_replaced_at_once(void **state)
{
    struct pool pool;
    struct host_news first;
    struct host_news died;
    struct host_news second;
    struct opb_lane *lane;
    char answer[64];
    uint64_t began;

    (void)state;
    pool_start(&pool, true, NULL);
    first = pool_attach(&pool);
    lane = must_open_lane(&pool, first.host);
    began = opb_clock_ms();
    assert_int_equal(kill(first.pid, SIGKILL), 0);
    died = pool_news(&pool, OPB_CONTROL_HOST_DIED);
    assert_int_equal(died.host, first.host);
    assert_int_equal(died.pid, first.pid);
    assert_string_equal(died.text, "was killed by signal 9 (Killed)");
    second = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    assert_true(opb_clock_ms() - began < 2000);
    assert_int_equal(second.host, 2);
    assert_int_not_equal(second.pid, first.pid);
    assert_false(host_ask(lane, FAKE_ECHO, "?", answer, sizeof(answer)));
    opb_lane_close(lane);
    assert_null(pool_open_lane(&pool, first.host, answer, sizeof(answer)));
    assert_string_equal(answer, "host 1 is not running");
    lane = must_open_lane(&pool, second.host);
    assert_true(host_ask(lane, FAKE_ECHO, "again", answer, sizeof(answer)));
    opb_lane_close(lane);
    pool_end(&pool);
}

static void
the_reason_of_a_death_tells_signals_from_exit_codes(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lane;
    char answer[64];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    lane = must_open_lane(&pool, host.host);
    assert_false(host_ask(lane, FAKE_CRASH, "", answer, sizeof(answer)));
    opb_lane_close(lane);
    assert_string_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).text,
                        "was killed by signal 11 (Segmentation fault)");
    host = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    lane = must_open_lane(&pool, host.host);
    assert_false(host_ask(lane, FAKE_EXIT, "7", answer, sizeof(answer)));
    opb_lane_close(lane);
    assert_string_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).text,
                        "ended with exit code 7");
    pool_end(&pool);
}

static void
hosts_that_die_at_once_are_started_ever_more_slowly(void **state)
{
    struct pool pool;
    uint64_t times[6];

    (void)state;
    (void)setenv("FAKE_HOST_EXIT", "3", 1);
    pool_start(&pool, true, NULL);
    (void)unsetenv("FAKE_HOST_EXIT");
    (void)pool_attach(&pool);
    times[0] = opb_clock_ms();
    for (size_t i = 1; i < 6; i++) {
        assert_string_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).text,
                            "ended with exit code 3");
        assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_STARTED).host, i + 1);
        times[i] = opb_clock_ms();
    }
    assert_true(times[2] - times[1] >= 95);
    assert_true(times[3] - times[2] >= 195);
    assert_true(times[4] - times[3] >= 395);
    assert_true(times[5] - times[4] >= 795);
    pool_end(&pool);
}

/* Kills the host and waits for the next. */
static void
kill_and_await_next(struct pool *pool, struct host_news *host)
{
    assert_int_equal(kill(host->pid, SIGKILL), 0);
    assert_int_equal(pool_news(pool, OPB_CONTROL_HOST_DIED).host, host->host);
    *host = pool_news(pool, OPB_CONTROL_HOST_STARTED);
}

static void
when_too_many_have_died_hosts_are_started_slowly_and_that_is_said_once(void **state)
{
    struct pool pool;
    struct host_news host;
    struct host_news said;
    struct opb_frame *frame;

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    pool_limit_restarts(&pool, 2, 60000);
    kill_and_await_next(&pool, &host);
    kill_and_await_next(&pool, &host);
    assert_int_equal(kill(host.pid, SIGKILL), 0);
    said = pool_news(&pool, OPB_CONTROL_LOG);
    assert_int_equal(said.host, 0); /* an error */
    assert_string_equal(
        said.text, "More than 2 hosts have died within 60 s: from now on one is started "
                   "every 30 s only, until one lives for 60 s. Python.MaxRestarts and "
                   "Python.RestartWindow set this limit");
    assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).host, host.host);
    /* the next one would come after 0.2 s otherwise */
    assert_int_equal(opb_lane_receive(pool.control, &frame, opb_deadline_ms(1500)),
                     OPB_LATE);
    pool_end(&pool);
}

static void
deaths_that_are_far_apart_do_not_count(void **state)
{
    struct pool pool;
    struct host_news host;
    uint64_t before_ms;

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    pool_limit_restarts(&pool, 1, 100);
    before_ms = opb_clock_ms();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(usleep(150000), 0);
        kill_and_await_next(&pool, &host);
    }
    assert_true(opb_clock_ms() - before_ms < 15000);
    pool_end(&pool);
}

static void
a_host_program_that_cannot_run_is_reported(void **state)
{
    static const char *const options[] = {"--host-program", "/etc", NULL};
    struct pool pool;
    struct host_news died;

    (void)state;
    pool_start(&pool, true, options); /* a directory has x bits, and cannot be run */
    (void)pool_attach(&pool);
    died = pool_news(&pool, OPB_CONTROL_HOST_DIED);
    assert_string_equal(died.text, "could not be started: /etc: Permission denied");
    pool_end(&pool);
}

static void
what_a_dead_host_started_is_killed_too(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lane;
    pid_t children[3];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    lane = must_open_lane(&pool, host.host);
    children[0] = host_ask_pid(lane, FAKE_CHILD);
    children[1] = host_ask_pid(lane, FAKE_SETSID_CHILD);
    children[2] = host_ask_pid(lane, FAKE_DAEMON);
    for (size_t i = 0; i < 3; i++) {
        assert_true(process_is_alive(children[i]));
    }
    assert_int_equal(kill(host.pid, SIGKILL), 0);
    (void)pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    for (size_t i = 0; i < 3; i++) {
        assert_false(process_is_alive(children[i])); /* before the next host started */
    }
    opb_lane_close(lane);
    pool_end(&pool);
}

static void
a_daemon_of_a_living_host_is_left_alone(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *lane;
    pid_t daemon_pid;
    pid_t child;
    char answer[64];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    lane = must_open_lane(&pool, host.host);
    daemon_pid = host_ask_pid(lane, FAKE_DAEMON);
    child = host_ask_pid(lane, FAKE_DAEMON);
    assert_int_equal(kill(child, SIGKILL), 0); /* the supervisor gets SIGCHLD for it */
    process_await_end(child);
    assert_true(host_ask(lane, FAKE_ECHO, "still here", answer, sizeof(answer)));
    assert_true(process_is_alive(daemon_pid));
    opb_lane_close(lane);
    pool_end(&pool);
    process_await_end(daemon_pid);
}

static void
replace_host_kills_it_and_repeats_the_reason(void **state)
{
    struct pool pool;
    struct host_news host;
    struct host_news died;

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    pool_replace_host(&pool, 77, "no such host");
    pool_replace_host(&pool, host.host, "did not answer for 30 s");
    died = pool_news(&pool, OPB_CONTROL_HOST_DIED);
    assert_int_equal(died.host, host.host);
    assert_string_equal(died.text, "did not answer for 30 s");
    assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_STARTED).host, host.host + 1);
    pool_end(&pool);
}

static void
a_host_that_hangs_tells_its_stacks_before_it_is_killed(void **state)
{
    struct pool pool;
    struct host_news host;
    struct host_news news;
    char expected[128];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    pool_host_hangs(&pool, 77, "no such host");
    pool_host_hangs(&pool, host.host, "was late");
    pool_host_hangs(&pool, host.host, "was late again");
    news = pool_news(&pool, OPB_CONTROL_LOG);
    assert_int_equal(news.host, 0); /* an error */
    (void)snprintf(
        expected, sizeof(expected),
        "Python stacks of the host (pid %d), the innermost call first:", (int)host.pid);
    assert_string_equal(news.text, expected);
    assert_string_equal(pool_news(&pool, OPB_CONTROL_LOG).text, "a stack");
    assert_string_equal(pool_news(&pool, OPB_CONTROL_LOG).text, "  in two lines");
    news = pool_news(&pool, OPB_CONTROL_HOST_DIED);
    assert_int_equal(news.host, host.host);
    assert_string_equal(news.text, "was late");
    assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_STARTED).host, host.host + 1);
    pool_end(&pool);
}

static void
a_stopped_host_is_killed_without_its_stacks(void **state)
{
    struct pool pool;
    struct host_news host;
    char expected[128];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    assert_int_equal(kill(host.pid, SIGSTOP), 0);
    pool_host_hangs(&pool, host.host, "was late");
    (void)snprintf(expected, sizeof(expected),
                   "The host (pid %d) did not tell its Python stacks: it is stopped by a "
                   "signal or a debugger",
                   (int)host.pid);
    assert_string_equal(pool_news(&pool, OPB_CONTROL_LOG).text, expected);
    assert_string_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).text, "was late");
    (void)pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    pool_end(&pool);
}

static void
a_host_that_is_looked_at_goes_on(void **state)
{
    struct host_news host;
    struct host_news look;
    struct pool pool;

    (void)state;
    assert_int_equal(setenv("FAKE_LOOK", "1", 1), 0);
    pool_start(&pool, true, NULL);
    assert_int_equal(unsetenv("FAKE_LOOK"), 0);
    host = pool_attach(&pool);
    look = pool_look(&pool, host.host, 5);
    assert_int_equal(look.host, 5);
    assert_string_equal(look.text, "a look\n");
    assert_string_equal(pool_look(&pool, host.host, 6).text, "a look\n");
    assert_int_equal(kill(host.pid, 0), 0);
    assert_string_equal(pool_look(&pool, host.host + 1, 7).text, "(gone)");
    pool_end(&pool);
}

static void
a_host_that_cannot_get_the_gil_is_looked_at_without(void **state)
{
    struct host_news host;
    struct pool pool;

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    assert_string_equal(pool_look(&pool, host.host, 1).text, "a stack\n  in two lines\n");
    assert_int_equal(kill(host.pid, SIGSTOP), 0);
    assert_string_equal(pool_look(&pool, host.host, 2).text,
                        "(stopped by a signal or a debugger)");
    assert_int_equal(kill(host.pid, SIGCONT), 0);
    pool_end(&pool);
}

static void
a_pool_that_ends_does_not_wait_for_stacks(void **state)
{
    struct pool pool;
    struct host_news host;

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    assert_int_equal(kill(host.pid, SIGSTOP), 0);
    pool_host_hangs(&pool, host.host, "was late");
    pool_end(&pool);
    process_await_end(host.pid);
}

/* Connects and greets without waiting for the welcome. */
static struct opb_lane *
greet(struct pool *pool, uint32_t host)
{
    struct opb_hello hello = {
        .version = OPB_PROTOCOL_VERSION, .kind = OPB_CONNECTION_CALL, .host = host};
    struct opb_lane *lane = NULL;
    int fd = -1;

    (void)snprintf(hello.node, sizeof(hello.node), "%s", pool->node);
    memcpy(hello.secret, pool->secret, sizeof(hello.secret));
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
    opb_lane_close(must_open_lane(&pool, host.host));
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
    lane = must_open_lane(&pool, host.host);
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
    lane = must_open_lane(&pool, host.host);
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

static void
expect_echo(struct pool *pool, uint32_t host)
{
    struct opb_lane *lane = must_open_lane(pool, host);
    char answer[64];

    assert_true(host_ask(lane, FAKE_ECHO, "fine", answer, sizeof(answer)));
    opb_lane_close(lane);
}

static struct host_news
expect_death(struct pool *pool, uint32_t host)
{
    struct host_news died = pool_news(pool, OPB_CONTROL_HOST_DIED);

    assert_int_equal(died.host, host);
    return died;
}

static void
the_next_host_runs_beside_the_other_and_takes_its_place(void **state)
{
    struct pool pool;
    struct host_news first;
    struct host_news next;

    (void)state;
    pool_start(&pool, true, NULL);
    first = pool_attach(&pool);
    next = pool_start_next(&pool);
    assert_int_equal(next.host, 2);
    expect_echo(&pool, first.host);
    expect_echo(&pool, next.host);
    pool_switch(&pool, next.host);
    expect_echo(&pool, first.host); /* it has lost its place, and may finish */
    pool_replace_host(&pool, first.host, "has not finished");
    assert_string_equal(expect_death(&pool, first.host).text, "has not finished");
    process_await_end(first.pid);
    expect_echo(&pool, next.host);
    assert_int_equal(kill(next.pid, SIGKILL), 0); /* and this one is replaced */
    (void)expect_death(&pool, next.host);
    assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_STARTED).host, 3);
    pool_end(&pool);
    process_await_end(next.pid);
}

static void
a_next_host_that_dies_is_reported_and_not_replaced(void **state)
{
    struct pool pool;
    struct host_news first;
    struct host_news next;

    (void)state;
    pool_start(&pool, true, NULL);
    first = pool_attach(&pool);
    next = pool_start_next(&pool);
    pool_replace_host(&pool, next.host, "could not load the script");
    assert_string_equal(expect_death(&pool, next.host).text, "could not load the script");
    expect_echo(&pool, first.host);
    next = pool_start_next(&pool); /* only now, since somebody asked */
    assert_int_equal(next.host, 3);
    pool_end(&pool);
    process_await_end(next.pid);
}

static void
the_host_that_runs_is_replaced_while_there_is_a_next_one(void **state)
{
    struct pool pool;
    struct host_news first;
    struct host_news next;
    struct host_news third;

    (void)state;
    pool_start(&pool, true, NULL);
    first = pool_attach(&pool);
    next = pool_start_next(&pool);
    assert_int_equal(kill(first.pid, SIGKILL), 0);
    (void)expect_death(&pool, first.host);
    third = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    expect_echo(&pool, next.host);
    pool_switch(&pool, next.host); /* the third has lost its place */
    pool_replace_host(&pool, third.host, "is not needed");
    (void)expect_death(&pool, third.host);
    process_await_end(third.pid);
    expect_echo(&pool, next.host);
    pool_ask_detach(&pool, 0);
    pool_await_detached(&pool);
    pool_end(&pool);
}

static void
a_switch_to_a_host_that_has_died_starts_another(void **state)
{
    struct pool pool;
    struct host_news first;
    struct host_news next;

    (void)state;
    pool_start(&pool, true, NULL);
    first = pool_attach(&pool);
    next = pool_start_next(&pool);
    assert_int_equal(kill(next.pid, SIGKILL), 0);
    (void)expect_death(&pool, next.host);
    pool_switch(&pool, next.host);
    assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_STARTED).host, 3);
    expect_echo(&pool, first.host);
    pool_end(&pool);
    process_await_end(first.pid);
}

static void
detach_waits_for_hosts_without_a_place_too(void **state)
{
    struct pool pool;
    struct host_news first;
    struct host_news next;
    struct host_news beside;

    (void)state;
    pool_start(&pool, true, NULL);
    first = pool_attach(&pool);
    next = pool_start_next(&pool);
    pool_switch(&pool, next.host);
    beside = pool_start_next(&pool);
    pool_ask_detach(&pool, 0);
    pool_await_detached(&pool);
    assert_false(process_is_alive(first.pid));
    assert_false(process_is_alive(next.pid));
    assert_false(process_is_alive(beside.pid));
    pool_end(&pool);
}

static void
a_node_keeps_no_more_hosts_than_it_may(void **state)
{
    struct pool pool;
    struct host_news last;
    struct host_news died;

    (void)state;
    pool_start(&pool, true, NULL);
    last = pool_attach(&pool);
    for (int i = 1; i < 8;
         i++) { /* each takes the place of the one before, which lives on */
        pool_switch(&pool, 999);
        last = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    }
    pool_switch(&pool, 999);
    died = expect_death(&pool, last.host);
    assert_string_equal(died.text, "was killed, since its node keeps too many");
    process_await_end(last.pid);
    pool_end(&pool);
}

static void
a_next_host_that_cannot_be_run_is_reported(void **state)
{
    static const char *const options[] = {"--host-program", "/etc", NULL};
    struct pool pool;
    struct host_news next;

    (void)state;
    pool_start(&pool, true, options);
    (void)pool_attach(&pool);
    next = pool_start_next(&pool);
    for (;;) { /* the other one dies again and again */
        struct host_news died = pool_news(&pool, OPB_CONTROL_HOST_DIED);

        assert_string_equal(died.text, "could not be started: /etc: Permission denied");
        if (died.host == next.host) {
            break;
        }
    }
    pool_end(&pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(attach_starts_a_host_and_a_lane_reaches_it),
        OPB_TEST(many_lanes_are_served_at_the_same_time),
        OPB_TEST(a_host_inherits_no_descriptor_and_no_signal_setting),
        OPB_TEST(a_killed_host_is_reported_and_replaced_at_once),
        OPB_TEST(the_reason_of_a_death_tells_signals_from_exit_codes),
        OPB_TEST(hosts_that_die_at_once_are_started_ever_more_slowly),
        OPB_TEST(when_too_many_have_died_hosts_are_started_slowly_and_that_is_said_once),
        OPB_TEST(deaths_that_are_far_apart_do_not_count),
        OPB_TEST(a_host_program_that_cannot_run_is_reported),
        OPB_TEST(what_a_dead_host_started_is_killed_too),
        OPB_TEST(a_daemon_of_a_living_host_is_left_alone),
        OPB_TEST(replace_host_kills_it_and_repeats_the_reason),
        OPB_TEST(a_host_that_hangs_tells_its_stacks_before_it_is_killed),
        OPB_TEST(a_stopped_host_is_killed_without_its_stacks),
        OPB_TEST(a_host_that_is_looked_at_goes_on),
        OPB_TEST(a_host_that_cannot_get_the_gil_is_looked_at_without),
        OPB_TEST(a_pool_that_ends_does_not_wait_for_stacks),
        OPB_TEST(a_stopped_host_takes_no_lanes_and_the_node_is_told_why),
        OPB_TEST(detach_waits_for_hosts_that_end_by_themselves),
        OPB_TEST(detach_ends_what_does_not_end_by_itself),
        OPB_TEST(the_next_host_runs_beside_the_other_and_takes_its_place),
        OPB_TEST(a_next_host_that_dies_is_reported_and_not_replaced),
        OPB_TEST(the_host_that_runs_is_replaced_while_there_is_a_next_one),
        OPB_TEST(a_switch_to_a_host_that_has_died_starts_another),
        OPB_TEST(a_node_keeps_no_more_hosts_than_it_may),
        OPB_TEST(detach_waits_for_hosts_without_a_place_too),
        OPB_TEST(a_next_host_that_cannot_be_run_is_reported),
    };

    return OPB_RUN(tests);
}

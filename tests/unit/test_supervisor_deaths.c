/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_supervisor_deaths.c - hosts that die, and what a supervisor does about it
 *
 * Each test runs the daemon itself, with fake_host.c in the place of Python.
 */
#include "tests/unit/fake_host.h"
#include "tests/unit/pool_support.h"
#include "tests/unit/support.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

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
    lane = pool_must_open_lane(&pool, first.host);
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
    lane = pool_must_open_lane(&pool, second.host);
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
    lane = pool_must_open_lane(&pool, host.host);
    assert_false(host_ask(lane, FAKE_CRASH, "", answer, sizeof(answer)));
    opb_lane_close(lane);
    assert_string_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).text,
                        "was killed by signal 11 (Segmentation fault)");
    host = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    lane = pool_must_open_lane(&pool, host.host);
    assert_false(host_ask(lane, FAKE_EXIT, "7", answer, sizeof(answer)));
    opb_lane_close(lane);
    assert_string_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).text,
                        "ended with exit code 7");
    pool_end(&pool);
}

static void
hosts_that_die_at_once_are_started_ever_more_slowly(void **state)
{
    /* The second starts at once; then 100, 200, 400, 800 ms, which a timer may round. */
    static const uint64_t least_ms[] = {0, 0, 95, 295, 695, 1495};
    struct pool pool;
    uint64_t began_ms;

    (void)state;
    (void)setenv("FAKE_HOST_EXIT", "3", 1);
    pool_start(&pool, true, NULL);
    (void)unsetenv("FAKE_HOST_EXIT");
    began_ms = opb_clock_ms(); /* before the first: no delay of this test's can matter */
    (void)pool_attach(&pool);
    for (uint32_t i = 1; i < 6; i++) {
        assert_string_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).text,
                            "ended with exit code 3");
        assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_STARTED).host, i + 1);
        assert_true(opb_clock_ms() - began_ms >= least_ms[i]);
    }
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
    lane = pool_must_open_lane(&pool, host.host);
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
    lane = pool_must_open_lane(&pool, host.host);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(a_killed_host_is_reported_and_replaced_at_once),
        OPB_TEST(the_reason_of_a_death_tells_signals_from_exit_codes),
        OPB_TEST(hosts_that_die_at_once_are_started_ever_more_slowly),
        OPB_TEST(when_too_many_have_died_hosts_are_started_slowly_and_that_is_said_once),
        OPB_TEST(deaths_that_are_far_apart_do_not_count),
        OPB_TEST(a_host_program_that_cannot_run_is_reported),
        OPB_TEST(what_a_dead_host_started_is_killed_too),
        OPB_TEST(a_daemon_of_a_living_host_is_left_alone),
        OPB_TEST(replace_host_kills_it_and_repeats_the_reason),
    };

    return OPB_RUN(tests);
}

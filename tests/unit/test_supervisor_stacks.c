/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_supervisor_stacks.c - Python stacks of hosts that hang or are looked at
 *
 * Each test runs the daemon itself, with fake_host.c in the place of Python.
 */
#include "tests/unit/pool_support.h"
#include "tests/unit/support.h"

#include "protocol/words.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

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
    assert_true(process_is_alive(host.pid));
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(a_host_that_hangs_tells_its_stacks_before_it_is_killed),
        OPB_TEST(a_stopped_host_is_killed_without_its_stacks),
        OPB_TEST(a_host_that_is_looked_at_goes_on),
        OPB_TEST(a_host_that_cannot_get_the_gil_is_looked_at_without),
        OPB_TEST(a_pool_that_ends_does_not_wait_for_stacks),
    };

    return OPB_RUN(tests);
}

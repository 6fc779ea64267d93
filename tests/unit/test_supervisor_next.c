/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_supervisor_next.c - hosts beside those that run, and the switch to them
 *
 * Each test runs the daemon itself, with fake_host.c in the place of Python.
 */
#include "tests/unit/pool_support.h"
#include "tests/unit/support.h"

#include "protocol/words.h"

#include <signal.h>

static struct host_news
expect_death(struct pool *pool, uint32_t host)
{
    struct host_news died = pool_news(pool, OPB_CONTROL_HOST_DIED);

    assert_int_equal(died.host, host);
    return died;
}

/* A pool with a host that runs, and one beside it. */
static void
start_both(struct pool *pool, struct host_news *first, struct host_news *next)
{
    pool_start(pool, true, NULL);
    *first = pool_attach(pool);
    *next = pool_start_next(pool);
}

static void
the_next_host_runs_beside_the_other_and_takes_its_place(void **state)
{
    struct pool pool;
    struct host_news first;
    struct host_news next;

    (void)state;
    start_both(&pool, &first, &next);
    assert_int_equal(next.host, 2);
    pool_expect_echo(&pool, first.host);
    pool_expect_echo(&pool, next.host);
    pool_switch(&pool, next.host);
    pool_expect_echo(&pool, first.host); /* it has lost its place, and may finish */
    pool_replace_host(&pool, first.host, "has not finished");
    assert_string_equal(expect_death(&pool, first.host).text, "has not finished");
    process_await_end(first.pid);
    pool_expect_echo(&pool, next.host);
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
    start_both(&pool, &first, &next);
    pool_replace_host(&pool, next.host, "could not load the script");
    assert_string_equal(expect_death(&pool, next.host).text, "could not load the script");
    pool_expect_echo(&pool, first.host);
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
    start_both(&pool, &first, &next);
    assert_int_equal(kill(first.pid, SIGKILL), 0);
    (void)expect_death(&pool, first.host);
    third = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    pool_expect_echo(&pool, next.host);
    pool_switch(&pool, next.host); /* the third has lost its place */
    pool_replace_host(&pool, third.host, "is not needed");
    (void)expect_death(&pool, third.host);
    process_await_end(third.pid);
    pool_expect_echo(&pool, next.host);
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
    start_both(&pool, &first, &next);
    assert_int_equal(kill(next.pid, SIGKILL), 0);
    (void)expect_death(&pool, next.host);
    pool_switch(&pool, next.host);
    assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_STARTED).host, 3);
    pool_expect_echo(&pool, first.host);
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
    start_both(&pool, &first, &next);
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

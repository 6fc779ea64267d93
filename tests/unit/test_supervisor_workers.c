/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_supervisor_workers.c - a node with several hosts, on a real supervisor
 */
#include "tests/unit/fake_host.h"
#include "tests/unit/pool_support.h"
#include "tests/unit/support.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <signal.h>
#include <string.h>

#define COUNT 3u

/* The news of COUNT hosts, which come in the order of their numbers. */
static void
take_started(struct pool *pool, uint32_t method, struct host_news hosts[COUNT])
{
    for (uint32_t i = 0; i < COUNT; i++) {
        hosts[i] = pool_news(pool, method);
        assert_int_equal(hosts[i].worker, i);
        assert_true(hosts[i].pid > 1);
    }
}

static void
attach(struct pool *pool, struct host_news hosts[COUNT])
{
    pool_start(pool, true, NULL);
    pool->workers = COUNT;
    hosts[0] = pool_attach(pool);
    assert_int_equal(hosts[0].worker, 0);
    for (uint32_t i = 1; i < COUNT; i++) {
        hosts[i] = pool_news(pool, OPB_CONTROL_HOST_STARTED);
        assert_int_equal(hosts[i].worker, i);
    }
}

static void
start_next(struct pool *pool, struct host_news hosts[COUNT])
{
    pool_ask_next(pool);
    take_started(pool, OPB_CONTROL_NEXT_STARTED, hosts);
}

static void
a_node_gets_as_many_hosts_as_it_asks_for(void **state)
{
    struct host_news hosts[COUNT];
    struct pool pool;

    (void)state;
    attach(&pool, hosts);
    for (uint32_t i = 0; i < COUNT; i++) {
        pool_expect_echo(&pool, hosts[i].host);
    }
    pool_ask_detach(&pool, 0);
    pool_await_detached(&pool);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_false(process_is_alive(hosts[i].pid));
    }
    pool_end(&pool);
}

static void
more_hosts_than_there_may_be_are_refused(void **state)
{
    struct pool pool;

    (void)state;
    pool_start(&pool, false, NULL);
    pool.workers = OPB_MAX_WORKERS + 1;
    pool.control = pool_connect_control(&pool);
    opb_message_begin_request(pool.message, OPB_CONTROL_ATTACH, 6);
    opb_pack_cstr(pool.message, "node");
    opb_pack_cstr(pool.message, "1.10.1");
    opb_pack_cstr(pool.message, "/nowhere");
    opb_pack_bytes(pool.message, pool.secret, sizeof(pool.secret));
    opb_pack_uint(pool.message, 1);
    opb_pack_uint(pool.message, pool.workers);
    assert_int_equal(
        opb_lane_send(pool.control, pool.message, opb_deadline_ms(POOL_WAIT_MS)), OPB_OK);
    pool_await_stderr(&pool, "the peer sent what the protocol does not allow");
    pool_end(&pool);
}

static void
a_host_that_dies_is_replaced_in_its_place_and_the_others_go_on(void **state)
{
    struct host_news hosts[COUNT];
    struct host_news news;
    struct pool pool;

    (void)state;
    attach(&pool, hosts);
    assert_int_equal(kill(hosts[1].pid, SIGKILL), 0);
    news = pool_news(&pool, OPB_CONTROL_HOST_DIED);
    assert_int_equal(news.host, hosts[1].host);
    news = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    assert_int_equal(news.worker, 1);
    pool_expect_echo(&pool, news.host);
    assert_true(process_is_alive(hosts[0].pid));
    assert_true(process_is_alive(hosts[2].pid));
    pool_end(&pool);
}

static void
each_place_has_a_backoff_of_its_own(void **state)
{
    struct host_news hosts[COUNT];
    struct host_news news;
    struct pool pool;
    uint64_t began_ms;

    (void)state;
    attach(&pool, hosts);
    news = hosts[1];
    for (int i = 0; i < 4; i++) { /* the next start would wait for long */
        assert_int_equal(kill(news.pid, SIGKILL), 0);
        news = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
        assert_int_equal(news.worker, 1);
    }
    assert_int_equal(kill(news.pid, SIGKILL), 0);
    (void)pool_news(&pool, OPB_CONTROL_HOST_DIED);
    began_ms = opb_clock_ms();
    assert_int_equal(kill(hosts[2].pid, SIGKILL), 0);
    news = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    assert_int_equal(news.worker, 2);
    assert_true(opb_clock_ms() - began_ms < 700);
    assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_STARTED).worker, 1);
    pool_end(&pool);
}

static void
a_switch_exchanges_all_of_them(void **state)
{
    struct host_news hosts[COUNT];
    struct host_news next[COUNT];
    struct host_news news;
    struct pool pool;
    uint32_t numbers[COUNT];

    (void)state;
    attach(&pool, hosts);
    start_next(&pool, next);
    for (uint32_t i = 0; i < COUNT; i++) {
        numbers[i] = next[i].host;
    }
    pool_switch_all(&pool, numbers, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        pool_expect_echo(&pool, hosts[i].host); /* has lost its place, and may finish */
        pool_replace_host(&pool, hosts[i].host, "has not finished");
        assert_int_equal(pool_news(&pool, OPB_CONTROL_HOST_DIED).host, hosts[i].host);
        pool_expect_echo(&pool, next[i].host);
    }
    assert_int_equal(kill(next[2].pid, SIGKILL), 0);
    news = pool_news(&pool, OPB_CONTROL_HOST_STARTED); /* the first since: no other */
    assert_int_equal(news.worker, 2);
    assert_int_equal(news.host, 2 * COUNT + 1);
    pool_end(&pool);
}

static void
next_hosts_are_started_anew_as_soon_as_those_that_failed_are_gone(void **state)
{
    struct host_news hosts[COUNT];
    struct host_news next[COUNT];
    struct host_news again[COUNT];
    struct pool pool;

    (void)state;
    attach(&pool, hosts);
    start_next(&pool, next);
    assert_int_equal(kill(next[1].pid, SIGSTOP), 0); /* no matter: they are killed */
    for (uint32_t i = 0; i < COUNT; i++) {
        pool_replace_host(&pool, next[i].host, "could not load the script");
    }
    pool_ask_next(&pool); /* without waiting */
    for (uint32_t i = 0; i < COUNT; i++) {
        struct host_news news = pool_news(&pool, OPB_CONTROL_NEXT_STARTED);

        assert_in_range(news.worker, 0, COUNT - 1);
        again[news.worker] = news;
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_not_equal(again[i].pid, next[i].pid);
        pool_expect_echo(&pool, again[i].host);
        pool_expect_echo(&pool, hosts[i].host);
    }
    pool_end(&pool);
}

/* Asks for a next generation of so many, and takes the news of them. */
static void
start_next_of(struct pool *pool, uint32_t wanted, uint32_t expected,
              struct host_news hosts[COUNT])
{
    opb_message_begin_notify(pool->message, OPB_CONTROL_START_NEXT, 2);
    opb_pack_array(pool->message, 1);
    opb_pack_cstr(pool->message, "/script.py");
    opb_pack_uint(pool->message, wanted);
    assert_int_equal(
        opb_lane_send(pool->control, pool->message, opb_deadline_ms(POOL_WAIT_MS)), OPB_OK);
    assert_int_equal(pool_news(pool, OPB_CONTROL_NEXT_COUNT).host, expected);
    for (uint32_t i = 0; i < expected; i++) {
        hosts[i] = pool_news(pool, OPB_CONTROL_NEXT_STARTED);
        assert_int_equal(hosts[i].worker, i);
    }
}

static void
the_next_generation_may_have_more_hosts_and_never_fewer(void **state)
{
    struct host_news next[COUNT];
    struct host_news first;
    struct host_news news;
    struct pool pool;
    uint32_t numbers[COUNT];

    (void)state;
    pool_start(&pool, true, NULL);
    pool.workers = 1;
    first = pool_attach(&pool);
    start_next_of(&pool, COUNT, COUNT, next);
    for (uint32_t i = 0; i < COUNT; i++) { /* they fail: the first generation goes on */
        pool_replace_host(&pool, next[i].host, "could not load the script");
        (void)pool_news(&pool, OPB_CONTROL_HOST_DIED);
    }
    start_next_of(&pool, COUNT, COUNT, next);
    pool_expect_echo(&pool, first.host);
    for (uint32_t i = 0; i < COUNT; i++) {
        numbers[i] = next[i].host;
    }
    pool_switch_all(&pool, numbers, COUNT);
    assert_int_equal(kill(next[2].pid, SIGKILL), 0);
    news = pool_news(&pool, OPB_CONTROL_HOST_STARTED);
    assert_int_equal(news.worker, 2);
    pool_expect_echo(&pool, news.host);
    start_next_of(&pool, 1, COUNT, next);
    pool_ask_detach(&pool, 0);
    pool_await_detached(&pool);
    pool_end(&pool);
}

static void
a_switch_of_another_number_of_hosts_ends_the_connection(void **state)
{
    struct host_news hosts[COUNT];
    struct pool pool;
    uint32_t numbers[2] = {1, 2};

    (void)state;
    attach(&pool, hosts);
    opb_message_begin_notify(pool.message, OPB_CONTROL_SWITCH, 1);
    opb_pack_array(pool.message, 2);
    opb_pack_uint(pool.message, numbers[0]);
    opb_pack_uint(pool.message, numbers[1]);
    assert_int_equal(
        opb_lane_send(pool.control, pool.message, opb_deadline_ms(POOL_WAIT_MS)), OPB_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        process_await_end(hosts[i].pid);
    }
    pool_end(&pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(a_node_gets_as_many_hosts_as_it_asks_for),
        OPB_TEST(more_hosts_than_there_may_be_are_refused),
        OPB_TEST(a_host_that_dies_is_replaced_in_its_place_and_the_others_go_on),
        OPB_TEST(each_place_has_a_backoff_of_its_own),
        OPB_TEST(a_switch_exchanges_all_of_them),
        OPB_TEST(next_hosts_are_started_anew_as_soon_as_those_that_failed_are_gone),
        OPB_TEST(the_next_generation_may_have_more_hosts_and_never_fewer),
        OPB_TEST(a_switch_of_another_number_of_hosts_ends_the_connection),
    };

    return OPB_RUN(tests);
}

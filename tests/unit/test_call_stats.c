/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_call_stats.c - counts, rates and quantiles of calls */
#include "support.h"

#include "plugin/call_stats.h"

#include "plugin/routes.h"

#include <pthread.h>
#include <stdlib.h>

#define NOW_MS    (1000u * MINUTE_MS + 500u)
#define MINUTE_MS 60000u

static int
make_stats(void **state)
{
    struct opb_call_stats *stats = NULL;

    assert_int_equal(opb_call_stats_new(&stats), OPB_OK);
    *state = stats;
    return 0;
}

static int
free_stats(void **state)
{
    opb_call_stats_free(*state);
    return 0;
}

static struct opb_call_summary
sum_up(const struct opb_call_stat *stat, uint64_t now_ms)
{
    struct opb_call_summary summary;
    struct opb_call_sum *sum = NULL;

    assert_int_equal(opb_call_sum_new(&sum), OPB_OK);
    opb_call_sum_add(sum, stat, now_ms);
    opb_call_sum_end(sum, &summary);
    opb_call_sum_free(sum);
    return summary;
}

static void
nothing_counted_is_zero(void **state)
{
    struct opb_call_summary summary =
        sum_up(opb_call_stats_kind(*state, OPB_CALL_REST_INDEX), NOW_MS);

    assert_int_equal(summary.calls, 0);
    assert_int_equal(summary.max_us, 0);
    assert_int_equal(summary.last_minute, 0);
    assert_int_equal(summary.all.count, 0);
    assert_int_equal(summary.all.p99_us, 0);
    assert_int_equal(summary.recent.p50_us, 0);
    assert_null(opb_call_stats_find_route(*state, 3));
}

static void
each_outcome_is_counted_as_what_it_is(void **state)
{
    struct opb_call_stat *stat = opb_call_stats_kind(*state, OPB_CALL_FIND_INDEX);
    struct opb_call_summary summary;

    for (int outcome = OPB_CALL_DONE; outcome <= OPB_CALL_NO_HOST; outcome++) {
        opb_call_stat_count(stat, (enum opb_outcome)outcome, 1000, NOW_MS);
    }
    opb_call_stat_count(NULL, OPB_CALL_DONE, 1000, NOW_MS);
    summary = sum_up(stat, NOW_MS);
    assert_int_equal(summary.calls, 7);
    assert_int_equal(summary.errors, 3); /* raised, encoding, failed */
    assert_int_equal(summary.late, 1);
    assert_int_equal(summary.died, 1);
    assert_int_equal(summary.no_host, 1);
    assert_int_equal(summary.total_us, 7000);
    assert_int_equal(summary.all.count, 7);
}

static int
compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return left < right ? -1 : left > right ? 1 : 0;
}

static void
assert_near(uint64_t found, uint64_t right)
{
    uint64_t difference = found > right ? found - right : right - found;

    if (difference * 16 > right) {
        fail_msg("%lu is not within 1/16 of %lu", (unsigned long)found,
                 (unsigned long)right);
    }
}

/* Times that spread over many powers of two, from a generator of the test's own. */
static void
fill(uint64_t *times, size_t count, uint64_t seed, unsigned most_bits)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        times[i] = (seed >> 20) & (((uint64_t)1 << ((seed >> 8) % most_bits + 1)) - 1);
    }
}

static void
quantiles_are_those_of_the_sorted_sample(void **state)
{
    static uint64_t times[10007];
    const size_t sizes[] = {1, 2, 19, 20, 100, 101, 999, 10007};

    (void)state;
    for (uint64_t round = 0; round < 40; round++) {
        size_t count = sizes[round % (sizeof(sizes) / sizeof(sizes[0]))];
        struct opb_call_stats *stats = NULL;
        struct opb_call_summary summary;
        struct opb_call_stat *stat;

        assert_int_equal(opb_call_stats_new(&stats), OPB_OK);
        stat = opb_call_stats_kind(stats, OPB_CALL_REST_INDEX);
        fill(times, count, round, round < 20 ? 36 : 12);
        for (size_t i = 0; i < count; i++) {
            opb_call_stat_count(stat, OPB_CALL_DONE, times[i], NOW_MS);
        }
        qsort(times, count, sizeof(times[0]), compare);
        summary = sum_up(stat, NOW_MS);
        assert_int_equal(summary.max_us, times[count - 1]);
        assert_near(summary.all.p50_us, times[(count * 500 + 999) / 1000 - 1]);
        assert_near(summary.all.p95_us, times[(count * 950 + 999) / 1000 - 1]);
        assert_near(summary.all.p99_us, times[(count * 990 + 999) / 1000 - 1]);
        assert_int_equal(summary.recent.p95_us, summary.all.p95_us);
        opb_call_stats_free(stats);
    }
}

static void
every_time_is_in_a_class_near_it(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 37; bits++) {
        for (uint64_t step = 0; step < 64; step++) {
            uint64_t time_us = ((uint64_t)1 << bits) + (step << bits) / 64;
            struct opb_call_stats *stats = NULL;
            struct opb_call_stat *stat;

            assert_int_equal(opb_call_stats_new(&stats), OPB_OK);
            stat = opb_call_stats_kind(stats, OPB_CALL_REST_INDEX);
            opb_call_stat_count(stat, OPB_CALL_DONE, time_us, NOW_MS);
            opb_call_stat_count(stat, OPB_CALL_DONE, UINT64_MAX, NOW_MS); /* no limit */
            assert_near(sum_up(stat, NOW_MS).all.p50_us, time_us);
            opb_call_stats_free(stats);
        }
    }
}

static void
rate_is_of_the_last_minute(void **state)
{
    struct opb_call_stat *stat = opb_call_stats_kind(*state, OPB_CALL_REST_INDEX);
    struct opb_call_summary summary;

    for (unsigned second = 0; second < 100; second++) {
        opb_call_stat_count(stat, OPB_CALL_DONE, 1, NOW_MS + second * 1000u);
    }
    summary = sum_up(stat, NOW_MS + 99000u);
    assert_int_equal(summary.last_minute, 60);
    assert_true(opb_call_rate(&summary, 1000u * MINUTE_MS) > 0.99);
    assert_true(opb_call_rate(&summary, 1000u * MINUTE_MS) < 1.01);
    assert_true(opb_call_rate(&summary, 30000u) > 1.99); /* the node is that young */
    assert_int_equal(sum_up(stat, NOW_MS + 99000u + 59000u).last_minute, 1);
    assert_int_equal(sum_up(stat, NOW_MS + 99000u + 60000u).last_minute, 0);
    assert_int_equal(sum_up(stat, NOW_MS + 99000u + 60000u).calls, 100);
}

static void
recent_times_are_forgotten_and_others_are_not(void **state)
{
    struct opb_call_stat *stat = opb_call_stats_kind(*state, OPB_CALL_REST_INDEX);
    struct opb_call_summary summary;

    opb_call_stat_count(stat, OPB_CALL_DONE, 1000000, NOW_MS);
    opb_call_stat_count(stat, OPB_CALL_DONE, 1000, NOW_MS + MINUTE_MS);
    summary = sum_up(stat, NOW_MS + MINUTE_MS);
    assert_int_equal(summary.recent.count, 2);
    assert_near(summary.recent.p99_us, 1000000);
    summary = sum_up(stat, NOW_MS + 2 * MINUTE_MS);
    assert_int_equal(summary.recent.count, 1);
    assert_near(summary.recent.p99_us, 1000);
    summary = sum_up(stat, NOW_MS + 3 * MINUTE_MS);
    assert_int_equal(summary.recent.count, 0);
    assert_int_equal(summary.all.count, 2);
    assert_near(summary.all.p99_us, 1000000);
}

static void
several_are_summed_up_as_one(void **state)
{
    struct opb_call_summary summary;
    struct opb_call_sum *sum = NULL;

    assert_int_equal(opb_call_sum_new(&sum), OPB_OK);
    for (unsigned i = 0; i < 100; i++) {
        struct opb_call_stat *stat = opb_call_stats_kind(
            *state, i < 90 ? OPB_CALL_REST_INDEX : OPB_CALL_CHANGE_INDEX);

        opb_call_stat_count(stat, OPB_CALL_DONE, i < 90 ? 1000 : 50000, NOW_MS);
    }
    opb_call_sum_add(sum, opb_call_stats_kind(*state, OPB_CALL_REST_INDEX), NOW_MS);
    opb_call_sum_add(sum, opb_call_stats_kind(*state, OPB_CALL_CHANGE_INDEX), NOW_MS);
    opb_call_sum_end(sum, &summary);
    assert_int_equal(summary.calls, 100);
    assert_near(summary.all.p50_us, 1000);
    assert_near(summary.all.p95_us, 50000);
    opb_call_sum_clear(sum);
    opb_call_sum_end(sum, &summary);
    assert_int_equal(summary.calls, 0);
    opb_call_sum_free(sum);
}

#define THREADS          4u
#define CALLS_PER_THREAD 20000u

static void *
count_many(void *argument)
{
    struct opb_call_stats *stats = argument;

    for (unsigned i = 0; i < CALLS_PER_THREAD; i++) {
        struct opb_call_stat *route =
            opb_call_stats_route(stats, i % OPB_MOST_COUNTED_ROUTES);

        opb_call_stat_count(route, OPB_CALL_DONE, i, NOW_MS + i / 100u);
        opb_call_stat_count(opb_call_stats_kind(stats, OPB_CALL_REST_INDEX), OPB_CALL_DONE,
                            i, NOW_MS + i / 100u);
        if (i % 1000 == 0) { /* while others count */
            (void)sum_up(route, NOW_MS);
        }
    }
    return NULL;
}

static void
no_call_is_lost_between_threads(void **state)
{
    pthread_t threads[THREADS];
    struct opb_call_summary summary;
    uint64_t calls = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count_many, *state), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    summary = sum_up(opb_call_stats_kind(*state, OPB_CALL_REST_INDEX), NOW_MS + 200u);
    assert_int_equal(summary.calls, THREADS * CALLS_PER_THREAD);
    assert_int_equal(summary.last_minute, THREADS * CALLS_PER_THREAD);
    assert_int_equal(summary.all.count, THREADS * CALLS_PER_THREAD);
    assert_int_equal(summary.recent.count, THREADS * CALLS_PER_THREAD);
    assert_int_equal(summary.max_us, CALLS_PER_THREAD - 1);
    for (uint32_t i = 0; i < OPB_MOST_COUNTED_ROUTES; i++) {
        calls += sum_up(opb_call_stats_find_route(*state, i), NOW_MS + 200u).calls;
    }
    assert_int_equal(calls, THREADS * CALLS_PER_THREAD);
}

static void
only_so_many_routes_are_counted_by_themselves(void **state)
{
    for (uint32_t i = 0; i < OPB_MOST_COUNTED_ROUTES; i++) {
        assert_non_null(opb_call_stats_route(*state, 3 * i));
    }
    assert_null(opb_call_stats_route(*state, 1));
    assert_null(opb_call_stats_find_route(*state, 1));
    assert_non_null(opb_call_stats_route(*state, 3)); /* one of those that are */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_counted_is_zero, make_stats, free_stats),
        cmocka_unit_test_setup_teardown(each_outcome_is_counted_as_what_it_is, make_stats,
                                        free_stats),
        cmocka_unit_test(quantiles_are_those_of_the_sorted_sample),
        cmocka_unit_test(every_time_is_in_a_class_near_it),
        cmocka_unit_test_setup_teardown(rate_is_of_the_last_minute, make_stats, free_stats),
        cmocka_unit_test_setup_teardown(recent_times_are_forgotten_and_others_are_not,
                                        make_stats, free_stats),
        cmocka_unit_test_setup_teardown(several_are_summed_up_as_one, make_stats,
                                        free_stats),
        cmocka_unit_test_setup_teardown(only_so_many_routes_are_counted_by_themselves,
                                        make_stats, free_stats),
        cmocka_unit_test_setup_teardown(no_call_is_lost_between_threads, make_stats,
                                        free_stats),
    };

    return OPB_RUN(tests);
}

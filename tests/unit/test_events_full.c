/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_events_full.c - change events that nobody takes: room, losses, memory
 */
#include "events_fixture.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

static void
push_often(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        events_push(OrthancPluginChangeType_NewInstance, "a");
    }
}

static void
a_full_queue_loses_events_and_says_so_once(void **state)
{
    struct opb_node *node = *state;
    struct opb_event_counts counts;

    node->config->max_events = 100;
    fake_host_start(node, events_hang);
    push_often(1);
    events_await_queued(node, 0); /* it is with the host */
    push_often(100);
    assert_false(fake_log_has("A change event is lost"));
    push_often(50);
    opb_events_count(node->events, &counts);
    assert_int_equal(counts.queued, 100);
    assert_int_equal(counts.lost, 50);
    assert_int_equal(fake_log_count("A change event is lost, 1 since the start: 100 wait"),
                     1);
    assert_int_equal(fake_log_count("A change event is lost"), 1);
    for (unsigned i = 0; i < 49; i++) { /* one place, one event: that is no end of it */
        events_let_return(1);
        events_await_queued(node, 99 - i);
    }
    push_often(60);
    assert_int_equal(fake_log_count("A change event is lost"), 1);
    assert_false(fake_log_has("There is room for change events again"));
    events_let_return(50);
    events_await_queued(node, 50);
    push_often(51); /* 61 were lost until now */
    fake_await_log("There is room for change events again; 61 were lost");
    assert_int_equal(fake_log_count("A change event is lost"), 2);
    assert_true(fake_log_has("A change event is lost, 62 since the start"));
    fake_host_serve(events_take);
    events_let_return(200);
    events_await_queued(node, 0);
    events_push_stop();
    events_push(OrthancPluginChangeType_StableStudy, "late");
    opb_events_count(node->events, &counts);
    assert_int_equal(counts.late, 1);
    assert_int_equal(counts.lost, 62);
}

/* Memory that this process has. */
static size_t
resident_bytes(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %zu", &pages), 1);
    (void)fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void
memory_of_a_long_queue_is_given_back(void **state)
{
    const unsigned many = 30000;
    struct opb_node *node = *state;
    size_t before;
    size_t full;

    node->config->max_events = 2 * many;
    fake_host_start(node, events_hang);
    push_often(1);
    events_await_queued(node, 0); /* it is with the host */
    (void)malloc_trim(0);         /* what earlier tests have freed would serve again */
    before = resident_bytes();
    push_often(many);
    full = resident_bytes();
    events_let_return(many);
    events_await_queued(node, 0);
    events_let_return(2); /* for the last, and for the stop */
    events_push_stop();
    if (!OPB_IS_SANITIZED) { /* whose allocator keeps what was freed */
        assert_true(full - before > many * 32u);
        assert_true(resident_bytes() < before + (full - before) / 4);
    }
}

static void
of_many_lost_events_each_ten_thousandth_is_said(void **state)
{
    struct opb_node *node = *state;

    node->config->max_events = 10;
    fake_host_start(node, events_hang);
    push_often(1);
    events_await_queued(node, 0);
    push_often(10 + 20001);
    assert_int_equal(fake_log_count("A change event is lost"), 3);
    events_let_return(20);
    events_push_stop();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        EVENT_TEST(a_full_queue_loses_events_and_says_so_once),
        EVENT_TEST(memory_of_a_long_queue_is_given_back),
        EVENT_TEST(of_many_lost_events_each_ten_thousandth_is_said),
    };

    return OPB_RUN(tests);
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_events.c - change events: in order, once, and until Orthanc has stopped
 *
 * Elsewhere: a queue that is full (test_events_full.c), the next generation
 * (test_events_switch.c).
 */
#include "events_fixture.h"

#include "plugin/routes.h"

#include "protocol/sockets.h"

#include <stdatomic.h>
#include <time.h>

static atomic_uint deaths_left; /* of hosts, at events */

static void
take_event_slowly(struct opb_lane *lane, struct opb_frame *frame,
                  struct opb_message *message)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    events_take(lane, frame, message);
}

static void
raise_at_event(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    events_note(frame);
    fake_answer_fault(lane, frame, message, OPB_FAULT_RAISED, "ValueError");
}

static void
die_at_event(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    if (atomic_load(&deaths_left) == 0) {
        events_take(lane, frame, message);
        return;
    }
    events_note(frame);
    atomic_fetch_sub(&deaths_left, 1);
    fake_host_kill("was killed by signal 11 (Segmentation fault)");
    (void)fake_host_activate(opb_node_current());
}

static void
events_come_in_order_and_stop_waits_for_them(void **state)
{
    static const char *const expected[] = {"10 ", "3 a", "5 b", "6 c", "11 "};
    struct opb_node *node = *state;
    struct opb_event_counts counts;

    fake_host_start(node, take_event_slowly);
    events_push(OrthancPluginChangeType_OrthancStarted, NULL);
    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push(OrthancPluginChangeType_NewSeries, "b");
    events_push(OrthancPluginChangeType_NewStudy, "c");
    assert_int_equal(opb_node_phase(node), OPB_PHASE_RUNNING);
    events_push_stop();
    events_expect(expected, 5);
    assert_int_equal(opb_node_phase(node), OPB_PHASE_STOPPED);
    events_push(OrthancPluginChangeType_StableStudy, "late"); /* counted, not delivered */
    opb_events_count(node->events, &counts);
    assert_int_equal(counts.late, 1);
    opb_events_stop(node->events); /* nobody is left who might deliver it */
    events_expect(expected, 5);
}

static void
event_whose_callback_raises_is_done(void **state)
{
    static const char *const expected[] = {"3 a", "5 b", "11 "};

    fake_host_start(*state, raise_at_event);
    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push(OrthancPluginChangeType_NewSeries, "b");
    events_push_stop();
    events_expect(expected, 3);
}

static void
event_that_ends_a_host_goes_to_the_next_one(void **state)
{
    static const char *const expected[] = {"3 a", "3 a", "5 b", "11 "};

    atomic_store(&deaths_left, 1);
    fake_host_start(*state, die_at_event);
    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push(OrthancPluginChangeType_NewSeries, "b");
    events_push_stop();
    events_expect(expected, 4);
    assert_true(fake_log_has("The event NEW_INSTANCE a is delivered once more"));
}

static void
event_that_ends_two_hosts_is_set_aside(void **state)
{
    static const char *const expected[] = {"3 a", "3 a", "5 b", "11 "};

    atomic_store(&deaths_left, 2);
    fake_host_start(*state, die_at_event);
    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push(OrthancPluginChangeType_NewSeries, "b");
    events_push_stop();
    events_expect(expected, 4);
    assert_true(
        fake_log_has("The event NEW_INSTANCE a (resource type 1) has ended two hosts"));
}

static bool
has_complained(void *context)
{
    (void)context;
    return fake_log_has("no host was ready within Python.QueueTimeout");
}

static void
events_wait_for_a_host_that_comes_back(void **state)
{
    static const char *const expected[] = {"3 a", "11 "};

    events_push(OrthancPluginChangeType_NewInstance, "a");
    opb_wait_until(has_complained, NULL, 5000); /* nobody for a whole QueueTimeout */
    fake_host_start(*state, events_take);
    events_push_stop();
    events_expect(expected, 2);
}

static void
stop_without_a_host_ends_after_queue_timeout(void **state)
{
    uint64_t before_ms = opb_clock_ms();

    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push(OrthancPluginChangeType_NewSeries, "b");
    events_push_stop();
    assert_true(opb_clock_ms() - before_ms < 3000);
    assert_int_equal(opb_node_phase(*state), OPB_PHASE_STOPPED);
    assert_true(fake_log_has("change events are dropped"));
}

static void
die_for_good(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    (void)lane;
    (void)message;
    events_note(frame);
    fake_host_kill("was killed by signal 9 (Killed)");
}

static void
stop_ends_when_the_host_dies_for_good(void **state)
{
    static const char *const expected[] = {"11 "};

    fake_host_start(*state, die_for_good);
    events_push_stop();
    events_expect(expected, 1);
}

static void
without_a_handler_nothing_waits(void **state)
{
    struct opb_node *node = *state;
    uint64_t before_ms = opb_clock_ms();

    node->config->queue_timeout_ms = 20000;
    opb_routes_begin(node->routes, NULL);
    opb_routes_commit(node->routes, NULL);
    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push_stop();
    assert_true(opb_clock_ms() - before_ms < 10000);
    assert_int_equal(opb_node_phase(node), OPB_PHASE_STOPPED);
}

static void
stop_leaves_behind_a_callback_that_does_not_return(void **state)
{
    static const char *const expected[] = {"3 a"};
    struct opb_node *node = *state;
    uint64_t before_ms = opb_clock_ms();

    node->config->stopped_timeout_ms = 300;
    fake_host_start(node, events_hang);
    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push(OrthancPluginChangeType_NewSeries, "b");
    events_push_stop();
    assert_in_range(opb_clock_ms() - before_ms, 300, 3000);
    assert_int_equal(opb_node_phase(node), OPB_PHASE_STOPPED);
    events_expect(expected, 1);
    assert_true(fake_log_has("waited any longer for the on-change callback for "
                             "NEW_INSTANCE a"));
    assert_true(fake_log_has("Python.StoppedTimeout"));
    events_let_return(1);
    opb_events_stop(node->events);
    events_expect(expected, 1);
    assert_true(fake_log_has("2 change events are dropped: there was no time left"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        EVENT_TEST(events_come_in_order_and_stop_waits_for_them),
        EVENT_TEST(event_whose_callback_raises_is_done),
        EVENT_TEST(event_that_ends_a_host_goes_to_the_next_one),
        EVENT_TEST(event_that_ends_two_hosts_is_set_aside),
        EVENT_TEST(events_wait_for_a_host_that_comes_back),
        EVENT_TEST(stop_without_a_host_ends_after_queue_timeout),
        EVENT_TEST(stop_ends_when_the_host_dies_for_good),
        EVENT_TEST(without_a_handler_nothing_waits),
        EVENT_TEST(stop_leaves_behind_a_callback_that_does_not_return),
    };

    return OPB_RUN(tests);
}

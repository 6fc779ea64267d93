/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_events_switch.c - which generation of hosts gets which change events
 */
#include "events_fixture.h"

#include "plugin/call_stats.h"

#include "protocol/sockets.h"

#define NEXT_HOST 7000u

/* The first host returns when it is let; the next one at once, with "next" before what it
 * sees. */
static void
take_in_two_hosts(struct opb_lane *lane, struct opb_frame *frame,
                  struct opb_message *message)
{
    if (fake_lane_host() == NEXT_HOST) {
        events_note_text("next");
        events_take(lane, frame, message);
    }
    else {
        events_hang(lane, frame, message);
    }
}

/* A callback has returned, and the plugin knows it. */
static bool
has_returned(void *context)
{
    const struct opb_node *node = context;
    struct opb_call_sum *sum = NULL;
    struct opb_call_summary summary;

    assert_int_equal(opb_call_sum_new(&sum), OPB_OK);
    opb_call_sum_add(sum, opb_call_stats_kind(node->call_stats, OPB_CALL_CHANGE_INDEX),
                     opb_clock_ms());
    opb_call_sum_end(sum, &summary);
    opb_call_sum_free(sum);
    return summary.calls > 0;
}

/* Begins the next generation; its session has a reference. */
static struct opb_session *
begin_next(struct opb_node *node, struct opb_session *old, uint64_t *number)
{
    struct opb_session *next = NULL;
    struct opb_switch change = {.old = old,
                                .next = &next,
                                .next_count = 1,
                                .old_listens = true,
                                .next_listens = true};

    assert_int_equal(opb_session_new(&next, node, NEXT_HOST, 4243, 0), OPB_OK);
    assert_true(opb_events_switch(node->events, &change, number));
    assert_ptr_equal(node->sessions[0], next);
    return next;
}

static void
end_next(struct opb_session *next)
{
    opb_session_end(next, "is no longer needed");
    opb_session_unref(next);
}

static void
the_old_generation_sees_its_end_before_the_next_one_begins(void **state)
{
    static const char *const expected[] = {"10 ", "3 a",  "5 b", "11 ",  "next",
                                           "10 ", "next", "6 c", "next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    uint64_t number = 0;

    fake_host_start(node, take_in_two_hosts);
    events_push(OrthancPluginChangeType_OrthancStarted, NULL);
    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push(OrthancPluginChangeType_NewSeries, "b");
    next = begin_next(node, node->sessions[0], &number);
    events_push(OrthancPluginChangeType_NewStudy, "c");
    assert_false(opb_events_wait_switch(node->events, number, opb_deadline_ms(1)));
    events_let_return(4);
    assert_true(opb_events_wait_switch(node->events, number, opb_deadline_ms(5000)));
    events_push_stop();
    events_expect(expected, 10);
    end_next(next);
}

static void
events_of_a_generation_that_has_died_go_to_the_next_one(void **state)
{
    static const char *const expected[] = {"10 ", "next", "10 ", "next",
                                           "3 a", "next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    struct opb_session *old;
    uint64_t number = 0;

    fake_host_start(node, take_in_two_hosts);
    events_push(OrthancPluginChangeType_OrthancStarted, NULL);
    events_let_return(1);
    opb_wait_until(has_returned, node, 5000);
    old = opb_session_primary(node);
    fake_host_kill("was killed by signal 9 (Killed)");
    next = begin_next(node, old, &number);
    opb_session_unref(old);
    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push_stop();
    events_expect(expected, 7);
    assert_true(fake_log_has("has ended before it was told ORTHANC_STOPPED"));
    end_next(next);
}

static void
before_orthanc_has_started_and_after_it_has_stopped_nobody_is_told(void **state)
{
    static const char *const expected[] = {"next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    struct opb_session *late_next = NULL;
    struct opb_switch late = {.next = &late_next, .next_count = 1, .next_listens = true};
    uint64_t number = 0;

    fake_host_start(node, take_in_two_hosts);
    next = begin_next(node, node->sessions[0], &number);
    events_push_stop();
    events_expect(expected, 2);
    assert_int_equal(opb_session_new(&late_next, node, NEXT_HOST, 4243, 0), OPB_OK);
    assert_false(opb_events_switch(node->events, &late, &number));
    assert_ptr_equal(node->sessions[0], next);
    opb_session_unref(late_next);
    end_next(next);
}

static void
a_generation_that_has_died_does_not_take_over(void **state)
{
    struct opb_node *node = *state;
    struct opb_session *next = NULL;
    struct opb_switch change = {.next = &next, .next_count = 1, .next_listens = true};
    struct opb_session *current;
    uint64_t number = 0;

    fake_host_start(node, take_in_two_hosts);
    current = node->sessions[0];
    assert_int_equal(opb_session_new(&next, node, NEXT_HOST, 4243, 0), OPB_OK);
    opb_session_end(next, "was killed");
    assert_false(opb_events_switch(node->events, &change, &number));
    assert_ptr_equal(node->sessions[0], current);
    opb_session_unref(next);
}

/* The old generation ends; there is no next one yet. */
static struct opb_session *
end_old(struct opb_node *node, uint64_t *number)
{
    struct opb_session *old = opb_session_primary(node);

    assert_true(opb_events_end_old(node->events, old, true, number));
    opb_sessions_withdraw(node, 1);
    return old;
}

static struct opb_session *
activate_next(struct opb_node *node)
{
    struct opb_session *next = NULL;

    assert_int_equal(opb_session_new(&next, node, NEXT_HOST, 4243, 0), OPB_OK);
    assert_true(opb_session_activate(next));
    return next;
}

static void
events_that_wait_when_the_old_generation_ends_are_for_the_next_one(void **state)
{
    static const char *const expected[] = {"10 ",  "11 ", "next", "10 ", "next", "3 a",
                                           "next", "5 b", "next", "6 c", "next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    struct opb_session *old;
    uint64_t number;

    fake_host_start(node, take_in_two_hosts);
    events_push(OrthancPluginChangeType_OrthancStarted, NULL);
    events_await_queued(node, 0); /* that one is being taken */
    events_push(OrthancPluginChangeType_NewInstance, "a");
    events_push(OrthancPluginChangeType_NewSeries, "b");
    old = end_old(node, &number);
    events_let_return(2);
    assert_true(opb_events_wait_switch(node->events, number, opb_deadline_ms(5000)));
    events_push(OrthancPluginChangeType_NewStudy, "c");
    next = activate_next(node);
    events_push_stop();
    events_expect(expected, 12);
    opb_session_unref(old);
    end_next(next);
}

static void
a_start_is_told_once_however_many_generations_could_not_begin(void **state)
{
    static const char *const expected[] = {"10 ", "11 ", "next", "10 ", "next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    struct opb_session *old;
    uint64_t number;
    uint64_t none = 7;

    fake_host_start(node, take_in_two_hosts);
    events_push(OrthancPluginChangeType_OrthancStarted, NULL);
    events_await_queued(node, 0);
    old = end_old(node, &number);
    events_let_return(2);
    assert_true(opb_events_wait_switch(node->events, number, opb_deadline_ms(5000)));
    assert_true(opb_events_end_old(node->events, NULL, false, &none));
    assert_int_equal(none, 0); /* nobody to be waited for */
    next = activate_next(node);
    events_push_stop();
    events_expect(expected, 6);
    opb_session_unref(old);
    end_next(next);
}

static void
an_old_generation_ends_no_more_when_orthanc_has_stopped(void **state)
{
    struct opb_node *node = *state;
    uint64_t number;

    fake_host_start(node, take_in_two_hosts);
    events_let_return(1);
    events_push_stop();
    assert_false(opb_events_end_old(node->events, node->sessions[0], true, &number));
    assert_int_equal(number, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        EVENT_TEST(the_old_generation_sees_its_end_before_the_next_one_begins),
        EVENT_TEST(events_of_a_generation_that_has_died_go_to_the_next_one),
        EVENT_TEST(before_orthanc_has_started_and_after_it_has_stopped_nobody_is_told),
        EVENT_TEST(a_generation_that_has_died_does_not_take_over),
        EVENT_TEST(events_that_wait_when_the_old_generation_ends_are_for_the_next_one),
        EVENT_TEST(a_start_is_told_once_however_many_generations_could_not_begin),
        EVENT_TEST(an_old_generation_ends_no_more_when_orthanc_has_stopped),
    };

    return OPB_RUN(tests);
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_call.c - what becomes of a call: its answer, its faults, a lost host
 *
 * Here:      outcomes, and the lanes that calls leave behind.
 * Elsewhere: deadlines and waiting (test_call_waiting.c), calls within calls
 *            (test_call_nesting.c), lanes that a host opens (test_service_lanes.c).
 */
#include "call_fixture.h"

#include "plugin/call_stats.h"
#include "plugin/history.h"
#include "plugin/stack.h"

#include "protocol/sockets.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static void
read_answer(struct opb_reader *reader, void *context)
{
    struct counted *counted = context;

    counted->answer = opb_read_bool(reader);
}

static void
call_returns_when_the_host_has_answered(void **state)
{
    struct counted counted = {.packs = 0};

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(counted.packs, 1);
    assert_int_equal(counted.finishes, 1);
    assert_int_equal(opb_call_depth(), 0);
    assert_false(opb_stack_is_private());
}

static void
answer_true(struct opb_lane *lane, struct opb_frame *request, struct opb_message *message)
{
    opb_message_begin_response(message, opb_frame_msgid(request));
    opb_pack_bool(message, true);
    fake_send(lane, message);
}

static void
call_reads_its_result(void **state)
{
    struct counted counted = {.packs = 0};
    const struct opb_call_io io = {
        .pack = call_count_pack, .result = read_answer, .context = &counted};

    fake_host_start(*state, answer_true);
    assert_int_equal(
        opb_call_run(*state, OPB_CALL_HTTP_FILTER_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_DONE);
    assert_true(counted.answer);
}

static void
result_of_another_type_ends_the_lane(void **state)
{
    struct counted counted = {.packs = 0};
    const struct opb_call_io io = {
        .pack = call_count_pack, .result = read_answer, .context = &counted};

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(
        opb_call_run(*state, OPB_CALL_HTTP_FILTER_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_DIED);
    assert_true(fake_log_has("the result of a call has the wrong type"));
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 2);
}

static void
answer_encoding(struct opb_lane *lane, struct opb_frame *request,
                struct opb_message *message)
{
    fake_answer_fault(lane, request, message, OPB_FAULT_ENCODING, "not UTF-8");
}

static void
answer_protocol(struct opb_lane *lane, struct opb_frame *request,
                struct opb_message *message)
{
    fake_answer_fault(lane, request, message, OPB_FAULT_PROTOCOL, "what is this?");
}

static void
faults_of_the_host_become_outcomes(void **state)
{
    struct counted counted = {.packs = 0};

    fake_host_start(*state, call_answer_raised);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_RAISED);
    fake_host_serve(answer_encoding);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_ENCODING);
    assert_true(fake_log_has("Cannot create a Python string, check that the string is "
                             "properly encoded using UTF-8"));
    fake_host_serve(answer_protocol);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_FAILED);
    assert_true(fake_log_has("The test call could not be run: what is this?"));
    assert_int_equal(fake_host_lanes(), 1); /* the lane survives all of them */
    assert_int_equal(counted.finishes, 3);
}

static void
note_text(void *context, const struct opb_happening *happening)
{
    (void)snprintf(context, 64, "%s: %s: %s", happening->kind, happening->what,
                   happening->text);
}

static void
each_call_is_counted_and_an_exception_is_kept(void **state)
{
    struct opb_node *node = *state;
    struct opb_call_stat *stat = opb_call_stats_route(node->call_stats, 5);
    struct counted counted = {.packs = 0};
    const struct opb_call_io io = {.pack = call_count_pack,
                                   .finish = call_count_finish,
                                   .context = &counted,
                                   .stat = stat};
    struct opb_call_sum *sum = NULL;
    struct opb_call_summary summary;
    char text[64] = "";

    fake_host_start(node, fake_answer_nil);
    assert_int_equal(call_run(node, &counted, OPB_FOREVER), OPB_CALL_DONE);
    fake_host_serve(call_answer_raised);
    assert_int_equal(
        opb_call_run(node, OPB_CALL_CHANGE_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_RAISED);
    assert_int_equal(opb_call_sum_new(&sum), OPB_OK);
    opb_call_sum_add(sum, opb_call_stats_kind(node->call_stats, OPB_CALL_CHANGE_INDEX),
                     opb_clock_ms());
    opb_call_sum_end(sum, &summary);
    assert_int_equal(summary.calls, 2);
    assert_int_equal(summary.errors, 1);
    opb_call_sum_clear(sum);
    opb_call_sum_add(sum, stat, opb_clock_ms());
    opb_call_sum_end(sum, &summary);
    assert_int_equal(summary.calls, 1); /* the other had no route */
    opb_call_sum_free(sum);
    assert_int_equal(atomic_load(&node->waiting_count), 0);
    opb_history_each(node->history, OPB_HISTORY_EXCEPTIONS, note_text, text);
    assert_string_equal(text, "Change: test call: ValueError");
}

static void
die(struct opb_lane *lane, struct opb_frame *request, struct opb_message *message)
{
    (void)lane;
    (void)request;
    (void)message;
    fake_host_kill("was killed by signal 9 (Killed)");
}

static void
death_of_the_host_fails_the_call_and_says_why(void **state)
{
    struct counted counted = {.packs = 0};

    fake_host_start(*state, die);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DIED);
    assert_int_equal(counted.finishes, 1);
    assert_true(
        fake_log_has("The host (pid 4242) was killed by signal 9 (Killed) during the "
                     "test call; this call has failed"));
    fake_host_serve(fake_answer_nil);
    (void)fake_host_activate(*state);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
}

static void
leave(struct opb_lane *lane, struct opb_frame *request, struct opb_message *message)
{
    (void)request;
    (void)message;
    opb_lane_shutdown(lane);
}

static void
lost_lane_of_a_living_host_does_not_wait_long(void **state)
{
    struct counted counted = {.packs = 0};
    uint64_t before_ms = opb_clock_ms();

    fake_host_start(*state, leave);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DIED);
    assert_true(opb_clock_ms() - before_ms < 2000);
    assert_true(
        fake_log_has("The connection to the host (pid 4242) was lost during the test "
                     "call"));
}

static void
idle_lane_that_the_host_closed_is_replaced(void **state)
{
    struct counted counted = {.packs = 0};

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 1);
    fake_host_kill("ended with exit code 0");
    (void)fake_host_activate(*state);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 2);
}

static bool
refuse(struct opb_session *session, void *context)
{
    assert_non_null(session);
    *(bool *)context = true;
    return false;
}

static void
check_can_keep_a_call_from_being_made(void **state)
{
    bool was_asked = false;
    const struct opb_call_io io = {
        .pack = call_count_pack, .context = &was_asked, .check = refuse};

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(
        opb_call_run(*state, OPB_CALL_CHANGE_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_ABSENT);
    assert_true(was_asked);
    assert_false(fake_log_has("test call"));
}

static void
pack_too_much(struct opb_message *message, struct opb_session *session, void *context)
{
    (void)session;
    opb_message_begin_request(message, OPB_CALL_CHANGE_INDEX, 1);
    opb_pack_str(message, context, OPB_MAX_ENVELOPE_BYTES + 1u);
}

static void
arguments_that_are_too_large_fail_only_their_call(void **state)
{
    char *text = calloc(1, OPB_MAX_ENVELOPE_BYTES + 1u);
    const struct opb_call_io io = {.pack = pack_too_much, .context = text};
    struct counted counted = {.packs = 0};

    assert_non_null(text);
    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(
        opb_call_run(*state, OPB_CALL_CHANGE_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_FAILED);
    free(text);
    assert_true(fake_log_has("its arguments cannot be sent"));
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 1);
}

static void
run_many(void *context)
{
    for (int i = 0; i < 50; i++) {
        struct counted counted = {.packs = 0};

        assert_int_equal(call_run(context, &counted, OPB_FOREVER), OPB_CALL_DONE);
        assert_int_equal(counted.finishes, 1);
    }
}

static void
threads_run_calls_at_the_same_time_on_lanes_they_share(void **state)
{
    struct opb_thread *threads[8];

    fake_host_start(*state, fake_answer_nil);
    for (int i = 0; i < 8; i++) {
        threads[i] = opb_thread_start(run_many, *state);
    }
    for (int i = 0; i < 8; i++) {
        opb_thread_join(threads[i]);
    }
    assert_in_range(fake_host_lanes(), 1, 8);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CALL_TEST(call_returns_when_the_host_has_answered),
        CALL_TEST(call_reads_its_result),
        CALL_TEST(result_of_another_type_ends_the_lane),
        CALL_TEST(faults_of_the_host_become_outcomes),
        CALL_TEST(each_call_is_counted_and_an_exception_is_kept),
        CALL_TEST(death_of_the_host_fails_the_call_and_says_why),
        CALL_TEST(lost_lane_of_a_living_host_does_not_wait_long),
        CALL_TEST(idle_lane_that_the_host_closed_is_replaced),
        CALL_TEST(check_can_keep_a_call_from_being_made),
        CALL_TEST(arguments_that_are_too_large_fail_only_their_call),
        CALL_TEST(threads_run_calls_at_the_same_time_on_lanes_they_share),
    };

    return OPB_RUN(tests);
}

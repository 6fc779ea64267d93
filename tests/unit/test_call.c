/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_call.c - what becomes of a call: nesting, failures, lanes */
#include "plugin_support.h"

#include "plugin/call.h"
#include "plugin/call_stats.h"
#include "plugin/handles.h"
#include "plugin/history.h"
#include "plugin/stack.h"

#include "protocol/sockets.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int
make_node(void **state)
{
    *state = fake_node_new();
    return 0;
}

static int
free_node(void **state)
{
    fake_node_free(*state);
    return 0;
}

struct counted {
    unsigned packs, finishes;
    bool answer;
};

static void
count_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct counted *counted = context;

    assert_non_null(session);
    assert_true(opb_stack_is_private());
    counted->packs++;
    opb_message_begin_request(message, OPB_CALL_CHANGE_INDEX, 1);
    opb_pack_uint(message, counted->packs);
}

static void
count_finish(struct opb_session *session, void *context)
{
    struct counted *counted = context;

    assert_non_null(session);
    counted->finishes++;
}

static void
read_answer(struct opb_reader *reader, void *context)
{
    struct counted *counted = context;

    counted->answer = opb_read_bool(reader);
}

static enum opb_outcome
run(struct opb_node *node, struct counted *counted, uint64_t deadline_ms)
{
    const struct opb_call_io io = {
        .pack = count_pack, .finish = count_finish, .context = counted};

    return opb_call_run(node, OPB_CALL_CHANGE_INDEX, &io, "test call", deadline_ms);
}

static void
call_returns_when_the_host_has_answered(void **state)
{
    struct counted counted = {.packs = 0};

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
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
        .pack = count_pack, .result = read_answer, .context = &counted};

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
        .pack = count_pack, .result = read_answer, .context = &counted};

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(
        opb_call_run(*state, OPB_CALL_HTTP_FILTER_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_DIED);
    assert_true(fake_log_has("the result of a call has the wrong type"));
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 2);
}

static void
answer_raised(struct opb_lane *lane, struct opb_frame *request, struct opb_message *message)
{
    fake_answer_fault(lane, request, message, OPB_FAULT_RAISED, "ValueError");
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

    fake_host_start(*state, answer_raised);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_RAISED);
    fake_host_serve(answer_encoding);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_ENCODING);
    assert_true(fake_log_has("Cannot create a Python string, check that the string is "
                             "properly encoded using UTF-8"));
    fake_host_serve(answer_protocol);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_FAILED);
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
    const struct opb_call_io io = {
        .pack = count_pack, .finish = count_finish, .context = &counted, .stat = stat};
    struct opb_call_sum *sum = NULL;
    struct opb_call_summary summary;
    char text[64] = "";

    fake_host_start(node, fake_answer_nil);
    assert_int_equal(run(node, &counted, OPB_FOREVER), OPB_CALL_DONE);
    fake_host_serve(answer_raised);
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
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DIED);
    assert_int_equal(counted.finishes, 1);
    assert_true(
        fake_log_has("The host (pid 4242) was killed by signal 9 (Killed) during the "
                     "test call; this call has failed"));
    fake_host_serve(fake_answer_nil);
    (void)fake_host_activate(*state);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
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
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DIED);
    assert_true(opb_clock_ms() - before_ms < 2000);
    assert_true(
        fake_log_has("The connection to the host (pid 4242) was lost during the test "
                     "call"));
}

static void
answer_late(struct opb_lane *lane, struct opb_frame *request, struct opb_message *message)
{
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    fake_answer_nil(lane, request, message);
}

static void
call_ends_at_its_deadline_and_its_lane_with_it(void **state)
{
    struct counted counted = {.packs = 0};

    fake_host_start(*state, answer_late);
    assert_int_equal(run(*state, &counted, opb_deadline_ms(100)), OPB_CALL_LATE);
    assert_int_equal(counted.finishes, 1);
    assert_true(fake_log_has("The test call has not returned in time"));
    assert_true(fake_log_has("The host (pid 4242) is killed, and a new one started"));
    fake_host_serve(fake_answer_nil);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
    (void)fake_host_activate(*state);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 2);
}

static void
call_may_take_as_long_as_is_configured_for_its_kind(void **state)
{
    struct opb_node *node = *state;
    struct counted counted = {.packs = 0};
    const struct opb_call_io io = {.pack = count_pack, .context = &counted};

    node->config->call_timeout_ms[OPB_CALL_CHANGE_INDEX] = 100;
    fake_host_start(node, answer_late);
    assert_int_equal(
        opb_call_run(node, OPB_CALL_REST_INDEX, &io, "other call", OPB_FOREVER),
        OPB_CALL_DONE);
    assert_int_equal(run(node, &counted, OPB_FOREVER), OPB_CALL_LATE);
    assert_true(fake_log_has("The test call has not returned within 0.1 s "
                             "(Python.CallTimeout): it has failed"));
    assert_int_equal(atomic_load(&node->counts.late), 1);
}

static atomic_bool was_deleted;

static OrthancPluginErrorCode
delete_slowly(const void *params)
{
    (void)params;
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    atomic_store(&was_deleted, true);
    return OrthancPluginErrorCode_Success;
}

static void
delete_and_stay(struct opb_lane *lane, struct opb_frame *request,
                struct opb_message *message)
{
    (void)request; /* never answered */
    opb_message_begin_request(message, fake_method("RestApiDelete"), 1);
    opb_pack_cstr(message, "/instances/x");
    (void)fake_sdk_call(lane, message, NULL, NULL);
}

static void
sdk_call_runs_to_its_end_though_the_call_is_late(void **state)
{
    struct opb_node *node = *state;
    struct counted counted = {.packs = 0};
    uint64_t before_ms = opb_clock_ms();

    node->config->call_timeout_ms[OPB_CALL_CHANGE_INDEX] = 100;
    atomic_store(&was_deleted, false);
    fake_on(_OrthancPluginService_RestApiDelete, delete_slowly);
    fake_host_start(node, delete_and_stay);
    assert_int_equal(run(node, &counted, OPB_FOREVER), OPB_CALL_LATE);
    assert_true(atomic_load(&was_deleted));
    assert_true(opb_clock_ms() - before_ms >= 300);
}

static void
waiting_for_a_host_does_not_count_as_running(void **state)
{
    struct opb_node *node = *state;
    struct counted counted = {.packs = 0};
    uint64_t before_ms = opb_clock_ms();

    node->config->call_timeout_ms[OPB_CALL_CHANGE_INDEX] = 50;
    assert_int_equal(run(node, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
    assert_true(opb_clock_ms() - before_ms >= node->config->queue_timeout_ms);
}

static void
no_call_goes_to_a_condemned_session_and_those_in_it_end_as_ever(void **state)
{
    struct opb_node *node = *state;
    struct counted counted = {.packs = 0};
    struct opb_session *session;
    struct opb_session *lane_session;
    struct opb_lane *lane;
    struct opb_lane *none;

    fake_host_start(node, fake_answer_nil);
    assert_int_equal(
        opb_lane_acquire(node, OPB_ANY_WORKER, &lane_session, &lane, opb_deadline_ms(2000)),
        OPB_OK);
    session = opb_session_ref(lane_session);
    assert_true(opb_session_condemn(session));
    assert_false(opb_session_condemn(session));
    assert_false(opb_session_is_dead(session));
    assert_int_equal(opb_lane_status(lane), OPB_OK);
    assert_int_equal(run(node, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
    assert_int_equal(opb_lane_acquire_in(session, &none, opb_deadline_ms(50)), OPB_LATE);
    opb_lane_release(&lane_session, &lane);
    opb_session_end(session, "was killed");
    assert_false(opb_session_condemn(session));
    opb_session_unref(session);
}

static void
without_a_host_a_call_waits_for_queue_timeout(void **state)
{
    struct counted counted = {.packs = 0};
    uint64_t before_ms = opb_clock_ms();

    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
    assert_in_range(opb_clock_ms() - before_ms, 250, 3000);
    assert_int_equal(counted.packs, 0);
    assert_int_equal(counted.finishes, 0);
    assert_true(fake_log_has("no host was ready within Python.QueueTimeout"));
    assert_int_equal(run(NULL, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
}

static void
start_host_later(void *context)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    fake_host_start(context, fake_answer_nil);
}

static void
call_that_waits_for_a_host_gets_the_next_one(void **state)
{
    struct opb_node *node = *state;
    struct counted counted = {.packs = 0};
    struct opb_thread *thread;

    node->config->queue_timeout_ms = 10000;
    thread = opb_thread_start(start_host_later, node);
    assert_int_equal(run(node, &counted, OPB_FOREVER), OPB_CALL_DONE);
    opb_thread_join(thread);
}

static void
waiting_ends_when_orthanc_unloads_the_plugin(void **state)
{
    struct opb_node *node = *state;
    struct counted counted = {.packs = 0};

    node->config->queue_timeout_ms = 60000;
    opb_node_set_phase(node, OPB_PHASE_FINALIZING);
    assert_int_equal(run(node, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
}

static void
idle_lane_that_the_host_closed_is_replaced(void **state)
{
    struct counted counted = {.packs = 0};

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 1);
    fake_host_kill("ended with exit code 0");
    (void)fake_host_activate(*state);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
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
        .pack = count_pack, .context = &was_asked, .check = refuse};

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(
        opb_call_run(*state, OPB_CALL_CHANGE_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_FAILED);
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
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 1);
}

/* Nesting: each level of the host asks for a REST call, whose service calls again. Both
 * sides take a recursive lock at each level. */
#define NESTING_LEVELS 20u

static struct {
    struct opb_node *node;
    pthread_mutex_t node_lock, host_lock;
    pthread_t node_thread, host_thread;
    unsigned node_level, host_level, deepest;
} nesting;

static void
ask_for_more(struct opb_lane *lane, struct opb_frame *request, struct opb_message *message)
{
    struct opb_message *inner = opb_message_new();

    assert_int_equal(pthread_mutex_trylock(&nesting.host_lock), 0);
    if (nesting.host_level++ == 0) {
        nesting.host_thread = pthread_self();
    }
    assert_true(pthread_equal(nesting.host_thread, pthread_self()));
    if (nesting.host_level < NESTING_LEVELS) {
        opb_message_begin_request(inner, fake_method("RestApiDelete"), 1);
        opb_pack_cstr(inner, "/instances");
        assert_int_equal(fake_sdk_call(lane, inner, ask_for_more, NULL), OPB_OK);
    }
    opb_message_free(inner);
    nesting.host_level--;
    pthread_mutex_unlock(&nesting.host_lock);
    fake_answer_nil(lane, request, message);
}

static OrthancPluginErrorCode
call_again(const void *params)
{
    struct counted counted = {.packs = 0};

    (void)params;
    assert_int_equal(pthread_mutex_trylock(&nesting.node_lock), 0);
    assert_true(pthread_equal(nesting.node_thread, pthread_self()));
    nesting.node_level++;
    assert_int_equal(opb_call_depth(), nesting.node_level);
    assert_true(opb_call_is_inside(OPB_CALL_CHANGE_INDEX));
    assert_false(opb_call_is_inside(OPB_CALL_REST_INDEX));
    nesting.deepest =
        nesting.node_level > nesting.deepest ? nesting.node_level : nesting.deepest;
    assert_int_equal(run(nesting.node, &counted, OPB_FOREVER), OPB_CALL_DONE);
    nesting.node_level--;
    pthread_mutex_unlock(&nesting.node_lock);
    return OrthancPluginErrorCode_Success;
}

static void
make_recursive(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static void
nested_calls_stay_on_their_threads_at_both_ends(void **state)
{
    struct counted counted = {.packs = 0};

    memset(&nesting, 0, sizeof(nesting));
    nesting.node = *state;
    nesting.node_thread = pthread_self();
    make_recursive(&nesting.node_lock);
    make_recursive(&nesting.host_lock);
    fake_on(_OrthancPluginService_RestApiDelete, call_again);
    fake_host_start(*state, ask_for_more);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(nesting.deepest, NESTING_LEVELS - 1);
    assert_int_equal(fake_host_lanes(), 1);
    pthread_mutex_destroy(&nesting.node_lock);
    pthread_mutex_destroy(&nesting.host_lock);
}

static struct opb_node *other_node;
static atomic_uint other_calls;

static void
run_one(void *context)
{
    struct counted counted = {.packs = 0};

    (void)context;
    assert_int_equal(run(other_node, &counted, OPB_FOREVER), OPB_CALL_DONE);
    atomic_fetch_add(&other_calls, 1);
}

/* An SDK call that makes another thread of the core call Python before it returns. */
static OrthancPluginErrorCode
call_from_another_thread(const void *params)
{
    (void)params;
    opb_thread_join(opb_thread_start(run_one, NULL));
    return OrthancPluginErrorCode_Success;
}

static void
ask_once(struct opb_lane *lane, struct opb_frame *request, struct opb_message *message)
{
    struct opb_message *inner = opb_message_new();

    fake_host_serve(fake_answer_nil);
    opb_message_begin_request(inner, fake_method("RestApiDelete"), 1);
    opb_pack_cstr(inner, "/instances");
    assert_int_equal(fake_sdk_call(lane, inner, NULL, NULL), OPB_OK);
    opb_message_free(inner);
    fake_answer_nil(lane, request, message);
}

static void
calls_on_other_threads_are_served_during_a_nested_sdk_call(void **state)
{
    struct counted counted = {.packs = 0};

    other_node = *state;
    atomic_store(&other_calls, 0);
    fake_on(_OrthancPluginService_RestApiDelete, call_from_another_thread);
    fake_host_start(*state, ask_once);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(atomic_load(&other_calls), 1);
    assert_int_equal(fake_host_lanes(), 2);
}

static OrthancPluginErrorCode
call_without_end(const void *params)
{
    struct counted counted = {.packs = 0};
    enum opb_outcome outcome = run(nesting.node, &counted, OPB_FOREVER);

    (void)params;
    nesting.deepest++;
    return outcome == OPB_CALL_DONE ? OrthancPluginErrorCode_Success
                                    : OrthancPluginErrorCode_Plugin;
}

static void
ask_without_end(struct opb_lane *lane, struct opb_frame *request,
                struct opb_message *message)
{
    struct opb_message *inner = opb_message_new();

    opb_message_begin_request(inner, fake_method("RestApiDelete"), 1);
    opb_pack_cstr(inner, "/instances");
    (void)(fake_sdk_call(lane, inner, ask_without_end, NULL) ==
           OPB_OK); /* 64 deep at most */
    opb_message_free(inner);
    fake_answer_nil(lane, request, message);
}

static void
endless_nesting_fails_the_innermost_call(void **state)
{
    struct counted counted = {.packs = 0};

    memset(&nesting, 0, sizeof(nesting));
    nesting.node = *state;
    fake_on(_OrthancPluginService_RestApiDelete, call_without_end);
    fake_host_start(*state, ask_without_end);
    assert_int_equal(run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_true(fake_log_has("calls are nested too deeply"));
    assert_int_equal(nesting.deepest, OPB_MAX_CALL_DEPTH);
}

static void
run_many(void *context)
{
    for (int i = 0; i < 50; i++) {
        struct counted counted = {.packs = 0};

        assert_int_equal(run(context, &counted, OPB_FOREVER), OPB_CALL_DONE);
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

struct service {
    struct opb_session *session;
    struct opb_lane *lane;
};

static void
serve_service_lane(void *context)
{
    struct service *service = context;

    opb_call_mark_own_thread();
    opb_session_adopt(service->session, service->lane);
    opb_call_serve_service_lane(service->session, service->lane);
    opb_session_forget(service->session, service->lane);
    opb_lane_close(service->lane);
}

static void
service_lane_runs_sdk_calls_and_their_callbacks(void **state)
{
    struct opb_message *message = opb_message_new();
    struct opb_lane *lane = NULL;
    struct service service;
    struct opb_thread *thread;

    memset(&nesting, 0, sizeof(nesting));
    nesting.node = *state;
    fake_on(_OrthancPluginService_RestApiDelete, call_without_end);
    fake_host_start(*state, answer_raised);
    service.session = fake_host_activate(*state);
    opb_make_lanes(&lane, &service.lane);
    thread = opb_thread_start(serve_service_lane, &service);
    opb_message_begin_request(message, fake_method("RestApiDelete"), 1);
    opb_pack_cstr(message, "/instances");
    assert_int_equal(fake_sdk_call(lane, message, fake_answer_nil, NULL), OPB_OK);
    assert_int_equal(nesting.deepest, 1); /* the callback went down the service lane */
    assert_int_equal(fake_host_lanes(), 0);
    opb_lane_close(lane);
    opb_thread_join(thread);
    opb_message_free(message);
}

static void
callbacks_of_a_child_process_go_to_a_host(void **state)
{
    struct opb_message *message = opb_message_new();
    struct opb_lane *lane = NULL;
    struct service service;
    struct opb_thread *thread;

    memset(&nesting, 0, sizeof(nesting));
    nesting.node = *state;
    fake_on(_OrthancPluginService_RestApiDelete, call_without_end);
    fake_host_start(*state, answer_raised);
    assert_int_equal(
        opb_session_new_child(&service.session, fake_host_activate(*state), 4712), OPB_OK);
    assert_true(opb_session_is_child(service.session));
    opb_make_lanes(&lane, &service.lane);
    thread = opb_thread_start(serve_service_lane, &service);
    opb_message_begin_request(message, fake_method("RestApiDelete"), 1);
    opb_pack_cstr(message, "/instances");
    assert_int_equal(fake_sdk_call(lane, message, NULL, NULL), OPB_OK);
    assert_int_equal(nesting.deepest, 1);
    assert_int_equal(fake_host_lanes(),
                     1); /* a call lane, and nothing came down this one */
    opb_lane_close(lane);
    opb_thread_join(thread);
    opb_session_unref(service.session);
    opb_message_free(message);
}

static void
child_process_cannot_register_callbacks(void **state)
{
    struct opb_message *message = opb_message_new();
    struct opb_frame *response = NULL;
    struct opb_lane *lane = NULL;
    struct service service;
    struct opb_thread *thread;
    enum opb_fault fault;
    const char *text;

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(
        opb_session_new_child(&service.session, fake_host_activate(*state), 4712), OPB_OK);
    opb_make_lanes(&lane, &service.lane);
    thread = opb_thread_start(serve_service_lane, &service);
    opb_message_begin_request(message, fake_method(OPB_FUNCTION_REGISTER), 3);
    opb_pack_cstr(message, "Change");
    opb_pack_nil(message);
    opb_pack_uint(message, 0);
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    assert_true(opb_frame_fault(response, &fault, NULL, &text));
    assert_int_equal(fault, OPB_FAULT_RUNTIME);
    assert_non_null(strstr(text, "child process"));
    opb_frame_free(response);
    opb_lane_close(lane);
    opb_thread_join(thread);
    opb_session_unref(service.session);
    opb_message_free(message);
}

static void
service_lane_ends_with_its_session(void **state)
{
    struct opb_lane *lane = NULL;
    struct service service;
    struct opb_thread *thread;

    fake_host_start(*state, fake_answer_nil);
    service.session = fake_host_activate(*state);
    opb_make_lanes(&lane, &service.lane);
    thread = opb_thread_start(serve_service_lane, &service);
    opb_session_end(service.session, "was killed");
    opb_thread_join(thread);
    opb_lane_close(lane);
}

#define CALL_TEST(function) cmocka_unit_test_setup_teardown(function, make_node, free_node)

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
        CALL_TEST(call_ends_at_its_deadline_and_its_lane_with_it),
        CALL_TEST(call_may_take_as_long_as_is_configured_for_its_kind),
        CALL_TEST(sdk_call_runs_to_its_end_though_the_call_is_late),
        CALL_TEST(waiting_for_a_host_does_not_count_as_running),
        CALL_TEST(no_call_goes_to_a_condemned_session_and_those_in_it_end_as_ever),
        CALL_TEST(without_a_host_a_call_waits_for_queue_timeout),
        CALL_TEST(call_that_waits_for_a_host_gets_the_next_one),
        CALL_TEST(waiting_ends_when_orthanc_unloads_the_plugin),
        CALL_TEST(idle_lane_that_the_host_closed_is_replaced),
        CALL_TEST(check_can_keep_a_call_from_being_made),
        CALL_TEST(arguments_that_are_too_large_fail_only_their_call),
        CALL_TEST(nested_calls_stay_on_their_threads_at_both_ends),
        CALL_TEST(calls_on_other_threads_are_served_during_a_nested_sdk_call),
        CALL_TEST(endless_nesting_fails_the_innermost_call),
        CALL_TEST(threads_run_calls_at_the_same_time_on_lanes_they_share),
        CALL_TEST(service_lane_runs_sdk_calls_and_their_callbacks),
        CALL_TEST(callbacks_of_a_child_process_go_to_a_host),
        CALL_TEST(child_process_cannot_register_callbacks),
        CALL_TEST(service_lane_ends_with_its_session),
    };

    return OPB_RUN(tests);
}

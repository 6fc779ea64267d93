/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_call_waiting.c - how long a call may run, and how long it waits for a
 * host
 */
#include "call_fixture.h"

#include "protocol/sockets.h"

#include <stdatomic.h>
#include <time.h>

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
    assert_int_equal(call_run(*state, &counted, opb_deadline_ms(100)), OPB_CALL_LATE);
    assert_int_equal(counted.finishes, 1);
    assert_true(fake_log_has("The test call has not returned in time"));
    assert_true(fake_log_has("The host (pid 4242) is killed, and a new one started"));
    fake_host_serve(fake_answer_nil);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
    (void)fake_host_activate(*state);
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 2);
}

static void
call_may_take_as_long_as_is_configured_for_its_kind(void **state)
{
    struct opb_node *node = *state;
    struct counted counted = {.packs = 0};
    const struct opb_call_io io = {.pack = call_count_pack, .context = &counted};

    node->config->call_timeout_ms[OPB_CALL_CHANGE_INDEX] = 100;
    fake_host_start(node, answer_late);
    assert_int_equal(
        opb_call_run(node, OPB_CALL_REST_INDEX, &io, "other call", OPB_FOREVER),
        OPB_CALL_DONE);
    assert_int_equal(call_run(node, &counted, OPB_FOREVER), OPB_CALL_LATE);
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
    assert_int_equal(call_run(node, &counted, OPB_FOREVER), OPB_CALL_LATE);
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
    assert_int_equal(call_run(node, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
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
    assert_int_equal(call_run(node, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
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

    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
    assert_in_range(opb_clock_ms() - before_ms, 250, 3000);
    assert_int_equal(counted.packs, 0);
    assert_int_equal(counted.finishes, 0);
    assert_true(fake_log_has("no host was ready within Python.QueueTimeout"));
    assert_int_equal(call_run(NULL, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
}

/* A call waits for a host. */
static bool
is_waiting(void *context)
{
    struct opb_node *node = context;

    return atomic_load(&node->waiting_count) == 1;
}

static void
start_host_later(void *context)
{
    opb_wait_until(is_waiting, context, 5000);
    fake_host_start(context, fake_answer_nil);
}

static void
unload_later(void *context)
{
    opb_wait_until(is_waiting, context, 5000);
    opb_node_set_phase(context, OPB_PHASE_FINALIZING);
}

static void
call_that_waits_for_a_host_gets_the_next_one(void **state)
{
    struct opb_node *node = *state;
    struct counted counted = {.packs = 0};
    struct opb_thread *thread;

    node->config->queue_timeout_ms = 10000;
    thread = opb_thread_start(start_host_later, node);
    assert_int_equal(call_run(node, &counted, OPB_FOREVER), OPB_CALL_DONE);
    opb_thread_join(thread);
}

static void
waiting_ends_when_orthanc_unloads_the_plugin(void **state)
{
    struct opb_node *node = *state;
    struct counted counted = {.packs = 0};
    uint64_t before_ms = opb_clock_ms();
    struct opb_thread *thread;

    node->config->queue_timeout_ms = 30000;
    thread = opb_thread_start(unload_later, node);
    assert_int_equal(call_run(node, &counted, OPB_FOREVER), OPB_CALL_NO_HOST);
    assert_true(opb_clock_ms() - before_ms < 10000);
    opb_thread_join(thread);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CALL_TEST(call_ends_at_its_deadline_and_its_lane_with_it),
        CALL_TEST(call_may_take_as_long_as_is_configured_for_its_kind),
        CALL_TEST(sdk_call_runs_to_its_end_though_the_call_is_late),
        CALL_TEST(waiting_for_a_host_does_not_count_as_running),
        CALL_TEST(no_call_goes_to_a_condemned_session_and_those_in_it_end_as_ever),
        CALL_TEST(without_a_host_a_call_waits_for_queue_timeout),
        CALL_TEST(call_that_waits_for_a_host_gets_the_next_one),
        CALL_TEST(waiting_ends_when_orthanc_unloads_the_plugin),
    };

    return OPB_RUN(tests);
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_call_nesting.c - SDK calls of a callback, and callbacks of an SDK call
 *
 * Here:      which threads and lanes they run on, at both ends, and how deep.
 */
#include "call_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

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
    assert_int_equal(call_run(nesting.node, &counted, OPB_FOREVER), OPB_CALL_DONE);
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
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
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
    assert_int_equal(call_run(other_node, &counted, OPB_FOREVER), OPB_CALL_DONE);
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
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_int_equal(atomic_load(&other_calls), 1);
    assert_int_equal(fake_host_lanes(), 2);
}

static OrthancPluginErrorCode
call_without_end(const void *params)
{
    struct counted counted = {.packs = 0};
    enum opb_outcome outcome = call_run(nesting.node, &counted, OPB_FOREVER);

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
    (void)fake_sdk_call(lane, inner, ask_without_end, NULL); /* 64 deep at most */
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
    assert_int_equal(call_run(*state, &counted, OPB_FOREVER), OPB_CALL_DONE);
    assert_true(fake_log_has("calls are nested too deeply"));
    assert_int_equal(nesting.deepest, OPB_MAX_CALL_DEPTH);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CALL_TEST(nested_calls_stay_on_their_threads_at_both_ends),
        CALL_TEST(calls_on_other_threads_are_served_during_a_nested_sdk_call),
        CALL_TEST(endless_nesting_fails_the_innermost_call),
    };

    return OPB_RUN(tests);
}

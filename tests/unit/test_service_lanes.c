/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_service_lanes.c - lanes that a host or a child of it opens to the node
 *
 * Here:      what is served on such a lane (opb_call_serve_service_lane).
 * Elsewhere: the socket and its threads (test_service.c).
 */
#include "call_fixture.h"

#include <string.h>

/* A lane, and the thread of the node that serves it. */
struct service {
    struct opb_session *session;
    struct opb_lane *lane, *far_lane;
    struct opb_message *message;
    struct opb_thread *thread;
};

static void
serve(void *context)
{
    struct service *service = context;

    opb_call_mark_own_thread();
    opb_session_adopt(service->session, service->far_lane);
    opb_call_serve_service_lane(service->session, service->far_lane);
    opb_session_forget(service->session, service->far_lane);
    opb_lane_close(service->far_lane);
}

static void
open_service(struct service *service, struct opb_session *session)
{
    service->session = session;
    service->message = opb_message_new();
    opb_make_lanes(&service->lane, &service->far_lane);
    service->thread = opb_thread_start(serve, service);
}

static void
close_service(struct service *service)
{
    opb_lane_close(service->lane);
    opb_thread_join(service->thread);
    opb_message_free(service->message);
}

static struct {
    struct opb_node *node;
    unsigned done;
    enum opb_outcome outcome; /* of the last */
} callbacks;

/* An SDK call that makes the core call Python before it returns. */
static OrthancPluginErrorCode
call_back(const void *params)
{
    struct counted counted = {.packs = 0};

    (void)params;
    callbacks.outcome = call_run(callbacks.node, &counted, OPB_FOREVER);
    callbacks.done++;
    return OrthancPluginErrorCode_Success;
}

/* An SDK call on the lane; callback serves the call that comes back on it. */
static void
delete_with_a_callback(struct service *service, fake_serve callback)
{
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.node = opb_node_current();
    fake_on(_OrthancPluginService_RestApiDelete, call_back);
    opb_message_begin_request(service->message, fake_method("RestApiDelete"), 1);
    opb_pack_cstr(service->message, "/instances");
    assert_int_equal(fake_sdk_call(service->lane, service->message, callback, NULL),
                     OPB_OK);
    assert_int_equal(callbacks.done, 1);
}

static void
service_lane_runs_sdk_calls_and_their_callbacks(void **state)
{
    struct service service;

    fake_host_start(*state, call_answer_raised);
    open_service(&service, fake_host_activate(*state));
    delete_with_a_callback(&service, fake_answer_nil);
    assert_int_equal(callbacks.outcome, OPB_CALL_DONE);
    assert_int_equal(fake_host_lanes(), 0); /* the callback went down the service lane */
    close_service(&service);
}

static void
callbacks_of_a_child_process_go_to_a_host(void **state)
{
    struct opb_session *child;
    struct service service;

    fake_host_start(*state, call_answer_raised);
    assert_int_equal(opb_session_new_child(&child, fake_host_activate(*state), 4712),
                     OPB_OK);
    assert_true(opb_session_is_child(child));
    open_service(&service, child);
    delete_with_a_callback(&service, NULL); /* nothing comes down this lane */
    assert_int_equal(callbacks.outcome, OPB_CALL_RAISED);
    assert_int_equal(fake_host_lanes(), 1); /* but on a call lane */
    close_service(&service);
    opb_session_unref(child);
}

static void
child_process_cannot_register_callbacks(void **state)
{
    struct opb_frame *response = NULL;
    struct opb_session *child;
    struct service service;
    enum opb_fault fault;
    const char *text;

    fake_host_start(*state, fake_answer_nil);
    assert_int_equal(opb_session_new_child(&child, fake_host_activate(*state), 4712),
                     OPB_OK);
    open_service(&service, child);
    opb_message_begin_request(service.message, fake_method(OPB_FUNCTION_REGISTER), 3);
    opb_pack_cstr(service.message, "Change");
    opb_pack_nil(service.message);
    opb_pack_uint(service.message, 0);
    assert_int_equal(fake_sdk_call(service.lane, service.message, NULL, &response), OPB_OK);
    assert_true(opb_frame_fault(response, &fault, NULL, &text));
    assert_int_equal(fault, OPB_FAULT_RUNTIME);
    assert_non_null(strstr(text, "child process"));
    opb_frame_free(response);
    close_service(&service);
    opb_session_unref(child);
}

static void
service_lane_ends_with_its_session(void **state)
{
    struct service service;

    fake_host_start(*state, fake_answer_nil);
    open_service(&service, fake_host_activate(*state));
    delete_with_a_callback(&service, fake_answer_nil); /* it is served */
    opb_session_end(service.session, "was killed");
    opb_thread_join(service.thread); /* though this end of the lane is open */
    opb_lane_close(service.lane);
    opb_message_free(service.message);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CALL_TEST(service_lane_runs_sdk_calls_and_their_callbacks),
        CALL_TEST(callbacks_of_a_child_process_go_to_a_host),
        CALL_TEST(child_process_cannot_register_callbacks),
        CALL_TEST(service_lane_ends_with_its_session),
    };

    return OPB_RUN(tests);
}

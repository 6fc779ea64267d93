/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_callbacks.c - what Orthanc is told about REST requests, filters,
 * instances */
#include "plugin_support.h"

#include "plugin/handles.h"
#include "plugin/invocation.h"
#include "plugin/routes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static OrthancPluginRestCallback rest_callback; /* what the node registered last */

static OrthancPluginErrorCode
register_rest(const void *params)
{
    rest_callback = ((const _OrthancPluginRestCallback *)params)->callback;
    return OrthancPluginErrorCode_Success;
}

static char answer[512], content_type[64], retry_after[16];
static unsigned answer_status;
static pthread_t answer_thread;

static OrthancPluginErrorCode
answer_buffer(const void *params)
{
    const _OrthancPluginAnswerBuffer *buffer = params;

    answer_status = 200;
    answer_thread = pthread_self();
    (void)snprintf(answer, sizeof(answer), "%.*s", (int)buffer->answerSize,
                   (const char *)buffer->answer);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
send_status(const void *params)
{
    const _OrthancPluginSendHttpStatus *status = params;

    answer_status = status->status;
    (void)snprintf(answer, sizeof(answer), "%.*s", (int)status->bodySize,
                   (const char *)status->body);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
set_header(const void *params)
{
    const _OrthancPluginSetHttpHeader *header = params;

    if (strcmp(header->key, "Content-Type") == 0) {
        (void)snprintf(content_type, sizeof(content_type), "%s", header->value);
    }
    else if (strcmp(header->key, "Retry-After") == 0) {
        (void)snprintf(retry_after, sizeof(retry_after), "%s", header->value);
    }
    return OrthancPluginErrorCode_Success;
}

/* The host of these tests numbers its only route 7. */
#define ROUTE_NUMBER 7u

static int
make_node(void **state)
{
    struct opb_node *node = fake_node_new();
    enum opb_fault fault;
    char text[256];

    answer_status = 0;
    answer[0] = '\0';
    content_type[0] = '\0';
    retry_after[0] = '\0';
    fake_on(_OrthancPluginService_RegisterRestCallbackNoLock, register_rest);
    fake_on(_OrthancPluginService_AnswerBuffer, answer_buffer);
    fake_on(_OrthancPluginService_SendHttpStatus, send_status);
    fake_on(_OrthancPluginService_SetHttpHeader, set_header);
    opb_node_set_phase(node, OPB_PHASE_LOADING);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(opb_routes_add(node->routes, NULL, "Rest", "/toto/(.*)", ROUTE_NUMBER,
                                    &fault, text, sizeof(text)),
                     OPB_OK);
    assert_int_equal(opb_routes_add(node->routes, NULL, "HttpFilter", NULL, 0, &fault, text,
                                    sizeof(text)),
                     OPB_OK);
    assert_int_equal(opb_routes_add(node->routes, NULL, "StoredInstance", NULL, 0, &fault,
                                    text, sizeof(text)),
                     OPB_OK);
    opb_routes_commit(node->routes, NULL);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
    *state = node;
    return 0;
}

static int
free_node(void **state)
{
    fake_node_free(*state);
    return 0;
}

static int output; /* what a RestOutput is in these tests */

static OrthancPluginErrorCode
request(OrthancPluginHttpMethod method, const void *body, uint32_t body_size)
{
    static const char *const groups[] = {"one", "two"};
    static const char *const keys[] = {"a", "b"};
    static const char *const values[] = {"1", "2"};
    OrthancPluginHttpRequest http = {.method = method,
                                     .groupsCount = 2,
                                     .groups = groups,
                                     .getCount = 2,
                                     .getKeys = keys,
                                     .getValues = values,
                                     .body = body,
                                     .bodySize = body_size,
                                     .headersCount = 2,
                                     .headersKeys = keys,
                                     .headersValues = values};

    return rest_callback((OrthancPluginRestOutput *)(void *)&output, "/toto/x", &http);
}

static uint64_t kept_handle; /* of the last request */

static void
read_request(struct opb_frame *frame, const char *method, bool has_get, const char *body)
{
    struct opb_reader reader;
    struct opb_reader sub;
    size_t size = 0;

    assert_int_equal(opb_frame_method(frame), OPB_CALL_REST_INDEX);
    opb_frame_params(frame, &reader);
    assert_int_equal(opb_read_uint(&reader, UINT32_MAX), ROUTE_NUMBER);
    kept_handle = opb_read_uint(&reader, UINT64_MAX);
    assert_string_equal(opb_read_cstr(&reader, false), "/toto/x");
    assert_string_equal(opb_read_cstr(&reader, false), method);
    assert_int_equal(opb_read_array(&reader, &sub), 2);
    assert_string_equal(opb_read_cstr(&sub, false), "one");
    assert_int_equal(has_get, !opb_read_is_nil(&reader));
    opb_read_skip(&reader);
    assert_int_equal(opb_read_map(&reader, &sub), 2);
    assert_string_equal(opb_read_cstr(&sub, false), "a");
    assert_string_equal(opb_read_cstr(&sub, false), "1");
    if (body != NULL) {
        const void *data = opb_read_bytes(&reader, &size);

        assert_int_equal(size, strlen(body));
        assert_memory_equal(data, body, size);
    }
    else {
        assert_true(opb_read_is_nil(&reader));
        opb_read_skip(&reader);
    }
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
}

static void
post_answer(struct opb_lane *lane, const char *text)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_notify(message, fake_method("RestOutput.AnswerBuffer"), 3);
    opb_pack_uint(message, kept_handle);
    opb_pack_bytes(message, text, strlen(text));
    opb_pack_cstr(message, "text/plain");
    assert_int_equal(opb_lane_post(lane, message), OPB_OK);
    opb_message_free(message);
}

static void
serve_get(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    read_request(frame, "GET", true, NULL);
    post_answer(lane, "hello");
    fake_answer_nil(lane, frame, message);
}

static void
get_is_answered_by_the_script_on_the_thread_of_orthanc(void **state)
{
    fake_host_start(*state, serve_get);
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0),
                     OrthancPluginErrorCode_Success);
    assert_int_equal(answer_status, 200);
    assert_string_equal(answer, "hello");
    assert_true(pthread_equal(answer_thread, pthread_self()));
}

static void
serve_post(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    read_request(frame, "POST", false, "body");
    fake_answer_nil(lane, frame, message);
}

static void
serve_empty_put(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    read_request(frame, "PUT", false, "");
    fake_answer_nil(lane, frame, message);
}

static void
serve_delete(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    read_request(frame, "DELETE", false, NULL);
    fake_answer_nil(lane, frame, message);
}

static void
only_post_and_put_have_a_body_and_only_get_has_arguments(void **state)
{
    fake_host_start(*state, serve_post);
    assert_int_equal(request(OrthancPluginHttpMethod_Post, "body", 4), 0);
    fake_host_serve(serve_empty_put);
    assert_int_equal(request(OrthancPluginHttpMethod_Put, NULL, 0), 0);
    fake_host_serve(serve_delete);
    assert_int_equal(request(OrthancPluginHttpMethod_Delete, NULL, 0), 0);
    assert_int_equal(answer_status, 0); /* not answering is the script's right */
}

static void
raise(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    fake_answer_fault(lane, frame, message, OPB_FAULT_RAISED, "ValueError");
}

static void
bad_text(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    fake_answer_fault(lane, frame, message, OPB_FAULT_ENCODING, "not UTF-8");
}

static void
script_that_raises_is_error_1_and_bad_text_error_minus_1(void **state)
{
    fake_host_start(*state, raise);
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0),
                     OrthancPluginErrorCode_Plugin);
    fake_host_serve(bad_text);
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0),
                     OrthancPluginErrorCode_InternalError);
    assert_int_equal(answer_status, 0);
}

static void
die(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    (void)lane;
    (void)frame;
    (void)message;
    fake_host_kill("was killed by signal 9 (Killed)");
}

static void
death_before_an_answer_is_502_in_json(void **state)
{
    fake_host_start(*state, die);
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0),
                     OrthancPluginErrorCode_Success);
    assert_int_equal(answer_status, 502);
    assert_string_equal(content_type, "application/json");
    assert_non_null(
        strstr(answer, "\"Error\" : \"The Python host died during the request\""));
    assert_non_null(strstr(answer, "\"Details\" : "));
}

static void
answer_and_die(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_frame *response = NULL;

    read_request(frame, "GET", true, NULL);
    post_answer(lane, "first");
    opb_message_begin_request(message, fake_method("LogInfo"), 1);
    opb_pack_cstr(message, "the answer has arrived");
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    opb_frame_free(response);
    fake_host_kill("was killed by signal 9 (Killed)");
}

static void
death_after_an_answer_adds_no_second_one(void **state)
{
    fake_host_start(*state, answer_and_die);
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0),
                     OrthancPluginErrorCode_Plugin);
    assert_int_equal(answer_status, 200);
    assert_string_equal(answer, "first");
    assert_int_equal(fake_calls(_OrthancPluginService_SendHttpStatus), 0);
}

static void
without_a_host_a_request_is_503_with_retry_after(void **state)
{
    (void)state;
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0),
                     OrthancPluginErrorCode_Success);
    assert_int_equal(answer_status, 503);
    assert_string_equal(retry_after, "1");
    assert_string_equal(content_type, "application/json");
}

static void
route_that_a_new_host_lacks_is_404(void **state)
{
    struct opb_node *node = *state;

    fake_host_start(node, serve_get);
    opb_routes_begin(node->routes, NULL);
    opb_routes_log_losses(node->routes, NULL);
    opb_routes_commit(node->routes, NULL);
    assert_true(fake_log_has("has not registered the REST route /toto/(.*)"));
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0),
                     OrthancPluginErrorCode_Success);
    assert_int_equal(answer_status, 404);
}

static void
use_the_last_output(struct opb_lane *lane, struct opb_frame *frame,
                    struct opb_message *message)
{
    struct opb_frame *response = NULL;
    enum opb_fault fault = OPB_FAULT_RAISED;

    opb_message_begin_request(message, fake_method("RestOutput.SendMultipartItem"), 2);
    opb_pack_uint(message, kept_handle);
    opb_pack_bytes(message, "x", 1);
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    assert_true(opb_frame_fault(response, &fault, NULL, NULL));
    assert_int_equal(fault, OPB_FAULT_INVALID_OBJECT);
    opb_frame_free(response);
    fake_answer_nil(lane, frame, message);
}

static void
output_of_a_request_that_is_over_is_invalid(void **state)
{
    fake_host_start(*state, serve_get);
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0), 0);
    fake_host_serve(use_the_last_output);
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0), 0);
    assert_int_equal(fake_calls(_OrthancPluginService_SendMultipartItem), 0);
}

static int32_t
ask_filter(void)
{
    static const char *const keys[] = {"host"};
    static const char *const values[] = {"localhost"};

    return opb_callback_filter(OrthancPluginHttpMethod_Get, "/system", "127.0.0.1", 1, keys,
                               values, 0, NULL, NULL);
}

static void
answer_bool(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message,
            bool value)
{
    struct opb_reader reader;
    struct opb_reader sub;

    assert_int_equal(opb_frame_method(frame), OPB_CALL_HTTP_FILTER_INDEX);
    opb_frame_params(frame, &reader);
    assert_string_equal(opb_read_cstr(&reader, false), "/system");
    assert_int_equal(opb_read_int(&reader, 0, 10), OrthancPluginHttpMethod_Get);
    assert_string_equal(opb_read_cstr(&reader, false), "127.0.0.1");
    assert_int_equal(opb_read_map(&reader, &sub), 1);
    assert_int_equal(opb_read_map(&reader, &sub), 0);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_message_begin_response(message, opb_frame_msgid(frame));
    opb_pack_bool(message, value);
    fake_send(lane, message);
}

static void
accept_request(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    answer_bool(lane, frame, message, true);
}

static void
refuse_request(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    answer_bool(lane, frame, message, false);
}

static void
filter_says_what_the_script_says_and_else_refuses(void **state)
{
    struct opb_node *node = *state;

    fake_host_start(node, accept_request);
    assert_int_equal(ask_filter(), 1);
    fake_host_serve(refuse_request);
    assert_int_equal(ask_filter(), 0);
    fake_host_serve(raise);
    assert_int_equal(ask_filter(), -1);
    fake_host_serve(bad_text);
    assert_int_equal(ask_filter(), -1);
    assert_true(fake_log_has(
        "Exception in the Python incoming-http-request filter: Internal error"));
    fake_host_serve(fake_answer_nil); /* not a Boolean */
    assert_int_equal(ask_filter(), 0);
    fake_host_serve(die);
    assert_int_equal(ask_filter(), 0);
    assert_int_equal(ask_filter(), 0); /* there is no host any more */
    assert_true(fake_log_has("The HTTP request for /system was refused"));
}

static void
filter_that_cannot_be_asked_lets_in_what_the_configuration_says(void **state)
{
    struct opb_node *node = *state;

    node->config->fail_open[OPB_CALL_HTTP_FILTER_INDEX] = true;
    fake_host_start(node, refuse_request);
    assert_int_equal(ask_filter(), 0);
    fake_host_serve(raise);
    assert_int_equal(ask_filter(), -1);
    fake_host_serve(die);
    assert_int_equal(ask_filter(), 1);
    assert_int_equal(ask_filter(), 1); /* there is no host any more */
    assert_true(fake_log_has("The HTTP request for /system was let in"));
    assert_int_equal(atomic_load(&node->counts.let_in), 2);
    assert_int_equal(atomic_load(&node->counts.refused), 0);
}

static void
without_a_filter_requests_pass_without_a_host(void **state)
{
    struct opb_node *node = *state;

    opb_routes_begin(node->routes, NULL);
    opb_routes_commit(node->routes, NULL);
    assert_int_equal(ask_filter(), 1);
}

static unsigned stored_calls;

static void
serve_stored(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_reader reader;

    stored_calls++;
    assert_int_equal(opb_frame_method(frame), OPB_CALL_STORED_INSTANCE_INDEX);
    opb_frame_params(frame, &reader);
    (void)fake_read_lent(&reader, NULL);
    assert_string_equal(opb_read_cstr(&reader, false), "abcd");
    fake_answer_nil(lane, frame, message);
}

static OrthancPluginErrorCode
store(void)
{
    return opb_callback_stored((const OrthancPluginDicomInstance *)(const void *)&output,
                               "abcd");
}

static void
die_and_return(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    stored_calls++;
    die(lane, frame, message);
    fake_host_serve(serve_stored);
    (void)fake_host_activate(opb_node_current());
}

static void
die_each_time(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    stored_calls++;
    die(lane, frame, message);
    (void)fake_host_activate(opb_node_current());
}

static void
stored_instance_is_delivered_once_more_if_the_host_dies(void **state)
{
    stored_calls = 0;
    fake_host_start(*state, serve_stored);
    assert_int_equal(store(), OrthancPluginErrorCode_Success);
    assert_int_equal(stored_calls, 1);
    fake_host_serve(die_and_return);
    assert_int_equal(store(), OrthancPluginErrorCode_Success);
    assert_int_equal(stored_calls, 3);
    fake_host_serve(die_each_time);
    assert_int_equal(store(), OrthancPluginErrorCode_Plugin);
    assert_int_equal(stored_calls, 5);
    assert_true(fake_log_has("has ended two hosts"));
    fake_host_serve(raise);
    assert_int_equal(store(), OrthancPluginErrorCode_Plugin);
    fake_host_serve(bad_text);
    assert_int_equal(store(), OrthancPluginErrorCode_InternalError);
}

static void
callbacks_after_the_end_do_nothing(void **state)
{
    struct opb_node *node = *state;

    opb_node_set_current(NULL);
    assert_int_equal(store(), OrthancPluginErrorCode_Success);
    assert_int_equal(ask_filter(), 1);
    assert_int_equal(request(OrthancPluginHttpMethod_Get, NULL, 0),
                     OrthancPluginErrorCode_Plugin);
    assert_int_equal(opb_callback_change(OrthancPluginChangeType_NewStudy,
                                         OrthancPluginResourceType_Study, "x"),
                     OrthancPluginErrorCode_Success);
    opb_node_set_current(node);
}

#define CALLBACK_TEST(function)                                                            \
    cmocka_unit_test_setup_teardown(function, make_node, free_node)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CALLBACK_TEST(get_is_answered_by_the_script_on_the_thread_of_orthanc),
        CALLBACK_TEST(only_post_and_put_have_a_body_and_only_get_has_arguments),
        CALLBACK_TEST(script_that_raises_is_error_1_and_bad_text_error_minus_1),
        CALLBACK_TEST(death_before_an_answer_is_502_in_json),
        CALLBACK_TEST(death_after_an_answer_adds_no_second_one),
        CALLBACK_TEST(without_a_host_a_request_is_503_with_retry_after),
        CALLBACK_TEST(route_that_a_new_host_lacks_is_404),
        CALLBACK_TEST(output_of_a_request_that_is_over_is_invalid),
        CALLBACK_TEST(filter_says_what_the_script_says_and_else_refuses),
        CALLBACK_TEST(filter_that_cannot_be_asked_lets_in_what_the_configuration_says),
        CALLBACK_TEST(without_a_filter_requests_pass_without_a_host),
        CALLBACK_TEST(stored_instance_is_delivered_once_more_if_the_host_dies),
        CALLBACK_TEST(callbacks_after_the_end_do_nothing),
    };

    return OPB_RUN(tests);
}

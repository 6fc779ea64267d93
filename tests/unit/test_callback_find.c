/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_callback_find.c - what Orthanc is told about C-FIND and worklists */
#include "plugin_support.h"

#include "plugin/handles.h"
#include "plugin/kinds.h"
#include "plugin/routes.h"

#include <stdio.h>
#include <string.h>

/* What the node has registered. */
static OrthancPluginFindCallback find_callback;
static OrthancPluginWorklistCallback worklist_callback;
static _OrthancPluginMoveCallback move_callbacks;

static OrthancPluginErrorCode
register_find(const void *params)
{
    find_callback = ((const _OrthancPluginFindCallback *)params)->callback;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
register_worklist(const void *params)
{
    worklist_callback = ((const _OrthancPluginWorklistCallback *)params)->callback;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
register_move(const void *params)
{
    move_callbacks = *(const _OrthancPluginMoveCallback *)params;
    return OrthancPluginErrorCode_Success;
}

#if OPB_SDK_HAS_CONNECTION
static OrthancPluginFindCallback2 find2_callback;
static OrthancPluginWorklistCallback2 worklist2_callback;

static OrthancPluginErrorCode
register_find2(const void *params)
{
    find2_callback = ((const _OrthancPluginFindCallback2 *)params)->callback;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
register_worklist2(const void *params)
{
    worklist2_callback = ((const _OrthancPluginWorklistCallback2 *)params)->callback;
    return OrthancPluginErrorCode_Success;
}
#endif

static int
make_node(void **state)
{
    struct opb_node *node = fake_node_new();

    fake_on(_OrthancPluginService_RegisterFindCallback, register_find);
    fake_on(_OrthancPluginService_RegisterWorklistCallback, register_worklist);
    fake_on(_OrthancPluginService_RegisterMoveCallback, register_move);
#if OPB_SDK_HAS_CONNECTION
    fake_on(_OrthancPluginService_RegisterFindCallback2, register_find2);
    fake_on(_OrthancPluginService_RegisterWorklistCallback2, register_worklist2);
#endif
    opb_node_set_phase(node, OPB_PHASE_LOADING);
    opb_routes_begin(node->routes, NULL);
    *state = node;
    return 0;
}

static int
free_node(void **state)
{
    fake_node_free(*state);
    return 0;
}

static void
add_kind(struct opb_node *node, const char *kind)
{
    enum opb_fault fault;
    char text[256];

    assert_int_equal(
        opb_routes_add(node->routes, NULL, kind, NULL, 0, &fault, text, sizeof(text)),
        OPB_OK);
}

static void
run_node(struct opb_node *node)
{
    opb_routes_commit(node->routes, NULL);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
}

static int answers, query; /* what stands behind the pointers in these tests */

static OrthancPluginErrorCode
find(void)
{
    return find_callback((OrthancPluginFindAnswers *)(void *)&answers,
                         (const OrthancPluginFindQuery *)(const void *)&query, "ISSUER",
                         "CALLED");
}

static OrthancPluginErrorCode
worklist(void)
{
    return worklist_callback((OrthancPluginWorklistAnswers *)(void *)&answers,
                             (const OrthancPluginWorklistQuery *)(const void *)&query,
                             "ISSUER", "CALLED");
}

static OrthancPluginErrorCode
mark_incomplete(const void *params)
{
    assert_ptr_equal(((const _OrthancPluginFindOperation *)params)->answers, &answers);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
query_size(const void *params)
{
    const _OrthancPluginFindOperation *operation = params;

    assert_ptr_equal(operation->query, &query);
    *operation->resultUint32 = 5;
    return OrthancPluginErrorCode_Success;
}

static uint64_t kept_handle;

static void
read_find(struct opb_frame *frame, enum opb_call_index kind, uint64_t handles[2])
{
    struct opb_reader reader;

    assert_int_equal(opb_frame_method(frame), kind);
    opb_frame_params(frame, &reader);
    handles[0] = fake_read_lent(&reader, NULL);
    handles[1] = fake_read_lent(&reader, NULL);
    assert_string_equal(opb_read_cstr(&reader, false), "ISSUER");
    assert_string_equal(opb_read_cstr(&reader, false), "CALLED");
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
}

static void
serve_find(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_frame *response = NULL;
    struct opb_reader reader;
    uint64_t handles[2];

    read_find(frame, OPB_CALL_FIND_INDEX, handles);
    kept_handle = handles[1];
    opb_message_begin_request(message, fake_method("FindQuery.GetFindQuerySize"), 1);
    opb_pack_uint(message, handles[1]);
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    opb_frame_result(response, &reader);
    assert_int_equal(opb_read_int(&reader, 0, 100), 5);
    opb_frame_free(response);
    opb_message_begin_request(message, fake_method("FindAnswers.FindMarkIncomplete"), 1);
    opb_pack_uint(message, handles[0]);
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    assert_false(opb_frame_fault(response, NULL, NULL, NULL));
    opb_frame_free(response);
    fake_answer_nil(lane, frame, message);
}

static void
use_the_last_query(struct opb_lane *lane, struct opb_frame *frame,
                   struct opb_message *message)
{
    struct opb_frame *response = NULL;
    enum opb_fault fault = OPB_FAULT_RAISED;

    opb_message_begin_request(message, fake_method("FindQuery.GetFindQuerySize"), 1);
    opb_pack_uint(message, kept_handle);
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    assert_true(opb_frame_fault(response, &fault, NULL, NULL));
    assert_int_equal(fault, OPB_FAULT_INVALID_OBJECT);
    opb_frame_free(response);
    fake_answer_nil(lane, frame, message);
}

static void
find_lends_answers_and_query_for_the_time_of_the_call(void **state)
{
    struct opb_node *node = *state;

    fake_on(_OrthancPluginService_FindMarkIncomplete, mark_incomplete);
    fake_on(_OrthancPluginService_GetFindQuerySize, query_size);
    add_kind(node, "Find");
    run_node(node);
    fake_host_start(node, serve_find);
    assert_int_equal(find(), OrthancPluginErrorCode_Success);
    assert_int_equal(fake_calls(_OrthancPluginService_FindMarkIncomplete), 1);
    fake_host_serve(use_the_last_query);
    assert_int_equal(find(), OrthancPluginErrorCode_Success);
    /* told with each of the two calls, and asked once */
    assert_int_equal(fake_calls(_OrthancPluginService_GetFindQuerySize), 3);
}

static void
serve_worklist(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    uint64_t handles[2];

    read_find(frame, OPB_CALL_WORKLIST_INDEX, handles);
    fake_answer_nil(lane, frame, message);
}

static void
raise(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    fake_answer_fault(lane, frame, message, OPB_FAULT_RAISED, "KeyError");
}

static void
bad_text(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    fake_answer_fault(lane, frame, message, OPB_FAULT_ENCODING, "not UTF-8");
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
check_failures(OrthancPluginErrorCode (*ask)(void))
{
    fake_host_serve(raise);
    assert_int_equal(ask(), OrthancPluginErrorCode_Plugin);
    fake_host_serve(bad_text);
    assert_int_equal(ask(), OrthancPluginErrorCode_InternalError);
    fake_host_serve(die);
    assert_int_equal(ask(), OrthancPluginErrorCode_Plugin);
    assert_int_equal(ask(), OrthancPluginErrorCode_Plugin); /* nobody is there any more */
}

static void
find_that_fails_is_an_error(void **state)
{
    add_kind(*state, "Find");
    run_node(*state);
    fake_host_start(*state, raise);
    check_failures(find);
    assert_true(fake_log_has("during the Python C-FIND SCP callback for ISSUER"));
    opb_node_set_current(NULL);
    assert_int_equal(find(), OrthancPluginErrorCode_Plugin);
    opb_node_set_current(*state);
}

static void
worklist_that_fails_is_an_error(void **state)
{
    add_kind(*state, "Worklist");
    run_node(*state);
    fake_host_start(*state, serve_worklist);
    assert_int_equal(worklist(), OrthancPluginErrorCode_Success);
    check_failures(worklist);
}

static void
kinds_are_registered_with_orthanc_once_and_when_asked_for(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(fake_calls(_OrthancPluginService_RegisterFindCallback), 0);
    add_kind(node, "Find");
    assert_int_equal(fake_calls(_OrthancPluginService_RegisterFindCallback), 1);
    assert_true(fake_log_has("Registering one Python C-FIND SCP callback\n"));
    run_node(node);
    opb_routes_begin(node->routes, NULL); /* the next host */
    add_kind(node, "Find");
    opb_routes_commit(node->routes, NULL);
    assert_int_equal(fake_calls(_OrthancPluginService_RegisterFindCallback), 1);
    assert_false(fake_log_has("restart of Orthanc"));
}

static void
latched_kind_that_comes_late_needs_a_restart(void **state)
{
    struct opb_node *node = *state;

    run_node(node);
    add_kind(node, "Move2");
    assert_int_equal(fake_calls(_OrthancPluginService_RegisterMoveCallback), 0);
    assert_true(fake_log_has("The Python C-MOVE SCP callback (v2) was registered after the "
                             "start of Orthanc: it needs a restart"));
}

static OrthancPluginErrorCode
refuse(const void *params)
{
    (void)params;
    return OrthancPluginErrorCode_Plugin;
}

static void
kind_that_orthanc_refuses_is_logged_and_no_error_of_the_script(void **state)
{
    fake_on(_OrthancPluginService_RegisterFindCallback, refuse);
    add_kind(*state, "Find");
    assert_true(fake_log_has("Orthanc does not accept the Python C-FIND SCP callback"));
}

static void
kind_that_a_new_host_lacks_is_refused(void **state)
{
    struct opb_node *node = *state;

    add_kind(node, "Find");
    add_kind(node, "Worklist");
    add_kind(node, "Move");
    run_node(node);
    fake_host_start(node, raise);
    opb_routes_begin(node->routes, NULL);
    opb_routes_log_losses(node->routes, NULL);
    opb_routes_commit(node->routes, NULL);
    assert_true(fake_log_has("has not registered the Python C-MOVE SCP callback"));
    assert_int_equal(find(), OrthancPluginErrorCode_Plugin);
    assert_int_equal(worklist(), OrthancPluginErrorCode_Plugin);
    assert_null(move_callbacks.callback(OrthancPluginResourceType_Study, NULL, NULL, NULL,
                                        NULL, NULL, "O", "S", "T", 1));
    assert_int_equal(fake_host_lanes(), 0);
}

#if OPB_SDK_HAS_CONNECTION
static int connection;

static const OrthancPluginDicomConnection *
a_connection(void)
{
    return (const OrthancPluginDicomConnection *)(const void *)&connection;
}

static OrthancPluginErrorCode
remote_aet(const void *params)
{
    const _OrthancPluginAccessDicomConnection *access = params;

    assert_ptr_equal(access->connection, &connection);
    *access->resultString = "PEER";
    return OrthancPluginErrorCode_Success;
}

static void
ask_connection(struct opb_lane *lane, struct opb_message *message, uint64_t handle)
{
    struct opb_frame *response = NULL;
    struct opb_reader reader;

    opb_message_begin_request(message,
                              fake_method("DicomConnection.GetConnectionRemoteAet"), 1);
    opb_pack_uint(message, handle);
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    opb_frame_result(response, &reader);
    assert_string_equal(opb_read_cstr(&reader, false), "PEER");
    opb_frame_free(response);
}

static void
serve_find2(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_reader reader;

    opb_frame_params(frame, &reader);
    opb_read_skip(&reader);
    opb_read_skip(&reader);
    ask_connection(lane, message, fake_read_lent(&reader, NULL));
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    fake_answer_nil(lane, frame, message);
}

static void
newer_kinds_lend_the_connection(void **state)
{
    struct opb_node *node = *state;

    node->context->orthancVersion = "1.12.10"; /* which has the function */
    fake_on(_OrthancPluginService_GetConnectionRemoteAet, remote_aet);
    add_kind(node, "Find2");
    add_kind(node, "Worklist2");
    run_node(node);
    fake_host_start(node, serve_find2);
    assert_int_equal(find2_callback((OrthancPluginFindAnswers *)(void *)&answers,
                                    (const OrthancPluginFindQuery *)(const void *)&query,
                                    a_connection()),
                     OrthancPluginErrorCode_Success);
    assert_int_equal(
        worklist2_callback((OrthancPluginWorklistAnswers *)(void *)&answers,
                           (const OrthancPluginWorklistQuery *)(const void *)&query,
                           a_connection()),
        OrthancPluginErrorCode_Success);
    /* told with each of the two calls, and asked by each */
    assert_int_equal(fake_calls(_OrthancPluginService_GetConnectionRemoteAet), 4);
}
#endif

#define DIMSE_TEST(function) cmocka_unit_test_setup_teardown(function, make_node, free_node)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        DIMSE_TEST(find_lends_answers_and_query_for_the_time_of_the_call),
        DIMSE_TEST(find_that_fails_is_an_error),
        DIMSE_TEST(worklist_that_fails_is_an_error),
        DIMSE_TEST(kinds_are_registered_with_orthanc_once_and_when_asked_for),
        DIMSE_TEST(latched_kind_that_comes_late_needs_a_restart),
        DIMSE_TEST(kind_that_orthanc_refuses_is_logged_and_no_error_of_the_script),
        DIMSE_TEST(kind_that_a_new_host_lacks_is_refused),
#if OPB_SDK_HAS_CONNECTION
        DIMSE_TEST(newer_kinds_lend_the_connection),
#endif
    };

    return OPB_RUN(tests);
}

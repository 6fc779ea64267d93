/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_callback_commitment.c - success is reported if the script says so, and
 * never else */
#include "plugin_support.h"

#include "plugin/handles.h"
#include "plugin/kinds.h"
#include "plugin/routes.h"

#include <string.h>

static _OrthancPluginRegisterStorageCommitmentScpCallback commitment;
#if OPB_SDK_HAS_CONNECTION
static _OrthancPluginRegisterStorageCommitmentScpCallback2 commitment2;
#endif

static OrthancPluginErrorCode
register_commitment(const void *params)
{
    commitment = *(const _OrthancPluginRegisterStorageCommitmentScpCallback *)params;
    return OrthancPluginErrorCode_Success;
}

#if OPB_SDK_HAS_CONNECTION
static OrthancPluginErrorCode
register_commitment2(const void *params)
{
    commitment2 = *(const _OrthancPluginRegisterStorageCommitmentScpCallback2 *)params;
    return OrthancPluginErrorCode_Success;
}
#endif

static int
make_node(void **state)
{
    struct opb_node *node = fake_node_new();
    enum opb_fault fault;
    char text[256];

    fake_on(_OrthancPluginService_RegisterStorageCommitmentScpCallback,
            register_commitment);
    assert_int_equal(opb_routes_add(node->routes, NULL, "StorageCommitment", NULL, 0,
                                    &fault, text, sizeof(text)),
                     OPB_OK); /* it is never too late for this one */
#if OPB_SDK_HAS_CONNECTION
    fake_on(_OrthancPluginService_RegisterStorageCommitmentScpCallback2,
            register_commitment2);
    assert_int_equal(opb_routes_add(node->routes, NULL, "StorageCommitment2", NULL, 0,
                                    &fault, text, sizeof(text)),
                     OPB_OK);
#endif
    *state = node;
    return 0;
}

static int
free_node(void **state)
{
    fake_node_free(*state);
    return 0;
}

#define DRIVER 17u

static int64_t next_reason;
static bool has_reason;
static unsigned freed;
static enum opb_fault sdk_fault;

static void
read_request(struct opb_reader *reader)
{
    struct opb_reader list;

    assert_string_equal(opb_read_cstr(reader, false), "job");
    assert_string_equal(opb_read_cstr(reader, false), "transaction");
    assert_int_equal(opb_read_array(reader, &list), 2);
    assert_string_equal(opb_read_cstr(&list, false), "class 1");
    assert_int_equal(opb_read_array(reader, &list), 2);
    assert_string_equal(opb_read_cstr(&list, false), "instance 1");
    assert_string_equal(opb_read_cstr(&list, false), "instance 2");
}

/* Python code may run when an object is freed. */
static void
call_the_server(struct opb_lane *lane, struct opb_message *message)
{
    struct opb_frame *response = NULL;

    opb_message_begin_request(message, fake_method("LookupPatient"), 1);
    opb_pack_cstr(message, "x");
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    assert_true(opb_frame_fault(response, &sdk_fault, NULL, NULL));
    opb_frame_free(response);
}

static void
serve(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_reader reader;

    opb_frame_params(frame, &reader);
    switch (opb_frame_method(frame)) {
    case OPB_CALL_COMMITMENT_INDEX:
        read_request(&reader);
        assert_string_equal(opb_read_cstr(&reader, false), "REMOTE");
        assert_string_equal(opb_read_cstr(&reader, false), "CALLED");
        opb_message_begin_response(message, opb_frame_msgid(frame));
        opb_pack_uint(message, DRIVER);
        break;
    case OPB_CALL_COMMITMENT2_INDEX:
        read_request(&reader);
        assert_int_not_equal(fake_read_lent(&reader, NULL), 0);
        opb_message_begin_response(message, opb_frame_msgid(frame));
        opb_pack_uint(message, DRIVER);
        break;
    case OPB_CALL_COMMITMENT_LOOKUP_INDEX:
        assert_string_equal(opb_read_cstr(&reader, false), "class 1");
        assert_string_equal(opb_read_cstr(&reader, false), "instance 1");
        assert_int_equal(opb_read_uint(&reader, UINT64_MAX), DRIVER);
        opb_message_begin_response(message, opb_frame_msgid(frame));
        if (has_reason) {
            opb_pack_int(message, next_reason);
        }
        else {
            opb_pack_nil(message);
        }
        break;
    default:
        assert_int_equal(opb_frame_method(frame), OPB_CALL_COMMITMENT_FREE_INDEX);
        assert_int_equal(opb_read_uint(&reader, UINT64_MAX), DRIVER);
        freed++;
        call_the_server(lane, message);
        opb_message_begin_response(message, opb_frame_msgid(frame));
        opb_pack_nil(message);
        break;
    }
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    fake_send(lane, message);
}

static const char *const classes[] = {"class 1", "class 2"};
static const char *const instances[] = {"instance 1", "instance 2"};

static OrthancPluginErrorCode
make(void **handler)
{
    *handler = NULL;
    return commitment.factory(handler, "job", "transaction", classes, instances, 2,
                              "REMOTE", "CALLED");
}

static OrthancPluginErrorCode
look_up(void *handler, OrthancPluginStorageCommitmentFailureReason *reason)
{
    *reason =
        OrthancPluginStorageCommitmentFailureReason_Success; /* as Orthanc may have it */
    return commitment.lookup(reason, handler, "class 1", "instance 1");
}

static void
assert_processing_failure(void *handler)
{
    OrthancPluginStorageCommitmentFailureReason reason;

    assert_int_equal(look_up(handler, &reason), OrthancPluginErrorCode_Success);
    assert_int_equal(reason, OrthancPluginStorageCommitmentFailureReason_ProcessingFailure);
}

static void
reasons_of_the_script_are_reported(void **state)
{
    OrthancPluginStorageCommitmentFailureReason reason;
    void *handler;

    freed = 0;
    has_reason = true;
    fake_host_start(*state, serve);
    assert_int_equal(make(&handler), OrthancPluginErrorCode_Success);
    assert_non_null(handler);
    for (next_reason = 0; next_reason <= 6; next_reason++) {
        assert_int_equal(look_up(handler, &reason), OrthancPluginErrorCode_Success);
        assert_int_equal(reason, next_reason);
    }
    assert_int_equal(look_up(handler, &reason), OrthancPluginErrorCode_ParameterOutOfRange);
    next_reason = -1;
    assert_int_equal(look_up(handler, &reason), OrthancPluginErrorCode_ParameterOutOfRange);
    assert_true(fake_log_has("has returned -1, which is no "
                             "StorageCommitmentFailureReason"));
    has_reason = false;
    assert_int_equal(look_up(handler, &reason), OrthancPluginErrorCode_Plugin);
    commitment.destructor(handler);
    assert_int_equal(freed, 1);
    assert_int_equal(sdk_fault, OPB_FAULT_RUNTIME); /* Orthanc has locked its jobs */
}

static void
raise(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    fake_answer_fault(lane, frame, message, OPB_FAULT_RAISED, "the script raised");
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
request_that_the_script_refuses_fails_the_job(void **state)
{
    void *handler;

    fake_host_start(*state, raise);
    assert_int_equal(make(&handler), OrthancPluginErrorCode_Plugin);
    assert_null(handler);
    fake_host_serve(bad_text);
    assert_int_equal(make(&handler), OrthancPluginErrorCode_InternalError);
    assert_null(handler);
}

static void
instance_that_cannot_be_asked_about_is_a_processing_failure(void **state)
{
    void *handler;

    freed = 0;
    fake_host_start(*state, serve);
    assert_int_equal(make(&handler), OrthancPluginErrorCode_Success);
    fake_host_serve(raise);
    assert_processing_failure(handler);
    fake_host_serve(bad_text);
    assert_processing_failure(handler);
    fake_host_serve(die);
    assert_processing_failure(handler);
    (void)fake_host_activate(*state);
    fake_host_serve(serve);
    assert_processing_failure(handler); /* the next host does not know it */
    commitment.destructor(handler);
    assert_int_equal(freed, 0);
}

static void
request_without_a_host_is_a_processing_failure(void **state)
{
    void *handler;

    freed = 0;
    fake_host_start(*state, die);
    assert_int_equal(make(&handler), OrthancPluginErrorCode_Success);
    assert_non_null(handler); /* else Orthanc would answer from its index */
    assert_processing_failure(handler);
    commitment.destructor(handler);
    assert_int_equal(make(&handler), OrthancPluginErrorCode_Success);
    assert_processing_failure(handler);
    commitment.destructor(handler);
    opb_node_set_current(NULL);
    assert_int_equal(make(&handler), OrthancPluginErrorCode_Success);
    assert_processing_failure(handler);
    commitment.destructor(handler);
    opb_node_set_current(*state);
    assert_int_equal(freed, 0);
}

#if OPB_SDK_HAS_CONNECTION
static void
request_of_version_2_lends_the_connection(void **state)
{
    OrthancPluginStorageCommitmentFailureReason reason;
    struct opb_session *session;
    void *handler = NULL;
    int connection = 0;

    has_reason = true;
    next_reason = 2;
    fake_host_start(*state, serve);
    session = fake_host_activate(*state);
    assert_int_equal(commitment2.factory(
                         &handler, "job", "transaction", classes, instances, 2,
                         (const OrthancPluginDicomConnection *)(const void *)&connection),
                     OrthancPluginErrorCode_Success);
    assert_int_equal(opb_handles_count(opb_session_handles(session)), 0);
    assert_int_equal(look_up(handler, &reason), OrthancPluginErrorCode_Success);
    assert_int_equal(reason, 2);
    commitment2.destructor(handler);
}
#endif

#define COMMITMENT_TEST(function)                                                          \
    cmocka_unit_test_setup_teardown(function, make_node, free_node)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        COMMITMENT_TEST(reasons_of_the_script_are_reported),
        COMMITMENT_TEST(request_that_the_script_refuses_fails_the_job),
        COMMITMENT_TEST(instance_that_cannot_be_asked_about_is_a_processing_failure),
        COMMITMENT_TEST(request_without_a_host_is_a_processing_failure),
#if OPB_SDK_HAS_CONNECTION
        COMMITMENT_TEST(request_of_version_2_lends_the_connection),
#endif
    };

    return OPB_RUN(tests);
}

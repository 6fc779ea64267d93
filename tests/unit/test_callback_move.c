/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_callback_move.c - what Orthanc is told about C-MOVE */
#include "plugin_support.h"

#include "plugin/driver.h"
#include "plugin/kinds.h"
#include "plugin/routes.h"

#include <stdio.h>
#include <string.h>

/* What the node has registered. */
static _OrthancPluginMoveCallback move_callbacks;

static OrthancPluginErrorCode
register_move(const void *params)
{
    move_callbacks = *(const _OrthancPluginMoveCallback *)params;
    return OrthancPluginErrorCode_Success;
}

#if OPB_SDK_HAS_CONNECTION
static _OrthancPluginMoveCallback2 move3_callbacks;

static OrthancPluginErrorCode
register_move3(const void *params)
{
    move3_callbacks = *(const _OrthancPluginMoveCallback2 *)params;
    return OrthancPluginErrorCode_Success;
}
#endif

static int
make_node(void **state)
{
    struct opb_node *node = fake_node_new();

    fake_on(_OrthancPluginService_RegisterMoveCallback, register_move);
#if OPB_SDK_HAS_CONNECTION
    fake_on(_OrthancPluginService_RegisterMoveCallback2, register_move3);
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

static void *
move(OrthancPluginResourceType level)
{
    return move_callbacks.callback(level, "patient", NULL, "1.2", NULL, NULL, "ORIGINATOR",
                                   "SOURCE", "TARGET", 65535);
}

#define DRIVER_NUMBER UINT64_C(0x123456789abc)

static enum opb_call_index seen[32];
static unsigned seen_count;
static uint32_t driver_size;
static enum opb_call_index failing; /* 0: none */

static void
read_request(struct opb_frame *frame)
{
    static const char *const expected[] = {"STUDY", "patient",    NULL,     "1.2",   NULL,
                                           NULL,    "ORIGINATOR", "SOURCE", "TARGET"};
    struct opb_reader reader;

    opb_frame_params(frame, &reader);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const char *text = opb_read_cstr(&reader, true);

        if (expected[i] == NULL) {
            assert_null(text);
        }
        else {
            assert_string_equal(text, expected[i]);
        }
    }
    assert_int_equal(opb_read_uint(&reader, 65535), 65535);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
}

static void
read_driver(struct opb_frame *frame)
{
    struct opb_reader reader;

    opb_frame_params(frame, &reader);
    assert_int_equal(opb_read_uint(&reader, UINT64_MAX), DRIVER_NUMBER);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
}

/* A host with one driver, which notes what it is asked for. */
static void
serve_move(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    enum opb_call_index kind = opb_frame_method(frame);

    assert_true(seen_count < sizeof(seen) / sizeof(seen[0]));
    seen[seen_count++] = kind;
    if (kind == failing) {
        raise(lane, frame, message);
        return;
    }
    opb_message_begin_response(message, opb_frame_msgid(frame));
    switch (kind) {
    case OPB_CALL_MOVE_INDEX:
        read_request(frame);
        opb_pack_nil(message);
        break;
    case OPB_CALL_MOVE2_INDEX:
        read_request(frame);
        opb_pack_uint(message, DRIVER_NUMBER);
        break;
    case OPB_CALL_MOVE_SIZE_INDEX:
        read_driver(frame);
        opb_pack_uint(message, driver_size);
        break;
    default:
        read_driver(frame);
        opb_pack_nil(message);
        break;
    }
    fake_send(lane, message);
}

static void
start_move(struct opb_node *node, const char *kind, enum opb_call_index fails)
{
    seen_count = 0;
    driver_size = 2;
    failing = fails;
    add_kind(node, kind);
    run_node(node);
    fake_host_start(node, serve_move);
}

static void
move_of_version_1_is_one_sub_operation(void **state)
{
    void *driver;

    start_move(*state, "Move", 0);
    driver = move(OrthancPluginResourceType_Study);
    assert_non_null(driver);
    assert_int_equal(move_callbacks.getMoveSize(driver), 1);
    assert_int_equal(seen_count, 0);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Success);
    move_callbacks.freeMove(driver);
    assert_int_equal(seen_count, 1);
    failing = OPB_CALL_MOVE_INDEX;
    driver = move(OrthancPluginResourceType_Study);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Plugin);
    move_callbacks.freeMove(driver);
    fake_host_serve(bad_text);
    driver = move(OrthancPluginResourceType_Study);
    assert_int_equal(move_callbacks.applyMove(driver),
                     OrthancPluginErrorCode_InternalError);
    move_callbacks.freeMove(driver);
}

static void
move_without_a_level_does_not_reach_the_script(void **state)
{
    void *driver;

    start_move(*state, "Move", 0);
    driver = move(OrthancPluginResourceType_None);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Plugin);
    move_callbacks.freeMove(driver);
    opb_node_set_phase(*state, OPB_PHASE_LOADING);
    fake_on(_OrthancPluginService_RegisterMoveCallback, register_move);
    add_kind(*state, "Move2");
    assert_null(move(OrthancPluginResourceType_None));
    assert_int_equal(seen_count, 0);
}

static void
driver_goes_from_create_to_free(void **state)
{
    static const enum opb_call_index expected[] = {
        OPB_CALL_MOVE2_INDEX, OPB_CALL_MOVE_SIZE_INDEX, OPB_CALL_MOVE_APPLY_INDEX,
        OPB_CALL_MOVE_APPLY_INDEX, OPB_CALL_MOVE_FREE_INDEX};
    void *driver;

    start_move(*state, "Move2", 0);
    assert_true(fake_log_has("Registering callbacks Python C-MOVE SCP callback (v2)\n"));
    driver = move(OrthancPluginResourceType_Study);
    assert_non_null(driver);
    assert_int_equal(move_callbacks.getMoveSize(driver), 2);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Success);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Success);
    move_callbacks.freeMove(driver);
    assert_int_equal(seen_count, 5);
    assert_memory_equal(seen, expected, sizeof(expected));
}

static void
create_that_fails_gives_no_driver(void **state)
{
    start_move(*state, "Move2", OPB_CALL_MOVE2_INDEX);
    assert_null(move(OrthancPluginResourceType_Study));
    fake_host_serve(fake_answer_nil); /* nil is no number: the lane is closed */
    assert_null(move(OrthancPluginResourceType_Study));
    fake_host_serve(die);
    assert_null(move(OrthancPluginResourceType_Study));
    assert_null(move(OrthancPluginResourceType_Study));
    assert_true(fake_log_has("during the Python C-MOVE SCP callback (Create v2)"));
}

static void
size_that_fails_is_one_sub_operation_that_fails(void **state)
{
    void *driver;

    start_move(*state, "Move2", OPB_CALL_MOVE_SIZE_INDEX);
    driver = move(OrthancPluginResourceType_Study);
    assert_int_equal(move_callbacks.getMoveSize(driver), 1);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Plugin);
    move_callbacks.freeMove(driver);
    assert_int_equal(seen_count, 3);
    assert_int_equal(seen[2], OPB_CALL_MOVE_FREE_INDEX);
}

static void
apply_and_free_that_raise_are_an_error_and_nothing(void **state)
{
    void *driver;

    start_move(*state, "Move2", OPB_CALL_MOVE_APPLY_INDEX);
    driver = move(OrthancPluginResourceType_Study);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Plugin);
    failing = OPB_CALL_MOVE_FREE_INDEX;
    move_callbacks.freeMove(driver);
    assert_int_equal(seen[seen_count - 1], OPB_CALL_MOVE_FREE_INDEX);
}

static void
driver_of_a_host_that_has_lost_its_place_goes_on(void **state)
{
    struct opb_session *session;
    void *driver;

    start_move(*state, "Move2", 0);
    driver = move(OrthancPluginResourceType_Study);
    session = opb_session_at(*state, 0);
    opb_session_leave(session);
    assert_null(opb_session_at(*state, 0));
    assert_int_equal(move_callbacks.getMoveSize(driver), 2);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Success);
    move_callbacks.freeMove(driver);
    assert_int_equal(seen_count, 4);
    opb_session_unref(session);
}

static void
driver_is_lost_with_its_host(void **state)
{
    void *driver;
    void *other;

    start_move(*state, "Move2", 0);
    driver = move(OrthancPluginResourceType_Study);
    other = move(OrthancPluginResourceType_Study);
    fake_host_serve(die);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Plugin);
    fake_host_serve(serve_move);
    (void)fake_host_activate(*state);
    seen_count = 0;
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Plugin);
    assert_true(fake_log_has("The Python C-MOVE SCP callback (Apply) could not be run: the "
                             "host that it belongs to has ended"));
    assert_int_equal(move_callbacks.getMoveSize(other), 1);
    assert_int_equal(move_callbacks.applyMove(other), OrthancPluginErrorCode_Plugin);
    move_callbacks.freeMove(driver);
    move_callbacks.freeMove(other);
    assert_int_equal(seen_count, 0); /* the new host has heard nothing of them */
}

static void
driver_stays_with_the_host_that_made_it(void **state)
{
    struct opb_session *first;
    void *driver;
    unsigned lanes;

    start_move(*state, "Move2", 0);
    first = opb_session_ref(((struct opb_node *)*state)->sessions[0]);
    driver = move(OrthancPluginResourceType_Study);
    (void)fake_host_activate(*state); /* the next generation; the first one drains */
    lanes = fake_host_lanes();
    assert_int_equal(move_callbacks.getMoveSize(driver), 2);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Success);
    assert_int_equal(fake_host_lanes(), lanes); /* the lane of the first session was free */
    move_callbacks.freeMove(driver);
    assert_int_equal(seen[seen_count - 1], OPB_CALL_MOVE_FREE_INDEX);
    opb_session_end(first, "has drained");
    opb_session_unref(first);
}

static void
driver_that_outlives_the_plugin_is_only_memory(void **state)
{
    void *driver;

    start_move(*state, "Move2", 0);
    driver = move(OrthancPluginResourceType_Study);
    fake_host_kill("was ended, since the server stops");
    opb_node_set_current(NULL);
    assert_int_equal(move_callbacks.applyMove(driver), OrthancPluginErrorCode_Plugin);
    move_callbacks.freeMove(driver);
    opb_node_set_current(*state);
}

static void *nested_driver;

static OrthancPluginErrorCode
ask_for_the_size(const void *params)
{
    (void)params;
    assert_int_equal(move_callbacks.getMoveSize(nested_driver), 2);
    return OrthancPluginErrorCode_Success;
}

static void
size_in_apply(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    if (opb_frame_method(frame) == OPB_CALL_MOVE_APPLY_INDEX) {
        struct opb_frame *response = NULL;

        opb_message_begin_request(message, fake_method("RestApiDelete"), 1);
        opb_pack_cstr(message, "/x");
        assert_int_equal(fake_sdk_call(lane, message, serve_move, &response), OPB_OK);
        opb_frame_free(response);
    }
    serve_move(lane, frame, message);
}

static void
call_with_a_driver_nests_on_the_lane_of_its_host(void **state)
{
    start_move(*state, "Move2", 0);
    fake_on(_OrthancPluginService_RestApiDelete, ask_for_the_size);
    nested_driver = move(OrthancPluginResourceType_Study);
    fake_host_serve(size_in_apply);
    assert_int_equal(move_callbacks.applyMove(nested_driver),
                     OrthancPluginErrorCode_Success);
    assert_int_equal(fake_host_lanes(), 1);
    move_callbacks.freeMove(nested_driver);
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
serve_create3(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_reader reader;

    if (opb_frame_method(frame) != OPB_CALL_MOVE3_INDEX) {
        serve_move(lane, frame, message);
        return;
    }
    opb_frame_params(frame, &reader);
    ask_connection(lane, message, fake_read_lent(&reader, NULL));
    assert_string_equal(opb_read_cstr(&reader, false), "STUDY");
    for (int i = 0; i < 5; i++) { /* from PatientID to SOPInstanceUID */
        opb_read_skip(&reader);
    }
    assert_string_equal(opb_read_cstr(&reader, false), "TARGET");
    assert_int_equal(opb_read_uint(&reader, 65535), 7);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_message_begin_response(message, opb_frame_msgid(frame));
    opb_pack_uint(message, DRIVER_NUMBER);
    fake_send(lane, message);
}

static void
create_of_version_3_is_lent_the_connection(void **state)
{
    struct opb_node *node = *state;
    void *driver;

    node->context->orthancVersion = "1.12.10"; /* which has the function */
    fake_on(_OrthancPluginService_GetConnectionRemoteAet, remote_aet);
    start_move(node, "Move3", 0);
    fake_host_serve(serve_create3);
    driver = move3_callbacks.callback(OrthancPluginResourceType_Study, "patient", NULL,
                                      NULL, NULL, NULL, a_connection(), "TARGET", 7);
    assert_non_null(driver);
    /* told with the call, and asked */
    assert_int_equal(fake_calls(_OrthancPluginService_GetConnectionRemoteAet), 2);
    assert_int_equal(move3_callbacks.getMoveSize(driver), 2);
    assert_int_equal(move3_callbacks.applyMove(driver), OrthancPluginErrorCode_Success);
    move3_callbacks.freeMove(driver);
    assert_int_equal(seen_count, 3);
}
#endif

#define DIMSE_TEST(function) cmocka_unit_test_setup_teardown(function, make_node, free_node)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        DIMSE_TEST(move_of_version_1_is_one_sub_operation),
        DIMSE_TEST(move_without_a_level_does_not_reach_the_script),
        DIMSE_TEST(driver_goes_from_create_to_free),
        DIMSE_TEST(create_that_fails_gives_no_driver),
        DIMSE_TEST(size_that_fails_is_one_sub_operation_that_fails),
        DIMSE_TEST(apply_and_free_that_raise_are_an_error_and_nothing),
        DIMSE_TEST(driver_of_a_host_that_has_lost_its_place_goes_on),
        DIMSE_TEST(driver_is_lost_with_its_host),
        DIMSE_TEST(driver_stays_with_the_host_that_made_it),
        DIMSE_TEST(driver_that_outlives_the_plugin_is_only_memory),
        DIMSE_TEST(call_with_a_driver_nests_on_the_lane_of_its_host),
#if OPB_SDK_HAS_CONNECTION
        DIMSE_TEST(create_of_version_3_is_lent_the_connection),
#endif
    };

    return OPB_RUN(tests);
}

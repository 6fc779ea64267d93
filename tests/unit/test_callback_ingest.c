/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_callback_ingest.c - what Orthanc is told about received instances and
 * C-STORE, also when Python fails */
#include "plugin_support.h"

#include "plugin/handles.h"
#include "plugin/kinds.h"
#include "plugin/routes.h"

#include <stdlib.h>
#include <string.h>

static OrthancPluginReceivedInstanceCallback received_callback;
static OrthancPluginIncomingCStoreInstanceFilter cstore_callback;
static bool has_no_memory;

static OrthancPluginErrorCode
register_received(const void *params)
{
    received_callback = ((const _OrthancPluginReceivedInstanceCallback *)params)->callback;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
register_cstore(const void *params)
{
    cstore_callback =
        ((const _OrthancPluginIncomingCStoreInstanceFilter *)params)->callback;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
create_buffer(const void *params)
{
    const _OrthancPluginCreateMemoryBuffer64 *buffer = params;

    if (has_no_memory) {
        return OrthancPluginErrorCode_NotEnoughMemory;
    }
    buffer->target->size = buffer->size;
    buffer->target->data = malloc((size_t)buffer->size);
    return OrthancPluginErrorCode_Success;
}

static int
make_node(void **state)
{
    struct opb_node *node = fake_node_new();
    enum opb_fault fault;
    char text[256];

    has_no_memory = false;
    fake_on(_OrthancPluginService_RegisterReceivedInstanceCallback, register_received);
    fake_on(_OrthancPluginService_RegisterIncomingCStoreInstanceFilter, register_cstore);
    fake_on(_OrthancPluginService_CreateMemoryBuffer64, create_buffer);
    opb_node_set_phase(node, OPB_PHASE_LOADING);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(opb_routes_add(node->routes, NULL, "ReceivedInstance", NULL, 0, &fault,
                                    text, sizeof(text)),
                     OPB_OK);
    assert_int_equal(opb_routes_add(node->routes, NULL, "CStoreFilter", NULL, 0, &fault,
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

/* What the next host answers. */
static struct {
    int64_t action;
    const void *bytes;
    size_t size;
    bool is_short;
} answer;
static char large[300000];

static void
serve_received(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_reader reader;
    size_t size = 0;

    assert_int_equal(opb_frame_method(frame), OPB_CALL_RECEIVED_INSTANCE_INDEX);
    opb_frame_params(frame, &reader);
    assert_memory_equal(opb_read_bytes(&reader, &size), "dicom", 5);
    assert_int_equal(size, 5);
    assert_int_equal(opb_read_int(&reader, 0, 10),
                     OrthancPluginInstanceOrigin_DicomProtocol);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_message_begin_response(message, opb_frame_msgid(frame));
    opb_pack_array(message, answer.is_short ? 1 : 2);
    opb_pack_int(message, answer.action);
    if (!answer.is_short && answer.bytes != NULL) {
        opb_pack_bytes(message, answer.bytes, answer.size);
    }
    else if (!answer.is_short) {
        opb_pack_nil(message);
    }
    fake_send(lane, message);
}

static OrthancPluginReceivedInstanceAction
receive(OrthancPluginMemoryBuffer64 *buffer)
{
    buffer->data = NULL;
    buffer->size = 0;
    return received_callback(buffer, "dicom", 5, OrthancPluginInstanceOrigin_DicomProtocol);
}

static OrthancPluginReceivedInstanceAction
receive_answer(int64_t action, const void *bytes, size_t size,
               OrthancPluginMemoryBuffer64 *buffer)
{
    answer.action = action;
    answer.bytes = bytes;
    answer.size = size;
    answer.is_short = false;
    return receive(buffer);
}

static void
received_instance_is_kept_discarded_or_replaced(void **state)
{
    OrthancPluginMemoryBuffer64 buffer;

    memset(large, 'l', sizeof(large));
    fake_host_start(*state, serve_received);
    assert_int_equal(receive_answer(1, "x", 1, &buffer),
                     OrthancPluginReceivedInstanceAction_KeepAsIs);
    assert_null(buffer.data);
    assert_int_equal(receive_answer(3, "x", 1, &buffer),
                     OrthancPluginReceivedInstanceAction_Discard);
    assert_null(buffer.data);
    assert_int_equal(receive_answer(2, "new", 3, &buffer),
                     OrthancPluginReceivedInstanceAction_Modify);
    assert_int_equal(buffer.size, 3);
    assert_memory_equal(buffer.data, "new", 3);
    free(buffer.data);
    assert_int_equal(receive_answer(-77, large, sizeof(large), &buffer),
                     OrthancPluginReceivedInstanceAction_Modify);
    assert_int_equal(buffer.size, sizeof(large));
    assert_memory_equal(buffer.data, large, sizeof(large));
    free(buffer.data);
}

static void
assert_refused(OrthancPluginReceivedInstanceAction action,
               const OrthancPluginMemoryBuffer64 *buffer)
{
    assert_int_equal(action, OrthancPluginReceivedInstanceAction_Modify);
    assert_null(buffer->data);
    assert_int_equal(buffer->size, 0);
}

static void
raise(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    fake_answer_fault(lane, frame, message, OPB_FAULT_RAISED, "the script raised");
}

static void
cannot(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    fake_answer_fault(lane, frame, message, OPB_FAULT_RUNTIME, "no memory");
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
instance_without_an_answer_is_refused_but_for_an_exception(void **state)
{
    OrthancPluginMemoryBuffer64 buffer;

    fake_host_start(*state, serve_received);
    assert_refused(receive_answer(2, NULL, 0, &buffer), &buffer);
    assert_refused(receive_answer(2, "", 0, &buffer), &buffer);
    has_no_memory = true;
    assert_refused(receive_answer(2, "new", 3, &buffer), &buffer);
    assert_true(fake_log_has("There is no memory for the 3 bytes"));
    fake_host_serve(raise);
    assert_int_equal(receive(&buffer), OrthancPluginReceivedInstanceAction_KeepAsIs);
    fake_host_serve(cannot);
    assert_refused(receive(&buffer), &buffer);
    assert_int_equal(fake_log_count("A received instance was refused"), 1);
    fake_host_serve(die);
    assert_refused(receive(&buffer), &buffer);
    assert_refused(receive(&buffer), &buffer); /* there is no host any more */
    assert_int_equal(fake_log_count("A received instance was refused"), 3);
}

static void
strict_refuses_what_an_exception_would_let_in(void **state)
{
    struct opb_node *node = *state;
    OrthancPluginMemoryBuffer64 buffer;

    node->config->strict = true;
    fake_host_start(node, raise);
    assert_refused(receive(&buffer), &buffer);
    assert_true(fake_log_has("has raised an exception, and Python.Strict is set"));
}

static void
fail_open_lets_in_what_nobody_has_looked_at_but_not_what_is_broken(void **state)
{
    struct opb_node *node = *state;
    OrthancPluginMemoryBuffer64 buffer;

    node->config->fail_open[OPB_CALL_RECEIVED_INSTANCE_INDEX] = true;
    fake_host_start(node, serve_received);
    assert_refused(receive_answer(2, NULL, 0, &buffer), &buffer);
    fake_host_serve(die);
    assert_int_equal(receive(&buffer), OrthancPluginReceivedInstanceAction_KeepAsIs);
    assert_int_equal(receive(&buffer), OrthancPluginReceivedInstanceAction_KeepAsIs);
    assert_int_equal(fake_log_count("A received instance was let in"), 2);
}

static void
answer_of_another_shape_refuses_the_instance(void **state)
{
    OrthancPluginMemoryBuffer64 buffer;

    fake_host_start(*state, serve_received);
    answer.is_short = true;
    assert_refused(receive(&buffer), &buffer);
    (void)fake_host_activate(*state);
    fake_host_serve(fake_answer_nil);
    assert_refused(receive(&buffer), &buffer);
}

static void
registration_warns_of_exceptions_and_is_made_once(void **state)
{
    struct opb_node *node = *state;
    enum opb_fault fault;
    char text[256];

    assert_int_equal(fake_log_count("is stored as it was received"), 1);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(opb_routes_add(node->routes, NULL, "ReceivedInstance", NULL, 0, &fault,
                                    text, sizeof(text)),
                     OPB_OK);
    opb_routes_commit(node->routes, NULL);
    assert_int_equal(fake_calls(_OrthancPluginService_RegisterReceivedInstanceCallback), 1);
}

static int instance;
static uint64_t kept_handle;
static unsigned instance_sizes;

static OrthancPluginErrorCode
instance_size(const void *params)
{
    const _OrthancPluginAccessDicomInstance *access = params;

    assert_ptr_equal(access->instance, &instance);
    *access->resultInt64 = 12;
    instance_sizes++;
    return OrthancPluginErrorCode_Success;
}

static void
serve_cstore(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_reader reader;

    assert_int_equal(opb_frame_method(frame), OPB_CALL_CSTORE_FILTER_INDEX);
    opb_frame_params(frame, &reader);
    kept_handle = fake_read_lent(&reader, NULL);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_message_begin_request(message, fake_method("DicomInstance.GetInstanceSize"), 1);
    opb_pack_uint(message, kept_handle);
    assert_int_equal(fake_sdk_call(lane, message, NULL, NULL), OPB_OK);
    opb_message_begin_response(message, opb_frame_msgid(frame));
    opb_pack_int(message, answer.action);
    fake_send(lane, message);
}

static int32_t
filter(uint16_t *status)
{
    *status = 0x1234;
    return cstore_callback(status,
                           (const OrthancPluginDicomInstance *)(const void *)&instance);
}

static void
cstore_filter_gives_the_status_of_the_script_and_else_refuses(void **state)
{
    uint16_t status;

    instance_sizes = 0;
    fake_on(_OrthancPluginService_GetInstanceSize, instance_size);
    fake_host_start(*state, serve_cstore);
    answer.action = 0;
    assert_int_equal(filter(&status), 1);
    assert_int_equal(instance_sizes, 1);
    answer.action = 0xc123;
    assert_int_equal(filter(&status), 0);
    assert_int_equal(status, 0xc123);
    fake_host_serve(raise);
    assert_int_equal(filter(&status), -1);
    fake_host_serve(cannot);
    assert_int_equal(filter(&status), 0);
    assert_int_equal(status, 0xa700);
    fake_host_serve(serve_cstore);
    answer.action = 0x10000; /* no DIMSE status: this host is not to be trusted */
    assert_int_equal(filter(&status), 0);
    assert_int_equal(status, 0xa700);
    (void)fake_host_activate(*state);
    fake_host_serve(die);
    assert_int_equal(filter(&status), 0);
    assert_int_equal(status, 0xa700);
    assert_int_equal(filter(&status), 0); /* there is no host any more */
    assert_int_equal(status, 0xa700);
}

static void
without_a_handler_instances_pass_without_a_host(void **state)
{
    struct opb_node *node = *state;
    OrthancPluginMemoryBuffer64 buffer;
    uint16_t status;

    opb_routes_begin(node->routes, NULL);
    opb_routes_commit(node->routes, NULL);
    assert_int_equal(receive(&buffer), OrthancPluginReceivedInstanceAction_KeepAsIs);
    assert_int_equal(filter(&status), 1);
    opb_node_set_current(NULL);
    assert_int_equal(receive(&buffer), OrthancPluginReceivedInstanceAction_KeepAsIs);
    assert_int_equal(filter(&status), 1);
    opb_node_set_current(node);
}

#define INGEST_TEST(function)                                                              \
    cmocka_unit_test_setup_teardown(function, make_node, free_node)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        INGEST_TEST(received_instance_is_kept_discarded_or_replaced),
        INGEST_TEST(instance_without_an_answer_is_refused_but_for_an_exception),
        INGEST_TEST(strict_refuses_what_an_exception_would_let_in),
        INGEST_TEST(fail_open_lets_in_what_nobody_has_looked_at_but_not_what_is_broken),
        INGEST_TEST(answer_of_another_shape_refuses_the_instance),
        INGEST_TEST(registration_warns_of_exceptions_and_is_made_once),
        INGEST_TEST(cstore_filter_gives_the_status_of_the_script_and_else_refuses),
        INGEST_TEST(without_a_handler_instances_pass_without_a_host),
    };

    return OPB_RUN(tests);
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_callback_storage.c - the storage area: bytes, errors, hosts that die, and
 * what would deadlock in it */
#include "plugin_support.h"

#include "plugin/handles.h"
#include "plugin/kinds.h"
#include "plugin/routes.h"

#include <stdlib.h>
#include <string.h>

static _OrthancPluginRegisterStorageArea area;

static OrthancPluginErrorCode
register_area(const void *params)
{
    area = *(const _OrthancPluginRegisterStorageArea *)params;
    return OrthancPluginErrorCode_Success;
}

#if OPB_SDK_HAS_STORAGE3
static _OrthancPluginRegisterStorageArea3 area3;
static bool has_no_memory;

static OrthancPluginErrorCode
register_area3(const void *params)
{
    area3 = *(const _OrthancPluginRegisterStorageArea3 *)params;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
create_buffer(const void *params)
{
    const _OrthancPluginCreateMemoryBuffer *buffer = params;

    if (has_no_memory) {
        return OrthancPluginErrorCode_NotEnoughMemory;
    }
    buffer->target->size = buffer->size;
    buffer->target->data = malloc(buffer->size);
    return OrthancPluginErrorCode_Success;
}
#endif

static unsigned requests;

static int
make_node(void **state)
{
    struct opb_node *node = fake_node_new();
    enum opb_fault fault;
    char text[256];

    requests = 0;
    fake_on(_OrthancPluginService_RegisterStorageArea, register_area);
    opb_node_set_phase(node, OPB_PHASE_LOADING);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(opb_routes_add(node->routes, NULL, "StorageArea", NULL, 0, &fault,
                                    text, sizeof(text)),
                     OPB_OK);
#if OPB_SDK_HAS_STORAGE3
    has_no_memory = false;
    fake_on(_OrthancPluginService_RegisterStorageArea3, register_area3);
    fake_on(_OrthancPluginService_CreateMemoryBuffer, create_buffer);
    assert_int_equal(opb_routes_add(node->routes, NULL, "StorageArea3", NULL, 0, &fault,
                                    text, sizeof(text)),
                     OPB_OK);
#endif
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

static char large[300000];

static void
read_file(struct opb_reader *reader, struct opb_frame *frame, enum opb_call_index kind)
{
    requests++;
    assert_int_equal(opb_frame_method(frame), kind);
    opb_frame_params(frame, reader);
    assert_string_equal(opb_read_cstr(reader, false), "uuid");
    assert_int_equal(opb_read_int(reader, 0, 10), OrthancPluginContentType_Dicom);
}

static void
answer_bytes(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message,
             const void *bytes, size_t size)
{
    opb_message_begin_response(message, opb_frame_msgid(frame));
    opb_pack_bytes(message, bytes, size);
    fake_send(lane, message);
}

static void
serve(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_reader reader;
    size_t size = 0;

    switch (opb_frame_method(frame)) {
    case OPB_CALL_STORAGE_CREATE_INDEX:
        read_file(&reader, frame, OPB_CALL_STORAGE_CREATE_INDEX);
        assert_memory_equal(opb_read_bytes(&reader, &size), large, sizeof(large));
        assert_int_equal(size, sizeof(large));
        break;
    case OPB_CALL_STORAGE_READ_INDEX:
        read_file(&reader, frame, OPB_CALL_STORAGE_READ_INDEX);
        answer_bytes(lane, frame, message, large, sizeof(large));
        return;
    default:
        read_file(&reader, frame, OPB_CALL_STORAGE_REMOVE_INDEX);
        break;
    }
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    fake_answer_nil(lane, frame, message);
}

static OrthancPluginErrorCode
create(void)
{
    return area.create("uuid", large, sizeof(large), OrthancPluginContentType_Dicom);
}

static OrthancPluginErrorCode
read_whole(void **content, int64_t *size)
{
    return area.read(content, size, "uuid", OrthancPluginContentType_Dicom);
}

static OrthancPluginErrorCode
remove_file(void)
{
    return area.remove("uuid", OrthancPluginContentType_Dicom);
}

static void
files_are_created_read_and_removed(void **state)
{
    void *content = NULL;
    int64_t size = 0;

    memset(large, 'l', sizeof(large));
    fake_host_start(*state, serve);
    assert_int_equal(create(), OrthancPluginErrorCode_Success);
    assert_int_equal(read_whole(&content, &size), OrthancPluginErrorCode_Success);
    assert_int_equal(size, sizeof(large));
    assert_memory_equal(content, large, sizeof(large));
    area.free(content);
    assert_int_equal(remove_file(), OrthancPluginErrorCode_Success);
    assert_int_equal(requests, 3);
}

static void
serve_small(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    answer_bytes(lane, frame, message, "abc", 3);
}

static void
serve_empty(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    answer_bytes(lane, frame, message, "", 0);
}

static void
small_and_empty_files_are_read_too(void **state)
{
    void *content = NULL;
    int64_t size = 0;

    fake_host_start(*state, serve_small);
    assert_int_equal(read_whole(&content, &size), OrthancPluginErrorCode_Success);
    assert_int_equal(size, 3);
    assert_memory_equal(content, "abc", 3);
    area.free(content);
    fake_host_serve(serve_empty);
    assert_int_equal(read_whole(&content, &size), OrthancPluginErrorCode_Success);
    assert_int_equal(size, 0);
    assert_null(content);
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
die_and_return(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    (void)lane;
    (void)frame;
    (void)message;
    requests++;
    fake_host_kill("was killed by signal 9 (Killed)");
    fake_host_serve(serve);
    (void)fake_host_activate(opb_node_current());
}

static void
die_each_time(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    (void)lane;
    (void)frame;
    (void)message;
    requests++;
    fake_host_kill("was killed by signal 9 (Killed)");
    (void)fake_host_activate(opb_node_current());
}

static void
file_operation_is_repeated_once_if_the_host_dies(void **state)
{
    void *content = NULL;
    int64_t size = 0;

    memset(large, 'l', sizeof(large));
    fake_host_start(*state, die_and_return);
    assert_int_equal(create(), OrthancPluginErrorCode_Success);
    fake_host_serve(die_and_return);
    assert_int_equal(read_whole(&content, &size), OrthancPluginErrorCode_Success);
    assert_int_equal(size, sizeof(large));
    free(content);
    fake_host_serve(die_and_return);
    assert_int_equal(remove_file(), OrthancPluginErrorCode_Success);
    assert_int_equal(requests, 6);
    fake_host_serve(die_each_time);
    assert_int_equal(create(), OrthancPluginErrorCode_Plugin);
    assert_int_equal(requests, 8);
    assert_true(fake_log_has("has ended two hosts"));
}

static void
failures_are_errors_and_give_no_file(void **state)
{
    void *content = large;
    int64_t size = 7;

    fake_host_start(*state, raise);
    assert_int_equal(create(), OrthancPluginErrorCode_Plugin);
    assert_int_equal(remove_file(), OrthancPluginErrorCode_Plugin);
    assert_int_equal(read_whole(&content, &size), OrthancPluginErrorCode_Plugin);
    assert_null(content);
    assert_int_equal(size, 0);
    fake_host_serve(bad_text);
    assert_int_equal(create(), OrthancPluginErrorCode_InternalError);
    fake_host_kill("was killed by signal 9 (Killed)");
    assert_int_equal(create(), OrthancPluginErrorCode_Plugin);
    opb_node_set_current(NULL);
    assert_int_equal(create(), OrthancPluginErrorCode_Plugin);
    opb_node_set_current(*state);
}

static void
area_that_comes_too_late_is_not_registered(void **state)
{
    struct opb_node *node = fake_node_new();
    enum opb_fault fault;
    char text[256];

    (void)state;
    fake_on(_OrthancPluginService_RegisterStorageArea, register_area);
    assert_int_equal(opb_routes_add(node->routes, NULL, "StorageArea", NULL, 0, &fault,
                                    text, sizeof(text)),
                     OPB_OK);
    assert_int_equal(fake_calls(_OrthancPluginService_RegisterStorageArea), 0);
    assert_true(fake_log_has("custom storage area in Python was registered after the start "
                             "of Orthanc: it needs a restart"));
    assert_int_equal(opb_routes_add(node->routes, NULL, "StorageRead", NULL, 0, &fault,
                                    text, sizeof(text)),
                     OPB_REFUSED);
    fake_node_free(node);
}

/* A removal during which the host makes an SDK call; what came of that. */
static enum opb_fault sdk_fault;
static bool is_sdk_fault;
static char sdk_text[256];

static void
note_response(struct opb_frame *response)
{
    const char *text = "";

    is_sdk_fault = opb_frame_fault(response, &sdk_fault, NULL, &text);
    strncpy(sdk_text, text, sizeof(sdk_text) - 1);
    opb_frame_free(response);
}

static void
call_the_server(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_frame *response = NULL;

    opb_message_begin_request(message, fake_method("LookupPatient"), 1);
    opb_pack_cstr(message, "x");
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    note_response(response);
    fake_answer_nil(lane, frame, message);
}

static OrthancPluginErrorCode
lookup(const void *params)
{
    *((const _OrthancPluginRetrieveDynamicString *)params)->result = strdup("abc");
    return OrthancPluginErrorCode_Success;
}

static void
server_cannot_be_called_while_a_file_is_removed_up_to_1_12_7(void **state)
{
    struct opb_node *node = *state;
    static const struct {
        const char *version;
        bool is_refused;
    } cases[] = {
        {"1.10.1", true}, {"1.12.7", true}, {"1.12.8", false}, {"mainline", false}};

    fake_on(_OrthancPluginService_LookupPatient, lookup);
    fake_host_start(node, call_the_server);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        node->context->orthancVersion = cases[i].version;
        assert_int_equal(remove_file(), OrthancPluginErrorCode_Success);
        assert_int_equal(is_sdk_fault, cases[i].is_refused);
        if (is_sdk_fault) {
            assert_int_equal(sdk_fault, OPB_FAULT_RUNTIME);
            assert_non_null(strstr(sdk_text, "LookupPatient cannot be called while a file "
                                             "is removed from the storage area"));
        }
    }
    node->context->orthancVersion = "1.10.1";
    assert_int_equal(create(), OrthancPluginErrorCode_Success);
    assert_false(is_sdk_fault);
}

/* The read callback of Orthanc, on behalf of an SDK call. */
static OrthancPluginErrorCode
get_dicom(const void *params)
{
    void *content;
    int64_t size;

    (void)params;
    (void)read_whole(&content, &size);
    free(content);
    return OrthancPluginErrorCode_InexistentItem;
}

static void
serve_nested_read(struct opb_lane *lane, struct opb_frame *frame,
                  struct opb_message *message)
{
    struct opb_message *own = opb_message_new();
    struct opb_frame *response = NULL;

    opb_message_begin_request(own, fake_method("LookupPatient"), 1);
    opb_pack_cstr(own, "x");
    assert_int_equal(fake_sdk_call(lane, own, NULL, &response), OPB_OK);
    opb_message_free(own);
    note_response(response);
    answer_bytes(lane, frame, message, "abc", 3);
}

static void
call_get_dicom(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    opb_message_begin_request(message, fake_method("GetDicomForInstance"), 1);
    opb_pack_cstr(message, "x");
    assert_int_equal(fake_sdk_call(lane, message, serve_nested_read, NULL), OPB_OK);
    fake_answer_nil(lane, frame, message);
}

static void
server_cannot_be_called_by_a_read_for_the_sdk_up_to_1_12_1(void **state)
{
    struct opb_node *node = *state;

    fake_on(_OrthancPluginService_LookupPatient, lookup);
    fake_on(_OrthancPluginService_GetDicomForInstance, get_dicom);
    fake_host_start(node, call_get_dicom);
    node->context->orthancVersion = "1.12.1";
    assert_int_equal(create(), OrthancPluginErrorCode_Success);
    assert_true(is_sdk_fault);
    assert_non_null(strstr(sdk_text,
                           "LookupPatient cannot be called by a storage area that "
                           "reads a file for GetDicomForInstance"));
    node->context->orthancVersion = "1.12.2";
    assert_int_equal(create(), OrthancPluginErrorCode_Success);
    assert_false(is_sdk_fault);
}

#if OPB_SDK_HAS_STORAGE3

static int instance;
static int64_t next_code;
static const void *next_bytes;
static size_t next_size;
static uint64_t kept_handle;

static void
answer_pair(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    opb_message_begin_response(message, opb_frame_msgid(frame));
    opb_pack_array(message, 2);
    opb_pack_int(message, next_code);
    if (next_bytes != NULL) {
        opb_pack_bytes(message, next_bytes, next_size);
    }
    else {
        opb_pack_nil(message);
    }
    fake_send(lane, message);
}

static void
serve3(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    struct opb_reader reader;
    size_t size = 0;

    switch (opb_frame_method(frame)) {
    case OPB_CALL_STORAGE_CREATE3_INDEX:
        read_file(&reader, frame, OPB_CALL_STORAGE_CREATE3_INDEX);
        assert_int_equal(opb_read_int(&reader, 0, 10), OrthancPluginCompressionType_None);
        assert_memory_equal(opb_read_bytes(&reader, &size), "content", 7);
        kept_handle = opb_read_uint(&reader, UINT64_MAX);
        break;
    case OPB_CALL_STORAGE_READ3_INDEX:
        read_file(&reader, frame, OPB_CALL_STORAGE_READ3_INDEX);
        assert_int_equal(opb_read_uint(&reader, UINT64_MAX), 5000000000u);
        assert_int_equal(opb_read_uint(&reader, UINT64_MAX), 3);
        assert_memory_equal(opb_read_bytes(&reader, &size), "custom", 6);
        break;
    default:
        read_file(&reader, frame, OPB_CALL_STORAGE_REMOVE3_INDEX);
        assert_memory_equal(opb_read_bytes(&reader, &size), "custom", 6);
        assert_int_equal(opb_reader_finish(&reader), OPB_OK);
        opb_message_begin_response(message, opb_frame_msgid(frame));
        opb_pack_int(message, next_code);
        fake_send(lane, message);
        return;
    }
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    answer_pair(lane, frame, message);
}

static OrthancPluginErrorCode
create3(int64_t code, const void *bytes, size_t size, bool has_instance,
        OrthancPluginMemoryBuffer *custom)
{
    next_code = code;
    next_bytes = bytes;
    next_size = size;
    custom->data = NULL;
    custom->size = 0;
    return area3.create(
        custom, "uuid", "content", 7, OrthancPluginContentType_Dicom,
        OrthancPluginCompressionType_None,
        has_instance ? (const OrthancPluginDicomInstance *)(const void *)&instance : NULL);
}

static void
create3_keeps_custom_data_and_codes(void **state)
{
    OrthancPluginMemoryBuffer custom;

    fake_host_start(*state, serve3);
    assert_int_equal(create3(0, "xy", 2, true, &custom), OrthancPluginErrorCode_Success);
    assert_int_equal(custom.size, 2);
    assert_memory_equal(custom.data, "xy", 2);
    free(custom.data);
    assert_int_not_equal(kept_handle, 0);
    assert_int_equal(create3(0, NULL, 0, false, &custom), OrthancPluginErrorCode_Success);
    assert_null(custom.data);
    assert_int_equal(kept_handle, 0);
    assert_int_equal(create3(0, "", 0, true, &custom), OrthancPluginErrorCode_Success);
    assert_null(custom.data);
    assert_int_equal(create3(17, "xy", 2, true, &custom),
                     OrthancPluginErrorCode_UnknownResource);
    assert_null(custom.data);
    has_no_memory = true;
    assert_int_equal(create3(0, "xy", 2, true, &custom),
                     OrthancPluginErrorCode_NotEnoughMemory);
    fake_host_serve(raise);
    assert_int_equal(create3(0, "xy", 2, true, &custom), OrthancPluginErrorCode_Plugin);
}

static OrthancPluginErrorCode
read3(int64_t code, const void *bytes, size_t size, char *target)
{
    OrthancPluginMemoryBuffer64 range = {target, 3};

    next_code = code;
    next_bytes = bytes;
    next_size = size;
    return area3.readRange(&range, "uuid", OrthancPluginContentType_Dicom, 5000000000u,
                           "custom", 6);
}

static void
read3_fills_the_range_and_nothing_else(void **state)
{
    char target[4] = "...";

    fake_host_start(*state, serve3);
    assert_int_equal(read3(0, "abc", 3, target), OrthancPluginErrorCode_Success);
    assert_string_equal(target, "abc");
    memcpy(target, "...", 4);
    assert_int_equal(read3(0, "abcd", 4, target), OrthancPluginErrorCode_Plugin);
    assert_int_equal(read3(0, "ab", 2, target), OrthancPluginErrorCode_Plugin);
    assert_true(fake_log_has("has returned 2 bytes of uuid, but 3 bytes were asked for"));
    assert_int_equal(read3(0, NULL, 0, target), OrthancPluginErrorCode_Plugin);
    assert_int_equal(read3(17, NULL, 0, target), OrthancPluginErrorCode_UnknownResource);
    assert_int_equal(read3(17, "abc", 3, target), OrthancPluginErrorCode_UnknownResource);
    assert_string_equal(target, "...");
}

static void
remove3_tells_the_code(void **state)
{
    fake_host_start(*state, serve3);
    next_code = 0;
    assert_int_equal(area3.remove("uuid", OrthancPluginContentType_Dicom, "custom", 6),
                     OrthancPluginErrorCode_Success);
    next_code = 9;
    assert_int_equal(area3.remove("uuid", OrthancPluginContentType_Dicom, "custom", 6),
                     OrthancPluginErrorCode_NetworkProtocol);
}

static void
operations_of_version_3_are_repeated_too(void **state)
{
    OrthancPluginMemoryBuffer custom;

    fake_host_start(*state, die_each_time);
    assert_int_equal(create3(0, "xy", 2, true, &custom), OrthancPluginErrorCode_Plugin);
    assert_int_equal(requests, 2);
    assert_null(custom.data);
}

#endif

#define STORAGE_TEST(function)                                                             \
    cmocka_unit_test_setup_teardown(function, make_node, free_node)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        STORAGE_TEST(files_are_created_read_and_removed),
        STORAGE_TEST(small_and_empty_files_are_read_too),
        STORAGE_TEST(file_operation_is_repeated_once_if_the_host_dies),
        STORAGE_TEST(failures_are_errors_and_give_no_file),
        cmocka_unit_test(area_that_comes_too_late_is_not_registered),
        STORAGE_TEST(server_cannot_be_called_while_a_file_is_removed_up_to_1_12_7),
        STORAGE_TEST(server_cannot_be_called_by_a_read_for_the_sdk_up_to_1_12_1),
#if OPB_SDK_HAS_STORAGE3
        STORAGE_TEST(create3_keeps_custom_data_and_codes),
        STORAGE_TEST(read3_fills_the_range_and_nothing_else),
        STORAGE_TEST(remove3_tells_the_code),
        STORAGE_TEST(operations_of_version_3_are_repeated_too),
#endif
    };

    return OPB_RUN(tests);
}

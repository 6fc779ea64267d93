/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_invocation.c - SDK calls of a host: arguments, results, who may call what
 */
#include "plugin_support.h"

#include "plugin/call.h"
#include "plugin/handles.h"
#include "plugin/invocation.h"
#include "plugin/shim.h"
#include "plugin/stack.h"

#include "protocol/sockets.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A thread of the node serves one lane; the test is the host at its other end. */
struct fixture {
    struct opb_node *node;
    struct opb_session *session;
    struct opb_lane *lane, *far_lane;
    struct opb_message *message;
    struct opb_thread *thread;
    atomic_bool is_own;
};

static void
serve_lane(void *context)
{
    struct fixture *fixture = context;

    if (atomic_load(&fixture->is_own)) {
        opb_call_mark_own_thread();
    }
    opb_call_serve_service_lane(fixture->session, fixture->far_lane);
    opb_lane_shutdown(fixture->far_lane);
}

static void
start(struct fixture *fixture)
{
    opb_make_lanes(&fixture->lane, &fixture->far_lane);
    fixture->thread = opb_thread_start(serve_lane, fixture);
}

static void
stop(struct fixture *fixture)
{
    opb_lane_close(fixture->lane);
    opb_thread_join(fixture->thread);
    opb_lane_close(fixture->far_lane);
}

static int
make_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    if (fixture == NULL) {
        return -1;
    }
    fixture->node = fake_node_new();
    fixture->message = opb_message_new();
    assert_int_equal(opb_session_new(&fixture->session, fixture->node, 1, 4242, 0), OPB_OK);
    atomic_store(&fixture->is_own, true);
    start(fixture);
    *state = fixture;
    return 0;
}

static int
free_fixture(void **state)
{
    struct fixture *fixture = *state;

    stop(fixture);
    opb_message_free(fixture->message);
    opb_session_unref(fixture->session);
    fake_node_free(fixture->node);
    free(fixture);
    return 0;
}

static void
begin(struct fixture *fixture, const char *name, uint32_t count)
{
    opb_message_begin_request(fixture->message, fake_method(name), count);
}

/* Sends the call, and gives the response. */
static struct opb_frame *
finish(struct fixture *fixture)
{
    struct opb_frame *response = NULL;

    assert_int_equal(fake_sdk_call(fixture->lane, fixture->message, NULL, &response),
                     OPB_OK);
    return response;
}

static void
expect_fault(struct fixture *fixture, enum opb_fault fault, int32_t code, const char *text)
{
    struct opb_frame *response = finish(fixture);
    enum opb_fault got_fault = OPB_FAULT_RAISED;
    const char *got_text = NULL;
    int32_t got_code = -99;

    assert_true(opb_frame_fault(response, &got_fault, &got_code, &got_text));
    assert_int_equal(got_fault, fault);
    assert_int_equal(got_code, code);
    assert_string_equal(got_text, text);
    opb_frame_free(response);
}

static void
expect_nil(struct fixture *fixture)
{
    struct opb_frame *response = finish(fixture);
    struct opb_reader reader;

    assert_false(opb_frame_fault(response, NULL, NULL, NULL));
    opb_frame_result(response, &reader);
    assert_true(opb_read_is_nil(&reader));
    opb_frame_free(response);
}

static int64_t
expect_int(struct fixture *fixture)
{
    struct opb_frame *response = finish(fixture);
    struct opb_reader reader;
    int64_t value;

    assert_false(opb_frame_fault(response, NULL, NULL, NULL));
    opb_frame_result(response, &reader);
    value = opb_read_int(&reader, INT64_MIN, INT64_MAX);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(response);
    return value;
}

static uint64_t
expect_uint(struct fixture *fixture)
{
    struct opb_frame *response = finish(fixture);
    struct opb_reader reader;
    uint64_t value;

    assert_false(opb_frame_fault(response, NULL, NULL, NULL));
    opb_frame_result(response, &reader);
    value = opb_read_uint(&reader, UINT64_MAX);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(response);
    return value;
}

static void
expect_bytes(struct fixture *fixture, const void *bytes, size_t size)
{
    struct opb_frame *response = finish(fixture);
    struct opb_reader reader;
    const void *data;
    size_t got = 0;

    assert_false(opb_frame_fault(response, NULL, NULL, NULL));
    opb_frame_result(response, &reader);
    data = opb_read_bytes(&reader, &got);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    assert_int_equal(got, size);
    assert_memory_equal(data, bytes, size);
    opb_frame_free(response);
}

static uint32_t post_size; /* what the server answers to RestApiPost */

static OrthancPluginErrorCode
post(const void *params)
{
    const _OrthancPluginRestApiPostPut *post = params;

    if (strcmp(post->uri, "/missing") == 0) {
        return OrthancPluginErrorCode_UnknownResource;
    }
    assert_int_equal(post->bodySize, 3);
    assert_memory_equal(post->body, "abc", 3);
    post->target->size = post_size;
    post->target->data = post_size > 0 ? calloc(1, post_size) : NULL;
    return OrthancPluginErrorCode_Success;
}

static void
pack_post(struct fixture *fixture, const char *uri)
{
    begin(fixture, "RestApiPost", 2);
    opb_pack_cstr(fixture->message, uri);
    opb_pack_bytes(fixture->message, "abc", 3);
}

static void
buffers_travel_both_ways_in_any_size(void **state)
{
    static const uint8_t zeros[5 * 1024 * 1024];

    fake_on(_OrthancPluginService_RestApiPost, post);
    for (int i = 0; i < 3; i++) {
        post_size = i == 0 ? 0 : i == 1 ? 100 : (uint32_t)sizeof(zeros);
        pack_post(*state, "/instances");
        expect_bytes(*state, zeros, post_size);
    }
}

static void
error_of_the_core_comes_with_its_text(void **state)
{
    fake_on(_OrthancPluginService_RestApiPost, post);
    pack_post(*state, "/missing");
    expect_fault(*state, OPB_FAULT_ORTHANC, 17, "error 17");
}

static void
unknown_function_is_refused(void **state)
{
    struct fixture *fixture = *state;

    opb_message_begin_request(fixture->message, 4000000, 0);
    expect_fault(fixture, OPB_FAULT_UNAVAILABLE, 0, "This node offers no such function");
}

static const char malformed[] =
    "The arguments of the SDK call do not have the types of its signature";

static void
wrong_arguments_never_reach_the_core(void **state)
{
    struct fixture *fixture = *state;

    fake_on(_OrthancPluginService_RestApiPost, post);
    begin(fixture, "RestApiPost", 1); /* too few */
    opb_pack_cstr(fixture->message, "/instances");
    expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, malformed);
    begin(fixture, "RestApiPost", 3); /* too many */
    opb_pack_cstr(fixture->message, "/instances");
    opb_pack_bytes(fixture->message, "abc", 3);
    opb_pack_nil(fixture->message);
    expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, malformed);
    begin(fixture, "RestApiPost", 2); /* the wrong type */
    opb_pack_int(fixture->message, 5);
    opb_pack_bytes(fixture->message, "abc", 3);
    expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, malformed);
    begin(fixture, "RestApiPost", 2); /* an embedded NUL */
    opb_pack_str(fixture->message, "/a\0b", 4);
    opb_pack_bytes(fixture->message, "abc", 3);
    expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, malformed);
    assert_int_equal(fake_calls(_OrthancPluginService_RestApiPost), 0);
}

static void
post_with_wrong_arguments_closes_the_lane(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *frame = NULL;

    opb_message_begin_notify(fixture->message, fake_method("LogInfo"), 0);
    assert_int_equal(opb_lane_post(fixture->lane, fixture->message), OPB_OK);
    opb_lane_flush(fixture->lane);
    assert_int_equal(opb_lane_receive(fixture->lane, &frame, opb_deadline_ms(5000)),
                     OPB_GONE);
    assert_true(fake_log_has("the host has posted an SDK call with wrong arguments"));
}

static void
failed_post_is_only_logged(void **state)
{
    struct fixture *fixture = *state;

    opb_message_begin_notify(fixture->message, fake_method("RestOutput.Redirect"), 2);
    opb_pack_uint(fixture->message, 12345);
    opb_pack_cstr(fixture->message, "/x");
    assert_int_equal(opb_lane_post(fixture->lane, fixture->message), OPB_OK);
    begin(fixture, "LogInfo", 1);
    opb_pack_cstr(fixture->message, "still here");
    expect_nil(fixture);
    assert_true(fake_log_has("RestOutput.Redirect"));
    assert_true(fake_log_has("still here"));
}

static OrthancPluginErrorCode
log_length(const void *params)
{
    return strlen(params) == 3u * 1024 * 1024 ? OrthancPluginErrorCode_Success
                                              : OrthancPluginErrorCode_Plugin;
}

static void
long_text_travels_as_bytes(void **state)
{
    struct fixture *fixture = *state;
    size_t size = 3u * 1024 * 1024;
    char *text = malloc(size);

    assert_non_null(text);
    memset(text, 'x', size);
    fake_on(_OrthancPluginService_RestApiDelete, log_length);
    begin(fixture, "RestApiDelete", 1);
    opb_pack_bytes(fixture->message, text, size);
    expect_nil(fixture);
    text[5] = '\0';
    begin(fixture, "RestApiDelete", 1);
    opb_pack_bytes(fixture->message, text, size);
    expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, malformed);
    free(text);
}

static size_t json_size;

static OrthancPluginErrorCode
configuration(const void *params)
{
    const _OrthancPluginRetrieveDynamicString *string = params;
    char *text = malloc(json_size + 1);

    memset(text, 'j', json_size);
    text[json_size] = '\0';
    *string->result = text;
    return OrthancPluginErrorCode_Success;
}

static void
text_of_the_core_has_any_length(void **state)
{
    struct fixture *fixture = *state;
    char *text = malloc(20u * 1024 * 1024);
    struct opb_frame *response;
    struct opb_reader reader;
    size_t size = 0;

    assert_non_null(text);
    memset(text, 'j', 20u * 1024 * 1024);
    fake_on(_OrthancPluginService_GetConfiguration, configuration);
    json_size = 100;
    begin(fixture, "GetConfiguration", 0);
    response = finish(fixture);
    opb_frame_result(response, &reader);
    assert_memory_equal(opb_read_str(&reader, &size), text, 100);
    assert_int_equal(size, 100);
    opb_frame_free(response);
    json_size = 20u * 1024 * 1024; /* more than an envelope holds */
    begin(fixture, "GetConfiguration", 0);
    expect_bytes(fixture, text, json_size);
    free(text);
}

static void
null_text_is_an_internal_error_or_none(void **state)
{
    struct fixture *fixture = *state;

    begin(fixture, "GetConfiguration", 0);
    expect_fault(fixture, OPB_FAULT_ORTHANC, -1, "error -1");
    begin(fixture, "AutodetectMimeType", 1);
    opb_pack_cstr(fixture->message, "x.dcm");
    expect_nil(fixture);
}

static int image_memory; /* what an image is in these tests */

static OrthancPluginErrorCode
make_image(const void *params)
{
    const _OrthancPluginCreateImage *image = params;

    if (image->format == OrthancPluginPixelFormat_Unknown) {
        return OrthancPluginErrorCode_ParameterOutOfRange;
    }
    *image->target = (OrthancPluginImage *)(void *)&image_memory;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
nothing(const void *params)
{
    (void)params;
    return OrthancPluginErrorCode_Success;
}

static uint8_t pixels[4 * 8];

static OrthancPluginErrorCode
image_buffer(const void *params)
{
    const _OrthancPluginGetImageInfo *info = params;

    assert_ptr_equal(info->image, &image_memory);
    *info->resultBuffer = pixels;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
image_pitch(const void *params)
{
    *((const _OrthancPluginGetImageInfo *)params)->resultUint32 = 8;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
image_height(const void *params)
{
    *((const _OrthancPluginGetImageInfo *)params)->resultUint32 = 4;
    return OrthancPluginErrorCode_Success;
}

static void
serve_images(void)
{
    fake_on(_OrthancPluginService_CreateImage, make_image);
    fake_on(_OrthancPluginService_FreeImage, nothing);
    fake_on(_OrthancPluginService_GetImageBuffer, image_buffer);
    fake_on(_OrthancPluginService_GetImagePitch, image_pitch);
    fake_on(_OrthancPluginService_GetImageHeight, image_height);
}

static void
pack_image(struct fixture *fixture, OrthancPluginPixelFormat format, uint32_t pitch,
           size_t size)
{
    static const uint8_t bytes[64] = {[0 ... 63] = 9};

    begin(fixture, "CreateImageFromBuffer", 5);
    opb_pack_int(fixture->message, (int64_t)format);
    opb_pack_uint(fixture->message, 8);
    opb_pack_uint(fixture->message, 4);
    opb_pack_uint(fixture->message, pitch);
    opb_pack_bytes(fixture->message, bytes, size);
}

static void
image_from_a_buffer_has_zeros_where_the_buffer_has_nothing(void **state)
{
    struct fixture *fixture = *state;
    uint64_t handle;

    serve_images();
    memset(pixels, 0xff, sizeof(pixels));
    pack_image(fixture, OrthancPluginPixelFormat_Grayscale8, 6, 24);
    handle = expect_uint(fixture);
    assert_int_equal(pixels[5], 9);
    assert_int_equal(pixels[6], 0);
    assert_int_equal(pixels[7], 0);
    assert_int_equal(pixels[8], 9);
    begin(fixture, "Image.GetImageBuffer", 1);
    opb_pack_uint(fixture->message, handle);
    expect_bytes(fixture, pixels, sizeof(pixels));
    assert_int_equal(opb_handles_count(opb_session_handles(fixture->session)), 1);
    opb_message_begin_notify(fixture->message, fake_method("_Release"), 1);
    opb_pack_uint(fixture->message, handle);
    assert_int_equal(opb_lane_post(fixture->lane, fixture->message), OPB_OK);
    begin(fixture, "Image.GetImageBuffer", 1);
    opb_pack_uint(fixture->message, handle);
    expect_fault(fixture, OPB_FAULT_INVALID_OBJECT, 0, "Invalid object");
    assert_int_equal(fake_calls(_OrthancPluginService_FreeImage), 1);
}

static void
image_from_a_buffer_of_the_wrong_size_is_refused(void **state)
{
    serve_images();
    pack_image(*state, OrthancPluginPixelFormat_Grayscale8, 8, 31);
    expect_fault(*state, OPB_FAULT_TYPE, 0,
                 "The size of the memory buffer must match the product of height by pitch");
    pack_image(*state, OrthancPluginPixelFormat_Unknown, 8, 32);
    expect_fault(*state, OPB_FAULT_VALUE, 0, "Cannot create the image");
}

/* The size of the image that GetImageWidth and GetImageHeight tell. */
static OrthancPluginErrorCode
image_of_65536(const void *params)
{
    *((const _OrthancPluginGetImageInfo *)params)->resultUint32 = 65536;
    return OrthancPluginErrorCode_Success;
}

static void
expect_no_image(struct fixture *fixture, OrthancPluginPixelFormat format, uint32_t width,
                uint32_t height)
{
    begin(fixture, "CreateImage", 3);
    opb_pack_int(fixture->message, (int64_t)format);
    opb_pack_uint(fixture->message, width);
    opb_pack_uint(fixture->message, height);
    expect_fault(fixture, OPB_FAULT_ORTHANC, 4, "error 4");
}

/* The core computes sizes with 32 bits, and would allocate what is left of them. */
static void
images_of_more_than_32_bits_never_reach_the_core(void **state)
{
    struct fixture *fixture = *state;
    uint64_t handle;

    serve_images();
    fake_on(_OrthancPluginService_GetImageWidth, image_of_65536);
    fake_on(_OrthancPluginService_GetImageHeight, image_of_65536);
    fake_on(_OrthancPluginService_ConvertPixelFormat, nothing);
    expect_no_image(fixture, OrthancPluginPixelFormat_Grayscale8, UINT32_MAX, UINT32_MAX);
    expect_no_image(fixture, OrthancPluginPixelFormat_Grayscale8, 65536, 65536);
    expect_no_image(fixture, OrthancPluginPixelFormat_RGB24, 0x80000000u, 0);
    begin(fixture, "CreateImageFromBuffer", 5);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_Grayscale8);
    opb_pack_uint(fixture->message, 65537);
    opb_pack_uint(fixture->message, 65536);
    opb_pack_uint(fixture->message, 0);
    opb_pack_bytes(fixture->message, "", 0);
    expect_fault(fixture, OPB_FAULT_VALUE, 0, "Cannot create the image");
    assert_int_equal(fake_calls(_OrthancPluginService_CreateImage), 0);

    begin(fixture, "CreateImage", 3);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_Grayscale8);
    opb_pack_uint(fixture->message, 65536);
    opb_pack_uint(fixture->message, 65535);
    handle = expect_uint(fixture);
    begin(fixture, "Image.ConvertPixelFormat", 2);
    opb_pack_uint(fixture->message, handle);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_Grayscale16);
    expect_fault(fixture, OPB_FAULT_ORTHANC, 4, "error 4");
    assert_int_equal(fake_calls(_OrthancPluginService_ConvertPixelFormat), 0);
}

static OrthancPluginErrorCode
three_arguments(const void *params)
{
    *((const _OrthancPluginReturnSingleValue *)params)->resultUint32 = 3;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
no_argument(const void *params)
{
    (void)params;
    return OrthancPluginErrorCode_ParameterOutOfRange;
}

static void
arguments_of_the_command_line_that_are_none_never_reach_the_core(void **state)
{
    static const uint32_t indices[] = {3, 1000, INT32_MAX, 0x80000000u, UINT32_MAX - 1};
    struct fixture *fixture = *state;

    fake_on(_OrthancPluginService_GetCommandLineArgumentsCount, three_arguments);
    fake_on(_OrthancPluginService_GetCommandLineArgument, no_argument);
    for (size_t i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        begin(fixture, "GetCommandLineArgument", 1);
        opb_pack_uint(fixture->message, indices[i]);
        expect_fault(fixture, OPB_FAULT_ORTHANC, -1, "error -1");
    }
    assert_int_equal(fake_calls(_OrthancPluginService_GetCommandLineArgument), 0);
    begin(fixture, "GetCommandLineArgument", 1); /* -1: the name of the program */
    opb_pack_uint(fixture->message, UINT32_MAX);
    expect_fault(fixture, OPB_FAULT_ORTHANC, -1, "error -1");
    assert_int_equal(fake_calls(_OrthancPluginService_GetCommandLineArgument), 1);
}

static OrthancPluginErrorCode
no_pitch(const void *params)
{
    *((const _OrthancPluginGetImageInfo *)params)->resultUint32 = 0;
    return OrthancPluginErrorCode_Success;
}

static void
an_image_without_width_costs_no_time_however_high_it_is(void **state)
{
    struct fixture *fixture = *state;
    uint64_t began_ms = opb_clock_ms();

    serve_images();
    fake_on(_OrthancPluginService_GetImagePitch, no_pitch);
    begin(fixture, "CreateImageFromBuffer", 5);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_Grayscale8);
    opb_pack_uint(fixture->message, 0);
    opb_pack_uint(fixture->message, UINT32_MAX);
    opb_pack_uint(fixture->message, 0);
    opb_pack_bytes(fixture->message, "", 0);
    (void)expect_uint(fixture);
    assert_true(opb_clock_ms() - began_ms < 2000); /* else 4 billion rows of nothing */
}

static void
pack_png(struct fixture *fixture, uint32_t width, uint32_t height, uint32_t pitch,
         size_t size)
{
    static const uint8_t bytes[256];

    begin(fixture, "CompressPngImage", 5);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_RGB24);
    opb_pack_uint(fixture->message, width);
    opb_pack_uint(fixture->message, height);
    opb_pack_uint(fixture->message, pitch);
    opb_pack_bytes(fixture->message, bytes, size);
}

static void
sizes_that_do_not_fit_never_reach_the_core(void **state)
{
    fake_on(_OrthancPluginService_CompressImage, nothing);
    pack_png(*state, 10, 4, 30, 119); /* one byte too few */
    expect_fault(*state, OPB_FAULT_ORTHANC, 3, "error 3");
    pack_png(*state, 11, 4, 30, 120); /* rows longer than the pitch */
    expect_fault(*state, OPB_FAULT_ORTHANC, 3, "error 3");
    pack_png(*state, UINT32_MAX, UINT32_MAX, UINT32_MAX, 120);
    expect_fault(*state, OPB_FAULT_ORTHANC, 3, "error 3");
    assert_int_equal(fake_calls(_OrthancPluginService_CompressImage), 0);
    pack_png(*state, 10, 4, 30, 120);
    expect_bytes(*state, "", 0);
}

static void
forged_handles_never_reach_the_core(void **state)
{
    static const uint64_t handles[] = {0, 1, 42, UINT64_C(1) << 20, UINT64_MAX};
    struct fixture *fixture = *state;

    serve_images();
    for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++) {
        begin(fixture, "Image.GetImageBuffer", 1);
        opb_pack_uint(fixture->message, handles[i]);
        expect_fault(fixture, OPB_FAULT_INVALID_OBJECT, 0, "Invalid object");
    }
    begin(fixture, "Image.GetImageBuffer", 1);
    opb_pack_cstr(fixture->message, "42");
    expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, malformed);
    assert_int_equal(fake_calls(_OrthancPluginService_GetImageBuffer), 0);
}

static OrthancPluginErrorCode
dictionary(const void *params)
{
    const _OrthancPluginLookupDictionary *lookup = params;

    if (strcmp(lookup->name, "PatientID") != 0) {
        return OrthancPluginErrorCode_UnknownDicomTag;
    }
    *lookup->target = (OrthancPluginDictionaryEntry){
        0x10, 0x20, OrthancPluginValueRepresentation_LO, 1, 1};
    return OrthancPluginErrorCode_Success;
}

static void
dictionary_entry_is_five_numbers(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *response;
    struct opb_reader reader;
    struct opb_reader values;

    fake_on(_OrthancPluginService_LookupDictionary, dictionary);
    begin(fixture, "LookupDictionary", 1);
    opb_pack_cstr(fixture->message, "PatientID");
    response = finish(fixture);
    opb_frame_result(response, &reader);
    assert_int_equal(opb_read_array(&reader, &values), 5);
    assert_int_equal(opb_read_uint(&values, 65535), 0x10);
    assert_int_equal(opb_read_uint(&values, 65535), 0x20);
    assert_int_equal(opb_read_int(&values, 0, 100), OrthancPluginValueRepresentation_LO);
    opb_frame_free(response);
    begin(fixture, "LookupDictionary", 1);
    opb_pack_cstr(fixture->message, "Nope");
    expect_fault(fixture, OPB_FAULT_TYPE, 0, "Unknown DICOM tag: Nope");
}

static OrthancPluginErrorCode
error_code(const void *params)
{
    const _OrthancPluginRegisterErrorCode *registered = params;

    assert_int_equal(registered->httpStatus, 404);
    *registered->target = (OrthancPluginErrorCode)(1000000 + registered->code);
    return OrthancPluginErrorCode_Success;
}

static void
registered_error_code_is_returned(void **state)
{
    struct fixture *fixture = *state;

    fake_on(_OrthancPluginService_RegisterErrorCode, error_code);
    begin(fixture, "RegisterErrorCode", 3);
    opb_pack_int(fixture->message, 7);
    opb_pack_uint(fixture->message, 404);
    opb_pack_cstr(fixture->message, "gone");
    assert_int_equal(expect_int(fixture), 1000007);
}

static void
pack_delete(struct fixture *fixture)
{
    begin(fixture, "RestApiDelete", 1);
    opb_pack_cstr(fixture->message, "/x");
}

static void
after_the_stop_own_threads_call_no_server(void **state)
{
    struct fixture *fixture = *state;

    fake_on(_OrthancPluginService_RestApiDelete, nothing);
    pack_delete(fixture);
    expect_nil(fixture);
    opb_node_set_phase(fixture->node, OPB_PHASE_STOPPED);
    pack_delete(fixture);
    expect_fault(fixture, OPB_FAULT_ORTHANC, 2038, "error 2038");
    begin(fixture, "LogInfo", 1); /* what needs no server works */
    opb_pack_cstr(fixture->message, "text");
    expect_nil(fixture);
    opb_node_set_phase(fixture->node, OPB_PHASE_FINALIZING);
    pack_delete(fixture);
    expect_fault(fixture, OPB_FAULT_ORTHANC, 2038, "error 2038");
    begin(fixture, "SetRootUri", 1);
    opb_pack_cstr(fixture->message, "/x");
    expect_fault(fixture, OPB_FAULT_ORTHANC, 6,
                 "SetRootUri cannot run while Orthanc unloads its plugins");
    assert_int_equal(fake_calls(_OrthancPluginService_RestApiDelete), 1);
}

static void
after_the_stop_threads_of_orthanc_are_forwarded(void **state)
{
    struct fixture *fixture = *state;

    stop(fixture);
    atomic_store(&fixture->is_own, false);
    start(fixture);
    fake_on(_OrthancPluginService_RestApiDelete, nothing);
    opb_node_set_phase(fixture->node, OPB_PHASE_FINALIZING);
    pack_delete(fixture);
    expect_nil(fixture); /* what the core says is for the core to say */
    assert_int_equal(fake_calls(_OrthancPluginService_RestApiDelete), 1);
}

static atomic_bool is_inside, may_leave;

static OrthancPluginErrorCode
stay_inside(const void *params)
{
    (void)params;
    atomic_store(&is_inside, true);
    while (!atomic_load(&may_leave)) {
        sched_yield();
    }
    return OrthancPluginErrorCode_Success;
}

static void
delete_and_expect_nil(void *context)
{
    expect_nil(context);
}

static void
drain_waits_for_calls_that_need_the_server(void **state)
{
    struct fixture *fixture = *state;
    struct opb_thread *thread;
    time_t before = time(NULL);
    time_t since = 0;

    atomic_store(&is_inside, false);
    atomic_store(&may_leave, false);
    fake_on(_OrthancPluginService_RestApiDelete, stay_inside);
    pack_delete(fixture);
    thread = opb_thread_start(delete_and_expect_nil, fixture);
    while (!atomic_load(&is_inside)) {
        sched_yield();
    }
    opb_node_set_phase(fixture->node, OPB_PHASE_STOPPED);
    assert_false(opb_invocations_drain(fixture->node, opb_deadline_ms(50), &since));
    assert_in_range(since, before, time(NULL));
    atomic_store(&may_leave, true);
    assert_true(opb_invocations_drain(fixture->node, opb_deadline_ms(5000), &since));
    opb_thread_join(thread);
}

static void
function_that_this_server_lacks_is_refused_by_name(void **state)
{
    struct fixture *fixture = *state;

    fixture->node->context->orthancVersion = "1.4.2";
    begin(fixture, "AutodetectMimeType", 1);
    opb_pack_cstr(fixture->message, "x.dcm");
    expect_fault(fixture, OPB_FAULT_UNAVAILABLE, 0,
                 "AutodetectMimeType needs Orthanc 1.5.0 or newer; this server is 1.4.2");
}

static void
versions_compare_as_numbers(void **state)
{
    (void)state;
    assert_int_equal(opb_orthanc_version("1.10.1"), 1010001);
    assert_int_equal(opb_orthanc_version("1.12.6"), 1012006);
    assert_int_equal(opb_orthanc_version("1.13"), 1013000);
    assert_int_equal(opb_orthanc_version("mainline"), UINT32_MAX);
    assert_int_equal(opb_orthanc_version("1.13."), 1013000);
    assert_int_equal(opb_orthanc_version("1.12.6-rc"), 1012006);
    assert_int_equal(opb_orthanc_version("99.999.9999"), 99999999);
    assert_int_equal(opb_orthanc_version("what"), 0);
    assert_int_equal(opb_orthanc_version("1"), 0);
    assert_int_equal(opb_orthanc_version("1."), 0);
    assert_int_equal(opb_orthanc_version(".1"), 0);
    assert_int_equal(opb_orthanc_version(""), 0);
}

#define INVOCATION_TEST(function)                                                          \
    cmocka_unit_test_setup_teardown(function, make_fixture, free_fixture)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        INVOCATION_TEST(buffers_travel_both_ways_in_any_size),
        INVOCATION_TEST(error_of_the_core_comes_with_its_text),
        INVOCATION_TEST(unknown_function_is_refused),
        INVOCATION_TEST(wrong_arguments_never_reach_the_core),
        INVOCATION_TEST(post_with_wrong_arguments_closes_the_lane),
        INVOCATION_TEST(failed_post_is_only_logged),
        INVOCATION_TEST(long_text_travels_as_bytes),
        INVOCATION_TEST(text_of_the_core_has_any_length),
        INVOCATION_TEST(null_text_is_an_internal_error_or_none),
        INVOCATION_TEST(image_from_a_buffer_has_zeros_where_the_buffer_has_nothing),
        INVOCATION_TEST(image_from_a_buffer_of_the_wrong_size_is_refused),
        INVOCATION_TEST(an_image_without_width_costs_no_time_however_high_it_is),
        INVOCATION_TEST(arguments_of_the_command_line_that_are_none_never_reach_the_core),
        INVOCATION_TEST(images_of_more_than_32_bits_never_reach_the_core),
        INVOCATION_TEST(sizes_that_do_not_fit_never_reach_the_core),
        INVOCATION_TEST(forged_handles_never_reach_the_core),
        INVOCATION_TEST(dictionary_entry_is_five_numbers),
        INVOCATION_TEST(registered_error_code_is_returned),
        INVOCATION_TEST(after_the_stop_own_threads_call_no_server),
        INVOCATION_TEST(after_the_stop_threads_of_orthanc_are_forwarded),
        INVOCATION_TEST(drain_waits_for_calls_that_need_the_server),
        INVOCATION_TEST(function_that_this_server_lacks_is_refused_by_name),
        OPB_TEST(versions_compare_as_numbers),
    };

    return OPB_RUN(tests);
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_invocation.c - SDK calls of a host: their arguments and their results
 *
 * Elsewhere: images and their sizes (test_invocation_images.c), when a call may reach the
 * server at all (test_invocation_phases.c).
 */
#include "invocation_fixture.h"

#include "protocol/sockets.h"

#include <stdlib.h>
#include <string.h>

static int64_t
expect_int(struct invocation *fixture)
{
    struct opb_reader reader;
    struct opb_frame *response = sdk_finish_well(fixture, &reader);
    int64_t value = opb_read_int(&reader, INT64_MIN, INT64_MAX);

    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(response);
    return value;
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
pack_post(struct invocation *fixture, const char *uri)
{
    sdk_begin(fixture, "RestApiPost", 2);
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
        sdk_expect_bytes(*state, zeros, post_size);
    }
}

static void
error_of_the_core_comes_with_its_text(void **state)
{
    fake_on(_OrthancPluginService_RestApiPost, post);
    pack_post(*state, "/missing");
    sdk_expect_fault(*state, OPB_FAULT_ORTHANC, 17, "error 17");
}

static void
unknown_function_is_refused(void **state)
{
    struct invocation *fixture = *state;

    opb_message_begin_request(fixture->message, 4000000, 0);
    sdk_expect_fault(fixture, OPB_FAULT_UNAVAILABLE, 0,
                     "This node offers no such function");
}

static void
wrong_arguments_never_reach_the_core(void **state)
{
    struct invocation *fixture = *state;

    fake_on(_OrthancPluginService_RestApiPost, post);
    sdk_begin(fixture, "RestApiPost", 1); /* too few */
    opb_pack_cstr(fixture->message, "/instances");
    sdk_expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, SDK_MALFORMED);
    sdk_begin(fixture, "RestApiPost", 3); /* too many */
    opb_pack_cstr(fixture->message, "/instances");
    opb_pack_bytes(fixture->message, "abc", 3);
    opb_pack_nil(fixture->message);
    sdk_expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, SDK_MALFORMED);
    sdk_begin(fixture, "RestApiPost", 2); /* the wrong type */
    opb_pack_int(fixture->message, 5);
    opb_pack_bytes(fixture->message, "abc", 3);
    sdk_expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, SDK_MALFORMED);
    sdk_begin(fixture, "RestApiPost", 2); /* an embedded NUL */
    opb_pack_str(fixture->message, "/a\0b", 4);
    opb_pack_bytes(fixture->message, "abc", 3);
    sdk_expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, SDK_MALFORMED);
    assert_int_equal(fake_calls(_OrthancPluginService_RestApiPost), 0);
}

static void
post_with_wrong_arguments_closes_the_lane(void **state)
{
    struct invocation *fixture = *state;
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
    struct invocation *fixture = *state;

    opb_message_begin_notify(fixture->message, fake_method("RestOutput.Redirect"), 2);
    opb_pack_uint(fixture->message, 12345);
    opb_pack_cstr(fixture->message, "/x");
    assert_int_equal(opb_lane_post(fixture->lane, fixture->message), OPB_OK);
    sdk_begin(fixture, "LogInfo", 1);
    opb_pack_cstr(fixture->message, "still here");
    sdk_expect_nil(fixture);
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
    struct invocation *fixture = *state;
    size_t size = 3u * 1024 * 1024;
    char *text = malloc(size);

    assert_non_null(text);
    memset(text, 'x', size);
    fake_on(_OrthancPluginService_RestApiDelete, log_length);
    sdk_begin(fixture, "RestApiDelete", 1);
    opb_pack_bytes(fixture->message, text, size);
    sdk_expect_nil(fixture);
    text[5] = '\0';
    sdk_begin(fixture, "RestApiDelete", 1);
    opb_pack_bytes(fixture->message, text, size);
    sdk_expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, SDK_MALFORMED);
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
    struct invocation *fixture = *state;
    char *text = malloc(20u * 1024 * 1024);
    struct opb_frame *response;
    struct opb_reader reader;
    size_t size = 0;

    assert_non_null(text);
    memset(text, 'j', 20u * 1024 * 1024);
    fake_on(_OrthancPluginService_GetConfiguration, configuration);
    json_size = 100;
    sdk_begin(fixture, "GetConfiguration", 0);
    response = sdk_finish(fixture);
    opb_frame_result(response, &reader);
    assert_memory_equal(opb_read_str(&reader, &size), text, 100);
    assert_int_equal(size, 100);
    opb_frame_free(response);
    json_size = 20u * 1024 * 1024; /* more than an envelope holds */
    sdk_begin(fixture, "GetConfiguration", 0);
    sdk_expect_bytes(fixture, text, json_size);
    free(text);
}

static void
null_text_is_an_internal_error_or_none(void **state)
{
    struct invocation *fixture = *state;

    sdk_begin(fixture, "GetConfiguration", 0);
    sdk_expect_fault(fixture, OPB_FAULT_ORTHANC, -1, "error -1");
    sdk_begin(fixture, "AutodetectMimeType", 1);
    opb_pack_cstr(fixture->message, "x.dcm");
    sdk_expect_nil(fixture);
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
    struct invocation *fixture = *state;

    fake_on(_OrthancPluginService_GetCommandLineArgumentsCount, three_arguments);
    fake_on(_OrthancPluginService_GetCommandLineArgument, no_argument);
    for (size_t i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        sdk_begin(fixture, "GetCommandLineArgument", 1);
        opb_pack_uint(fixture->message, indices[i]);
        sdk_expect_fault(fixture, OPB_FAULT_ORTHANC, -1, "error -1");
    }
    assert_int_equal(fake_calls(_OrthancPluginService_GetCommandLineArgument), 0);
    sdk_begin(fixture, "GetCommandLineArgument", 1); /* -1: the name of the program */
    opb_pack_uint(fixture->message, UINT32_MAX);
    sdk_expect_fault(fixture, OPB_FAULT_ORTHANC, -1, "error -1");
    assert_int_equal(fake_calls(_OrthancPluginService_GetCommandLineArgument), 1);
}

static OrthancPluginErrorCode
dictionary(const void *params)
{
    const _OrthancPluginLookupDictionary *lookup = params;

    if (strcmp(lookup->name, "PatientID") != 0) {
        return OrthancPluginErrorCode_UnknownDicomTag;
    }
    *lookup->target = (OrthancPluginDictionaryEntry){
        0x10, 0x20, OrthancPluginValueRepresentation_LO, 1, 2};
    return OrthancPluginErrorCode_Success;
}

static void
dictionary_entry_is_five_numbers(void **state)
{
    struct invocation *fixture = *state;
    struct opb_frame *response;
    struct opb_reader reader;
    struct opb_reader values;

    fake_on(_OrthancPluginService_LookupDictionary, dictionary);
    sdk_begin(fixture, "LookupDictionary", 1);
    opb_pack_cstr(fixture->message, "PatientID");
    response = sdk_finish(fixture);
    opb_frame_result(response, &reader);
    assert_int_equal(opb_read_array(&reader, &values), 5);
    assert_int_equal(opb_read_uint(&values, 65535), 0x10);
    assert_int_equal(opb_read_uint(&values, 65535), 0x20);
    assert_int_equal(opb_read_int(&values, 0, 100), OrthancPluginValueRepresentation_LO);
    assert_int_equal(opb_read_uint(&values, 100), 1);
    assert_int_equal(opb_read_uint(&values, 100), 2);
    assert_int_equal(opb_reader_finish(&values), OPB_OK);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(response);
    sdk_begin(fixture, "LookupDictionary", 1);
    opb_pack_cstr(fixture->message, "Nope");
    sdk_expect_fault(fixture, OPB_FAULT_TYPE, 0, "Unknown DICOM tag: Nope");
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
    struct invocation *fixture = *state;

    fake_on(_OrthancPluginService_RegisterErrorCode, error_code);
    sdk_begin(fixture, "RegisterErrorCode", 3);
    opb_pack_int(fixture->message, 7);
    opb_pack_uint(fixture->message, 404);
    opb_pack_cstr(fixture->message, "gone");
    assert_int_equal(expect_int(fixture), 1000007);
}

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
        INVOCATION_TEST(arguments_of_the_command_line_that_are_none_never_reach_the_core),
        INVOCATION_TEST(dictionary_entry_is_five_numbers),
        INVOCATION_TEST(registered_error_code_is_returned),
    };

    return OPB_RUN(tests);
}

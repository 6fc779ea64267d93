/* Generated from orthanc/OrthancCPlugin.h by protocol/generator/generate.py; do not edit. */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/* One function per SDK function: arguments from the frame, the call, the result. */

#include "plugin/opb_plugin.h"
#include "plugin/invocation.h"
#include "sdk_custom.gen.h"

/* Scripts may call what the SDK calls deprecated. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

const char *const opb_class_names[OPB_CLASS_COUNT] = {
    [OPB_CLASS_DicomInstance] = "DicomInstance",
    [OPB_CLASS_FindMatcher] = "FindMatcher",
    [OPB_CLASS_Image] = "Image",
    [OPB_CLASS_RestOutput] = "RestOutput",
    [OPB_CLASS_StorageArea] = "StorageArea",
    [OPB_CLASS_WorklistAnswers] = "WorklistAnswers",
    [OPB_CLASS_WorklistQuery] = "WorklistQuery",
};

static void
run_CompressPngImage(struct opb_invocation *inv)
{
    OrthancPluginMemoryBuffer target = {NULL, 0};
    OrthancPluginErrorCode code;
    OrthancPluginPixelFormat format = (OrthancPluginPixelFormat)opb_take_i32(inv);
    uint32_t width = opb_take_u32(inv);
    uint32_t height = opb_take_u32(inv);
    uint32_t pitch = opb_take_u32(inv);
    uint64_t buffer_size = 0;
    const void *buffer = opb_take_buf64(inv, &buffer_size);

    opb_check_image(inv, format, width, height, pitch, buffer_size);
    if (!opb_invocation_ready(inv)) {
        return;
    }
    code = OrthancPluginCompressPngImage(opb_invocation_context(inv), &target, format, width, height, pitch, buffer);
    opb_give_buffer(inv, code, &target);
}

static void
run_CreateDicom(struct opb_invocation *inv)
{
    OrthancPluginMemoryBuffer target = {NULL, 0};
    OrthancPluginErrorCode code;
    const char *json = opb_take_str(inv);
    const OrthancPluginImage *pixelData = opb_take_object(inv, OPB_CLASS_Image, true);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    code = OrthancPluginCreateDicom(opb_invocation_context(inv), &target, json, pixelData);
    opb_give_buffer(inv, code, &target);
}

static void
run_DicomInstance_GetInstanceSize(struct opb_invocation *inv)
{
    const OrthancPluginDicomInstance *receiver = opb_take_object(inv, OPB_CLASS_DicomInstance, false);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    opb_give_int(inv, OrthancPluginGetInstanceSize(opb_invocation_context(inv), receiver));
}

static void
run_FindMatcher_IsMatch(struct opb_invocation *inv)
{
    const OrthancPluginFindMatcher *receiver = opb_take_object(inv, OPB_CLASS_FindMatcher, false);
    uint32_t dicom_size = 0;
    const void *dicom = opb_take_buf(inv, &dicom_size);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    opb_give_int(inv, OrthancPluginFindMatcherIsMatch(opb_invocation_context(inv), receiver, dicom, dicom_size));
}

static void
run_GetFontName(struct opb_invocation *inv)
{
    uint32_t fontIndex = opb_take_u32(inv);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    opb_give_static_string(inv, OrthancPluginGetFontName(opb_invocation_context(inv), fontIndex));
}

static void
run_GetFontsCount(struct opb_invocation *inv)
{
    if (!opb_invocation_ready(inv)) {
        return;
    }
    opb_give_uint(inv, OrthancPluginGetFontsCount(opb_invocation_context(inv)));
}

static void
run_HugeHash(struct opb_invocation *inv)
{
    uint64_t data_size = 0;
    const void *data = opb_take_buf64(inv, &data_size);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    opb_give_string(inv, OrthancPluginHugeHash(opb_invocation_context(inv), data, data_size));
}

static void
run_Image_GetImagePixelFormat(struct opb_invocation *inv)
{
    const OrthancPluginImage *receiver = opb_take_object(inv, OPB_CLASS_Image, false);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    opb_give_int(inv, (int64_t)OrthancPluginGetImagePixelFormat(opb_invocation_context(inv), receiver));
}

static void
run_LogWarning(struct opb_invocation *inv)
{
    const char *message = opb_take_str(inv);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    OrthancPluginLogWarning(opb_invocation_context(inv), message);
    opb_give_void(inv);
}

static void
run_Numbers(struct opb_invocation *inv)
{
    int code_ = opb_take_i32(inv);
    int32_t target_ = opb_take_i32(inv);
    int64_t inv_ = opb_take_i64(inv);
    uint8_t result_ = opb_take_u8(inv);
    uint16_t receiver_ = opb_take_u16(inv);
    uint32_t number = opb_take_u32(inv);
    uint64_t large = opb_take_u64(inv);
    float real = opb_take_float(inv);
    OrthancPluginNewKind lambda = (OrthancPluginNewKind)opb_take_i32(inv);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    opb_give_code(inv, OrthancPluginNumbers(opb_invocation_context(inv), code_, target_, inv_, result_, receiver_, number, large, real, lambda));
}

static void
run_RestApiGet(struct opb_invocation *inv)
{
    OrthancPluginMemoryBuffer target = {NULL, 0};
    OrthancPluginErrorCode code;
    const char *uri = opb_take_str(inv);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    code = OrthancPluginRestApiGet(opb_invocation_context(inv), &target, uri);
    opb_give_buffer(inv, code, &target);
}

static void
run_RestApiPost(struct opb_invocation *inv)
{
    OrthancPluginMemoryBuffer target = {NULL, 0};
    OrthancPluginErrorCode code;
    const char *uri = opb_take_str(inv);
    uint32_t body_size = 0;
    const char *body = opb_take_buf(inv, &body_size);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    code = OrthancPluginRestApiPost(opb_invocation_context(inv), &target, uri, body, body_size);
    opb_give_buffer(inv, code, &target);
}

static void
run_RestOutput_AnswerBuffer(struct opb_invocation *inv)
{
    OrthancPluginRestOutput *receiver = opb_take_object(inv, OPB_CLASS_RestOutput, false);
    uint32_t answer_size = 0;
    const void *answer = opb_take_buf(inv, &answer_size);
    const char *mimeType = opb_take_str(inv);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    OrthancPluginAnswerBuffer(opb_invocation_context(inv), receiver, answer, answer_size, mimeType);
    opb_give_void(inv);
}

static void
run_StorageArea_Create(struct opb_invocation *inv)
{
    OrthancPluginStorageArea *receiver = opb_take_object(inv, OPB_CLASS_StorageArea, false);
    const char *uuid = opb_take_str(inv);
    uint64_t content_size = 0;
    const void *content = opb_take_buf64(inv, &content_size);
    uint64_t size = opb_take_u64(inv);

    opb_check_size(inv, size, content_size);
    if (!opb_invocation_ready(inv)) {
        return;
    }
    opb_give_code(inv, OrthancPluginStorageAreaCreate(opb_invocation_context(inv), receiver, uuid, content, size));
}

static void
run_WorklistAnswers_WorklistAddAnswer(struct opb_invocation *inv)
{
    OrthancPluginWorklistAnswers *receiver = opb_take_object(inv, OPB_CLASS_WorklistAnswers, false);
    const OrthancPluginWorklistQuery *query = opb_take_object(inv, OPB_CLASS_WorklistQuery, false);
    uint32_t dicom_size = 0;
    const void *dicom = opb_take_buf(inv, &dicom_size);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    opb_give_code(inv, OrthancPluginWorklistAddAnswer(opb_invocation_context(inv), receiver, query, dicom, dicom_size));
}

static void
run_WorklistQuery_WorklistGetDicomQuery(struct opb_invocation *inv)
{
    OrthancPluginMemoryBuffer target = {NULL, 0};
    OrthancPluginErrorCode code;
    const OrthancPluginWorklistQuery *receiver = opb_take_object(inv, OPB_CLASS_WorklistQuery, false);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    code = OrthancPluginWorklistGetDicomQuery(opb_invocation_context(inv), &target, receiver);
    opb_give_buffer(inv, code, &target);
}

const struct opb_sdk_function opb_sdk_functions[] = {
    {"_Register", "x", 0, OPB_SDK_PROTECTED, opb_custom__Register},
    {"_Release", "x", 0, 0, opb_custom__Release},
    {"_Fence", "x", 0, 0, opb_custom__Fence},
    {"CompressPngImage", "euuup:b", 0, 0, run_CompressPngImage},
    {"CreateDicom", "sNImage;:b", 0, 0, run_CreateDicom},
    {"DicomInstance.GetInstanceData", "ODicomInstance;:b", 0, 0, opb_custom_DicomInstance_GetInstanceData},
    {"DicomInstance.GetInstanceSize", "ODicomInstance;:i", 0, 0, run_DicomInstance_GetInstanceSize},
    {"FindMatcher.IsMatch", "OFindMatcher;b:i", 1002000, 0, run_FindMatcher_IsMatch},
    {"GetCommandLineArgument", "u:s", 0, OPB_SDK_PROTECTED, opb_custom_GetCommandLineArgument},
    {"GetFontName", "u:z", 0, 0, run_GetFontName},
    {"GetFontsCount", ":i", 0, 0, run_GetFontsCount},
    {"HugeHash", "b:s", 0, 0, run_HugeHash},
    {"Image.ConvertPixelFormat", "OImage;e:OImage;", 1099000, 0, opb_custom_Image_ConvertPixelFormat},
    {"Image.GetImagePixelFormat", "OImage;:i", 1099000, 0, run_Image_GetImagePixelFormat},
    {"LogWarning", "s:v", 0, 0, run_LogWarning},
    {"Numbers", "iilchuUfe:E", 1099002, 0, run_Numbers},
    {"RestApiGet", "s:b", 0, OPB_SDK_NEEDS_SERVER, run_RestApiGet},
    {"RestApiPost", "sb:b", 0, OPB_SDK_NEEDS_SERVER, run_RestApiPost},
    {"RestOutput.AnswerBuffer", "ORestOutput;bs:v", 0, 0, run_RestOutput_AnswerBuffer},
    {"StorageArea.Create", "OStorageArea;spU:E", 0, 0, run_StorageArea_Create},
    {"WorklistAnswers.WorklistAddAnswer", "OWorklistAnswers;OWorklistQuery;b:E", 0, 0, run_WorklistAnswers_WorklistAddAnswer},
    {"WorklistQuery.WorklistGetDicomQuery", "OWorklistQuery;:b", 0, 0, run_WorklistQuery_WorklistGetDicomQuery},
};

const uint32_t opb_sdk_function_count =
    (uint32_t)(sizeof(opb_sdk_functions) / sizeof(opb_sdk_functions[0]));

bool
opb_sdk_free_object(OrthancPluginContext *context, enum opb_class class_id, void *object)
{
    switch (class_id) {
    case OPB_CLASS_Image:
        OrthancPluginFreeImage(context, object);
        return true;
    case OPB_CLASS_DicomInstance:
    case OPB_CLASS_FindMatcher:
    case OPB_CLASS_RestOutput:
    case OPB_CLASS_StorageArea:
    case OPB_CLASS_WorklistAnswers:
    case OPB_CLASS_WorklistQuery:
    case OPB_CLASS_COUNT:
        break;
    }
    return false;
}

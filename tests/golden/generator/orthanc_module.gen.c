/* Generated from orthanc/OrthancCPlugin.h by protocol/generator/generate.py; do not edit. */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/* The orthanc module's functions, classes and enumerations, as tables. */

#include "worker/module/model.h"

static PyObject *
fn_CompressPngImage(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[0], self, args, count, names);
}

static PyObject *
fn_CreateDicom(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[1], self, args, count, names);
}

static PyObject *
fn_GetCommandLineArgument(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[2], self, args, count, names);
}

static PyObject *
fn_GetFontName(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[3], self, args, count, names);
}

static PyObject *
fn_GetFontsCount(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[4], self, args, count, names);
}

static PyObject *
fn_HugeHash(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[5], self, args, count, names);
}

static PyObject *
fn_LogWarning(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[6], self, args, count, names);
}

static PyObject *
fn_Numbers(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[7], self, args, count, names);
}

static PyObject *
fn_RestApiGet(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[9], self, args, count, names);
}

static PyObject *
fn_RestApiPost(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return opb_sdk_call_keywords(&opb_py_functions[10], self, args, count, names);
}

static PyObject *
fn_DicomInstance_GetInstanceData(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[11], self, args, count);
}

static PyObject *
fn_DicomInstance_GetInstanceSize(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[12], self, args, count);
}

static PyObject *
fn_FindMatcher_FindMatcherIsMatch(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[13], self, args, count);
}

static PyObject *
fn_FindMatcher_IsMatch(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[14], self, args, count);
}

static PyObject *
fn_Image_ConvertPixelFormat(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[15], self, args, count);
}

static PyObject *
fn_Image_GetImagePixelFormat(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[16], self, args, count);
}

static PyObject *
fn_RestOutput_AnswerBuffer(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[17], self, args, count);
}

static PyObject *
fn_StorageArea_Create(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[18], self, args, count);
}

static PyObject *
fn_StorageArea_StorageAreaCreate(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[19], self, args, count);
}

static PyObject *
fn_WorklistAnswers_WorklistAddAnswer(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[20], self, args, count);
}

static PyObject *
fn_WorklistQuery_WorklistGetDicomQuery(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return opb_sdk_call(&opb_py_functions[21], self, args, count);
}

const struct opb_py_function opb_py_functions[] = {
    {
        .name = "CompressPngImage",
        .node_name = "CompressPngImage",
        .signature = "euuup:b",
        .type_error = "Bad types for the arguments (5 arguments expected)",
        .doc = "Generated from C function OrthancPluginCompressPngImage()",
        .since = 0,
        .argument_count = 5,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_CompressPngImage,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "CreateDicom",
        .node_name = "CreateDicom",
        .signature = "sNImage;:b",
        .type_error = "Bad types for the arguments (2 arguments expected)",
        .doc = "Generated from C function OrthancPluginCreateDicom()",
        .since = 0,
        .argument_count = 2,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_CreateDicom,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "GetCommandLineArgument",
        .node_name = "GetCommandLineArgument",
        .signature = "u:s",
        .type_error = "Bad types for the arguments (1 arguments expected)",
        .doc = "Generated from C function OrthancPluginGetCommandLineArgument()",
        .since = 0,
        .argument_count = 1,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_GetCommandLineArgument,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "GetFontName",
        .node_name = "GetFontName",
        .signature = "u:z",
        .type_error = "Bad types for the arguments (1 arguments expected)",
        .doc = "Generated from C function OrthancPluginGetFontName()",
        .since = 0,
        .argument_count = 1,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_GetFontName,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "GetFontsCount",
        .node_name = "GetFontsCount",
        .signature = ":i",
        .type_error = "Bad types for the arguments (0 arguments expected)",
        .doc = "Generated from C function OrthancPluginGetFontsCount()",
        .since = 0,
        .argument_count = 0,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_GetFontsCount,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "HugeHash",
        .node_name = "HugeHash",
        .signature = "b:s",
        .type_error = "Bad types for the arguments (1 arguments expected)",
        .doc = "Generated from C function OrthancPluginHugeHash()",
        .since = 0,
        .argument_count = 1,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_HugeHash,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "LogWarning",
        .node_name = "LogWarning",
        .signature = "s:v",
        .type_error = "Bad types for the arguments (1 arguments expected)",
        .doc = "Generated from C function OrthancPluginLogWarning()",
        .since = 0,
        .argument_count = 1,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_LogWarning,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "Numbers",
        .node_name = "Numbers",
        .signature = "iilchuUfe:E",
        .type_error = "Bad types for the arguments (9 arguments expected)",
        .doc = "Generated from C function OrthancPluginNumbers()",
        .since = 1099002,
        .argument_count = 9,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_Numbers,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "RegisterRestCallback",
        .node_name = NULL,
        .signature = NULL,
        .type_error = "Bad types for the arguments (2 arguments expected)",
        .doc = "Implemented in C++ function RegisterRestCallback()",
        .since = 0,
        .argument_count = 2,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))opb_py_custom_RegisterRestCallback,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "RestApiGet",
        .node_name = "RestApiGet",
        .signature = "s:b",
        .type_error = "Bad types for the arguments (1 arguments expected)",
        .doc = "Generated from C function OrthancPluginRestApiGet()",
        .since = 0,
        .argument_count = 1,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_RestApiGet,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "RestApiPost",
        .node_name = "RestApiPost",
        .signature = "sb:b",
        .type_error = "Bad types for the arguments (2 arguments expected)",
        .doc = "Generated from C function OrthancPluginRestApiPost()",
        .since = 0,
        .argument_count = 2,
        .class_index = -1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_RestApiPost,
        .flags = METH_FASTCALL | METH_KEYWORDS,
    },
    {
        .name = "GetInstanceData",
        .node_name = "DicomInstance.GetInstanceData",
        .signature = "ODicomInstance;:b",
        .type_error = "Bad types for the arguments (0 arguments expected)",
        .doc = "Implemented in C++ function GetInstanceData()",
        .since = 0,
        .argument_count = 0,
        .class_index = 0,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_DicomInstance_GetInstanceData,
        .flags = METH_FASTCALL,
    },
    {
        .name = "GetInstanceSize",
        .node_name = "DicomInstance.GetInstanceSize",
        .signature = "ODicomInstance;:i",
        .type_error = "Bad types for the arguments (0 arguments expected)",
        .doc = "Generated from C function OrthancPluginGetInstanceSize()",
        .since = 0,
        .argument_count = 0,
        .class_index = 0,
        .is_constant = 1,
        .entry = (PyCFunction)(void (*)(void))fn_DicomInstance_GetInstanceSize,
        .flags = METH_FASTCALL,
    },
    {
        .name = "FindMatcherIsMatch",
        .node_name = "FindMatcher.IsMatch",
        .signature = "OFindMatcher;b:i",
        .type_error = "Bad types for the arguments (1 arguments expected)",
        .doc = "Generated from C function OrthancPluginFindMatcherIsMatch()",
        .since = 1002000,
        .argument_count = 1,
        .class_index = 1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_FindMatcher_FindMatcherIsMatch,
        .flags = METH_FASTCALL,
    },
    {
        .name = "IsMatch",
        .node_name = "FindMatcher.IsMatch",
        .signature = "OFindMatcher;b:i",
        .type_error = "Bad types for the arguments (1 arguments expected)",
        .doc = "Generated from C function OrthancPluginFindMatcherIsMatch()",
        .since = 1002000,
        .argument_count = 1,
        .class_index = 1,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_FindMatcher_IsMatch,
        .flags = METH_FASTCALL,
    },
    {
        .name = "ConvertPixelFormat",
        .node_name = "Image.ConvertPixelFormat",
        .signature = "OImage;e:OImage;",
        .type_error = "Bad types for the arguments (1 arguments expected)",
        .doc = "Generated from C function OrthancPluginConvertPixelFormat()",
        .since = 1099000,
        .argument_count = 1,
        .class_index = 2,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_Image_ConvertPixelFormat,
        .flags = METH_FASTCALL,
    },
    {
        .name = "GetImagePixelFormat",
        .node_name = "Image.GetImagePixelFormat",
        .signature = "OImage;:i",
        .type_error = "Bad types for the arguments (0 arguments expected)",
        .doc = "Generated from C function OrthancPluginGetImagePixelFormat()",
        .since = 1099000,
        .argument_count = 0,
        .class_index = 2,
        .is_constant = 1,
        .entry = (PyCFunction)(void (*)(void))fn_Image_GetImagePixelFormat,
        .flags = METH_FASTCALL,
    },
    {
        .name = "AnswerBuffer",
        .node_name = "RestOutput.AnswerBuffer",
        .signature = "ORestOutput;bs:v",
        .type_error = "Bad types for the arguments (2 arguments expected)",
        .doc = "Generated from C function OrthancPluginAnswerBuffer()",
        .since = 0,
        .argument_count = 2,
        .class_index = 3,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_RestOutput_AnswerBuffer,
        .flags = METH_FASTCALL,
    },
    {
        .name = "Create",
        .node_name = "StorageArea.Create",
        .signature = "OStorageArea;spU:E",
        .type_error = "Bad types for the arguments (3 arguments expected)",
        .doc = "Generated from C function OrthancPluginStorageAreaCreate()",
        .since = 0,
        .argument_count = 3,
        .class_index = 4,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_StorageArea_Create,
        .flags = METH_FASTCALL,
    },
    {
        .name = "StorageAreaCreate",
        .node_name = "StorageArea.Create",
        .signature = "OStorageArea;spU:E",
        .type_error = "Bad types for the arguments (3 arguments expected)",
        .doc = "Generated from C function OrthancPluginStorageAreaCreate()",
        .since = 0,
        .argument_count = 3,
        .class_index = 4,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_StorageArea_StorageAreaCreate,
        .flags = METH_FASTCALL,
    },
    {
        .name = "WorklistAddAnswer",
        .node_name = "WorklistAnswers.WorklistAddAnswer",
        .signature = "OWorklistAnswers;OWorklistQuery;b:E",
        .type_error = "Bad types for the arguments (2 arguments expected)",
        .doc = "Generated from C function OrthancPluginWorklistAddAnswer()",
        .since = 0,
        .argument_count = 2,
        .class_index = 5,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_WorklistAnswers_WorklistAddAnswer,
        .flags = METH_FASTCALL,
    },
    {
        .name = "WorklistGetDicomQuery",
        .node_name = "WorklistQuery.WorklistGetDicomQuery",
        .signature = "OWorklistQuery;:b",
        .type_error = "Bad types for the arguments (0 arguments expected)",
        .doc = "Generated from C function OrthancPluginWorklistGetDicomQuery()",
        .since = 0,
        .argument_count = 0,
        .class_index = 6,
        .is_constant = 0,
        .entry = (PyCFunction)(void (*)(void))fn_WorklistQuery_WorklistGetDicomQuery,
        .flags = METH_FASTCALL,
    },
};
const uint32_t opb_py_function_count = 22;

const struct opb_py_class opb_py_classes[] = {
    {
        .name = "DicomInstance",
        .qualified_name = "orthanc.DicomInstance",
        .sdk_name = "OrthancPluginDicomInstance",
        .doc = "Generated from Orthanc C class: OrthancPluginDicomInstance",
        .since = 0,
        .complete_since = 0,
        .is_owned = 0,
    },
    {
        .name = "FindMatcher",
        .qualified_name = "orthanc.FindMatcher",
        .sdk_name = "OrthancPluginFindMatcher",
        .doc = "Generated from Orthanc C class: OrthancPluginFindMatcher",
        .since = 1002000,
        .complete_since = 1002000,
        .is_owned = 0,
    },
    {
        .name = "Image",
        .qualified_name = "orthanc.Image",
        .sdk_name = "OrthancPluginImage",
        .doc = "Generated from Orthanc C class: OrthancPluginImage",
        .since = 1099000,
        .complete_since = 1099000,
        .is_owned = 1,
    },
    {
        .name = "RestOutput",
        .qualified_name = "orthanc.RestOutput",
        .sdk_name = "OrthancPluginRestOutput",
        .doc = "Generated from Orthanc C class: OrthancPluginRestOutput",
        .since = 0,
        .complete_since = 1012006,
        .is_owned = 0,
    },
    {
        .name = "StorageArea",
        .qualified_name = "orthanc.StorageArea",
        .sdk_name = "OrthancPluginStorageArea",
        .doc = "Generated from Orthanc C class: OrthancPluginStorageArea",
        .since = 0,
        .complete_since = 0,
        .is_owned = 0,
    },
    {
        .name = "WorklistAnswers",
        .qualified_name = "orthanc.WorklistAnswers",
        .sdk_name = "OrthancPluginWorklistAnswers",
        .doc = "Generated from Orthanc C class: OrthancPluginWorklistAnswers",
        .since = 0,
        .complete_since = 0,
        .is_owned = 0,
    },
    {
        .name = "WorklistQuery",
        .qualified_name = "orthanc.WorklistQuery",
        .sdk_name = "OrthancPluginWorklistQuery",
        .doc = "Generated from Orthanc C class: OrthancPluginWorklistQuery",
        .since = 0,
        .complete_since = 0,
        .is_owned = 0,
    },
};
const uint32_t opb_py_class_count = 7;

static const struct opb_py_enum_value values_ErrorCode[] = {
    {"INTERNAL_ERROR", -1, 0},
    {"SUCCESS", 0, 0},
    {"NO_CFIND_HANDLER", 2010, 0},
    {"MAIN_DICOM_TAGS_MULTIPLY_DEFINED", 44, 0},
    {"FORBIDDEN_ACCESS", 45, 0},
    {"DUPLICATE_RESOURCE", 46, 0},
    {"INCOMPATIBLE_CONFIGURATIONS", 47, 0},
    {"DICOM_GET_UNAVAILABLE", 2045, 0},
    {NULL, 0, 0},
};

static const struct opb_py_enum_value values_NewKind[] = {
    {"WEB_DAV", 0, 1098000},
    {"SQLITE_NOT_OPENED", 1, 1099001},
    {NULL, 0, 0},
};

static const struct opb_py_enum_value values_PixelFormat[] = {
    {"GRAYSCALE8", 1, 0},
    {"SIGNED_GRAYSCALE16", 3, 0},
    {"RGB48", 7, 1003001},
    {NULL, 0, 0},
};

const struct opb_py_enum opb_py_enums[] = {
    {
        .name = "ErrorCode",
        .qualified_name = "orthanc.ErrorCode",
        .doc = "Generated from C enumeration OrthancPluginOrthancPluginErrorCode",
        .since = 0,
        .values = values_ErrorCode,
    },
    {
        .name = "NewKind",
        .qualified_name = "orthanc.NewKind",
        .doc = "Generated from C enumeration OrthancPluginOrthancPluginNewKind",
        .since = 1098000,
        .values = values_NewKind,
    },
    {
        .name = "PixelFormat",
        .qualified_name = "orthanc.PixelFormat",
        .doc = "Generated from C enumeration OrthancPluginOrthancPluginPixelFormat",
        .since = 0,
        .values = values_PixelFormat,
    },
};
const uint32_t opb_py_enum_count = 3;

const uint32_t opb_py_sdk_version = 1099003;
const struct opb_py_later opb_py_later_names[] = {
    {NULL, 0},
};

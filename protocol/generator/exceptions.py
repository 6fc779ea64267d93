# SPDX-License-Identifier: GPL-3.0-or-later
"""The short list of what the generator's patterns do not cover.

Here:      functions written by hand, at either end or both, how they look from Python;
           functions that Python does not get, each with the reason; old names.
Elsewhere: the patterns (classify.py); the code itself (plugin/sdk_custom.c,
           worker/module/).

A function of a new SDK that fits no pattern stops the build until it stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

import annotations as facts
from model import Model, Param, Result, version_number


@dataclass(frozen=True)
class Custom:
    """A Python name with code of its own."""

    c_name: str  # without the prefix; the name exists where the header has this
    params: tuple[Param, ...]
    result: Result
    node: bool = True  # has a row in the node's table
    custom_node: bool = True  # run by opb_custom_<name> in the plugin
    custom_host: bool = False  # called through opb_py_custom_<name>
    docstring: str = ""  # default: "Implemented in C++ function <Python name>()"
    type_error: str = ""  # default: that of a generated function
    doc: str = ""  # our words, where the header's would mislead


def _p(name: str, code: str, type_name: str = "") -> Param:
    return Param(name, code, type_name)


def _register(c_name: str, doc: str, *callbacks: tuple[str, str], pattern: bool = False) -> Custom:
    params = [_p("pathRegularExpression", "s")] if pattern else []
    params += [_p(name, "callable", protocol) for name, protocol in callbacks]
    return Custom(
        c_name, tuple(params), Result("v"), node=False, custom_node=False, custom_host=True, doc=doc
    )


_MOVE_DRIVER = (
    ("get_move_size", "MoveSize"),
    ("apply_move", "MoveApply"),
    ("free_move", "MoveFree"),
)
_FIND_TAG = (_p("index", "u"),)
_BYTES_OR_NONE = Result("x", stub="bytes | None")
_BAD = "Bad arguments"

CUSTOM: dict[str, Custom] = {
    "CheckVersion": Custom(
        "CheckVersion",
        (),
        Result("i"),
        docstring="Generated from C function OrthancPluginCheckVersion()",
        doc="Whether this server suits the plugin: always 1, since the plugin adapts to it. CheckVersionAdvanced asks for a version.",
    ),
    # The bridge's own: they exist with every header, as CheckVersion does.
    "GetWorkerIndex": Custom(
        "CheckVersion",
        (),
        Result("i"),
        node=False,
        custom_node=False,
        custom_host=True,
        docstring="Which of the hosts of this script this one is, from 0. Not in the in-process plugin",
        doc="Which of the hosts that run the script this one is: from 0 to GetWorkersCount() - 1. 0 is the primary, which alone gets change events. The in-process plugin does not have it.",
    ),
    "GetWorkersCount": Custom(
        "CheckVersion",
        (),
        Result("i"),
        node=False,
        custom_node=False,
        custom_host=True,
        docstring="How many hosts run this script (Python.Workers). Not in the in-process plugin",
        doc="How many hosts run the script at the same time (Python.Workers). The in-process plugin does not have it.",
    ),
    "CreateImage": Custom(
        "CreateImage",
        (_p("format", "e", "PixelFormat"), _p("width", "u"), _p("height", "u")),
        Result("O", "Image"),
        docstring="Generated from C function OrthancPluginCreateImage()",
    ),
    "CreateImageFromBuffer": Custom(
        "CreateImageAccessor",
        (
            _p("format", "e", "PixelFormat"),
            _p("width", "u"),
            _p("height", "u"),
            _p("pitch", "u"),
            _p("buffer", "p"),
        ),
        Result("O", "Image"),
        custom_host=True,
        type_error="5 arguments are needed: image.PixelFormat, width, height, pitch and memory buffer",
        doc="Create an image with a copy of the given pixels. The buffer must hold exactly height * pitch bytes.",
    ),
    "CreateMemoryBuffer": Custom(
        "CreateMemoryBuffer",
        (_p("size", "u"),),
        Result("b"),
        node=False,
        custom_node=False,
        custom_host=True,
        docstring="Generated from C function OrthancPluginCreateMemoryBuffer()",
        doc="Create a bytes object of that many zeros. For scripts written for the first plugins; bytes(size) does the same.",
    ),
    "DequeueValue": Custom(
        "DequeueValue",
        (_p("queueId", "s"), _p("origin", "e", "QueueOrigin")),
        _BYTES_OR_NONE,
        custom_host=True,
        type_error=_BAD,
    ),
    "GetCommandLineArgument": Custom(
        "GetCommandLineArgument",
        (_p("argument", "u"),),
        Result("s"),
        docstring="Generated from C function OrthancPluginGetCommandLineArgument()",
    ),
    "GetKeyValue": Custom(
        "GetKeyValue",
        (_p("storeId", "s"), _p("key", "s")),
        _BYTES_OR_NONE,
        custom_host=True,
        type_error=_BAD,
    ),
    "GetQueueSize": Custom("GetQueueSize", (_p("queueId", "s"),), Result("i"), type_error=_BAD),
    "LookupDictionary": Custom(
        "LookupDictionary",
        (_p("name", "s"),),
        Result("x", stub="_DictionaryTag"),
        custom_host=True,
        type_error="Please provide a string containing the name of the DICOM tag of interest",
        doc="Get information about the given DICOM tag: a dictionary with the keys Group, Element, ValueRepresentation, MinMultiplicity and MaxMultiplicity. An unknown tag raises TypeError.",
    ),
    "RegisterErrorCode": Custom(
        "RegisterErrorCode",
        (_p("code", "i"), _p("httpStatus", "h"), _p("message", "s")),
        Result("i"),
        docstring="Generated from C function OrthancPluginRegisterErrorCode()",
        doc="Declare a custom error code for this script. The result is the code to raise it with, as allocated by the server.",
    ),
    "ReserveQueueValue": Custom(
        "ReserveQueueValue",
        (_p("queueId", "s"), _p("origin", "e", "QueueOrigin"), _p("releaseTimeout", "u")),
        Result("x", stub="tuple[bytes, int] | tuple[None, None]"),
        custom_host=True,
        type_error=_BAD,
    ),
    "SetStableStatus": Custom(
        "SetStableStatus",
        (_p("resourceId", "s"), _p("stableStatus", "e", "StableStatus")),
        Result("x", stub="tuple[int, int]"),
        custom_host=True,
        type_error="Please provide a string containing the resourceId and a integer with 0 for stable and 1 for unstable",
        doc="Change the stable status of a resource. The result is (0, changed), where changed is 1 if the status was another one before.",
    ),
    "DicomInstance.GetInstanceData": Custom(
        "GetInstanceData",
        (),
        Result("b"),
        docstring="Implemented in C++ function GetInstanceData()",
        doc="Get a copy of the whole DICOM file.",
    ),
    "FindQuery.GetFindQueryTagElement": Custom(
        "GetFindQueryTag",
        _FIND_TAG,
        Result("i"),
        type_error="Index is missing",
        doc="Get the element of one tag in a C-Find query. A bad index raises ValueError.",
    ),
    "FindQuery.GetFindQueryTagGroup": Custom(
        "GetFindQueryTag",
        _FIND_TAG,
        Result("i"),
        type_error="Index is missing",
        doc="Get the group of one tag in a C-Find query. A bad index raises ValueError.",
    ),
    "Image.ConvertPixelFormat": Custom(
        "ConvertPixelFormat",
        (_p("targetFormat", "e", "PixelFormat"),),
        Result("O", "Image"),
        docstring="Generated from C function OrthancPluginConvertPixelFormat()",
    ),
    "Image.GetImageBuffer": Custom(
        "GetImageBuffer",
        (),
        Result("b"),
        doc="Get a copy of the pixels: height * pitch bytes.",
    ),
    "KeysValuesIterator.Next": Custom(
        "KeysValuesIteratorNext",
        (),
        Result("B"),
        docstring="Implemented in C++ function KeysValuesIteratorNext()",
        doc="Move to the next item, or to the first one after the creation. False means that there is none left.",
    ),
    # Registrations: the node's "_Register" does them all.
    "RegisterFindCallback": _register(
        "RegisterFindCallback",
        "Answer C-FIND requests. One per server.",
        ("callback", "FindCallback"),
    ),
    "RegisterFindCallback2": _register(
        "RegisterFindCallback2",
        "Answer C-FIND requests, with the parameters of the connection. One per server.",
        ("callback", "FindCallback2"),
    ),
    "RegisterIncomingCStoreInstanceFilter": _register(
        "RegisterIncomingCStoreInstanceFilter",
        "Accept or refuse each instance that arrives by C-STORE.",
        ("callback", "CStoreInstanceFilter"),
    ),
    "RegisterIncomingHttpRequestFilter": _register(
        "RegisterIncomingHttpRequestFilter2",
        "Allow or refuse each HTTP request. What is not True refuses it.",
        ("callback", "HttpRequestFilter"),
    ),
    "RegisterMoveCallback": _register(
        "RegisterMoveCallback",
        "Do C-MOVE requests, each as one operation. One per server.",
        ("callback", "MoveCallback"),
    ),
    "RegisterMoveCallback2": _register(
        "RegisterMoveCallback",
        "Do C-MOVE requests in several operations. One per server.",
        ("callback", "MoveCreate2"),
        *_MOVE_DRIVER,
    ),
    "RegisterMoveCallback3": _register(
        "RegisterMoveCallback2",
        "Do C-MOVE requests in several operations, with the parameters of the connection. One per server.",
        ("callback", "MoveCreate3"),
        *_MOVE_DRIVER,
    ),
    "RegisterOnChangeCallback": _register(
        "RegisterOnChangeCallback",
        "Be told of each change in the server, one after the other.",
        ("callback", "ChangeCallback"),
    ),
    "RegisterOnStoredInstanceCallback": _register(
        "RegisterOnStoredInstanceCallback",
        "Be told of each new instance, while the server still holds it in memory.",
        ("callback", "StoredInstanceCallback"),
    ),
    "RegisterReceivedInstanceCallback": _register(
        "RegisterReceivedInstanceCallback",
        "Keep, change or discard each instance that arrives, before it is stored.",
        ("callback", "ReceivedInstanceCallback"),
    ),
    "RegisterRestCallback": _register(
        "RegisterRestCallbackNoLock",
        "Answer the requests whose whole path matches a regular expression (Perl syntax, case sensitive). "
        "The first match wins. Several requests may be served at the same time.",
        ("callback", "RestCallback"),
        pattern=True,
    ),
    "RegisterStorageArea": _register(
        "RegisterStorageArea",
        "Keep the server's files elsewhere. One per server, before it starts.",
        ("create", "StorageCreate"),
        ("read", "StorageRead"),
        ("remove", "StorageRemove"),
    ),
    "RegisterStorageArea3": _register(
        "RegisterStorageArea3",
        "Keep the server's files elsewhere, with custom data for each. One per server, before it starts.",
        ("create", "StorageCreate3"),
        ("read", "StorageReadRange3"),
        ("remove", "StorageRemove3"),
    ),
    "RegisterStorageCommitmentScpCallback": _register(
        "RegisterStorageCommitmentScpCallback",
        "Answer storage commitment requests.",
        ("callback", "StorageCommitmentScp"),
        ("lookup", "StorageCommitmentLookup"),
    ),
    "RegisterStorageCommitmentScpCallback2": _register(
        "RegisterStorageCommitmentScpCallback2",
        "Answer storage commitment requests, with the parameters of the connection.",
        ("callback", "StorageCommitmentScp2"),
        ("lookup", "StorageCommitmentLookup"),
    ),
    "RegisterWorklistCallback": _register(
        "RegisterWorklistCallback",
        "Answer C-FIND requests for worklists. One per server.",
        ("callback", "WorklistCallback"),
    ),
    "RegisterWorklistCallback2": _register(
        "RegisterWorklistCallback2",
        "Answer C-FIND requests for worklists, with the parameters of the connection. One per server.",
        ("callback", "WorklistCallback2"),
    ),
}

# Generated at the node, but with a hand-written function in the module: more forms of
# the arguments than the pattern knows. The text is the stub's list of parameters.
CUSTOM_HOST: dict[str, str] = {
    "RestOutput.SendHttpStatus": "status: _Integer, body: _Buffer, bodySize: _Integer = ..., /",
}

# Methods that keep their name of earlier plugins beside the one of today.
ALIASES: dict[str, str] = {
    "FindMatcher.IsMatch": "FindMatcherIsMatch",
    "StorageArea.Create": "StorageAreaCreate",
    "StorageArea.Read": "StorageAreaRead",
    "StorageArea.Remove": "StorageAreaRemove",
}

# Object arguments for which None makes no sense to the SDK: it crashes on it.
NEVER_NONE = {("WorklistAddAnswer", "query")}

# A pointer and a length that Python passes as two arguments.
SEPARATE_SIZE = {"StorageAreaCreate"}

_ENTRY = "the plugin defines it for the server"
_MEMORY = "memory of the SDK never reaches Python; the plugin frees it"
_CALLBACK = "no callback of this kind in Python"
_JOB = "the SDK's jobs are not offered to Python"
_DICOMWEB = "its callback writes binary data in the middle of the call; use the DICOM or JSON functions"
_NEWER = "Python uses the newer version of this function"
_LISTS = "lists of headers; use a Python HTTP client, or the other RestApi functions"

# By C name without the prefix: why Python does not have it.
NOT_WRAPPED: dict[str, str] = {
    "Initialize": _ENTRY,
    "Finalize": _ENTRY,
    "GetName": _ENTRY,
    "GetVersion": _ENTRY,
    "FreeString": _MEMORY,
    "FreeMemoryBuffer": _MEMORY,
    "FreeMemoryBuffer64": _MEMORY,
    "CreateMemoryBuffer64": _MEMORY,
    "AdoptDicomInstance": "takes over memory of the SDK; CreateDicomInstance copies instead",
    "CallPeerApi": _LISTS,
    "CallRestApi": _LISTS,
    "ChunkedHttpClient": _LISTS,
    "HttpClient": _LISTS,
    "RestApiGet2": _LISTS,
    "SendMultipartItem2": "a list of headers; SendMultipartItem sends items without",
    "ClearCurrentThreadName": "the plugin's own threads use it; a script's threads are not the server's",
    "CreateJob": _JOB,
    "CreateJob2": _JOB,
    "RegisterJobsUnserializer": _JOB,
    "EncodeDicomWebJson": _DICOMWEB,
    "EncodeDicomWebJson2": _DICOMWEB,
    "EncodeDicomWebXml": _DICOMWEB,
    "EncodeDicomWebXml2": _DICOMWEB,
    "GetInstanceDicomWebJson": _DICOMWEB,
    "GetInstanceDicomWebXml": _DICOMWEB,
    "RegisterAuditLogHandler": _CALLBACK,
    "RegisterChunkedRestCallback": _CALLBACK,
    "RegisterDatabaseBackendV4": _CALLBACK,
    "RegisterDecodeImageCallback": _CALLBACK,
    "RegisterHttpAuthentication": _CALLBACK,
    "RegisterIncomingDicomInstanceFilter": _CALLBACK,
    "RegisterRefreshMetricsCallback": _CALLBACK,
    "RegisterTranscoderCallback": _CALLBACK,
    "RegisterWebDavCollection": _CALLBACK,
    "RegisterIncomingHttpRequestFilter": _NEWER,
    "RegisterRestCallback": "Python callbacks run side by side: RegisterRestCallbackNoLock",
    "RegisterStorageArea2": _NEWER,
}

# Classes that later versions of the SDK have given more methods, and the last one that did.
GROWN: dict[str, str] = {"RestOutput": "1.12.6"}


def complete_since(model: Model, class_name: str) -> int:
    """The version of the SDK that has all methods that are known of a class."""
    of_header = [f.since for f in model.functions if f.class_name == class_name]
    return max([version_number(GROWN.get(class_name, "0.0.0")), *of_header])


def later_names(model: Model) -> dict[str, str]:
    """What scripts may ask for and this header is too old for: Python name -> version."""
    names = {**facts.FUNCTION_SINCE, **facts.CLASS_SINCE, **facts.ENUMERATION_SINCE}
    for full_name, custom in CUSTOM.items():
        if custom.c_name in facts.FUNCTION_SINCE:
            names[full_name.rpartition(".")[2]] = facts.FUNCTION_SINCE[custom.c_name]
    return {name: since for name, since in names.items() if version_number(since) > model.sdk_version}

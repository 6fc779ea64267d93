# SPDX-License-Identifier: GPL-3.0-or-later
"""What stubs and reference say about a function beside the header's own text."""

from __future__ import annotations

from model import Function, version_text

_ERROR = "OrthancException: The server's error code and its text."
_REFUSED = "OrthancException: (-1, 'Internal error') if the SDK gives nothing, whatever the reason."


def paragraphs(function: Function) -> list[str]:
    """The description, brief first."""
    if function.extra_doc:
        out = [function.extra_doc]
    else:
        doc = function.doc
        details = [d for d in doc.details.split("\n\n") if d and d != doc.brief]
        out = [doc.brief or f"The SDK's {function.c_name}().", *details, *(f"Note: {n}" for n in doc.notes)]
    if function.deprecated:
        out.append(f"Deprecated in the SDK. {function.doc.deprecated}".strip())
    if function.since:
        out.append(f"Needs Orthanc {version_text(function.since)}.")
    return out


def effects(function: Function) -> tuple[str, str]:
    """What it returns and what it raises; "" for nothing to say."""
    if not function.on_node and function.result.code == "v":
        return "", _REGISTER
    code, kind, said = function.result.code, function.result.type_name, function.doc.returns
    if function.full_name in _BY_HAND:
        return _BY_HAND[function.full_name]
    if code == "E":
        return "", _ERROR
    if code == "b":
        return "The bytes.", _ERROR
    if code == "s":
        return "The text.", _REFUSED
    if code == "z":
        return "The text, or None.", ""
    if code == "O":
        return f"A new {kind}.", _REFUSED
    if code == "i" and kind:
        return f"A value of {kind}.", ""
    if code in "iB":
        return said, ""
    return "", ""


_REGISTER = "ValueError: Bad arguments. RuntimeError: The script has already registered one, where there can only be one."
_STORE_ERROR = "TypeError: The text of the server's error."
_BY_HAND = {
    "CreateImageFromBuffer": (
        "A new Image.",
        "TypeError: The length of the buffer is not height * pitch. ValueError: The image cannot be created.",
    ),
    "CreateMemoryBuffer": ("That many zero bytes.", ""),
    "DequeueValue": ("The value, or None if the queue is empty.", _STORE_ERROR),
    "GetWorkerIndex": ("The number of this host.", ""),
    "GetWorkersCount": ("The number of hosts.", ""),
    "GetKeyValue": ("The value, or None if there is none.", _STORE_ERROR),
    "GetQueueSize": ("The number of values, reserved ones included.", _STORE_ERROR),
    "LookupDictionary": ("The description of the tag.", "TypeError: The tag is unknown."),
    "RegisterErrorCode": ("The allocated error code.", _ERROR),
    "ReserveQueueValue": ("The value and its identifier, or (None, None) if the queue is empty.", _STORE_ERROR),
    "SetStableStatus": ("(0, 1) if the status has changed, else (0, 0).", "TypeError: The status cannot be changed."),
    "DicomInstance.GetInstanceData": ("The bytes of the file.", ""),
    "FindQuery.GetFindQueryTagElement": ("The element of the tag.", "ValueError: Index is out of range."),
    "FindQuery.GetFindQueryTagGroup": ("The group of the tag.", "ValueError: Index is out of range."),
    "Image.GetImageBuffer": ("The pixels.", ""),
    "KeysValuesIterator.Next": ("Whether there is an item.", "TypeError: It has already returned False."),
}

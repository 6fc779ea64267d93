# SPDX-License-Identifier: GPL-3.0-or-later
"""How the server calls a script: the types of the registered functions.

The SDK header knows the C side only; these are the bridge's own, as docs/ states them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Callback:
    parameters: str
    result: str
    doc: str
    classes: tuple[str, ...] = ()  # named above; Any where the SDK lacks them


# Stands for what one callback of a registration makes and the others get.
DRIVER = "Driver"


_FIND_OLD = "answers: {0}Answers, query: {0}Query, issuer_aet: str, called_aet: str, /"
_FIND_NEW = "answers: {0}Answers, query: {0}Query, connection: DicomConnection, /"
_MOVE_NEW = (
    "connection: DicomConnection, /, *, Level: str, PatientID: str, AccessionNumber: str, StudyInstanceUID: str, "
    "SeriesInstanceUID: str, SOPInstanceUID: str, TargetAET: str, OriginatorID: int"
)
_MOVE_OLD = (
    "*, Level: str, PatientID: str, AccessionNumber: str, StudyInstanceUID: str, SeriesInstanceUID: str, "
    "SOPInstanceUID: str, OriginatorAET: str, SourceAET: str, TargetAET: str, OriginatorID: int"
)
_COMMITMENT = "job_id: str, transaction_uid: str, sop_class_uids: list[str], sop_instance_uids: list[str], "
_CONNECTION = ("DicomConnection",)

CALLBACKS: dict[str, Callback] = {
    "RestCallback": Callback(
        "output: RestOutput, uri: str, /, *, method: str, groups: tuple[str, ...], "
        "get: dict[str, str] = ..., headers: dict[str, str], body: bytes = ...",
        "object",
        "Answers a request through output. get is there for GET only, body for POST and PUT only: "
        "write f(output, uri, **request), or give them defaults.",
    ),
    "ChangeCallback": Callback(
        "change_type: int, resource_type: int, resource_id: str, /",
        "object",
        "Takes a ChangeType, a ResourceType and the identifier of the resource or job, or ''.",
    ),
    "StoredInstanceCallback": Callback(
        "instance: DicomInstance, instance_id: str, /",
        "object",
        "Takes a new instance, which is valid until the callback returns, and its identifier.",
    ),
    "HttpRequestFilter": Callback(
        "uri: str, /, *, method: int, ip: str, headers: dict[str, str], get: dict[str, str] = ...",
        "bool",
        "Says whether the request is allowed. method is a HttpMethod; get is there for GET only.",
    ),
    "FindCallback": Callback(_FIND_OLD.format("Find"), "object", "Answers a C-FIND request."),
    "FindCallback2": Callback(_FIND_NEW.format("Find"), "object", "Answers a C-FIND request.", _CONNECTION),
    "WorklistCallback": Callback(_FIND_OLD.format("Worklist"), "object", "Answers a worklist request."),
    "WorklistCallback2": Callback(_FIND_NEW.format("Worklist"), "object", "Answers a worklist request.", _CONNECTION),
    "MoveCallback": Callback(_MOVE_OLD, "object", "Does a whole C-MOVE request."),
    "MoveCreate2": Callback(_MOVE_OLD, DRIVER, "Makes the driver of a C-MOVE request: any object."),
    "MoveCreate3": Callback(_MOVE_NEW, DRIVER, "Makes the driver of a C-MOVE request: any object.", _CONNECTION),
    "MoveSize": Callback("driver: Driver, /", "int", "Says how many sub-operations a driver has."),
    "MoveApply": Callback("driver: Driver, /", "object", "Does one sub-operation; to raise is to fail it."),
    "MoveFree": Callback("driver: Driver, /", "object", "Takes leave of a driver."),
    "CStoreInstanceFilter": Callback(
        "instance: DicomInstance, /",
        "int",
        "Decides on a C-STORE request: 0 stores the instance, another DIMSE status (up to 65535) refuses it.",
    ),
    "ReceivedInstanceCallback": Callback(
        "dicom: bytes, origin: int, /",
        "tuple[int, bytes | None]",
        "Takes a file and its InstanceOrigin; gives a ReceivedInstanceAction and the modified file or None.",
    ),
    "StorageCreate": Callback("uuid: str, content_type: int, data: bytes, /", "object", "Writes an attachment."),
    "StorageRead": Callback("uuid: str, content_type: int, /", "bytes", "Reads an attachment."),
    "StorageRemove": Callback("uuid: str, content_type: int, /", "object", "Removes an attachment."),
    "StorageCreate3": Callback(
        "uuid: str, content_type: int, compression_type: int, content: bytes, instance: DicomInstance, /",
        "tuple[int, bytes | None]",
        "Writes an attachment; gives an ErrorCode and custom data.",
    ),
    "StorageReadRange3": Callback(
        "uuid: str, content_type: int, range_start: int, size: int, custom_data: bytes, /",
        "tuple[int, bytes | None]",
        "Reads a part of an attachment; gives an ErrorCode and exactly size bytes.",
    ),
    "StorageRemove3": Callback(
        "uuid: str, content_type: int, custom_data: bytes, /", "int", "Removes an attachment; gives an ErrorCode."
    ),
    "StorageCommitmentScp": Callback(
        _COMMITMENT + "remote_aet: str, called_aet: str, /", DRIVER, "Begins a storage commitment; its result is given to lookup."
    ),
    "StorageCommitmentScp2": Callback(
        _COMMITMENT + "connection: DicomConnection, /",
        DRIVER,
        "Begins a storage commitment; its result is given to lookup.",
        _CONNECTION,
    ),
    "StorageCommitmentLookup": Callback(
        "sop_class_uid: str, sop_instance_uid: str, driver: Driver, /",
        "int",
        "Says whether an instance is safely stored; gives a StorageCommitmentFailureReason.",
    ),
}

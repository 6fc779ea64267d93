# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about the SDK that its header does not state.

Here:      the server version that a declaration needs (headers before 1.12.9 do not
           say), at which times of a server's life a function may be called, and which
           results never change while their object lives.
Elsewhere: functions without a pattern (exceptions.py).

A header that does say since when something exists is believed over this table.
"""

from __future__ import annotations

# By C name without its prefix. What is not listed exists since before 1.0.
_FUNCTIONS_SINCE = {
    "1.1.0": """
        FindAddAnswer FindMarkIncomplete GenerateUuid GetFindQuerySize GetFindQueryTag
        GetFindQueryTagName GetFindQueryValue RegisterFindCallback RegisterMoveCallback
    """,
    "1.2.0": "CreateFindMatcher FindMatcherIsMatch RegisterPrivateDictionaryTag",
    "1.3.0": "RegisterIncomingHttpRequestFilter2",
    "1.4.0": "CheckVersionAdvanced",
    "1.4.2": "GetPeerName GetPeerUrl GetPeerUserProperty GetPeers GetPeersCount SubmitJob",
    "1.5.0": "AutodetectMimeType SetHttpErrorDetails",
    "1.5.4": "SetMetricsValue",
    "1.5.7": "GetTagName",
    "1.6.0": "RegisterStorageCommitmentScpCallback",
    "1.6.1": "GetInstanceTransferSyntaxUid HasInstancePixelData",
    "1.7.0": """
        CreateDicomInstance CreateMemoryBuffer GetInstanceAdvancedJson
        GetInstanceDecodedFrame GetInstanceFramesCount GetInstanceRawFrame
        SerializeDicomInstance TranscodeDicomInstance
    """,
    "1.8.1": "GenerateRestApiAuthorizationToken",
    "1.9.0": "CreateDicom2",
    "1.10.0": "RegisterIncomingCStoreInstanceFilter RegisterReceivedInstanceCallback",
    "1.11.1": "GetDatabaseServerIdentifier",
    "1.12.1": "LoadDicomInstance SetMetricsIntegerValue",
    "1.12.2": "SetCurrentThreadName",
    "1.12.4": "ExtendOrthancExplorer2 LogMessage SetDescription2 SetRootUri2",
    "1.12.6": "SendStreamChunk StartStreamAnswer",
    "1.12.8": """
        CreateKeysValuesIterator DeleteKeyValue DequeueValue EnqueueValue
        GetAttachmentCustomData GetKeyValue GetQueueSize KeysValuesIteratorGetKey
        KeysValuesIteratorGetValue KeysValuesIteratorNext RegisterStorageArea3
        SetAttachmentCustomData StoreKeyValue
    """,
    "1.12.9": "EmitAuditLog SetStableStatus",
    "1.12.10": """
        AcknowledgeQueueValue GetConnectionCalledAet GetConnectionRemoteAet
        GetConnectionRemoteIp RegisterFindCallback2 RegisterMoveCallback2
        RegisterStorageCommitmentScpCallback2 RegisterWorklistCallback2 ReserveQueueValue
    """,
}

_CLASSES_SINCE = {
    "1.1.0": "FindQuery FindAnswers",
    "1.2.0": "FindMatcher",
    "1.4.2": "Job Peers",
    "1.5.4": "DicomWebNode",
    "1.5.7": "ServerChunkedRequestReader",
    "1.10.1": "WebDavCollection",
    "1.12.8": "KeysValuesIterator",
    "1.12.10": "DicomConnection",
}

_ENUMERATIONS_SINCE = {
    "1.4.2": "JobStepStatus JobStopReason",
    "1.5.4": "DicomWebBinaryMode MetricsType",
    "1.6.0": "StorageCommitmentFailureReason",
    "1.10.0": "ReceivedInstanceAction",
    "1.12.1": "LoadDicomInstanceMode",
    "1.12.4": "LogCategory LogLevel",
    "1.12.8": "QueueOrigin StoreStatus",
    "1.12.9": "HttpAuthenticationStatus StableStatus",
}

# Values that are younger than their enumeration, by Python name.
_VALUES_SINCE = {
    "1.2.0": "CreateDicomFlags.NONE",
    "1.3.1": """
        PixelFormat.RGB48 PixelFormat.GRAYSCALE32 PixelFormat.FLOAT32 PixelFormat.BGRA32
    """,
    "1.4.0": "PixelFormat.GRAYSCALE64",
    "1.4.2": "ChangeType.UPDATED_PEERS ChangeType.UPDATED_MODALITIES",
    "1.7.2": "ChangeType.JOB_SUBMITTED ChangeType.JOB_SUCCESS ChangeType.JOB_FAILURE",
    "1.8.0": "InstanceOrigin.WEB_DAV",
    "1.9.1": "DicomToJsonFlags.STOP_AFTER_PIXEL_DATA DicomToJsonFlags.SKIP_GROUP_LENGTHS",
    "1.9.2": "ContentType.DICOM_UNTIL_PIXEL_DATA",
    "1.12.8": "CompressionType.NONE",
}


def _by_name(table: dict[str, str]) -> dict[str, str]:
    return {name: version for version, names in table.items() for name in names.split()}


FUNCTION_SINCE = _by_name(_FUNCTIONS_SINCE)
CLASS_SINCE = _by_name(_CLASSES_SINCE)
ENUMERATION_SINCE = _by_name(_ENUMERATIONS_SINCE)
VALUE_SINCE = _by_name(_VALUES_SINCE)

# Enumerations that are whole on every server, whatever the values' age.
ALWAYS_WHOLE = {"ErrorCode"}

# Values that headers older than these codes lack. Scripts compare with codes of any
# server's age, so every build offers them: C name without prefix -> number.
LATER_VALUES = {
    "ErrorCode": {
        "MainDicomTagsMultiplyDefined": 44,
        "ForbiddenAccess": 45,
        "DuplicateResource": 46,
        "IncompatibleConfigurations": 47,
        "DicomGetUnavailable": 2045,
    },
}

# By C name without its prefix. The core runs these under its plugin-service lock, on
# objects that are gone when a plugin is finalised: calling them then crashes the server.
PROTECTED = set(
    """
    ExtendOrthancExplorer ExtendOrthancExplorer2 GenerateRestApiAuthorizationToken
    GetCommandLineArgument GetCommandLineArgumentsCount GetDatabaseServerIdentifier
    RegisterDictionaryTag RegisterErrorCode RegisterPrivateDictionaryTag
    SetDescription SetDescription2 SetRootUri SetRootUri2
    """.split()
)

# These reach for the database, the REST API or the decoders: they fail before the server
# has them, and race with their end.
NEEDS_SERVER = set(
    """
    AcknowledgeQueueValue CreateKeysValuesIterator DecodeDicomImage DeleteKeyValue
    DequeueValue DicomInstanceToJson EnqueueValue GetAttachmentCustomData
    GetDicomForInstance GetGlobalProperty GetInstanceDecodedFrame GetKeyValue GetQueueSize
    KeysValuesIteratorGetKey KeysValuesIteratorGetValue KeysValuesIteratorNext
    LoadDicomInstance LookupInstance LookupPatient LookupSeries LookupStudy
    LookupStudyWithAccessionNumber ReconstructMainDicomTags ReserveQueueValue
    RestApiDelete RestApiDeleteAfterPlugins RestApiGet RestApiGetAfterPlugins RestApiPost
    RestApiPostAfterPlugins RestApiPut RestApiPutAfterPlugins SetAttachmentCustomData
    SetGlobalProperty SetStableStatus StoreKeyValue SubmitJob TranscodeDicomInstance
    """.split()
)

# What these say of an object is the same for as long as it lives, and nothing happens when
# they are asked: so the host remembers the answer, and may be told it before (facts).
CONSTANT = set(
    """
    GetConnectionCalledAet GetConnectionRemoteAet GetConnectionRemoteIp
    GetFindQuerySize GetFindQueryTag GetFindQueryTagName GetFindQueryValue
    GetImageHeight GetImagePitch GetImagePixelFormat GetImageWidth
    GetInstanceOrigin GetInstanceRemoteAet GetInstanceSize
    """.split()
)

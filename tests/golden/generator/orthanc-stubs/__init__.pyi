# Generated from orthanc/OrthancCPlugin.h by protocol/generator/generate.py; do not edit.
# SPDX-License-Identifier: GPL-3.0-or-later
# The descriptions are those of the SDK header, which has this licence too.

from array import array
from typing import Any, Final, Protocol, SupportsFloat, SupportsIndex, TypedDict, TypeVar, final

from typing_extensions import TypeAlias

_Driver = TypeVar("_Driver")
_Driver_co = TypeVar("_Driver_co", covariant=True)
_Driver_contra = TypeVar("_Driver_contra", contravariant=True)

class _SupportsBuffer(Protocol):
    def __buffer__(self, flags: int, /) -> memoryview: ...

_Integer: TypeAlias = SupportsIndex
# Text is passed on as UTF-8; None is an empty buffer. Checkers that do not know
# __buffer__ yet accept the first ones only.
_Buffer: TypeAlias = str | bytes | bytearray | memoryview | array[Any] | _SupportsBuffer | None

class _DictionaryTag(TypedDict):
    Group: int
    Element: int
    ValueRepresentation: int
    MinMultiplicity: int
    MaxMultiplicity: int

class OrthancException(Exception):
    """An error that the server reported. args is (code, text), with a code of ErrorCode."""

@final
class ErrorCode:
    """What a call of this small SDK says."""

    INTERNAL_ERROR: Final = -1
    """Internal error."""
    SUCCESS: Final = 0
    """Success."""
    NO_CFIND_HANDLER: Final = 2010
    """Whole on every server."""
    MAIN_DICOM_TAGS_MULTIPLY_DEFINED: Final = 44
    FORBIDDEN_ACCESS: Final = 45
    DUPLICATE_RESOURCE: Final = 46
    INCOMPATIBLE_CONFIGURATIONS: Final = 47
    DICOM_GET_UNAVAILABLE: Final = 2045

@final
class NewKind:
    """Values of the SDK's NewKind.

    Needs Orthanc 1.98.0.
    """

    WEB_DAV: Final = 0
    SQLITE_NOT_OPENED: Final = 1
    """Needs Orthanc 1.99.1."""

@final
class PixelFormat:
    """The memory layout of pixels. See CompressPngImage()."""

    GRAYSCALE8: Final = 1
    """One byte per pixel."""
    SIGNED_GRAYSCALE16: Final = 3
    """Two "bytes" per pixel."""
    RGB48: Final = 7
    """Needs Orthanc 1.3.1."""

@final
class DicomInstance:
    """The SDK's OrthancPluginDicomInstance."""

    def __init__(self, pointer: int, borrowed: int, /) -> None: ...

    def GetInstanceData(self) -> bytes:
        """Get a copy of the whole DICOM file.

        Returns:
            The bytes of the file.
        """
        ...

    def GetInstanceSize(self) -> int:
        """The SDK's OrthancPluginGetInstanceSize()."""
        ...

@final
class FindMatcher:
    """The SDK's OrthancPluginFindMatcher.

    Needs Orthanc 1.2.0.
    """

    def __init__(self, pointer: int, borrowed: int, /) -> None: ...

    def FindMatcherIsMatch(self, dicom: _Buffer, /) -> int:
        """The name of FindMatcher.IsMatch in earlier plugins.

        Needs Orthanc 1.2.0.
        """
        ...

    def IsMatch(self, dicom: _Buffer, /) -> int:
        """The SDK's OrthancPluginFindMatcherIsMatch().

        Needs Orthanc 1.2.0.
        """
        ...

@final
class Image:
    """The SDK's OrthancPluginImage.

    Needs Orthanc 1.99.0.
    """

    def __init__(self, pointer: int, borrowed: int, /) -> None: ...

    def ConvertPixelFormat(self, targetFormat: _Integer, /) -> Image:
        """The SDK's OrthancPluginConvertPixelFormat().

        Needs Orthanc 1.99.0.

        Returns:
            A new Image.

        Raises:
            OrthancException: (-1, 'Internal error') if the SDK gives nothing, whatever the reason.
        """
        ...

    def GetImagePixelFormat(self) -> int:
        """The SDK's OrthancPluginGetImagePixelFormat().

        Needs Orthanc 1.99.0.

        Returns:
            A value of PixelFormat.
        """
        ...

@final
class RestOutput:
    """The connection to a client."""

    def __init__(self, pointer: int, borrowed: int, /) -> None: ...

    def AnswerBuffer(self, answer: _Buffer, mimeType: str, /) -> None:
        """Answer.

        Args:
            answer: The bytes.
            mimeType: Their type.
        """
        ...

@final
class StorageArea:
    """The SDK's OrthancPluginStorageArea."""

    def __init__(self, pointer: int, borrowed: int, /) -> None: ...

    def Create(self, uuid: str, content: _Buffer, size: _Integer, /) -> None:
        """The SDK's OrthancPluginStorageAreaCreate().

        Raises:
            OrthancException: The server's error code and its text.
        """
        ...

    def StorageAreaCreate(self, uuid: str, content: _Buffer, size: _Integer, /) -> None:
        """The name of StorageArea.Create in earlier plugins.

        Raises:
            OrthancException: The server's error code and its text.
        """
        ...

@final
class WorklistAnswers:
    """The SDK's OrthancPluginWorklistAnswers."""

    def __init__(self, pointer: int, borrowed: int, /) -> None: ...

    def WorklistAddAnswer(self, query: WorklistQuery, dicom: _Buffer, /) -> None:
        """The SDK's OrthancPluginWorklistAddAnswer().

        Raises:
            OrthancException: The server's error code and its text.
        """
        ...

@final
class WorklistQuery:
    """The SDK's OrthancPluginWorklistQuery."""

    def __init__(self, pointer: int, borrowed: int, /) -> None: ...

    def WorklistGetDicomQuery(self) -> bytes:
        """The SDK's OrthancPluginWorklistGetDicomQuery().

        Returns:
            The bytes.

        Raises:
            OrthancException: The server's error code and its text.
        """
        ...

class _RestCallback(Protocol):
    """Answers a request through output. get is there for GET only, body for POST and PUT only: write
    f(output, uri, **request), or give them defaults.
    """

    def __call__(
        self,
        output: RestOutput,
        uri: str,
        /,
        *,
        method: str,
        groups: tuple[str, ...],
        get: dict[str, str] = ...,
        headers: dict[str, str],
        body: bytes = ...,
    ) -> object: ...

def CompressPngImage(
    format: _Integer,
    width: _Integer,
    height: _Integer,
    pitch: _Integer,
    buffer: _Buffer,
    /,
) -> bytes:
    """The SDK's OrthancPluginCompressPngImage().

    Returns:
        The bytes.

    Raises:
        OrthancException: The server's error code and its text.
    """
    ...

def CreateDicom(json: str, pixelData: Image | None, /) -> bytes:
    """The SDK's OrthancPluginCreateDicom().

    Returns:
        The bytes.

    Raises:
        OrthancException: The server's error code and its text.
    """
    ...

def GetCommandLineArgument(argument: _Integer, /) -> str:
    """The SDK's OrthancPluginGetCommandLineArgument().

    Returns:
        The text.

    Raises:
        OrthancException: (-1, 'Internal error') if the SDK gives nothing, whatever the reason.
    """
    ...

def GetFontName(fontIndex: _Integer, /) -> str | None:
    """The SDK's OrthancPluginGetFontName().

    Deprecated in the SDK.

    Returns:
        The text, or None.
    """
    ...

def GetFontsCount() -> int:
    """The SDK's OrthancPluginGetFontsCount()."""
    ...

def HugeHash(data: _Buffer, /) -> str:
    """The SDK's OrthancPluginHugeHash().

    Returns:
        The text.

    Raises:
        OrthancException: (-1, 'Internal error') if the SDK gives nothing, whatever the reason.
    """
    ...

def LogWarning(message: str, /) -> None:
    """Log a message.

    Quotes (\"\"\") and back\\slashes survive.

    Args:
        message: The text; not NULL.
    """
    ...

def Numbers(
    code: _Integer,
    target: _Integer,
    inv: _Integer,
    result: _Integer,
    receiver: _Integer,
    number: _Integer,
    large: _Integer,
    real: SupportsFloat | SupportsIndex,
    lambda_: _Integer,
    /,
) -> None:
    """Every number, with names that the generated code must not use as they are.

    Needs Orthanc 1.99.2.

    Raises:
        OrthancException: The server's error code and its text.
    """
    ...

def RegisterRestCallback(pathRegularExpression: str, callback: _RestCallback, /) -> None:
    """Answer the requests whose whole path matches a regular expression (Perl syntax, case
    sensitive). The first match wins. Several requests may be served at the same time.

    Raises:
        ValueError: Bad arguments. RuntimeError: The script has already registered one, where there
        can only be one.
    """
    ...

def RestApiGet(uri: str, /) -> bytes:
    """Do a GET.

    The first paragraph.

    - One item, of ErrorCode.NO_CFIND_HANDLER

    - Another item

    Note: See RestOutput.AnswerBuffer().

    Args:
        uri: The path.

    Returns:
        The bytes.

    Raises:
        OrthancException: The server's error code and its text.
    """
    ...

def RestApiPost(uri: str, body: _Buffer, /) -> bytes:
    """The SDK's OrthancPluginRestApiPost().

    Returns:
        The bytes.

    Raises:
        OrthancException: The server's error code and its text.
    """
    ...

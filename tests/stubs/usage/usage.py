# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checkers must accept of scripts, and what they must not. Never run.

A line with "type: ignore" is one that they must refuse: both complain about such a comment
where there is nothing to ignore.
"""

from typing import Any

import orthanc

Text = str | None


# The forms that a callback may have.

def rest_with_everything(output: orthanc.RestOutput, uri: str, method: str, groups: tuple[str, ...],
                         headers: dict[str, str], get: dict[str, str] = {},
                         body: bytes = b'') -> None:
    output.AnswerBuffer(uri + method + ''.join(groups) + repr((headers, get, body)), 'text/plain')


def rest_with_keywords(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    output.AnswerBuffer(request['body'], 'text/plain')


def rest_without_default(output: orthanc.RestOutput, uri: str, method: str, groups: tuple[str, ...],
                         headers: dict[str, str], get: dict[str, str], body: bytes) -> None:
    """A GET has no body, and would end with a TypeError."""


def rest_of_another_type(output: orthanc.Image, uri: str, **request: Any) -> None:
    pass


orthanc.RegisterRestCallback('/a', rest_with_everything)
orthanc.RegisterRestCallback('/a', rest_with_keywords)
orthanc.RegisterRestCallback('/a', rest_without_default)  # type: ignore
orthanc.RegisterRestCallback('/a', rest_of_another_type)  # type: ignore
orthanc.RegisterRestCallback(uri='/a', callback=rest_with_keywords)  # type: ignore


class Handler:
    """A method and a lambda are callbacks like functions."""

    def changed(self, change_type: int, level: int, resource: str) -> None:
        assert change_type == orthanc.ChangeType.NEW_STUDY and level and resource


orthanc.RegisterOnChangeCallback(Handler().changed)
orthanc.RegisterOnChangeCallback(lambda change_type, level, resource: None)
orthanc.RegisterOnChangeCallback(lambda change_type: None)  # type: ignore


# What must be returned.

def filter_with_a_number(uri: str, **request: Any) -> int:
    return 1


def received(dicom: bytes, origin: int) -> tuple[int, bytes | None]:
    return orthanc.ReceivedInstanceAction.MODIFY, dicom if origin else None


def received_in_a_list(dicom: bytes, origin: int) -> list[bytes]:
    return [dicom]


orthanc.RegisterIncomingHttpRequestFilter(lambda uri, **request: True)
orthanc.RegisterIncomingHttpRequestFilter(filter_with_a_number)  # type: ignore
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterReceivedInstanceCallback(received_in_a_list)  # type: ignore


# What one callback makes the others get.

class Job:
    pass


def create(**request: Any) -> Job:
    return Job()


def size(job: Job) -> int:
    return 1


def work(job: Job) -> None:
    pass


def work_on_text(job: str) -> None:
    pass


orthanc.RegisterMoveCallback2(create, size, work, work)
orthanc.RegisterMoveCallback2(create, size, work_on_text, work)  # type: ignore
orthanc.RegisterMoveCallback2(create, size, work)  # type: ignore


# Arguments.

def arguments(output: orthanc.RestOutput, instance: orthanc.DicomInstance) -> None:
    output.AnswerBuffer('text', 'text/plain')
    output.AnswerBuffer(b'bytes', 'text/plain')
    output.AnswerBuffer(bytearray(1), 'text/plain')
    output.AnswerBuffer(memoryview(b'view'), 'text/plain')
    output.AnswerBuffer(None, 'text/plain')
    output.AnswerBuffer(1, 'text/plain')  # type: ignore
    output.AnswerBuffer(['text'], 'text/plain')  # type: ignore
    output.SendHttpStatus(404, 'not there')
    output.SendHttpStatus(404, 'not there', 3)
    output.SendHttpStatus('404', 'not there')  # type: ignore
    orthanc.CreateDicom('{}', None, orthanc.CreateDicomFlags.NONE)
    orthanc.CreateDicom('{}', instance, orthanc.CreateDicomFlags.NONE)  # type: ignore
    orthanc.LogWarning(b'bytes')  # type: ignore
    orthanc.LogWarning(None)  # type: ignore
    orthanc.LogWarning(message='text')  # type: ignore


# Results.

def results(instance: orthanc.DicomInstance) -> None:
    content: bytes = orthanc.RestApiGet('/system')
    name: str = orthanc.LookupInstance('1.2')
    font: Text = orthanc.GetFontName(99)
    metadata: Text = instance.GetInstanceMetadata('TransferSyntax')
    length: int = len(instance.GetInstanceMetadata('TransferSyntax'))  # type: ignore
    image: orthanc.Image = instance.GetInstanceDecodedFrame(0)
    width: int = image.GetImageWidth()
    group: int = orthanc.LookupDictionary('PatientID')['Group']
    wrong: int = orthanc.LookupDictionary('PatientID')['Grup']  # type: ignore
    worker: tuple[int, int] = orthanc.GetWorkerIndex(), orthanc.GetWorkersCount()
    print(content, name, font, metadata, length, width, group, wrong, worker)


# Enumerations are classes with numbers.

code: int = orthanc.ErrorCode.UNKNOWN_RESOURCE
orthanc.ErrorCode.UNKNOWN_RESOURCE = 5  # type: ignore
print(orthanc.ErrorCode.NO_SUCH_CODE)  # type: ignore
print(orthanc.RestApiGett('/system'))  # type: ignore


class Derived(orthanc.Image):  # type: ignore
    pass


try:
    orthanc.RestApiGet('/nothing')
except orthanc.OrthancException as error:
    print(error.args[0] == code)

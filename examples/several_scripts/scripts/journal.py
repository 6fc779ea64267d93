# SPDX-License-Identifier: GPL-3.0-or-later
"""What has happened since the start, at /journal."""

from typing import Any

import orthanc

import _notes


def on_change(change_type: int, _level: int, resource: str) -> None:
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        _notes.add('the server has started')
    elif change_type == orthanc.ChangeType.NEW_PATIENT:
        _notes.add('there is a new patient, ' + resource)


def journal(output: orthanc.RestOutput, _uri: str, **request: Any) -> None:
    if request['method'] == 'GET':
        output.AnswerBuffer('\n'.join(_notes.lines()) + '\n', 'text/plain')
    else:
        output.SendMethodNotAllowed('GET')


orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/journal', journal)

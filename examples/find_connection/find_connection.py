# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers C-FIND and worklist requests by who asks (from Orthanc 1.12.10 on).

These callbacks get the connection: titles and address of the peer, of which the address is the
one that a peer cannot choose.
"""

import json

import orthanc

ALLOWED = json.loads(orthanc.GetConfiguration())['FindConnection']['Addresses']


def answer_with(patient_id: str, name: str | None) -> bytes:
    return orthanc.CreateDicom(json.dumps({'PatientID': patient_id, 'PatientName': name}), None,
                               orthanc.CreateDicomFlags.NONE)


def is_allowed(connection: 'orthanc.DicomConnection') -> bool:
    print('%s asks %s from %s' % (connection.GetConnectionRemoteAet(), connection.GetConnectionCalledAet(),
                                  connection.GetConnectionRemoteIp()))
    return connection.GetConnectionRemoteIp() in ALLOWED


def on_find(answers: orthanc.FindAnswers, query: orthanc.FindQuery,
            connection: 'orthanc.DicomConnection') -> None:
    """One patient, who is called as the peer."""
    if is_allowed(connection):
        answers.FindAddAnswer(answer_with('HELLO', connection.GetConnectionRemoteAet()))


def on_worklist(answers: orthanc.WorklistAnswers, query: orthanc.WorklistQuery,
                connection: 'orthanc.DicomConnection') -> None:
    """The same, if it is what the peer looks for."""
    content = answer_with('TODO', connection.GetConnectionRemoteAet())
    if is_allowed(connection) and query.WorklistIsMatch(content):
        answers.WorklistAddAnswer(query, content)


orthanc.RegisterFindCallback2(on_find)
orthanc.RegisterWorklistCallback2(on_worklist)

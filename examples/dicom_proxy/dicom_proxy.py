# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands C-FIND and C-MOVE requests on to another server, the modality "pacs".

Who may ask stands in "DicomModalities" of the configuration; for what, could be decided here.
For a C-MOVE the other server sends to the target itself, so it has to know that AET. To try
it with DCMTK (on one line each):

    findscu 127.0.0.1 4242 -S -aet CLIENT
        -k QueryRetrieveLevel=STUDY -k PatientID=* -k StudyInstanceUID
    movescu 127.0.0.1 4242 -S -aet CLIENT -aem TARGET
        -k QueryRetrieveLevel=STUDY -k StudyInstanceUID=1.2.3.4
"""

import json
from typing import Any

import orthanc

LEVELS = {'PATIENT': 'Patient', 'STUDY': 'Study', 'SERIES': 'Series', 'INSTANCE': 'Instance',
          'IMAGE': 'Instance'}
IDENTIFIERS = ('PatientID', 'AccessionNumber', 'StudyInstanceUID', 'SeriesInstanceUID',
               'SOPInstanceUID')


def post(uri: str, body: dict[str, Any]) -> Any:
    """The JSON answer of a route of the REST API."""
    return json.loads(orthanc.RestApiPost(uri, json.dumps(body)))


def on_find(answers: orthanc.FindAnswers, query: orthanc.FindQuery,
            issuer_aet: str, called_aet: str) -> None:
    """Asks the other server the same. What fails there fails here, with a traceback in the log."""
    wanted = {query.GetFindQueryTagName(index): query.GetFindQueryValue(index)
              for index in range(query.GetFindQuerySize())}
    level = LEVELS[wanted.pop('QueryRetrieveLevel')]
    wanted.pop('SpecificCharacterSet', None)
    asked = post('/modalities/pacs/query', {'Level': level, 'Query': wanted})
    try:
        for found in json.loads(orthanc.RestApiGet(asked['Path'] + '/answers?expand&simplify')):
            answers.FindAddAnswer(orthanc.CreateDicom(
                json.dumps(found), None, orthanc.CreateDicomFlags.NONE))
    finally:
        orthanc.RestApiDelete(asked['Path'])


def on_move(**request: Any) -> None:
    """Has the other server send to the target, and waits for that."""
    resource = {name: request[name] for name in IDENTIFIERS if request[name]}
    post('/modalities/pacs/move', {'Level': LEVELS[request['Level']], 'Resources': [resource],
                                   'TargetAet': request['TargetAET'], 'Synchronous': True})


orthanc.RegisterFindCallback(on_find)
orthanc.RegisterMoveCallback(on_move)

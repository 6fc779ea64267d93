# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers C-FIND and C-MOVE requests in the place of Orthanc.

To try it with DCMTK:

    findscu 127.0.0.1 4242 -S -k QueryRetrieveLevel=STUDY -k PatientName=TEST -k StudyDescription
    movescu 127.0.0.1 4242 -aem TARGET -S -k QueryRetrieveLevel=IMAGE -k StudyInstanceUID=1.2.3.4
"""

import json
from typing import Any

import orthanc


def on_find(answers: orthanc.FindAnswers, query: orthanc.FindQuery,
            issuer_aet: str, called_aet: str) -> None:
    """Gives one answer, which repeats the request."""
    print('C-FIND request from %s to %s:' % (issuer_aet, called_aet))
    answer = {}
    for index in range(query.GetFindQuerySize()):
        name, value = query.GetFindQueryTagName(index), query.GetFindQueryValue(index)
        print('  %s (%04x,%04x) = [%s]' % (name, query.GetFindQueryTagGroup(index),
                                           query.GetFindQueryTagElement(index), value))
        if name != 'SpecificCharacterSet':
            answer[name] = 'HELLO%d-%s' % (index, value)
    answers.FindAddAnswer(orthanc.CreateDicom(
        json.dumps(answer), None, orthanc.CreateDicomFlags.NONE))


def on_move(**request: Any) -> None:
    """Reports the request; to send something, post to /modalities/{name}/store."""
    orthanc.LogWarning('C-MOVE request to be handled in Python: '
                       + json.dumps(request, indent=4, sort_keys=True))


orthanc.RegisterFindCallback(on_find)
orthanc.RegisterMoveCallback(on_move)

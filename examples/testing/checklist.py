# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /checklist/STUDY answers which tags a study lacks; the script for test_checklist.py.

When a study has become stable, the same is printed and kept as metadata 4000 of the study.
"""

import json
from typing import Any

import orthanc

WANTED = ['PatientID', 'PatientName', 'StudyDate', 'AccessionNumber']
METADATA = '4000'


def missing_tags(study: str) -> list[str]:
    """Those of WANTED that the study does not have, or has without a value."""
    found = json.loads(orthanc.RestApiGet('/studies/' + study))
    tags = {**found['MainDicomTags'], **found['PatientMainDicomTags']}
    return [name for name in WANTED if not tags.get(name)]


def checklist(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """The route. An unknown study is an exception, and so an error 500."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    (study,) = request['groups']
    output.AnswerBuffer(json.dumps(missing_tags(study)), 'application/json')


def on_change(change: int, level: int, resource: str) -> None:
    """Looks at each study that nothing was added to for a while."""
    if change == orthanc.ChangeType.STABLE_STUDY:
        missing = ' '.join(missing_tags(resource))
        orthanc.RestApiPut('/studies/%s/metadata/%s' % (resource, METADATA), missing or 'complete')
        print('Study', resource, 'lacks', missing or 'nothing')


orthanc.RegisterRestCallback('/checklist/(.*)', checklist)
orthanc.RegisterOnChangeCallback(on_change)

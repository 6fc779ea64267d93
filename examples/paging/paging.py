# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /sort-studies?offset=N&limit=N answers the studies by date, page by page."""

import json
from typing import Any

import orthanc


def study_date(study: dict[str, Any]) -> str:
    """What the studies are sorted by."""
    return str(study['MainDicomTags'].get('StudyDate', ''))


def sort_studies(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Without a limit, or with 0, all studies from the offset on."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    studies = sorted(json.loads(orthanc.RestApiGet('/studies?expand')), key=study_date)
    offset = int(request['get'].get('offset', 0))
    limit = int(request['get'].get('limit', 0))
    page = studies[offset:offset + limit] if limit else studies[offset:]
    output.AnswerBuffer(json.dumps(page), 'application/json')


orthanc.RegisterRestCallback('/sort-studies', sort_studies)

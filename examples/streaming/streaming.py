# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands on what another server answers, piece by piece, however large it is (from Orthanc
1.12.6 on).

Nothing is kept in memory but one piece, and the client sees the first one at once. Once the
answer has begun no other status can be sent: if the other server breaks off, the client's
answer just ends.
"""

import json
from typing import Any

import orthanc
import requests

SOURCE = json.loads(orthanc.GetConfiguration())['Streaming']['Source']
PIECE_BYTES = 65536
TIMEOUT_SECONDS = 30


def on_stream(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """GET /stream/{path}."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    url = '%s/%s' % (SOURCE, request['groups'][0])
    with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS) as answer:
        if answer.status_code != 200:
            output.SendHttpStatus(502, 'The source has answered with status %d' % answer.status_code)
            return
        output.StartStreamAnswer(answer.headers.get('Content-Type', 'application/octet-stream'))
        for piece in answer.iter_content(PIECE_BYTES):
            output.SendStreamChunk(piece)


orthanc.RegisterRestCallback('/stream/(.*)', on_stream)

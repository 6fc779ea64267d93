# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a Web service decide about every HTTP request.

"Authorization" -> "Url" of the configuration names it; service.py is an example of one. It
receives {"uri": ..., "headers": {...}} and answers {"granted": true or false}. If it cannot
be asked, the exception refuses the request.
"""

import json
from typing import Any

import orthanc
import requests

settings = json.loads(orthanc.GetConfiguration()).get('Authorization', {})
SERVICE_URL = settings.get('Url', 'http://localhost:8000/authorize')
TIMEOUT_S = 5


def is_allowed(uri: str, **request: Any) -> bool:
    """Asks the service."""
    answer = requests.post(SERVICE_URL, json={'uri': uri, 'headers': request['headers']},
                           timeout=TIMEOUT_S)
    answer.raise_for_status()
    return answer.json()['granted'] is True


orthanc.RegisterIncomingHttpRequestFilter(is_allowed)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides about every HTTP request: nobody deletes.

Who is not allowed gets "403 Forbidden".
"""

import pprint
from typing import Any

import orthanc


def is_allowed(uri: str, **request: Any) -> bool:
    """Must return True or False; request['method'] is a number of orthanc.HttpMethod."""
    print('Access to', uri)
    pprint.pprint(request)
    method: int = request['method']
    return method != orthanc.HttpMethod.DELETE


orthanc.RegisterIncomingHttpRequestFilter(is_allowed)

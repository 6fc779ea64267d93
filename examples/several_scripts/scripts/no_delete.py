# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody deletes. If another script has a filter as well, both must allow a request."""

from typing import Any

import orthanc

import _notes


def is_allowed(uri: str, **request: Any) -> bool:
    if request['method'] == orthanc.HttpMethod.DELETE:
        _notes.add('somebody wanted to delete ' + uri)
        return False
    return True


orthanc.RegisterIncomingHttpRequestFilter(is_allowed)

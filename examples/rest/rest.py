# SPDX-License-Identifier: GPL-3.0-or-later
"""Two new routes in the REST API, served by one function."""

import pprint
from typing import Any

import orthanc


def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Shows on stdout what was asked, and says that it was heard."""
    print('Request for', uri)
    pprint.pprint(request)
    output.AnswerBuffer('ok\n', 'text/plain')


# The pattern must match the whole path; its groups arrive in request['groups'].
orthanc.RegisterRestCallback('/(to)(t)o', answer)
orthanc.RegisterRestCallback('/tata', answer)

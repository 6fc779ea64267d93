# SPDX-License-Identifier: GPL-3.0-or-later
"""Two new routes in the REST API, served by one function."""

import pprint

import orthanc


def answer(output, uri, **request):
    """Shows on stdout what was asked, and says that it was heard."""
    print('Request for', uri)
    pprint.pprint(request)
    output.AnswerBuffer('ok\n', 'text/plain')


# The pattern must match the whole path; its groups arrive in request['groups'].
orthanc.RegisterRestCallback('/(to)(t)o', answer)
orthanc.RegisterRestCallback('/tata', answer)

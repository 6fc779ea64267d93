# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides about every HTTP request: nobody deletes.

Who is not allowed gets "403 Forbidden".
"""

import pprint

import orthanc


def is_allowed(uri, **request):
    """Must return True or False; request['method'] is a number of orthanc.HttpMethod."""
    print('Access to', uri)
    pprint.pprint(request)
    return request['method'] != orthanc.HttpMethod.DELETE


orthanc.RegisterIncomingHttpRequestFilter(is_allowed)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What Orthanc knows of a DICOM tag; and what happens if it says no.

The functions of the module raise orthanc.OrthancException with a code and a text. It says what
went wrong, and a script can make of it whatever it wants, here an HTTP status of its own.
"""

import json
from typing import Any

import orthanc

STATUS = {
    orthanc.ErrorCode.UNKNOWN_RESOURCE: 404,
    orthanc.ErrorCode.INEXISTENT_ITEM: 404,
    orthanc.ErrorCode.BAD_REQUEST: 400,
}


def on_tag(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """GET /dictionary/{name or group,element}."""
    try:
        found: dict[str, Any] = dict(orthanc.LookupDictionary(request['groups'][0]))
    except TypeError as e:      # which is how this one says that there is no such tag
        output.SendHttpStatus(404, str(e))
        return
    found['Tag'] = '%04x,%04x' % (found['Group'], found['Element'])
    found['Name'] = orthanc.GetTagName(found['Group'], found['Element'], '')
    output.AnswerBuffer(json.dumps(found, indent=2), 'application/json')


def on_tag_of_instance(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """GET /value/{instance}/{name}: the value of a tag."""
    instance, name = request['groups']
    try:
        tag = orthanc.LookupDictionary(name)
        value = orthanc.RestApiGet('/instances/%s/content/%04x-%04x' % (instance, tag['Group'], tag['Element']))
    except orthanc.OrthancException as e:
        code, text = e.args
        orthanc.LogWarning('%s has no %s: error %d' % (instance, name, code))
        output.SendHttpStatus(STATUS.get(code, 500), text)
        return
    except TypeError as e:
        output.SendHttpStatus(404, str(e))
        return
    output.AnswerBuffer(value, 'text/plain')


orthanc.RegisterRestCallback('/dictionary/(.*)', on_tag)
orthanc.RegisterRestCallback('/value/([0-9a-f-]*)/(.*)', on_tag_of_instance)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Replaces /tools/find by one that also filters by metadata and returns it.

A query may have a field "Metadata": {name: regular expression}. The search is linear over
what the rest of the query matches.
"""

import json
import re
from typing import Any

import orthanc

PATHS = {'Patient': '/patients/', 'Study': '/studies/', 'Series': '/series/',
         'Instance': '/instances/'}


def read_metadata(resource: dict[str, str]) -> Any:
    """The metadata of a found resource; None if it was deleted in the meantime."""
    path = PATHS[resource['Type']] + resource['ID'] + '/metadata?expand'
    try:
        return json.loads(orthanc.RestApiGet(path))
    except orthanc.OrthancException as error:
        if error.args[0] == orthanc.ErrorCode.UNKNOWN_RESOURCE:
            return None
        raise


def matches(metadata: dict[str, str], patterns: dict[str, str]) -> bool:
    """True if every named value matches its pattern from the beginning."""
    return all(re.match(pattern, metadata.get(name, '')) for name, pattern in patterns.items())


def find_with_metadata(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Asks the route of the core with the same query, and filters its answer."""
    if request['method'] != 'POST':
        output.SendMethodNotAllowed('POST')
        return
    query = json.loads(request['body'])
    is_expanded = query.get('Expand', False)
    query['Expand'] = True
    patterns = query.pop('Metadata', {})

    answers = []
    for resource in json.loads(orthanc.RestApiPost('/tools/find', json.dumps(query))):
        metadata = read_metadata(resource)
        if metadata is not None and matches(metadata, patterns):
            resource['Metadata'] = metadata
            answers.append(resource if is_expanded else resource['ID'])
    output.AnswerBuffer(json.dumps(answers, indent=3), 'application/json')


orthanc.RegisterRestCallback('/tools/find', find_with_metadata)

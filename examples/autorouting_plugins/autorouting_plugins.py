# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands every stable study to a route that a plugin serves.

RestApiPost() reaches the routes of Orthanc itself only; RestApiPostAfterPlugins() asks the
plugins first. The route is "AutoRouting" -> "Route" in the configuration; by default it is
the DICOMweb plugin's for the server "sample".
"""

import json
from typing import Any

import orthanc

settings = json.loads(orthanc.GetConfiguration()).get('AutoRouting', {})
ROUTE = settings.get('Route', '/dicom-web/servers/sample/store')


def on_change(change_type: int, level: int, resource: str) -> None:
    """Posts the identifier of the study to the route."""
    if change_type == orthanc.ChangeType.STABLE_STUDY:
        print('Stable study:', resource)
        orthanc.RestApiPostAfterPlugins(ROUTE, resource)


def receive(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Stands in for a plugin's route, to see the study arrive."""
    print('Routed study:', request['body'].decode())
    output.AnswerBuffer('{}', 'application/json')


orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/my-destination', receive)

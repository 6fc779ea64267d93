# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows what happens in the server, and stores a file as soon as it has started.

The file is named by "Changes" -> "FirstFile" in the configuration of Orthanc.
"""

import json

import orthanc

settings = json.loads(orthanc.GetConfiguration()).get('Changes', {})


def store_first_file() -> None:
    """Stores the configured file, through the server's own REST API."""
    path = settings.get('FirstFile')
    if path:
        with open(path, 'rb') as file:
            orthanc.RestApiPost('/instances', file.read())


def on_change(change_type: int, level: int, resource: str) -> None:
    """Called for one event after the other, in their order."""
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        print('Started')
        store_first_file()
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        print('Stopped')
    elif change_type == orthanc.ChangeType.NEW_INSTANCE:
        print('A new instance was uploaded:', resource)


orthanc.RegisterOnChangeCallback(on_change)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Says itself when a study is complete, instead of waiting for "StableAge" (from Orthanc 1.12.9
on): as soon as it has as many instances as it says.

Orthanc then tells of it as of any stable study, here to this script.
"""

import json

import orthanc


def is_complete(study: str) -> bool:
    """As far as the study tells."""
    tags = json.loads(orthanc.RestApiGet('/studies/%s/shared-tags?simplify' % study))
    expected = tags.get('NumberOfStudyRelatedInstances')
    count = json.loads(orthanc.RestApiGet('/studies/%s/statistics' % study))['CountInstances']
    return expected is not None and int(count) >= int(expected)


def on_change(change_type: int, level: int, resource: str) -> None:
    if change_type == orthanc.ChangeType.NEW_INSTANCE:
        study = json.loads(orthanc.RestApiGet('/instances/%s/study' % resource))['ID']
        if is_complete(study):
            _, has_changed = orthanc.SetStableStatus(study, orthanc.StableStatus.STABLE)
            if has_changed:
                print('Complete: ' + study)
    elif change_type == orthanc.ChangeType.STABLE_STUDY:
        print('Stable: ' + resource)


orthanc.RegisterOnChangeCallback(on_change)

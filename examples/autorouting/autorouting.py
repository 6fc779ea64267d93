# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends every study to the modality "sample" once it is stable.

The modality is declared in "DicomModalities" of the configuration.
"""

import orthanc


def on_change(change_type: int, level: int, resource: str) -> None:
    """Sends; the job's log and the event's traceback tell if that failed."""
    if change_type == orthanc.ChangeType.STABLE_STUDY:
        print('Stable study:', resource)
        orthanc.RestApiPost('/modalities/sample/store', resource)


orthanc.RegisterOnChangeCallback(on_change)

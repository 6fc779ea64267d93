# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes how large instances are. Events go to each script, so it may follow them, too."""

import orthanc

import _notes


def on_stored(instance: orthanc.DicomInstance, identifier: str) -> None:
    _notes.add('%s has %d bytes' % (identifier, instance.GetInstanceSize()))


def on_change(change_type: int, _level: int, _resource: str) -> None:
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        _notes.add('sizes are being noted')


orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterOnChangeCallback(on_change)

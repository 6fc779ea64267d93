# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks into each instance right after it was stored."""

import json
import pprint

import orthanc

ORIGINS = {
    orthanc.InstanceOrigin.DICOM_PROTOCOL: 'the DICOM protocol',
    orthanc.InstanceOrigin.REST_API: 'the REST API',
}


def on_stored_instance(instance: orthanc.DicomInstance, instance_id: str) -> None:
    """The instance may be used until this function returns."""
    print('Received instance %s: %d bytes, transfer syntax %s, SOP class %s' % (
        instance_id, instance.GetInstanceSize(), instance.GetInstanceMetadata('TransferSyntax'),
        instance.GetInstanceMetadata('SopClassUid')))
    print('It came through', ORIGINS.get(instance.GetInstanceOrigin(), 'another way'))
    pprint.pprint(json.loads(instance.GetInstanceSimplifiedJson()))


orthanc.RegisterOnStoredInstanceCallback(on_stored_instance)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells a peer which of its instances are stored safely, after having read each of them.

When the peer hears that an instance is safe it may delete its own: the file is compared
with the checksum that Orthanc has of it, and read from the disk ("MaximumStorageCacheSize"
in the configuration).
"""

import json

import orthanc

REASON = orthanc.StorageCommitmentFailureReason


class Request:
    """One request of a peer; Orthanc keeps it as long as it remembers the job."""

    def __init__(self, transaction: str, aet: str, count: int) -> None:
        self.name = 'Storage commitment %s of %s' % (transaction, aet)
        orthanc.LogWarning('%s: %d instances' % (self.name, count))

    def find(self, sop_instance_uid: str) -> list[str]:
        """The identifiers that Orthanc has for an instance."""
        found = json.loads(orthanc.RestApiPost('/tools/lookup', sop_instance_uid))
        return [item['ID'] for item in found if item['Type'] == 'Instance']

    def check(self, sop_class_uid: str, sop_instance_uid: str) -> int:
        """The reason why an instance is not safe."""
        instances = self.find(sop_instance_uid)
        if not instances:
            return REASON.NO_SUCH_OBJECT_INSTANCE
        for instance in instances:
            stored = orthanc.RestApiGet('/instances/%s/metadata/SopClassUid' % instance)
            if stored.decode().strip() != sop_class_uid:
                return REASON.CLASS_INSTANCE_CONFLICT
            orthanc.RestApiPost('/instances/%s/attachments/dicom/verify-md5' % instance, b'')
        return REASON.SUCCESS


def on_request(job: str, transaction: str, sop_class_uids: list[str],
               sop_instance_uids: list[str], remote_aet: str, called_aet: str) -> Request:
    """What it returns is handed to on_lookup()."""
    return Request(transaction, remote_aet, len(sop_instance_uids))


def on_lookup(sop_class_uid: str, sop_instance_uid: str, request: Request) -> int:
    """Asked about one instance after the other."""
    try:
        reason = request.check(sop_class_uid, sop_instance_uid)
    except orthanc.OrthancException as e:    # not readable, or changed
        orthanc.LogError('%s: %s: %s' % (request.name, sop_instance_uid, e))
        reason = REASON.PROCESSING_FAILURE
    return reason


orthanc.RegisterStorageCommitmentScpCallback(on_request, on_lookup)

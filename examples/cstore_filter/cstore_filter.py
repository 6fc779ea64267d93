# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which instances may be stored through the DICOM protocol.

The configuration may have a section "CStoreFilter" with the members "Aets", a list of those
who may send anything at all, and "Modalities", a list of what they may send; without one
everybody may send everything.
"""

import json

import orthanc

OPTIONS = json.loads(orthanc.GetConfiguration()).get('CStoreFilter', {})

# DIMSE statuses of C-STORE, see DICOM PS3.4 and PS3.7; zero stores the instance.
SUCCESS = 0x0000
NOT_AUTHORIZED = 0x0124
WRONG_CLASS = 0xa900
CANNOT_UNDERSTAND = 0xc000


def decide(instance: orthanc.DicomInstance) -> int:
    """The status that the sender gets. The instance may be used until this returns."""
    aet = instance.GetInstanceRemoteAet()
    if aet not in OPTIONS.get('Aets', [aet]):
        orthanc.LogWarning('%s may not send instances' % aet)
        return NOT_AUTHORIZED
    tags = json.loads(instance.GetInstanceSimplifiedJson())
    if not tags.get('PatientID'):
        orthanc.LogWarning('%s has sent an instance of nobody' % aet)
        return CANNOT_UNDERSTAND
    modality = tags.get('Modality', '')
    if modality not in OPTIONS.get('Modalities', [modality]):
        orthanc.LogWarning('%s may not send %s' % (aet, modality or 'what has no modality'))
        return WRONG_CLASS
    return SUCCESS


orthanc.RegisterIncomingCStoreInstanceFilter(decide)

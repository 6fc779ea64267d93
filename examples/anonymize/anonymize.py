# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes the identity of patients from each instance before Orthanc stores it.

The configuration may have a section "Anonymize" with the members "Key", a secret, without
which nobody can find out who a pseudonym stands for, and "Keep", the names of further tags
that may stay. The same patient gets the same pseudonym each time, the same study the same
new UID.
"""

import hashlib
import hmac
import io
import json
import traceback

import orthanc
import pydicom

OPTIONS = json.loads(orthanc.GetConfiguration()).get('Anonymize', {})
KEY = OPTIONS.get('Key', 'change me').encode()
REMOVED = {'PatientName', 'PatientBirthDate', 'PatientAddress', 'PatientTelephoneNumbers',
           'OtherPatientIDs', 'OtherPatientNames', 'PatientComments', 'AccessionNumber',
           'ReferringPhysicianName', 'PerformingPhysicianName', 'OperatorsName',
           'InstitutionName', 'InstitutionAddress'} - set(OPTIONS.get('Keep', []))
UIDS = {'StudyInstanceUID', 'SeriesInstanceUID', 'SOPInstanceUID', 'FrameOfReferenceUID',
        'ReferencedSOPInstanceUID'}


def secret_number(text: str, bits: int) -> int:
    """Always the same for the same text, and for nobody without the key."""
    digest = hmac.new(KEY, text.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest, 'big') >> (256 - bits)


def replace(dataset: pydicom.Dataset, element: pydicom.DataElement) -> None:
    """Called by pydicom for each element, also those inside of sequences."""
    if element.keyword in REMOVED:
        del dataset[element.tag]
    elif element.keyword in UIDS and element.value:
        element.value = '2.25.%d' % secret_number(str(element.value), 120)
    elif element.keyword == 'PatientID':
        element.value = 'P%010d' % secret_number(str(element.value), 33)


def anonymize(content: bytes) -> bytes:
    """A DICOM file without the identity of its patient, as bytes."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.remove_private_tags()
    dataset.walk(replace)
    dataset.PatientName = dataset.get('PatientID', '')
    dataset.PatientIdentityRemoved = 'YES'
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = io.BytesIO()
    dataset.save_as(stream, write_like_original=False)
    return stream.getvalue()


def on_received(content: bytes, origin: int) -> tuple[int, bytes | None]:
    """What Orthanc does with an instance that has arrived.

    An exception would let the original in. MODIFY without a file makes Orthanc refuse it,
    so that the sender knows that nothing was stored.
    """
    try:
        return orthanc.ReceivedInstanceAction.MODIFY, anonymize(content)
    except Exception:
        orthanc.LogError('An instance is refused, as it cannot be anonymized: '
                         + traceback.format_exc())
        return orthanc.ReceivedInstanceAction.MODIFY, None


orthanc.RegisterReceivedInstanceCallback(on_received)

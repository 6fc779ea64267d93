# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured with DICOM instances: C-STORE, uploads, C-FIND, a storage area in Python.

Rows as in measure.py; the instances are made here as well.
"""

import json
import subprocess
import time

from server import ENVIRONMENT

QUERY_TAGS = (
    "StudyInstanceUID StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName StudyDescription "
    "PatientName PatientID PatientBirthDate PatientSex PatientAge PatientWeight StudyID OtherPatientIDs InstitutionName "
    "PhysiciansOfRecord AdmittingDiagnosesDescription PatientComments NumberOfStudyRelatedInstances"
).split()
QUERIES = 200
UPLOADS = 50


def make_files(directory, count, rows=64, columns=64):
    """DICOM instances of 8-bit pixels, all of one study."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    directory.mkdir()
    study, series, files = generate_uid(), generate_uid(), []
    for index in range(count):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        dataset.PatientID, dataset.PatientName, dataset.Modality = "BENCH", "Bench^Mark", "OT"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.InstanceNumber = study, series, index + 1
        dataset.Rows, dataset.Columns = rows, columns
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation, dataset.PixelData = 7, 0, bytes(rows * columns)
        path = directory / f"{index}.dcm"
        pydicom.dcmwrite(path, dataset, write_like_original=False)
        files.append(path)
    return files


def make_query(path):
    """A query of a study by 20 tags, as findscu reads it."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, True
    dataset.QueryRetrieveLevel = "STUDY"
    for tag in QUERY_TAGS:
        setattr(dataset, tag, None)
    dataset.PatientID = "BENCH"
    pydicom.dcmwrite(path, dataset, write_like_original=False)
    return path


def _dcmtk(server, program, *arguments):
    """Seconds that a client of dcmtk takes, its own start included."""
    begin = time.perf_counter()
    subprocess.run([program, *arguments[:-1], "-aec", "BENCH", "127.0.0.1", str(server.dicom_port), *arguments[-1]],
                   check=True, capture_output=True, timeout=120, env=ENVIRONMENT)  # fmt: skip
    return time.perf_counter() - begin


def _delete_studies(server):
    for study in json.loads(server.get("/studies")):
        connection = server.connection()
        server.request(connection, "DELETE", f"/studies/{study}")
        connection.close()


def _upload(server, connection, bodies):
    """Identifiers that Orthanc gives to the instances."""
    return [json.loads(server.request(connection, "POST", "/instances", body))["ID"] for body in bodies]


def store_instances(server, files):
    before = int(server.get("/bench/stored"))
    duration = _dcmtk(server, "storescu", list(map(str, files)))
    if int(server.get("/bench/stored")) - before != len(files):
        raise RuntimeError(f"{server.label}: OnStoredInstance did not see all {len(files)} instances")
    yield f"C-STORE of {len(files)} with OnStoredInstance", "ms", duration * 1e3, "less"
    _delete_studies(server)


def uploads_seen(server, files):
    """By one client, from the first byte to when the script's OnChange has counted the last one."""
    bodies = [path.read_bytes() for path in files[:UPLOADS]]
    wanted = int(server.get("/bench/seen/0")) + len(bodies)
    connection = server.connection()
    try:
        begin = time.perf_counter()
        _upload(server, connection, bodies)
        seen = int(server.request(connection, "GET", f"/bench/seen/{wanted}"))
        duration = time.perf_counter() - begin
    finally:
        connection.close()
    if seen != wanted:
        raise RuntimeError(f"{server.label}: OnChange saw {seen} instances, not {wanted}")
    yield f"{len(bodies)} uploads until OnChange saw them", "ms", duration * 1e3, "less"
    _delete_studies(server)


def find(server, query):
    """Many queries of one association, each answered by the script once."""
    duration = _dcmtk(server, "findscu", "-S", [str(query)] * QUERIES)
    queries, tags = map(int, server.get("/bench/found").split())
    if queries != QUERIES or tags < QUERIES * len(QUERY_TAGS):
        raise RuntimeError(f"{server.label}: the script saw {queries} queries with {tags} tags")
    yield f"C-FIND handler, {len(QUERY_TAGS)} tags read, {QUERIES} queries", "ms", duration * 1e3, "less"


def storage_area(server, files):
    bodies = [path.read_bytes() for path in files]
    connection = server.connection()
    try:
        begin = time.perf_counter()
        for identifier in _upload(server, connection, bodies):
            server.request(connection, "GET", f"/instances/{identifier}/file")
        duration = time.perf_counter() - begin
    finally:
        connection.close()
    if int(server.get("/bench/reads")) < len(files):
        raise RuntimeError(f"{server.label}: not all files came out of the script")
    yield f"storage area in Python, {len(files)} x 512 KB in and out", "ms", duration * 1e3, "less"

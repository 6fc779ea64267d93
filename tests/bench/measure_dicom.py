# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured with DICOM instances: C-STORE, uploads, C-FIND, a storage area in Python.

Rows as in measure.py; the instances are made here as well.
"""

import contextlib
import json
import statistics
import subprocess
import time

from measure import REPEATS
from server import ENVIRONMENT

QUERY_TAGS = (
    "StudyInstanceUID StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName StudyDescription "
    "PatientName PatientID PatientBirthDate PatientSex PatientAge PatientWeight StudyID OtherPatientIDs InstitutionName "
    "PhysiciansOfRecord AdmittingDiagnosesDescription PatientComments NumberOfStudyRelatedInstances"
).split()
QUERIES = 200
UPLOADS = 50
CLIENT_SECONDS = 600  # under callgrind everything takes long


def _new_file(transfer_syntax):
    """An empty secondary capture."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    meta.TransferSyntaxUID = transfer_syntax
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, transfer_syntax == ImplicitVRLittleEndian
    return dataset


def make_instance(path, patient, study=None, series=None, number=1, rows=64, columns=64):
    """A DICOM file of 8-bit pixels, of a study of its own if none is given."""
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    dataset = _new_file(ExplicitVRLittleEndian)
    meta = dataset.file_meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientID, dataset.PatientName, dataset.Modality = patient, f"{patient.title()}^Mark", "OT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study or generate_uid(), series or generate_uid()
    dataset.InstanceNumber = number
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.PixelData = 7, 0, bytes(rows * columns)
    dataset.save_as(path, write_like_original=False)


def make_files(directory, count, rows=64, columns=64):
    """So many instances, all of one study."""
    from pydicom.uid import generate_uid

    directory.mkdir()
    study, series = generate_uid(), generate_uid()
    files = [directory / f"{index}.dcm" for index in range(count)]
    for number, path in enumerate(files, 1):
        make_instance(path, "BENCH", study, series, number, rows, columns)
    return files


def make_large_files(directory):
    """Those of the storage area."""
    return make_files(directory, 100, 1024, 512)


def make_query(path):
    """A query of a study by 20 tags, as findscu reads it."""
    from pydicom.uid import ImplicitVRLittleEndian

    dataset = _new_file(ImplicitVRLittleEndian)
    dataset.QueryRetrieveLevel = "STUDY"
    for tag in QUERY_TAGS:
        setattr(dataset, tag, None)
    dataset.PatientID = "BENCH"
    dataset.save_as(path, write_like_original=False)
    return path


def _dcmtk(server, program, *arguments):
    """Seconds that a client of dcmtk takes, its own start included."""
    begin = time.perf_counter()
    subprocess.run([program, *arguments[:-1], "-aec", "BENCH", "127.0.0.1", str(server.dicom_port), *arguments[-1]],
                   check=True, capture_output=True, timeout=CLIENT_SECONDS, env=ENVIRONMENT)  # fmt: skip
    return time.perf_counter() - begin


def _delete_studies(server):
    for study in json.loads(server.get("/studies")):
        with contextlib.closing(server.connection()) as connection:
            server.request(connection, "DELETE", f"/studies/{study}")


def _upload(server, connection, bodies):
    """Identifiers that Orthanc gives to the instances."""
    return [json.loads(server.request(connection, "POST", "/instances", body))["ID"] for body in bodies]


def _median_ms(ready, *arguments):
    def once():
        with ready(*arguments) as run:
            return run()

    return statistics.median(once() for _ in range(REPEATS)) * 1e3


# Each of these gets ready, lends a function that does it once and gives its seconds, then looks
# that all of it was done, and leaves the server without instances.


@contextlib.contextmanager
def ready_to_store(server, files):
    before = int(server.get("/bench/stored"))
    yield lambda: _dcmtk(server, "storescu", list(map(str, files)))
    if int(server.get("/bench/stored")) - before != len(files):
        raise RuntimeError(f"{server.label}: OnStoredInstance did not see all {len(files)} instances")
    _delete_studies(server)


@contextlib.contextmanager
def ready_to_upload(server, files):
    """By one client, from the first byte to when the script's OnChange has counted the last one."""
    bodies = [path.read_bytes() for path in files[:UPLOADS]]
    wanted, seen = int(server.get("/bench/seen/0")) + len(bodies), 0

    def run():
        nonlocal seen
        begin = time.perf_counter()
        _upload(server, connection, bodies)
        seen = int(server.request(connection, "GET", f"/bench/seen/{wanted}"))
        return time.perf_counter() - begin

    with contextlib.closing(server.connection()) as connection:
        yield run
    if seen != wanted:
        raise RuntimeError(f"{server.label}: OnChange saw {seen} instances, not {wanted}")
    _delete_studies(server)


@contextlib.contextmanager
def ready_to_find(server, query):
    """Many queries of one association, each answered by the script once."""
    before = list(map(int, server.get("/bench/found").split()))
    yield lambda: _dcmtk(server, "findscu", "-S", [str(query)] * QUERIES)
    queries, tags = (now - then for now, then in zip(map(int, server.get("/bench/found").split()), before))
    if queries != QUERIES or tags < QUERIES * len(QUERY_TAGS):
        raise RuntimeError(f"{server.label}: the script saw {queries} queries with {tags} tags")


@contextlib.contextmanager
def ready_for_files(server, files):
    """All instances in, then all of their files out."""
    bodies = [path.read_bytes() for path in files]
    before = int(server.get("/bench/reads"))

    def run():
        begin = time.perf_counter()
        for identifier in _upload(server, connection, bodies):
            server.request(connection, "GET", f"/instances/{identifier}/file")
        return time.perf_counter() - begin

    with contextlib.closing(server.connection()) as connection:
        yield run
    if int(server.get("/bench/reads")) - before < len(files):
        raise RuntimeError(f"{server.label}: not all files came out of the script")
    _delete_studies(server)


# The rows of the benchmark.


def store_instances(server, files):
    yield f"C-STORE of {len(files)} with OnStoredInstance", "ms", _median_ms(ready_to_store, server, files), "less"


def uploads_seen(server, files):
    name = f"{len(files[:UPLOADS])} uploads until OnChange saw them"
    yield name, "ms", _median_ms(ready_to_upload, server, files), "less"


def find(server, query):
    name = f"C-FIND handler, {len(QUERY_TAGS)} tags read, {QUERIES} queries"
    yield name, "ms", _median_ms(ready_to_find, server, query), "less"


def storage_area(server, files):
    name = f"storage area in Python, {len(files)} x 512 KB in and out"
    yield name, "ms", _median_ms(ready_for_files, server, files), "less"

# SPDX-License-Identifier: GPL-3.0-or-later
"""DICOM files for tests, and the command-line tools of DCMTK."""

import io
import os
import re
import subprocess

import numpy
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SECONDARY_CAPTURE = '1.2.840.10008.5.1.4.1.1.7'
CT = '1.2.840.10008.5.1.4.1.1.2'


def make_dicom(kind='gray8', width=32, height=24, **tags):
    """A DICOM file as bytes. kind: 'gray8', 'gray16', 'rgb' or None (no pixels).

    The UIDs are new for every file unless given by name, as every other tag.
    """
    sop_class = tags.pop('SOPClassUID', SECONDARY_CAPTURE)
    sop_instance = tags.pop('SOPInstanceUID', None) or generate_uid()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b'\0' * 128)
    dataset.is_little_endian = True
    dataset.is_implicit_VR = False
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = sop_instance
    dataset.PatientID = 'P1'
    dataset.PatientName = 'Doe^Jane'
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.StudyDate = '20200131'
    dataset.StudyDescription = 'Test study'
    dataset.AccessionNumber = 'A1'
    dataset.Modality = 'OT'
    if kind is not None:
        _add_pixels(dataset, kind, width, height)
    for name, value in tags.items():
        setattr(dataset, name, value)
    stream = io.BytesIO()
    dataset.save_as(stream, write_like_original=False)
    return stream.getvalue()


def _add_pixels(dataset, kind, width, height):
    ramp = numpy.arange(width * height).reshape(height, width)
    dataset.Rows = height
    dataset.Columns = width
    dataset.PixelRepresentation = 0
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = 'MONOCHROME2'
    if kind == 'gray8':
        pixels, bits = (ramp % 256).astype('u1'), 8
    elif kind == 'gray16':
        pixels, bits = (ramp * 7 % 4096).astype('<u2'), 16
    elif kind == 'rgb':
        pixels = numpy.stack([ramp % 256, ramp // 3 % 256, 255 - ramp % 256], 2).astype('u1')
        bits = 8
        dataset.SamplesPerPixel = 3
        dataset.PlanarConfiguration = 0
        dataset.PhotometricInterpretation = 'RGB'
    else:
        raise ValueError(kind)
    dataset.BitsAllocated = bits
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelData = pixels.tobytes()


def read(dicom):
    return pydicom.dcmread(io.BytesIO(dicom))


def _environment():
    """With the dictionary that the tools have themselves."""
    return {key: value for key, value in os.environ.items() if key != 'DCMDICTPATH'}


def _run(command, timeout=60):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=timeout, env=_environment(), check=False, text=True,
                          errors='replace')


def _peer(server, aet):
    return ['-aet', aet, '-aec', 'ORTHANC', '127.0.0.1', str(server.dicom_port)]


def echoscu(server, aet='TESTER'):
    return _run(['echoscu', '-v'] + _peer(server, aet))


def storescu(server, path, *options, aet='TESTER'):
    return _run(['storescu', '-v', *options] + _peer(server, aet) + [str(path)])


def storescu_to(port, path, aet='TESTER', called='PYNETDICOM'):
    """To another server than Orthanc's."""
    return _run(['storescu', '-v', '-aet', aet, '-aec', called, '127.0.0.1', str(port), str(path)])


def findscu(server, *keys, aet='TESTER', model='-S'):
    arguments = [item for key in keys for item in ('-k', key)]
    return _run(['findscu', '-v', model] + _peer(server, aet) + arguments)


def make_query(path, private=(), **tags):
    """Writes a query as findscu reads it. private: (element, VR, value) of the group 0009."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b'\0' * 128)
    dataset.is_little_endian = True
    dataset.is_implicit_VR = False
    for name, value in tags.items():
        setattr(dataset, name, value)
    if private:
        block = dataset.private_block(0x0009, 'BRIDGE TEST', create=True)
        for element in private:
            block.add_new(*element)
    pydicom.dcmwrite(path, dataset, write_like_original=False)
    return path


def findscu_file(server, path, aet='TESTER', model='-S'):
    return _run(['findscu', '-v', model] + _peer(server, aet) + [str(path)])


def movescu(server, *keys, aet='TESTER', target='TESTER', model='-S'):
    arguments = [item for key in keys for item in ('-k', key)]
    return _run(['movescu', '-v', model, '-aem', target] + _peer(server, aet) + arguments)


def getscu(server, directory, *keys, aet='TESTER', model='-S', options=()):
    """C-GET into a directory that exists; bit for bit as received."""
    arguments = [item for key in keys for item in ('-k', key)]
    return _run(['getscu', '-v', model, '+B', '-od', str(directory), *options] + _peer(server, aet)
                + arguments)


def dimse_status(result):
    """The last DIMSE status that a tool has printed, for instance 'Success'."""
    found = re.findall(r'Response \(([^)]*)\)', result.stdout)
    return found[-1] if found else None


def find_outcome(result):
    """What findscu has printed: (final status, the PatientIDs of the answers)."""
    final = re.search(r'Received Final Find Response \(([^)]*)\)', result.stdout)
    _, *answers = re.split(r'^I: Find Response: \d+ \(Pending\)$', result.stdout, flags=re.MULTILINE)
    found = [re.search(r'\(0010,0020\) LO \[([^]]*)\]', answer) for answer in answers]
    return (final.group(1) if final else None,
            [match.group(1).strip() if match else None for match in found])


def move_outcome(result):
    """What movescu has printed: (final status or None, number of pending responses)."""
    final = re.search(r'Received Final Move Response \(([^)]*)\)', result.stdout)
    pending = re.findall(r'Received Move Response \d+ \(Pending[^)]*\)', result.stdout)
    return (final.group(1) if final else None, len(pending))


def start_movescu(server, *keys, aet='TESTER', target='TESTER'):
    """movescu in the background; finish() waits for it."""
    arguments = [item for key in keys for item in ('-k', key)]
    return subprocess.Popen(['movescu', '-v', '-S', '-aem', target] + _peer(server, aet) + arguments,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors='replace', env=_environment())


def finish(process, timeout=60):
    """What a tool that was started has printed, as the other functions give it."""
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output)

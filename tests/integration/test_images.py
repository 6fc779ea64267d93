# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in every pixel format and row pitch: made, converted, drawn on, compressed, decoded
(contract 2.4, 8 rows 6 and 26)."""

import io

import numpy
import pytest
from PIL import Image

import dicom
import rows
from compare import assert_same, response
from conftest import PLUGINS
from rows import INTERNAL, RANGE, check, name_values

FORMATS = {'GRAYSCALE8': 1, 'GRAYSCALE16': 2, 'SIGNED_GRAYSCALE16': 3, 'RGB24': 4, 'RGBA32': 5,
           'RGB48': 7, 'GRAYSCALE32': 8, 'FLOAT32': 9, 'BGRA32': 10, 'GRAYSCALE64': 11}
BYTES = {1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 7: 6, 8: 4, 9: 4, 10: 4, 11: 8}

# content(kind, pitch, height): bytes whose pixels are sensible in each format.
CONTENT = r'''
def _content(kind, pitch, height):
    import struct
    if kind == 9:
        one = b''.join(struct.pack('<f', x * 37.5 - 100) for x in range(pitch // 4 * height))
        return one + bytes(pitch * height - len(one))
    return bytes((x * 29 + 3) % 256 for x in range(pitch * height))
def _image(kind, width=5, height=3, pitch=None):
    pitch = _BYTES[kind] * width if pitch is None else pitch
    return orthanc.CreateImageFromBuffer(kind, width, height, pitch, _content(kind, pitch, height))
_SPACE.update(content=_content, image=_image)
'''


@pytest.fixture(scope='module')
def servers(module_orthanc):
    return {name: module_orthanc(name, script=rows.SCRIPT + CONTENT) for name in PLUGINS}


@pytest.mark.smoke
def test_creating_images(servers):
    """Where the pixels are not the script's, only the geometry is compared."""
    table = []
    for name, kind in FORMATS.items():
        table += [('orthanc.PixelFormat.%s' % name, str(kind))]
        for width, height in ((1, 1), (5, 3), (16, 2), (17, 2), (0, 4), (4, 0)):
            table.append((
                'i = orthanc.CreateImage(%d, %d, %d)\n(i.GetImageWidth(), i.GetImageHeight(), '
                'i.GetImagePixelFormat(), i.GetImagePitch(), len(i.GetImageBuffer()))' % (
                    kind, width, height), None))
    table += [('orthanc.CreateImage(%s, 5, 3)' % kind, INTERNAL) for kind in ('6', '0', '12', '-1')]
    check(servers, table)


def test_images_from_buffers(servers):
    """The pitch of the caller: tight, padded, odd, not that of the core."""
    table = []
    for kind, size in BYTES.items():
        tight = 5 * size
        for pitch in (tight, tight + 1, tight + 3, 64, 200):
            table.append(('pixels(image(%d, 5, 3, %d))' % (kind, pitch), None))
        table.append(('pixels(image(%d, 7, 1))' % kind, None))
        table += [('orthanc.CreateImageFromBuffer(%d, %s)' % (kind, rest), None) for rest in (
            "0, 0, 0, b''", "0, 3, 0, b''", "5, 0, 16, b''", "5, 3, 16, bytes(47)", "5, 3, 16, bytes(49)",
            "5, 3, -16, bytes(48)", "5, 3, 16.0, bytes(48)", "'5', 3, 16, bytes(48)")]
        table += [('j = orthanc.CreateImageFromBuffer(%d, 2, 2, %d, %s(bytes(range(%d))))\npixels(j)' % (
            kind, 2 * size, container, 4 * size), None)
                  for container in ('bytearray', 'memoryview')]
    check(servers, table)


def test_images_from_buffers_with_too_small_a_pitch(servers):
    """What the buffer has is the same in both; what it lacks is zero in ours."""
    table, zeros = [], []
    for kind, size in BYTES.items():
        for pitch in (1, size, 5 * size - 1):
            table.append((
                'i = image(%d, 5, 3, %d)\nb, p = i.GetImageBuffer(), i.GetImagePitch()\n'
                '(p, b"".join(b[y * p:y * p + %d] for y in range(3)) == content(%d, %d, 3))' % (
                    kind, pitch, pitch, kind, pitch), None))
            zeros.append((table[-1][0] + '\nany(b"".join(b[y * p + %d:y * p + p] for y in range(3)))'
                          % pitch, 'False'))
    check(servers, table)
    if 'ours' in servers:
        check({'ours': servers['ours']}, zeros)    # contract 8 row 26


def test_converting_each_format_to_each(servers):
    table = []
    for source in BYTES:
        table.append(('i = image(%d)\npixels(i)' % source, None))
        for target in list(BYTES) + [0, 6, 12, 99, -1]:
            table.append(('pixels(i.ConvertPixelFormat(%d))' % target, None))
        table.append(('pixels(i)', None))
    # what clipping makes of values out of the target's range
    for kind, code in ((3, 'h'), (2, 'H'), (9, 'f'), (8, 'I')):
        values = {'h': '-32768, -1, 0, 255, 256, 32767', 'H': '0, 1, 255, 256, 32768, 65535',
                  'f': '-1e9, -0.5, 0.5, 254.5, 65535.5, 1e9',
                  'I': '0, 1, 255, 256, 65536, 4294967295'}[code]
        table.append(('import struct\nb = struct.pack("<6%s", %s)\n'
                      'i = orthanc.CreateImageFromBuffer(%d, 6, 1, len(b), b)\npixels(i)' % (
                          code, values, kind), None))
        table += [('pixels(i.ConvertPixelFormat(%d))' % target, None) for target in BYTES]
    check(servers, table)


def test_drawing_text(servers):
    """In each format, within the image, across its borders and beyond them."""
    table = []
    for kind in BYTES:
        table.append(('i = image(%d, 60, 40)\nNone' % kind, None))
        table += [('(i.DrawText(0, %s), pixels(i))' % arguments, None) for arguments in (
            "'Ab', 2, 3, 255, 128, 0", "'\\xe9\\xe8\\u20ac', -5, -3, 0, 0, 255", "'clip', 50, 30, 1, 2, 3",
            "'', 0, 0, 9, 9, 9", "'a\\nb', 5, 5, 200, 200, 200", "'out', 1000, 1000, 255, 255, 255",
            "'out', -1000, -1000, 255, 255, 255")]
        table.append(("i.DrawText(12345, 'x', 0, 0, 1, 1, 1)", None))
        table.append(("orthanc.CreateImage(%d, 0, 0).DrawText(0, 'x', 0, 0, 1, 1, 1)" % kind, None))
    table += [('(orthanc.GetFontsCount(), [(orthanc.GetFontName(i), orthanc.GetFontSize(i)) '
               'for i in range(orthanc.GetFontsCount())])', None)]
    check(servers, table)


def test_compressing_and_uncompressing(servers):
    """All formats and pitches; the files are the same to the byte, and read back alike."""
    table = []
    for kind, size in BYTES.items():
        for pitch in (5 * size, 5 * size + 1, 5 * size + 11):
            table.append(('z = None\nz = orthanc.CompressPngImage(%d, 5, 3, %d, content(%d, %d, 3))\n'
                          'z.hex()' % (kind, pitch, kind, pitch), None))
            table.append(('z and pixels(orthanc.UncompressImage(z, orthanc.ImageFormat.PNG))', None))
            for quality in (0, 1, 50, 100, 101, 255):
                table.append(('z = orthanc.CompressJpegImage(%d, 5, 3, %d, content(%d, %d, 3), %d)\n'
                              '(z.hex(), pixels(orthanc.UncompressImage(z, orthanc.ImageFormat.JPEG)))' % (
                                  kind, pitch, kind, pitch, quality), None))
        # more bytes than needed are fine, and so is one image after another
        table.append(('len(orthanc.CompressPngImage(%d, 5, 3, %d, content(%d, %d, 9)))' % (
            kind, 5 * size, kind, 5 * size), None))
    table += [('orthanc.CompressPngImage(%s)' % rest, None) for rest in (
        "6, 5, 3, 5, bytes(15)", "0, 5, 3, 5, bytes(15)", "-1, 5, 3, 5, bytes(15)",
        "1, 0, 0, 0, b''", "1, 0, 3, 5, bytes(15)", "1, 5, 0, 5, b''", "1, 5, 3, 5, 'abcdefghijklmno'")]
    table += [('orthanc.CompressJpegImage(%s, 90)' % rest, None) for rest in (
        "6, 5, 3, 5, bytes(15)", "1, 5, 3, 5, 'abcdefghijklmno'")]
    check(servers, table)


def encoded_images():
    """Files of many kinds as {name: bytes}."""
    ramp = numpy.arange(35, dtype='u2').reshape(5, 7) * 1800
    gray = Image.fromarray((ramp >> 8).astype('u1'))
    rgb = Image.merge('RGB', [gray, gray.point(lambda x: 255 - x), gray.point(lambda x: x // 2)])
    alpha = Image.merge('RGBA', list(rgb.split()) + [gray])
    pictures = {'gray': gray, 'rgb': rgb, 'rgba': alpha, 'la': alpha.convert('LA'),
                'gray16': Image.fromarray(ramp), 'bits': gray.convert('1'),
                'palette': rgb.convert('P'), 'cmyk': rgb.convert('CMYK')}
    files = {}
    for name, picture in pictures.items():
        for kind in ('PNG', 'JPEG'):
            if (name, kind) == ('cmyk', 'PNG') or kind == 'JPEG' and name not in ('gray', 'rgb', 'cmyk'):
                continue
            stream = io.BytesIO()
            picture.save(stream, kind)
            files['%s_%s' % (kind.lower(), name)] = stream.getvalue()
    stream = io.BytesIO()
    rgb.save(stream, 'JPEG', progressive=True)
    files['jpeg_progressive'] = stream.getvalue()
    return files


def test_uncompressing_files_of_others(servers):
    files = encoded_images()
    for server in servers.values():
        name_values(server, FILES=files)
    table = []
    for name in files:
        kind = 0 if name.startswith('png') else 1
        table += [("pixels(orthanc.UncompressImage(FILES['%s'], %d))" % (name, kind), None),
                  ("orthanc.UncompressImage(FILES['%s'], %d)" % (name, 1 - kind), None),
                  ("orthanc.UncompressImage(FILES['%s'], 99)" % name, None),
                  ("pixels(orthanc.UncompressImage(FILES['%s'][:-20], %d))" % (name, kind), None),
                  ("orthanc.UncompressImage(FILES['%s'][:40], %d)" % (name, kind), None),
                  ("pixels(orthanc.UncompressImage(FILES['%s'] + b'more', %d))" % (name, kind), None)]
    table += [("orthanc.UncompressImage(%s, %d)" % (data, kind), None)
              for data in ("b''", "b'x'", "'text'", "bytes(1000)") for kind in (0, 1, 2)]
    check(servers, table)
    assert all(server.get('/system').status_code == 200 for server in servers.values())


def test_decoding_dicom(servers):
    """Frames of 8 and 16 bits, signed, colour and many; as images and as raw bytes."""
    ramp = numpy.arange(12 * 10)
    several = (numpy.arange(3 * 120) % 251).astype('u1').tobytes()
    files = {
        'gray8': dicom.make_dicom('gray8', 12, 10),
        'gray16': dicom.make_dicom('gray16', 12, 10),
        'odd': dicom.make_dicom('gray8', 7, 5, PixelData=bytes(range(35)) + b'\0'),
        'signed': dicom.make_dicom('gray16', 12, 10, PixelRepresentation=1, PixelData=(
            ramp * 500 - 30000).astype('<i2').tobytes()),
        'stored12': dicom.make_dicom('gray16', 12, 10, BitsStored=12, HighBit=11),
        'inverted': dicom.make_dicom('gray8', 12, 10, PhotometricInterpretation='MONOCHROME1'),
        'rgb': dicom.make_dicom('rgb', 12, 10),
        'planes': dicom.make_dicom('rgb', 12, 10, PlanarConfiguration=1),
        'frames': dicom.make_dicom('gray8', 12, 10, NumberOfFrames=3, PixelData=several),
        'short': dicom.make_dicom('gray8', 12, 10, PixelData=bytes(60)),
        'no_pixels': dicom.make_dicom(None),
        'rescaled': dicom.make_dicom('gray16', 12, 10, RescaleSlope='2', RescaleIntercept='-1024',
                                     WindowCenter='40', WindowWidth='400'),
    }
    for server in servers.values():
        name_values(server, FILES=files)
    table = []
    for name in files:
        table.append(("d = orthanc.CreateDicomInstance(FILES['%s'])\n(d.GetInstanceSize(), "
                      "d.HasInstancePixelData())" % name, None))
        table.append(("d.GetInstanceFramesCount()", None))
        for frame in (0, 1, 2, 3, 2**32 - 1, -1):
            table += [("pixels(orthanc.DecodeDicomImage(FILES['%s'], %d))" % (name, frame), None),
                      ("pixels(d.GetInstanceDecodedFrame(%d))" % frame, None),
                      ("d.GetInstanceRawFrame(%d).hex()" % frame, None)]
        table += [("pixels(orthanc.DecodeDicomImage(FILES['%s'], 0).ConvertPixelFormat(%d))" % (
            name, target), None) for target in (1, 3, 4, 9)]
    check(servers, table)


SYNTAXES = ('1.2.840.10008.1.2', '1.2.840.10008.1.2.1', '1.2.840.10008.1.2.2',
            '1.2.840.10008.1.2.1.99', '1.2.840.10008.1.2.5', '1.2.840.10008.1.2.4.50',
            '1.2.840.10008.1.2.4.51', '1.2.840.10008.1.2.4.57', '1.2.840.10008.1.2.4.70',
            '1.2.840.10008.1.2.4.80', '1.2.840.10008.1.2.4.81', '1.2.840.10008.1.2.4.90', '', 'x')


def test_transcoding(servers):
    """To each syntax and back; a lossy one makes a new instance, whose UID is chance."""
    files = {kind: dicom.make_dicom(kind, 16, 12) for kind in ('gray8', 'gray16', 'rgb')}
    for server in servers.values():
        name_values(server, FILES=files)
    table = []
    for name in files:
        for syntax in SYNTAXES:
            table += [
                ("import json\nt = None\nt = orthanc.TranscodeDicomInstance(FILES['%s'], '%s')\n"
                 "j = json.loads(t.GetInstanceSimplifiedJson())\n(j.pop('SOPInstanceUID') == "
                 "json.loads(orthanc.DicomBufferToJson(FILES['%s'], 3, 0, 0))['SOPInstanceUID'], j, "
                 "t.GetInstanceTransferSyntaxUid())" % (name, syntax, name), None),
                ("t and [t.GetInstanceMetadata('TransferSyntax'), t.GetInstanceFramesCount(), "
                 "t.GetInstanceOrigin(), t.GetInstanceRemoteAet(), t.HasInstancePixelData()]", None),
                ("t and pixels(t.GetInstanceDecodedFrame(0))", None),
                ("t and len(t.GetInstanceRawFrame(0))", None),
                ("t and (t.GetInstanceSize() == len(t.GetInstanceData()), t.GetInstanceData() == "
                 "t.SerializeDicomInstance())", None),
                ("t and pixels(orthanc.DecodeDicomImage(t.GetInstanceData(), 0))", None),
                ("t and pixels(orthanc.TranscodeDicomInstance(t.SerializeDicomInstance(), "
                 "'1.2.840.10008.1.2.1').GetInstanceDecodedFrame(0))", None)]
    check(servers, table)


def test_answering_with_images(servers):
    results = {}
    for name, server in servers.items():
        found = []
        for kind, size in BYTES.items():
            for pitch in (5 * size, 5 * size + 3):
                pattern = 'output.CompressAndAnswer%sImage(%d, 5, 3, %d, content(%d, %d, 3)%s)'
                for code in (pattern % ('Png', kind, pitch, kind, pitch, ''),
                             pattern % ('Jpeg', kind, pitch, kind, pitch, ', 80'),
                             "output.SetHttpHeader('X-Kind', 'k')\noutput.SetCookie('a', 'b')\n"
                             + pattern % ('Png', kind, pitch, kind, pitch, '')):
                    # A format that a compression does not know leaves the answer to the script.
                    answer = server.post('/_do', code + '\noutput.AnswerBuffer("last", "text/plain")')
                    found.append((code, response(answer)))
        results[name] = found
    for pairs in zip(*results.values()):
        assert_same(dict(zip(results, pairs)))
    for found in results.values():
        assert any(b'JFIF' in answer[2] for _, answer in found)
        assert any(answer[2].startswith(b'\x89PNG') for _, answer in found)


@pytest.mark.ours
def test_pixels_beyond_the_buffer_are_never_read(servers):
    """Contract 8 row 6: pitch times height, and a pixel's bytes times width, in 64 bits."""
    calls = ('orthanc.CompressPngImage(%s)', 'orthanc.CompressJpegImage(%s, 90)')
    table = [(call % rest, RANGE) for call in calls for rest in (
        "1, 5, 3, 5, bytes(14)", "4, 5, 3, 15, bytes(44)", "1, 2**31, 2, 2**31, bytes(8)",
        "5, 2**30, 1, 16, bytes(16)", "11, 2**29, 1, 8, bytes(8)", "1, 1, 2**31, 2, b'x'")]
    # a pitch smaller than a row is for the core to refuse
    table += [(call % '%d, 5, 3, %d, bytes(15 * %d)' % (kind, 5 * size - 1, size), RANGE)
              for call in calls for kind, size in BYTES.items()]
    check({'ours': servers['ours']}, table)
    assert servers['ours'].get('/system').status_code == 200

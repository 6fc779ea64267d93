# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain SDK functions and methods: arguments, results, errors (contract 1.4, 2.1 to 2.4).

Images, the HTTP client, DICOM and the rest have files of their own (test_images.py, ...).
"""

import re
import sys

import pytest

import dicom
import probe
from compare import Approved, assert_outcomes
from conftest import PLUGINS
from rows import INTERNAL, INVALID, RANGE, SCRIPT, bad, check, oe
from server import OFFICIAL_VERSION

# (code, expected outcome or None, approved difference or None)
ARGUMENTS = [
    # 2.1: positional only, one text for every parsing failure
    ("orthanc.RestApiGet(uri='/system')",
     "raise TypeError('RestApiGet() takes no keyword arguments',)", None),
    ("output.AnswerBuffer(answer='a', mimeType='b')",
     "raise TypeError('RestOutput.AnswerBuffer() takes no keyword arguments',)", None),
    ("orthanc.RestApiGet()", bad(1), None),
    ("orthanc.RestApiGet('/system', 1)", bad(1), None),
    ("orthanc.RestApiGet(b'/system')", bad(1), None),
    ("orthanc.RestApiGet(None)", bad(1), None),
    ("orthanc.RestApiGet(12)", bad(1), None),
    ("orthanc.RestApiGet('/sys\\0tem')", bad(1), None),
    ("orthanc.RestApiGet('/\\ud800')", bad(1), None),
    ("orthanc.RestApiPost('/tools/find', 12)", bad(2), None),
    ("orthanc.RestApiPost('/tools/find', [1])", bad(2), None),
    ("orthanc.RestApiPost('/tools/find', '\\ud800')", bad(2), None),
    ("output.AnswerBuffer()", bad(2), None),
    ("output.AnswerBuffer('a')", bad(2), None),
    ("output.SetHttpHeader('a', 1)", bad(2), None),
    ("orthanc.GetTagName(0x10, 0x20)", bad(3), None),
    # 0 arguments: no check at all
    ("orthanc.GetFontsCount(1, 2, 3) == orthanc.GetFontsCount()", 'True', None),
    ("len(orthanc.GenerateUuid('x'))", '36', None),
    ("orthanc.CreateDicomInstance(b'a').GetInstanceSize(1, 2)", '1', None),
    # custom functions have texts of their own
    ("orthanc.LookupDictionary()", "raise TypeError('Please provide a string containing the name "
     "of the DICOM tag of interest',)", None),
    ("orthanc.LookupDictionary(12)", "raise TypeError('Please provide a string containing the name "
     "of the DICOM tag of interest',)", None),
    ("orthanc.LookupDictionary('Nope')", "raise TypeError('Unknown DICOM tag: Nope',)", None),
    ("orthanc.LookupDictionary('PatientID')", None, None),
    ("list(orthanc.LookupDictionary('0010,0020'))", "['Group', 'Element', 'ValueRepresentation', "
     "'MinMultiplicity', 'MaxMultiplicity']", None),
    ("orthanc.CreateImageFromBuffer(1, 2, 2, 2)", "raise TypeError('5 arguments are needed: "
     "image.PixelFormat, width, height, pitch and memory buffer',)",
     None),
    ("orthanc.CreateImageFromBuffer(1, 2, 2, 2, b'123')", "raise TypeError('The size of the memory "
     "buffer must match the product of height by pitch',)", None),
    ("orthanc.CreateImageFromBuffer(1, 2, 2, 2, None)", re.compile('raise TypeError.*'), None),
    ("orthanc.CreateImageFromBuffer(99, 2, 2, 2, b'1234')",
     "raise ValueError('Cannot create the image',)", None),
    ("orthanc.CreateImageFromBuffer(1, 2, 2, 2, '1234').GetImagePitch()", None, None),
    # 2.2: the argument codes
    ("class S(str): pass\nlen(orthanc.RestApiGet(S('/system'))) > 0", 'True', None),
    ("orthanc.ComputeMd5('')", "'d41d8cd98f00b204e9800998ecf8427e'", None),
    ("orthanc.ComputeMd5('\\xe9')", "'66ddcd97cfdeabb2f6fb8a999b4bc76f'", None),
    ("orthanc.ComputeMd5('a\\0b') == orthanc.ComputeMd5(b'a\\0b')", 'True', None),
    ("orthanc.ComputeMd5(bytearray(b'abc')) == orthanc.ComputeMd5(b'abc')", 'True', None),
    ("orthanc.ComputeMd5(memoryview(b'abc')) == orthanc.ComputeMd5(b'abc')", 'True', None),
    ("import array\northanc.ComputeMd5(array.array('B', b'abc')) == orthanc.ComputeMd5(b'abc')",
     'True', None),
    ("orthanc.ComputeMd5(memoryview(b'abcdef')[::2])", bad(1), None),
    # 2.2: None is an empty buffer from 6.0 on
    ("orthanc.ComputeMd5(None)", bad(1) if OFFICIAL_VERSION < (6, 0) else None,
     Approved('1.5, 2.2', "'d41d8cd98f00b204e9800998ecf8427e'")),
    ("orthanc.GetErrorDescription(True)", None, None),
    ("import enum\nclass E(enum.IntEnum):\n    A = 17\northanc.GetErrorDescription(E.A)",
     "'Unknown resource'", None),
    ("class I:\n    def __index__(self): return 17\northanc.GetErrorDescription(I())",
     "'Unknown resource'", None),
    ("class N:\n    def __int__(self): return 17\northanc.GetErrorDescription(N())", bad(1), None),
    ("orthanc.GetErrorDescription(17.0)", bad(1), None),
    ("orthanc.GetErrorDescription('17')", bad(1), None),
    ("orthanc.GetErrorDescription(None)", bad(1), None),
    ("orthanc.GetErrorDescription(2**32 + 17)", "'Unknown resource'", None),
    ("orthanc.GetErrorDescription(2**64)", bad(1), None),
    ("orthanc.GetErrorDescription(123456)", "'Unknown error code'", None),
    ("orthanc.GetErrorDescription(1000000)", "'Error encountered within some plugin'", None),
    ("orthanc.GetTagName(0x10010, 0x20, '')", "'PatientID'", None),
    ("orthanc.GetTagName(0x10 - 65536, 0x20, '')", "'PatientID'", None),
    ("orthanc.GetTagName(1.0, 0x20, '')", bad(3), None),
    ("orthanc.GetFontSize(99)", '0', None),
    ("orthanc.GetFontName(99)", 'None', None),
    ("orthanc.GetFontSize(2**32) == orthanc.GetFontSize(0)", 'True', None),
    ("orthanc.GetFontSize(-2**32) == orthanc.GetFontSize(0)", 'True', None),
    ("orthanc.GetFontSize(0.0)", bad(1), None),
    ("orthanc.GetFontSize('0')", bad(1), None),
    # u32 takes objects with __index__ on every version of Python
    ("class J:\n    def __index__(self): return 0\northanc.GetFontSize(J())",
     bad(1) if sys.version_info < (3, 14) else None,
     Approved('2.2', re.compile(r'\d+'))),
    ("orthanc.BufferCompression(b'abc', 0, 256)", bad(3), None),
    ("orthanc.BufferCompression(b'abc', 0, -1)", bad(3), None),
    ("orthanc.SetMetricsValue('opb', 1, 0)", 'None', None),
    ("orthanc.SetMetricsValue('opb', 1.5, 0)", 'None', None),
    ("orthanc.SetMetricsValue('opb', True, 0)", 'None', None),
    ("orthanc.SetMetricsValue('opb', float('nan'), 0)", 'None', None),
    ("orthanc.SetMetricsValue('opb', 10**400, 0)", bad(3), None),
    ("orthanc.SetMetricsValue('opb', 'x', 0)", bad(3), None),
    ("orthanc.SetMetricsValue('opb', 1, 99)", 'None', None),
    # 1.5: 32-bit checks of 4.0 became truncation
    ("orthanc.CheckVersionAdvanced(2**32, 0, 0)", bad(3) if OFFICIAL_VERSION < (5, 0) else '1',
     Approved('1.5', '1')),
    ("orthanc.CheckVersionAdvanced(1, 10, 1)", '1', None),
    ("orthanc.CheckVersionAdvanced(99, 0, 0)", '0', None),
    # objects of a wrong class
    ("orthanc.CreateDicom('{}', 12, 0)", None, Approved(
        '1.5', "raise TypeError('Invalid orthanc.OrthancPluginImage object',)")),
    ("orthanc.CreateDicom('{}', orthanc.Peers(0, 0), 0)", None, Approved(
        '1.5', "raise TypeError('Invalid orthanc.OrthancPluginImage object',)")),
]

RESULTS = [
    # 1.4 the exception
    ("try:\n    orthanc.RestApiGet('/nope')\nexcept orthanc.OrthancException as e:\n    s = e\n"
     "(str(s), s.args, type(s.args[0]), type(s.args[1]))",
     "\"(17, 'Unknown resource')\", (17, 'Unknown resource'), <class 'int'>, <class 'str'>"
     .join('()'), None),
    ("orthanc.RestApiGet('')", oe(12, 'Badly formatted URI'), None),
    ("orthanc.RestApiGet('/_probe')", oe(17, 'Unknown resource'), None),
    ("orthanc.RestApiPost('/nope', '')", None, None),
    ("orthanc.RestApiPut('/nope', '')", None, None),
    ("orthanc.RestApiDelete('/nope')", None, None),
    ("orthanc.RestApiDelete('/instances/nope')", None, None),
    ("type(orthanc.RestApiGet('/system'))", "<class 'bytes'>", None),
    ("import json\nsorted(json.loads(orthanc.RestApiGet('/system')))", None, None),
    ("orthanc.RestApiGet('/patients')", "b'[]'", None),
    ("orthanc.RestApiGet('/patients?expand&limit=1&since=0')", None, None),
    ("orthanc.RestApiPost('/tools/find?a=b', '{}')", None, None),
    ("orthanc.RestApiGet('/modalities/%31')", oe(17, 'Unknown resource'), None),
    ("orthanc.RestApiGetAfterPlugins('/_get?a=1&b=%20')", None, None),
    ("orthanc.RestApiGetAfterPlugins('/_get')", None, None),
    ("orthanc.RestApiPostAfterPlugins('/_get?a=1', b'body\\0')", None, None),
    ("orthanc.RestApiPutAfterPlugins('/_get', '')", None, None),
    ("orthanc.RestApiDeleteAfterPlugins('/_get')", None, None),
    ("orthanc.RestApiGetAfterPlugins('/_get/a%20b')", None, None),
    ("orthanc.RestApiGetAfterPlugins('/_silent')", oe(17, 'Unknown resource'), None),
    ("orthanc.RestApiGetAfterPlugins('/_raise')", oe(1, 'Error encountered within the plugin engine'),
     None),
    ("orthanc.RestApiGetAfterPlugins('/_multipart')", None, None),
    ("orthanc.RestApiGetAfterPlugins('/_status/404')", None, None),
    ("orthanc.RestApiGetAfterPlugins('/_status/401')", None, None),
    ("orthanc.RestApiGetAfterPlugins('/_status/201')", None, None),
    ("orthanc.RestApiGetAfterPlugins('/system') == orthanc.RestApiGet('/system')", 'True', None),
    # lookups
    ("orthanc.LookupPatient('nope')", INTERNAL, None),
    ("orthanc.LookupStudy('nope')", INTERNAL, None),
    ("orthanc.LookupSeries('nope')", INTERNAL, None),
    ("orthanc.LookupInstance('nope')", INTERNAL, None),
    ("orthanc.LookupStudyWithAccessionNumber('nope')", INTERNAL, None),
    ("orthanc.GetDicomForInstance('nope')", None, None),
    ("orthanc.DicomInstanceToJson('nope', 1, 0, 0)", INTERNAL, None),
    # command line, configuration, versions
    ("orthanc.GetCommandLineArgument(-1)", "'/usr/sbin/Orthanc'", None),
    ("orthanc.GetCommandLineArgument(0)", "'--verbose'", None),
    ("orthanc.GetCommandLineArgument(99)", INTERNAL, None),
    ("orthanc.GetCommandLineArgumentsCount()", '2', None),
    ("import json\njson.loads(orthanc.GetConfiguration())['Name']", "'test'", None),
    ("orthanc.GetConfigurationPath().endswith('/orthanc.json')", None, None),
    ("orthanc.GetOrthancPath()", "'/usr/sbin/Orthanc'", None),
    ("orthanc.GetOrthancDirectory()", "'/usr/sbin'", None),
    ("orthanc.CheckVersion()", '1', None),
    ("orthanc.GetExpectedDatabaseVersion()", '6', None),
    ("len(orthanc.GenerateUuid())", '36', None),
    ("orthanc.GenerateRestApiAuthorizationToken().split(' ')[0]", "'Bearer'", None),
    # properties
    ("orthanc.GetGlobalProperty(5000, 'default')", "'default'", None),
    ("orthanc.SetGlobalProperty(5000, 'v\\xe9')\northanc.GetGlobalProperty(5000, 'default')",
     "'v\xe9'", None),
    ("orthanc.SetGlobalProperty(5001, '')\northanc.GetGlobalProperty(5001, 'default')", None, None),
    ("orthanc.SetGlobalProperty(1, 'x')", oe(26, 'Plugin invoking an unknown service'), None),
    # errors of the dictionary: registrations
    ("orthanc.RegisterDictionaryTag(0x4001, 0x12, 0, 'OpbTag', 1, 1)", None, None),
    ("orthanc.RegisterDictionaryTag(0x4001, 0x14, orthanc.ValueRepresentation.LO, 'OpbTag2', 1, 2)\n"
     "orthanc.LookupDictionary('OpbTag2')", None, None),
    ("orthanc.GetTagName(0x10, 0x10, '')", "'PatientName'", None),
    ("orthanc.GetTagName(0x4001, 0x9999, '')", None, None),
    # 2.4, 8 row 11: the code instead of an exception
    ("orthanc.RegisterErrorCode(1, 404, 'mine')",
     oe(1000000, 'Error encountered within some plugin'), Approved('2.4, 8.11', '1000000')),
    ("orthanc.RegisterErrorCode(2, 404, 'mine')",
     oe(1000001, 'Error encountered within some plugin'), Approved('2.4, 8.11', '1000001')),
    # network
    ("orthanc.HttpGet('http://127.0.0.1:1/', '', '')", oe(9, 'Error in the network protocol'), None),
    ("orthanc.HttpGet('http://127.0.0.1:1/', None, None)", bad(3), None),
    ("orthanc.HttpPost('http://127.0.0.1:1/', b'x', '', '')", oe(9, 'Error in the network protocol'),
     None),
    ("orthanc.HttpPut('http://127.0.0.1:1/', b'x', '', '')", oe(9, 'Error in the network protocol'),
     None),
    ("orthanc.HttpDelete('http://127.0.0.1:1/', '', '')", oe(9, 'Error in the network protocol'),
     None),
    ("p = orthanc.GetPeers()\n(p.GetPeersCount(), p.GetPeerName(0), p.GetPeerUrl(0), "
     "p.GetPeerUserProperty(0, 'Speed'), p.GetPeerUserProperty(0, 'nope'))", None, None),
    ("(p.GetPeerName(9), p.GetPeerUrl(9), p.GetPeerUserProperty(9, 'x'))", '(None, None, None)', None),
    # buffers, hashes, files
    ("orthanc.ComputeSha1(b'abc')", "'a9993e36-4706816a-ba3e2571-7850c26c-9cd0d89d'", None),
    ("z = orthanc.BufferCompression(b'abc' * 100, orthanc.CompressionType.GZIP, 0)\n"
     "orthanc.BufferCompression(z, orthanc.CompressionType.GZIP, 1) == b'abc' * 100", 'True', None),
    ("orthanc.BufferCompression(b'not gzip', orthanc.CompressionType.GZIP, 1)", None, None),
    ("orthanc.BufferCompression(b'x', 99, 0)", None, None),
    ("orthanc.BufferCompression(b'', orthanc.CompressionType.ZLIB, 0)", None, None),
    ("orthanc.AutodetectMimeType('a.png')", "'image/png'", None),
    ("orthanc.AutodetectMimeType('a.nope')", None, None),
    ("orthanc.WriteFile('opb-written', b'a\\0b')\northanc.ReadFile('opb-written')", "b'a\\x00b'", None),
    ("orthanc.ReadFile('/nope')", None, None),
    ("orthanc.WriteFile('/nope/nope', b'')", None, None),
    ("orthanc.GetErrorDescription(17)", "'Unknown resource'", None),
    # void functions never raise
    ("orthanc.LogError('an error')", 'None', None),
    ("orthanc.LogWarning('a warning')", 'None', None),
    ("orthanc.LogInfo('an info')", 'None', None),
    ("orthanc.LogWarning(12)", bad(1), None),
    ("orthanc.SetDescription('d')", 'None', None),
    ("orthanc.SetRootUri('r')", 'None', None),
    ("orthanc.ExtendOrthancExplorer('//')", 'None', None),
]

IMAGES = [
    ("i = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, 4, 3)\n"
     "(i.GetImageWidth(), i.GetImageHeight(), i.GetImagePixelFormat(), len(i.GetImageBuffer()) == "
     "i.GetImagePitch() * 3)", '(4, 3, 1, True)', None),
    ("orthanc.CreateImage(99, 4, 3)", INTERNAL, None),
    ("orthanc.CreateImage(1, 0, 0).GetImageBuffer()", "b''", None),
    ("j = orthanc.CreateImageFromBuffer(orthanc.PixelFormat.RGB24, 2, 2, 6, bytes(range(12)))\n"
     "(type(j), j.GetImagePixelFormat())", "(<class 'orthanc.Image'>, 4)", None),
    ("k = j.ConvertPixelFormat(orthanc.PixelFormat.GRAYSCALE8)\n"
     "(k.GetImageWidth(), k.GetImagePixelFormat())", '(2, 1)', None),
    ("j.ConvertPixelFormat(99)", None, None),
    ("png = orthanc.CompressPngImage(1, 2, 2, 2, b'\\0\\1\\2\\3')\npng[:4]", "b'\\x89PNG'", None),
    ("u = orthanc.UncompressImage(png, orthanc.ImageFormat.PNG)\n(u.GetImageWidth(), "
     "u.GetImageBuffer()[:2])", "(2, b'\\x00\\x01')", None),
    ("orthanc.UncompressImage(b'garbage', orthanc.ImageFormat.PNG)", INTERNAL, None),
    ("jpeg = orthanc.CompressJpegImage(1, 2, 2, 2, b'\\0\\1\\2\\3', 90)\njpeg[:2]", "b'\\xff\\xd8'",
     None),
    ("orthanc.CompressJpegImage(1, 2, 2, 2, b'\\0\\1\\2\\3', 300)", bad(6), None),
    ("u.DrawText(0, 'x', 0, 0, 255, 255, 255)", 'None', None),
    ("u.DrawText(99, 'x', 0, 0, 255, 255, 255)", None, None),
    ("u.DrawText(0, 'x', 0, 0, 256, 255, 255)", bad(7), None),
    ("orthanc.DecodeDicomImage(DICOM, 0).GetImageWidth()", '32', None),
    ("orthanc.DecodeDicomImage(DICOM, 1)", INTERNAL, None),
    ("orthanc.DecodeDicomImage(b'garbage', 0)", INTERNAL, None),
]

# Only with ours: the official plugin reads or writes beyond the buffer (contract 8, row 6).
IMAGES_OURS = [
    ("orthanc.CompressPngImage(1, 2, 2, 2, b'123')", RANGE),
    ("orthanc.CompressPngImage(1, 2, 2, 2, None)", RANGE),
    ("orthanc.CompressPngImage(1, 100, 2, 2, b'1234')", RANGE),
    ("orthanc.CompressPngImage(1, 2**31, 2**31, 2**31, b'1234')", RANGE),
    ("orthanc.CompressJpegImage(1, 2, 2, 2, b'123', 90)", RANGE),
    ("output.CompressAndAnswerPngImage(1, 2, 2, 2, b'123')", re.compile('None|' + re.escape(RANGE))),
    ("output.CompressAndAnswerJpegImage(1, 2, 2, 2, b'', 90)",
     re.compile('None|' + re.escape(RANGE))),
]

NOT_CREATED = ("raise ValueError('Cannot create the DICOM instance',)"
               if OFFICIAL_VERSION < (5, 0) else None)
INSTANCES = [
    ("d = orthanc.CreateDicomInstance(DICOM)\n(d.GetInstanceSize() == len(DICOM), "
     "d.GetInstanceData() == DICOM)", '(True, True)', None),
    ("d.SerializeDicomInstance()[128:132]", "b'DICM'", None),
    ("d.GetInstanceFramesCount()", '1', None),
    ("d.HasInstancePixelData()", '1', None),
    ("d.GetInstanceTransferSyntaxUid()", "'1.2.840.10008.1.2.1'", None),
    ("d.GetInstanceOrigin()", None, None),
    ("d.GetInstanceRemoteAet()", "''", None),
    ("d.GetInstanceMetadata('TransferSyntax')", 'None', None),
    ("d.HasInstanceMetadata('TransferSyntax')", None, None),
    ("d.HasInstanceMetadata('nope')", None, None),
    ("import json\njson.loads(d.GetInstanceSimplifiedJson())['PatientID']", "'P1'", None),
    ("json.loads(d.GetInstanceJson())['0010,0020']['Value']", "'P1'", None),
    ("json.loads(d.GetInstanceAdvancedJson(orthanc.DicomToJsonFormat.SHORT, 0, 0))['0010,0020']",
     "'P1'", None),
    ("d.GetInstanceAdvancedJson(99, 0, 0)", None, None),
    ("f = d.GetInstanceDecodedFrame(0)\n(f.GetImageWidth(), f.GetImageHeight(), "
     "f.GetImagePixelFormat())", '(32, 24, 1)', None),
    ("d.GetInstanceDecodedFrame(1)", INTERNAL, None),
    ("len(d.GetInstanceRawFrame(0))", '768', None),
    ("d.GetInstanceRawFrame(1)", None, None),
    ("t = orthanc.TranscodeDicomInstance(DICOM, '1.2.840.10008.1.2')\n"
     "(type(t), t.GetInstanceTransferSyntaxUid())",
     "(<class 'orthanc.DicomInstance'>, '1.2.840.10008.1.2')", None),
    ("orthanc.TranscodeDicomInstance(DICOM, '1.2.3')", INTERNAL, None),
    ("orthanc.TranscodeDicomInstance(b'garbage', '1.2.840.10008.1.2')", INTERNAL, None),
    # never validates
    ("g = orthanc.CreateDicomInstance(b'garbage')\n(type(g), g.GetInstanceSize())",
     "(<class 'orthanc.DicomInstance'>, 7)", None),
    ("g.GetInstanceJson()", None, None),
    ("g.GetInstanceTransferSyntaxUid()", None, None),
    ("type(orthanc.CreateDicomInstance(b''))", "<class 'orthanc.DicomInstance'>", None),
    ("json.loads(orthanc.DicomBufferToJson(DICOM, orthanc.DicomToJsonFormat.HUMAN, 0, 0))['PatientID']",
     "'P1'", None),
    ("orthanc.DicomBufferToJson(b'garbage', 1, 0, 0)", INTERNAL, None),
    ("c = orthanc.CreateDicom(json.dumps({'PatientID': 'HELLO'}), None, "
     "orthanc.CreateDicomFlags.GENERATE_IDENTIFIERS)\n(type(c), c[128:132])",
     "(<class 'bytes'>, b'DICM')", None),
    ("c = orthanc.CreateDicom(json.dumps({'PatientID': 'I'}), j if 'j' in globals() else "
     "orthanc.CreateImageFromBuffer(4, 2, 2, 6, bytes(12)), 2)\n"
     "orthanc.CreateDicomInstance(c).GetInstanceFramesCount()", '1', None),
    ("orthanc.CreateDicom('not json', None, 0)", NOT_CREATED,
     Approved('1.5', oe(28, 'Cannot parse a JSON document'))),
    ("orthanc.CreateDicom('{\"NoSuchTag\": \"x\"}', None, 0)", NOT_CREATED,
     Approved('1.5', re.compile(r'raise OrthancException\(.*\)'))),
    ("m = orthanc.CreateFindMatcher(orthanc.CreateDicom('{\"PatientID\": \"P*\"}', None, 0))\n"
     "type(m)", "<class 'orthanc.FindMatcher'>", None),
    # old names stay as aliases
    ("m.FindMatcherIsMatch(DICOM)", '1' if OFFICIAL_VERSION < (6, 0) else None, Approved('1.5', '1')),
    ("m.FindMatcherIsMatch(b'garbage')", '0' if OFFICIAL_VERSION < (6, 0) else None,
     Approved('1.5', '0')),
    ("orthanc.CreateFindMatcher(b'garbage')", None, None),
    # gone from 4.3 on, and kept by ours
    ("len(orthanc.CreateMemoryBuffer(5))", '5' if OFFICIAL_VERSION < (4, 3) else None,
     Approved('1.5', '5')),
]

STORED = [
    ("orthanc.LookupPatient('P1') == PATIENT", 'True', None),
    ("orthanc.LookupInstance(SOP) == INSTANCE", 'True', None),
    ("orthanc.LookupStudyWithAccessionNumber('A1') == STUDY", 'True', None),
    ("orthanc.GetDicomForInstance(INSTANCE) == DICOM", 'True', None),
    ("import json\njson.loads(orthanc.DicomInstanceToJson(INSTANCE, 3, 0, 0))['PatientID']", "'P1'", None),
    ("orthanc.RestApiGet('/instances/%s/file' % INSTANCE) == DICOM", 'True', None),
    ("orthanc.RestApiPut('/instances/%s/metadata/4000' % INSTANCE, 'x')\n"
     "orthanc.RestApiGet('/instances/%s/metadata/4000' % INSTANCE)", None, None),
    ("json.loads(orthanc.RestApiPost('/instances', DICOM))['Status']", "'AlreadyStored'", None),
    ("json.loads(orthanc.RestApiPost('/tools/find', json.dumps({'Level': 'Study', 'Query': {}}))) "
     "== [STUDY]", 'True', None),
    ("orthanc.RestApiPost('/instances', b'garbage')", None, None),
    ("orthanc.RestApiPost('/instances', b'')", None, None),
]

# Objects made from numbers (contract 1.3); a pointer crashes the official plugin.
CONSTRUCTOR = ("raise ValueError('Expected a pair (pointer, borrowed) in the constructor',)")
CONSTRUCTED = [
    ("orthanc.Image()", CONSTRUCTOR, None),
    ("orthanc.Image(0)", CONSTRUCTOR, None),
    ("orthanc.Image(0, 256)", CONSTRUCTOR, None),
    ("orthanc.Image('0', 0)", CONSTRUCTOR, None),
    ("orthanc.Image(0, 0, 0)", CONSTRUCTOR, None),
    ("orthanc.Image(2**63, 0)", CONSTRUCTOR, None),
    ("e = orthanc.Image(0, 0)\ntype(e)", "<class 'orthanc.Image'>", None),
    ("e.GetImageWidth()", INVALID, None),
    ("e.GetImageBuffer()", INVALID, None),
    ("e.ConvertPixelFormat(1)", INVALID, None),
    ("orthanc.RestOutput(0, 1).AnswerBuffer('a', 'b')", INVALID, None),
    ("orthanc.DicomInstance(0, 0).GetInstanceData()", INVALID, None),
    ("orthanc.DicomInstance(0, 0).GetInstanceSize()", INVALID, None),
    ("orthanc.FindQuery(0, 0).GetFindQuerySize()", INVALID, None),
    ("orthanc.Peers(0, 0).GetPeersCount()", INVALID, None),
]
CONSTRUCTED_OURS = [
    ("orthanc.%s(%s, %d)" % (name, pointer, borrowed), CONSTRUCTOR)
    for name in ('Image', 'RestOutput', 'DicomInstance', 'Peers', 'FindQuery')
    for pointer, borrowed in (('1', 0), ('12345678', 1), ('-1', 0))]

ROUTES = r'''
def _get(output, uri, **request):
    for key in ('groups',):
        request[key] = list(request[key])
    output.AnswerBuffer(repr((uri, sorted(request.items()))), 'text/plain')
orthanc.RegisterRestCallback('/_get(/.*)?', _get)
orthanc.RegisterRestCallback('/_silent', lambda output, uri, **r: None)
def _raise(output, uri, **r):
    raise RuntimeError('asked for')
orthanc.RegisterRestCallback('/_raise', _raise)
def _multipart(output, uri, **r):
    output.StartMultipartAnswer('mixed', 'text/plain')
    output.SendMultipartItem(b'one')
    output.SendMultipartItem('two')
orthanc.RegisterRestCallback('/_multipart', _multipart)
def _status(output, uri, **r):
    output.SendHttpStatusCode(int(r['groups'][0]))
orthanc.RegisterRestCallback('/_status/(.*)', _status)
'''


@pytest.fixture(scope='module')
def servers(module_orthanc):
    """One server per plugin with the probe and the routes, shared by this module."""
    peers = {'friend': {'Url': 'http://127.0.0.1:1/', 'Speed': 'fast'}}
    return {name: module_orthanc(name, script=SCRIPT + ROUTES,
                                 config={'OrthancPeers': peers}) for name in PLUGINS}


@pytest.fixture(scope='module')
def with_dicom(servers):
    """Each server knows a DICOM file as DICOM, which is not stored."""
    for server in servers.values():
        server.file = dicom.make_dicom('gray8', SOPInstanceUID='1.2.3.4.5.6')
        assert server.post('/_set', repr({'DICOM': server.file})).status_code == 200
    return servers


@pytest.mark.smoke
def test_arguments_are_parsed_and_refused_alike(servers):
    check(servers, ARGUMENTS)


@pytest.mark.smoke
def test_results_and_errors_are_alike(servers):
    check(servers, RESULTS)


def test_images(with_dicom):
    check(with_dicom, IMAGES)


def test_dicom_instances_made_by_the_script(with_dicom):
    check(with_dicom, INSTANCES)


def test_constructors(servers):
    check(servers, CONSTRUCTED)


@pytest.mark.ours
def test_what_crashes_the_official_plugin_is_an_exception(with_dicom):
    """Contract 1.3, 8 rows 5 and 6."""
    ours = {'ours': with_dicom['ours']}
    check(ours, IMAGES_OURS + CONSTRUCTED_OURS)
    assert ours['ours'].get('/system').status_code == 200


@pytest.mark.ours
def test_names_newer_than_the_official_plugin_here(with_dicom):
    """Contract 1.5: 7.1 names beside the old ones."""
    check({'ours': with_dicom['ours']}, [
        ("m = orthanc.CreateFindMatcher(orthanc.CreateDicom('{\"PatientID\": \"P*\"}', None, 0))\n"
         "m.IsMatch(DICOM)", '1'),
        ("m.IsMatch(None)", '0'),
        ("[hasattr(orthanc.StorageArea, n) for n in ('Create', 'Read', 'Remove', "
         "'StorageAreaCreate', 'StorageAreaRead', 'StorageAreaRemove')]", repr([True] * 6)),
        ("orthanc.CreateMemoryBuffer(3)", "b'\\x00\\x00\\x00'"),
        ("type(orthanc.CreateDicom2('{}', None, 2, 'creator'))", "<class 'bytes'>"),
    ])


def test_stored_instances(orthanc):
    outcomes = {}
    for name in PLUGINS:
        server = orthanc(name, script=SCRIPT + ROUTES)
        content = dicom.make_dicom('gray8', SOPInstanceUID='1.2.3.4.5.7')
        instance = server.upload(content)
        parents = server.get('/instances/' + instance + '/study').json()
        server.post('/_set', repr({
            'DICOM': content, 'INSTANCE': instance, 'SOP': '1.2.3.4.5.7',
            'STUDY': parents['ID'], 'PATIENT': parents['ParentPatient']}))
        outcomes[name] = probe.run(server, {str(i) + row[0]: row[0] for i, row in enumerate(STORED)})
    assert_outcomes(outcomes, {str(i) + row[0]: row[1] for i, row in enumerate(STORED) if row[1]})


def test_log_functions_write_their_level(servers):
    for server in servers.values():
        probe.run(server, {'e': "orthanc.LogError('opb e \\xe9')", 'w': "orthanc.LogWarning('opb w')",
                           'i': "orthanc.LogInfo('opb i')"})
        server.wait_for_log(r'^E.*\] opb e \u00e9$')
        server.wait_for_log(r'^W.*\] opb w$')
        server.wait_for_log(r'^I.*\] \(plugins\) opb i$')


def test_large_values_go_both_ways(servers):
    code = ("import hashlib\nb = bytes(range(256)) * 40000\n"
            "orthanc.WriteFile('opb-large', b)\nr = orthanc.ReadFile('opb-large')\n"
            "(len(r), r == b, orthanc.ComputeMd5(r) == hashlib.md5(b).hexdigest())")
    for server in servers.values():
        assert probe.run(server, {'x': code})['x'] == '(10240000, True, True)'

# SPDX-License-Identifier: GPL-3.0-or-later
"""DICOM as JSON and back, the dictionary and private tags, what is stored (contract 2.4)."""

import contextlib
import io

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import dicom
import rows
from conftest import PLUGINS
from rows import INTERNAL, check, name_values, since
from server import OFFICIAL_VERSION, Timeout, wait_until

DICTIONARY = {'4011,1001': ['LO', 'OpbConfigured', 1, 1, 'OpbCreator'],
              '4011,1002': ['DS', 'OpbNumbers', 1, 0, 'OpbCreator']}


def rich():
    """A file with about everything that JSON can show: private and unknown tags, sequences,
    binary and long values, several characters sets' worth of names."""
    dataset = dicom.read(dicom.make_dicom('gray8', 8, 4, SOPInstanceUID='1.2.3.4.5.8',
                                          StudyInstanceUID='1.2.3.4.5.9', SeriesInstanceUID='1.2.3.4.5.10'))
    dataset.SpecificCharacterSet = 'ISO_IR 192'
    dataset.PatientName = 'M\u00fcller^\u5c71\u7530=\u3084\u307e\u3060'
    dataset.PatientComments = 'x' * 300
    dataset.ImageType = ['DERIVED', 'SECONDARY', '']
    dataset.PixelSpacing = ['0.5', '0.25']
    dataset.FrameIncrementPointer = 0x00181063
    item = Dataset()
    item.CodeValue = '121327'
    item.CodingSchemeDesignator = 'DCM'
    inner = Dataset()
    inner.CodeMeaning = 'inner \u00e9'
    item.PurposeOfReferenceCodeSequence = Sequence([inner, Dataset()])
    dataset.ProcedureCodeSequence = Sequence([item, Dataset()])
    dataset.ReferencedStudySequence = Sequence([])
    block = dataset.private_block(0x4011, 'OpbCreator', create=True)
    block.add_new(1, 'LO', 'private text')
    block.add_new(2, 'DS', ['1.5', '2.5'])
    block.add_new(3, 'OB', b'\0\1\2\xff')
    block.add_new(4, 'UN', b'unknown\0')
    dataset.add_new(0x00091010, 'LO', 'no creator')
    dataset.add_new(0x0008fff0, 'UN', b'\1\2')
    dataset.add_new(0x00189998, 'US', [1, 2, 65535])
    dataset.RedPaletteColorLookupTableData = bytes(range(20))
    dataset.add_new(0x7fe10010, 'OB', b'after')
    stream = io.BytesIO()
    dataset.save_as(stream, write_like_original=False)
    return stream.getvalue()


@pytest.fixture(scope='module')
def servers(module_orthanc):
    """Each has one file stored that the rows know as DICOM, and its identifiers."""
    made = {}
    content = rich()
    for name in PLUGINS:
        server = made[name] = module_orthanc(name, script=rows.SCRIPT, config={
            'Dictionary': DICTIONARY, 'DefaultPrivateCreator': 'OpbDefault'})
        instance = server.upload(content)
        series = server.get('/instances/%s/series' % instance).json()['ID']
        study = server.get('/instances/%s/study' % instance).json()
        name_values(server, DICOM=content, INSTANCE=instance, SERIES=series, STUDY=study['ID'],
                    PATIENT=study['ParentPatient'])
    return made


@pytest.mark.smoke
def test_json_in_each_format_with_each_flag(servers):
    table = [('d = orthanc.CreateDicomInstance(DICOM)\nNone', None)]
    flags = [0, 1, 2, 4, 8, 16, 32, 64, 128, 2 | 4, 1 | 2 | 4, 1 | 2 | 4 | 16, 2 | 4 | 8 | 16, 1 | 8 | 32,
             2 | 4 | 64, 255, 256, -1, 2**32 + 2]
    for style in (1, 2, 3):
        for flag in flags:
            table.append(('d.GetInstanceAdvancedJson(%d, %d, 0)' % (style, flag), None))
            table.append(('orthanc.DicomBufferToJson(DICOM, %d, %d, 256)' % (style, flag), None))
        for length in (1, 5, 256, 2**32 - 1, -1):
            table.append(('d.GetInstanceAdvancedJson(%d, 6, %d)' % (style, length), None))
        for flag in (0, 1, 2 | 4 | 8 | 16, 255):
            table.append(('orthanc.DicomInstanceToJson(INSTANCE, %d, %d, 20)' % (style, flag), None))
    table += [('d.GetInstanceJson()', None), ('d.GetInstanceSimplifiedJson()', None)]
    table += [('orthanc.%s(%s, %d, 0, 0)' % (name, what, style), None) for style in (0, 4, -1)
              for name, what in (('DicomBufferToJson', 'DICOM'), ('DicomInstanceToJson', 'INSTANCE'))]
    table += [("orthanc.DicomBufferToJson(%s, 3, 0, 0)" % data, None) for data in (
        "b''", "b'garbage'", "DICOM[:100]", "DICOM[:-10]", "DICOM[:400]", "DICOM + b'more'", "'text'",
        "bytearray(DICOM)", "DICOM[132:]")]
    check(servers, table)


def test_stored_things_are_found(servers):
    table = [
        ("orthanc.LookupPatient('P1') == PATIENT", 'True'),
        ("orthanc.LookupStudy('1.2.3.4.5.9') == STUDY", 'True'),
        ("orthanc.LookupSeries('1.2.3.4.5.10') == SERIES", 'True'),
        ("orthanc.LookupInstance('1.2.3.4.5.8') == INSTANCE", 'True'),
        ("orthanc.LookupStudyWithAccessionNumber('A1') == STUDY", 'True'),
        ("orthanc.LookupPatient('P*')", INTERNAL), ("orthanc.LookupPatient('')", INTERNAL),
        ("orthanc.LookupPatient(' P1 ')", None), ("orthanc.LookupPatient('p1')", None),
        ("orthanc.LookupStudy('1.2.3.4.5.10')", INTERNAL), ("orthanc.LookupInstance(INSTANCE)", INTERNAL),
        ("orthanc.GetDicomForInstance(INSTANCE) == DICOM", 'True'),
        ("orthanc.GetDicomForInstance(STUDY)", None), ("orthanc.GetDicomForInstance('')", None),
        ("orthanc.DicomInstanceToJson(STUDY, 1, 0, 0)", None),
        ("import json\n[sorted(json.loads(orthanc.RestApiGet('/%s/%s' % x))) for x in ("
         "('patients', PATIENT), ('studies', STUDY), ('series', SERIES), ('instances', INSTANCE))]", None),
        ("json.loads(orthanc.RestApiGet('/instances/%s/simplified-tags' % INSTANCE))", None),
        ("orthanc.RestApiGet('/instances/%s/content/0008-1032/0/0008-0100' % INSTANCE)", None),
        ("orthanc.RestApiGet('/instances/%s/content/4011-1003' % INSTANCE)", None),
        ("orthanc.RestApiGet('/instances/%s/preview' % INSTANCE)", None),
        ("orthanc.RestApiGet('/instances/%s/frames/0/raw' % INSTANCE)", None),
        ("orthanc.RestApiGet('/instances/%s/frames/9/raw' % INSTANCE)", None),
        ("orthanc.RestApiPost('/tools/lookup', '1.2.3.4.5.8') == json.dumps([{'ID': INSTANCE}])", None),
        ("sorted(json.loads(orthanc.RestApiPost('/tools/find', json.dumps({'Level': 'Instance', "
         "'Expand': True, 'Query': {'PatientID': 'P*', 'SOPInstanceUID': '*'}})))[0]["
         "'MainDicomTags'].items())", None),
        # contract 1.5: one name up to 5.0, the other from 6.0 on
        ("c = orthanc.FindMatcher\n"
         "is_match = c.IsMatch if hasattr(c, 'IsMatch') else c.FindMatcherIsMatch\nNone", None),
    ]
    table += [("is_match(orthanc.CreateFindMatcher(orthanc.CreateDicom(json.dumps({'%s': '%s'}), "
               "None, 0)), DICOM)" % pair, None) for pair in (
                   ('PatientID', 'P1'), ('PatientID', 'P2'), ('PatientID', 'p1'), ('PatientName', '*'),
                   ('PatientName', 'm?ller*'), ('StudyDate', '20200101-20201231'), ('StudyDate', '-20191231'),
                   ('Modality', 'CT'), ('Modality', 'CT\\\\OT'), ('OpbConfigured', 'private text'))]
    check(servers, table)


def test_making_dicom_from_json(servers):
    """Flags, an image, private tags, sequences and what is refused."""
    # contract 1.5: up to 4.0 the official plugin has but one text for all that is refused
    refused = '(ValueError, orthanc.OrthancException)' if OFFICIAL_VERSION < (5, 0) else '()'
    table = [(r'''
import base64, json
def made(tags, image=None, flags=0):
    text = tags if isinstance(tags, str) else json.dumps(tags)
    try:
        d = orthanc.CreateDicomInstance(orthanc.CreateDicom(text, image, flags))
    except REFUSED:
        return 'refused'
    full = json.loads(d.GetInstanceAdvancedJson(1, 2 | 4 | 16, 0))
    for tag in ('0002,0003', '0002,0012', '0002,0013', '0008,0012', '0008,0013', '0008,0018', '0010,0020',
                '0020,000d', '0020,000e', '0020,0010', '0020,0011', '0020,0012', '0008,0050'):
        if tag in full and (flags & 2 or tag < '0009'):
            full[tag] = 'generated' if full[tag].get('Value') else full[tag]
    frames = 0
    if image is not None:
        frames = (d.GetInstanceFramesCount(), pixels(d.GetInstanceDecodedFrame(0)))
    return d.GetInstanceTransferSyntaxUid(), sorted(full.items()), frames
None'''.replace('REFUSED', refused), None)]
    tags = ("{}", "{'PatientID': 'A'}", "{'PatientName': 'M\\xfcller^\\u5c71'}",
            "{'SpecificCharacterSet': 'ISO_IR 192', 'PatientName': 'M\\xfcller^\\u5c71'}",
            "{'SpecificCharacterSet': 'ISO_IR 100', 'PatientName': 'M\\xfcller'}",
            "{'0010,0020': 'B', '0010-0010': 'C', '00100030': '20200101'}",
            "{'SOPClassUID': '1.2.840.10008.5.1.4.1.1.7', 'Modality': 'CT', 'SOPInstanceUID': '1.2.3'}",
            "{'OpbConfigured': 'text'}", "{'4011,1001': 'text'}",
            "{'OpbConfigured': 'a', 'OpbNumbers': '1\\\\2'}",
            "{'OpbNumbers': 'not a number'}", "{'0009,1001': 'x'}",
            "{'PatientName': 12}", "{'PatientName': None}", "{'PatientName': ['a']}", "[]", "12", "'\"x\"'",
            "{'NoSuchTag': 'x'}", "{'ProcedureCodeSequence': [{'CodeValue': '1'}, {}]}",
            "{'ProcedureCodeSequence': 'x'}", "{'ImageType': 'A\\\\B'}", "{'Rows': '12'}", "{'Rows': 'x'}",
            "{'StudyDate': 'not a date'}", "{'PixelData': 'data:image/png;base64,' + "
            "base64.b64encode(orthanc.CompressPngImage(1, 2, 2, 2, b'\\0\\1\\2\\3')).decode()}",
            "{'PixelData': 'data:application/octet-stream;base64,AAEC'}", "{'PixelData': 'raw'}", "'not json'",
            "''", "'{'", "'{\"PatientID\": \"\\\\ud800\"}'")
    for tag in tags:
        for flags in (0, 1, 2, 3):
            table.append(('made(%s, None, %d)' % (tag, flags), None))
    for kind in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11):
        table.append(('made({"PatientID": "I"}, orthanc.CreateImageFromBuffer(%d, 2, 2, 32, '
                      'bytes(range(64))), 2)' % kind, None))
    table += [('made({}, None, 4)', None), ('made({}, None, 99)', None), ('made({}, None, -1)', None),
              ('made({}, orthanc.CreateImage(1, 0, 0), 2)', None)]
    check(servers, table)


def test_the_dictionary(servers):
    table = [("orthanc.LookupDictionary('%s')" % name, None) for name in (
        'PatientID', 'patientid', '0010,0020', '00100020', '0010-0020', '7fe00010', '0010,00zz', 'Rows',
        'PixelData', 'OpbConfigured', 'OpbNumbers', '4011,1001', '4011-1001', '0009,0010', 'ffff,ffff', '0010',
        '', ' PatientID', 'ReferencedStudySequence', 'SpecificCharacterSet', 'FileMetaInformationVersion',
        'OverlayRows', '6002,0010', '0002,0010', '\\xe9')]
    table += [("orthanc.GetTagName(%s)" % arguments, None) for arguments in (
        "0x10, 0x10, ''", "0x4011, 0x1001, 'OpbCreator'", "0x4011, 0x1001, ''", "0x4011, 0x1001, 'Other'",
        "0x4011, 0x1099, 'OpbCreator'", "0xffff, 0xffff, ''", "0x6002, 0x10, ''", "0x9, 0x10, ''",
        "0x10, 0x10, 'OpbCreator'", "0x9, 0x1001, '\\xe9'", "0x7fe0, 0x10, ''", "0, 0, ''", "0x10, 0, ''")]
    for number, name in enumerate((
            'AE', 'AS', 'AT', 'CS', 'DA', 'DS', 'DT', 'FD', 'FL', 'IS', 'LO', 'LT', 'OB', 'OF', 'OW',
            'PN', 'SH', 'SL', 'SQ', 'SS', 'ST', 'TM', 'UI', 'UL', 'UN', 'US', 'UT')):
        table.append(("orthanc.RegisterDictionaryTag(0x4022, %d, orthanc.ValueRepresentation.%s, "
                      "'OpbPublic%s', 1, 1)" % (0x10 + 2 * number, name, name), None))
        table.append(("orthanc.RegisterPrivateDictionaryTag(0x4031, 0x%x, orthanc.ValueRepresentation.%s, "
                      "'OpbPrivate%s', 1, 2, 'OpbMaker')" % (0x1001 + number, name, name), None))
        table += [("(orthanc.LookupDictionary('OpbPublic%s'), orthanc.GetTagName(0x4022, %d, ''))" % (
            name, 0x10 + 2 * number), None),
                  ("orthanc.LookupDictionary('OpbPrivate%s')" % name, None),
                  ("(orthanc.GetTagName(0x4031, 0x%x, 'OpbMaker'))" % (0x1001 + number), None)]
    table += [("orthanc.Register%s" % call, None) for call in (
        "DictionaryTag(0x4022, 0x10, 11, 'OpbAgain', 1, 1)",
        "DictionaryTag(0x4021, 0x10, 11, 'OpbOdd0', 1, 1)",
        "DictionaryTag(0x10, 0x20, 11, 'OpbTaken', 1, 1)",
        "DictionaryTag(0x4042, 0x10, 11, 'PatientID', 1, 1)", "DictionaryTag(0x4042, 0x12, 99, 'OpbBad', 1, 1)",
        "DictionaryTag(0x4042, 0x14, 11, '', 1, 1)", "DictionaryTag(0x4042, 0x16, 11, 'OpbRange', 5, 2)",
        "DictionaryTag(0x4042, 0x18, 11, 'OpbAny', 1, 0)", "DictionaryTag(0x4042, 0x1a, 11, 'OpbMany', 0, 0)",
        "DictionaryTag(0x4042, 0x11, 11, 'OpbOdd', 1, 1)", "DictionaryTag(0x4043, 0x1011, 11, 'OpbOdd2', 1, 1)",
        "DictionaryTag(0x14042, 0x1c, 11, 'OpbWraps', 1, 1)",
        "DictionaryTag(0x4042, 0x1e, 11, 'Opb\\xe9', 1, 1)",
        "PrivateDictionaryTag(0x4031, 0x1001, 11, 'OpbTwice', 1, 1, 'OpbMaker')",
        "PrivateDictionaryTag(0x4031, 0x1001, 11, 'OpbElse', 1, 1, 'OpbOther')",
        "PrivateDictionaryTag(0x4030, 0x1001, 11, 'OpbEven', 1, 1, 'OpbMaker')",
        "PrivateDictionaryTag(0x4031, 0x0001, 11, 'OpbLow', 1, 1, 'OpbMaker')",
        "PrivateDictionaryTag(0x4033, 0x1001, 11, 'OpbNone', 1, 1, '')",
        "PrivateDictionaryTag(0x4035, 0x1001, 99, 'OpbBadVr', 1, 1, 'OpbMaker')",
        "PrivateDictionaryTag(0x4035, 0x1002, 11, 'OpbRange2', 3, 2, 'OpbMaker')")]
    table += [("orthanc.LookupDictionary('%s')" % name, None) for name in (
        'OpbAgain', 'OpbTaken', 'OpbAny', 'OpbMany', 'OpbWraps', 'OpbElse', 'OpbEven', 'OpbNone', 'Opb\\xe9')]
    table += [("(orthanc.GetTagName(0x4031, 0x1001, 'OpbOther'))", None),
              ("import json\njson.loads(orthanc.RestApiGet('/instances/%s/tags?simplify' % INSTANCE))", None),
              # the new names work in files
              ("d = orthanc.CreateDicomInstance(orthanc.CreateDicom('{\"OpbPublicLO\": \"new\"}', None, 0))\n"
               "json.loads(d.GetInstanceAdvancedJson(3, 6, 0))['OpbPublicLO']", "'new'")]
    check(servers, table)


LATER = since((1, 12, 7), (5, 0), [
    ("d = orthanc.LoadDicomInstance(INSTANCE, orthanc.LoadDicomInstanceMode.%s)\n(d.GetInstanceSize(), "
     "d.HasInstancePixelData(), d.GetInstanceFramesCount(), d.GetInstanceData() == DICOM)" % mode, None)
    for mode in ('WHOLE_DICOM', 'UNTIL_PIXEL_DATA', 'EMPTY_PIXEL_DATA')]) + since((1, 12, 7), (5, 0), [
        ("d.GetInstanceAdvancedJson(1, 6, 0)", None),
        ("orthanc.LoadDicomInstance('nope', 1)", None), ("orthanc.LoadDicomInstance(STUDY, 1)", None),
        ("orthanc.LoadDicomInstance(INSTANCE, 99)", None),
        ("c = orthanc.CreateDicom2('{\"4011,1001\": \"x\"}', None, 2, 'OpbCreator')\n"
         "orthanc.CreateDicomInstance(c).HasInstancePixelData()", None),
        ("import json\nj = json.loads(orthanc.DicomBufferToJson(c, 1, 6, 0))\n"
         "(j['4011,1001'], j.get('4011,0010'))", None),
        ("orthanc.CreateDicom2('not json', None, 0, '')", None)])


@pytest.mark.skipif(not LATER,
                    reason='contract, appendix A: LoadDicomInstance is of 1.12.1, plugin 5.0')
def test_instances_loaded_from_the_server(servers):
    check(servers, LATER)


@pytest.mark.ours
def test_objects_of_every_class_are_let_go(orthanc):
    """Contract 2.6: as many are given back to the core as it made, whatever became of them."""
    server = orthanc(script=rows.SCRIPT, config={'PythonVerbose': True})
    name_values(server, DICOM=rich())
    counts = {'Image': 0, 'DicomInstance': 0, 'FindMatcher': 0, 'Peers': 0}

    def written(verb):
        log = server.log()
        return {name: log.count('%s Python object of class OrthancPlugin%s' % (verb, name))
                for name in counts}

    def let_go(code, **made):
        for name, count in made.items():
            counts[name] += count
        check({'ours': server}, [('import gc\n%s\ngc.collect()\n1' % code, '1')])
        for verb in ('Creating', 'Destroying'):
            # what other threads of the script have posted may be logged after the answer
            with contextlib.suppress(Timeout):
                wait_until(lambda verb=verb: written(verb) == counts, 10, 'the log')
            assert written(verb) == counts, (verb, code)

    let_go('for n in range(30):\n    i = orthanc.CreateImageFromBuffer(4, 20, 10, 60, bytes(600))\n'
           '    k = i.ConvertPixelFormat(1)\n    k.DrawText(0, "x", 0, 0, 1, 1, 1)\n'
           '    u = orthanc.UncompressImage(orthanc.CompressPngImage(1, 5, 3, 5, bytes(15)), 0)\n'
           'del i, k, u', Image=90)
    let_go('for n in range(30):\n    d = orthanc.CreateDicomInstance(DICOM)\n'
           '    t = orthanc.TranscodeDicomInstance(DICOM, "1.2.840.10008.1.2")\n'
           '    f = [d.GetInstanceDecodedFrame(0), orthanc.DecodeDicomImage(DICOM, 0)]\ndel d, t, f',
           DicomInstance=60, Image=60)
    let_go('many = [orthanc.CreateFindMatcher(orthanc.CreateDicom("{}", None, 0)) for n in range(30)]\n'
           'many += [orthanc.GetPeers() for n in range(30)]\nmany.append(many)\ndel many',
           FindMatcher=30, Peers=30)
    let_go('for n in range(30):\n    try:\n        i = orthanc.CreateImage(1, 4, 4)\n'
           '        i.ConvertPixelFormat(99)\n    except orthanc.OrthancException as e:\n        pass\n'
           '    try:\n        orthanc.CreateImage(99, 4, 4)\n'
           '    except orthanc.OrthancException:\n        pass\n'
           'del i', Image=30)
    let_go('from threading import Thread\nl = []\n'
           't = [Thread(target=lambda l=l: l.append(orthanc.CreateImage(1, 9, 9))) for n in range(8)]\n'
           '[x.start() for x in t]\n[x.join() for x in t]\nl.clear()\ndel t', Image=8)

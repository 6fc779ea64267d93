# SPDX-License-Identifier: GPL-3.0-or-later
"""C-FIND requests answered by a script (contract 3.8)."""

import json
import os
import re
import signal
import time

import pydicom
import pytest

import dicom
from compare import assert_same
from conftest import PLUGINS
from server import PID_ROUTE, wait_until

# As dcmtk puts it
SUCCESS = 'Success'
CANCEL = 'Cancel: MatchingTerminatedDueToCancelRequest'
FAILED = 'Failed: UnableToProcess'
CONFIG = {'DicomAlwaysAllowFind': True}

SCRIPT = r'''
import json
import os
import orthanc

SEEN = []
KEPT = []

def describe(query):
    return [[query.GetFindQueryTagGroup(i), query.GetFindQueryTagElement(i),
             query.GetFindQueryTagName(i), query.GetFindQueryValue(i)]
            for i in range(query.GetFindQuerySize())]

def answer(answers, patient):
    answers.FindAddAnswer(orthanc.CreateDicom(json.dumps({
        'PatientID': patient, 'PatientName': 'Name of ' + patient,
        'SpecificCharacterSet': 'ISO_IR 192'}), None, orthanc.CreateDicomFlags.NONE))

def indices(query):
    found = []
    for name in ('GetFindQueryTagGroup', 'GetFindQueryTagElement', 'GetFindQueryTagName',
                 'GetFindQueryValue'):
        try:
            found.append(repr(getattr(query, name)(1000)))
        except Exception as e:
            found.append(type(e).__name__ + str(e.args))
    return found

def on_find(answers, query, issuer_aet, called_aet):
    rows = describe(query)
    values = {row[2]: row[3] for row in rows}
    SEEN.append([type(answers).__name__, type(query).__name__, issuer_aet, called_aet, rows,
                 indices(query)])
    action = values.get('PatientID', '')
    if action == 'NONE':
        return
    if action == 'DIE':
        answer(answers, 'first')
        os.kill(os.getpid(), 9)
    if action == 'EXIT':
        raise SystemExit(3)
    if action == 'KEEP':
        KEPT[:] = [answers, query]
    if action == 'GARBAGE':
        answers.FindAddAnswer(b'not DICOM')
    for index in range(3):
        answer(answers, '%s-%d' % (action, index))
        if action == 'RAISE' and index == 1:
            raise KeyError('some error')
    if action == 'CANCEL':
        answers.FindMarkIncomplete()
    return 'anything'

def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')

def stale(output, uri, **request):
    found = []
    for function in (lambda: KEPT[0].FindMarkIncomplete(), lambda: KEPT[0].FindAddAnswer(b''),
                     lambda: KEPT[1].GetFindQuerySize(), lambda: KEPT[1].GetFindQueryTagGroup(0),
                     lambda: KEPT[1].GetFindQueryValue(0)):
        try:
            function()
            found.append('returned')
        except Exception as e:
            found.append(type(e).__name__ + str(e.args))
    output.AnswerBuffer(json.dumps(found), 'application/json')

orthanc.RegisterFindCallback(on_find)
orthanc.RegisterRestCallback('/seen', seen)
orthanc.RegisterRestCallback('/stale', stale)
''' + PID_ROUTE


@pytest.fixture(scope='module')
def servers(module_orthanc):
    return {name: module_orthanc(name, script=SCRIPT, dicom=True, config=CONFIG) for name in PLUGINS}


def find(server, patient, *keys, **kwargs):
    """(final status, the PatientIDs of the answers)."""
    result = dicom.findscu(server, 'QueryRetrieveLevel=PATIENT', 'PatientID=' + patient,
                           'PatientName', *keys, **kwargs)
    return dicom.find_outcome(result)


# (PatientID of the request, final status, number of answers)
OUTCOMES = [('NONE', SUCCESS, 0), ('PLAIN', SUCCESS, 3),
            ('CANCEL', CANCEL, 3), ('RAISE', FAILED, 0),
            ('GARBAGE', FAILED, 0)]


@pytest.mark.smoke
@pytest.mark.parametrize('action, status, count', OUTCOMES)
def test_what_the_peer_gets(servers, action, status, count):
    results = {name: find(server, action) for name, server in servers.items()}
    assert_same(results)
    for found in results.values():
        assert found == (status, ['%s-%d' % (action, i) for i in range(count)])


def test_an_exception_is_logged_with_its_traceback(servers):
    for server in servers.values():
        start = len(server.log())
        find(server, 'RAISE')
        server.wait_for_log(r"Error in the Python C-FIND SCP callback, traceback:\n"
                            r"<class 'KeyError'>\n'some error'", start=start)
        find(server, 'GARBAGE')
        server.wait_for_log(r"OrthancException'>\n\(15, 'Bad file format'\)", start=start)


def test_what_the_script_receives(servers):
    results = {}
    for name, server in servers.items():
        before = len(server.get('/seen').json())
        find(server, 'NONE', r'ModalitiesInStudy=CT\MR', 'StudyDate=20200101-')
        find(server, 'NONE', aet='SECOND')
        find(server, 'NONE', 'SpecificCharacterSet=ISO_IR 192', 'PatientName=J\u00f6rg^\u65e5')
        find(server, 'NONE', b'PatientName=J\xf6rg')    # no character set is declared
        results[name] = server.get('/seen').json()[before:]
    assert_same(results)
    for rows in results.values():
        first = rows[0]
        assert first[:4] == ['FindAnswers', 'FindQuery', 'TESTER', 'ORTHANC']
        assert [0x8, 0x61, 'ModalitiesInStudy', 'CT\\MR'] in first[4]
        assert [0x10, 0x20, 'PatientID', 'NONE'] in first[4]
        assert first[5][:2] == ["ValueError('Index is out of range',)"] * 2
        assert rows[1][2] == 'SECOND'
        assert [0x10, 0x10, 'PatientName', 'J\u00f6rg^\u65e5'] in rows[2][4]
        assert [0x10, 0x10, 'PatientName', 'J\u00f6rg'] in rows[3][4]


READING = r'''
import json
import threading
import orthanc

SEEN = []
NAMES = ('GetFindQueryTagGroup', 'GetFindQueryTagElement', 'GetFindQueryTagName', 'GetFindQueryValue')

def attempt(function, *args):
    try:
        value = function(*args)
        return [type(value).__name__, value]
    except Exception as e:
        return type(e).__name__ + str(e.args)

def read(query):
    size = query.GetFindQuerySize()
    rows = [[name] + [attempt(getattr(query, name), i) for i in range(size)] for name in NAMES]
    for name in NAMES:
        get = getattr(query, name)
        odd = [(), (0, 0), (0, 'x'), ('0',), (None,), (1.0,), (-1,), (size,), (size - 1,), (2 ** 32,),
               (2 ** 32 + 1,), (2 ** 31,), (2 ** 70,), (True,), (b'1',)]
        rows.append([name] + [attempt(get, *args) for args in odd])
    rows.append([attempt(query.GetFindQuerySize), attempt(query.GetFindQuerySize, 1)])
    return rows

def on_find(answers, query, issuer_aet, called_aet):
    first = read(query)
    others = []
    threads = [threading.Thread(target=lambda: others.append(read(query))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    SEEN.append([first, all(rows == first for rows in others + [read(query)])])

def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')

orthanc.RegisterFindCallback(on_find)
orthanc.RegisterRestCallback('/seen', seen)
'''


def queries(directory):
    """Of all kinds: many tags, empty ones, numbers, sequences, private ones, bytes, character sets."""
    item = pydicom.Dataset()
    item.StudyDate = '20200101'
    common = {'QueryRetrieveLevel': 'STUDY', 'PatientID': 'X', 'PatientName': None}
    many = {word: None for word in (
        'StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName StudyDescription '
        'PatientBirthDate PatientSex PatientAge PatientWeight StudyID OtherPatientIDs InstitutionName '
        'PhysiciansOfRecord AdmittingDiagnosesDescription PatientComments NumberOfStudyRelatedInstances').split()}
    long = {'PatientComments': 'x' * 5000, 'AdditionalPatientHistory': 'y' * 9000, 'ImageComments': 'z' * 5000,
            'StudyComments': 'last'}
    sequences = {'RequestAttributesSequence': pydicom.Sequence([item]),
                 'ReferencedStudySequence': pydicom.Sequence([]), 'ScheduledProcedureStepSequence': None}
    numbers = {'Rows': 12, 'Columns': None, 'PatientWeight': '3.5', 'FrameIncrementPointer': 0x00181063,
               'RegionLocationMinX0': 7, 'AcquisitionMatrix': [1, 2, 3, 4],
               'RecommendedDisplayFrameRateInFloat': 1.5, 'InstanceNumber': '1'}
    return [dicom.make_query(directory / name, private, **common, **tags) for name, private, tags in (
        ('few', (), {}),
        ('many', (), {**many, 'StudyInstanceUID': '1.2.3', 'ModalitiesInStudy': ['CT', 'MR']}),
        ('long', (), long),
        ('sequences', (), sequences),
        ('numbers', (), numbers),
        ('private', [(1, 'LO', 'text'), (2, 'UN', b'\1\2\3\4'), (3, 'OB', b'\1\2'), (4, 'LO', '')], {}),
        ('bytes', (), {'SpectroscopyData': b'\0\1\2\3', 'EncapsulatedDocument': b'\0\1', 'StudyDescription': 'after'}),
        ('latin', (), {'SpecificCharacterSet': 'ISO_IR 100', 'StudyDescription': 'J\u00f6rg', 'StudyID': 'S'}),
        ('utf8', (), {'SpecificCharacterSet': 'ISO_IR 192', 'StudyDescription': 'J\u00f6rg \u65e5\u672c'}))]


def test_every_accessor_gives_what_the_query_says(both, tmp_path):
    """What was sent along with the call, and what was not, is as it was asked for one by one."""
    paths = queries(tmp_path)

    def action(server):
        for path in paths:
            assert dicom.find_outcome(dicom.findscu_file(server, path))[0] == SUCCESS
        dicom.findscu(server, 'QueryRetrieveLevel=STUDY', 'PatientID=Y',
                      *('(%04x,%04x)' % (0x0028, 0x1050 + 1 + i) for i in range(4)),
                      *('(0018,%04x)' % (0x1000 + i) for i in range(200)))
        dicom.findscu(server, 'QueryRetrieveLevel=STUDY', b'StudyDescription=J\xf6rg')
        return server.get('/seen').json()

    results = both(action, script=READING, dicom=True, config=CONFIG)
    for index in range(len(paths) + 2):
        rows = {name: requests[index][0] for name, requests in results.items()}
        for each in range(len(rows['ours'])):   # what differs is named, and not buried in thousands
            assert_same({name: [index, row[each]] for name, row in rows.items()})
    for requests in results.values():
        assert len(requests) == len(paths) + 2
        assert all(same for _, same in requests)
        assert len(requests[-2][0][0]) > 200 and len(requests[1][0][0]) > 20
        assert ['str', 'J\u00f6rg \u65e5\u672c'] in requests[8][0][3]
        assert ['str', 'x' * 5000] in requests[2][0][3] and ['str', 'last'] in requests[2][0][3]


def test_a_query_that_nobody_reads_leaves_no_error_in_the_log(both, tmp_path):
    """Orthanc logs each value that it cannot tell: only a script may cause that."""
    quiet = READING.replace('def on_find(answers, query, issuer_aet, called_aet):',
                            'def on_find(answers, query, issuer_aet, called_aet):\n    return')
    paths = queries(tmp_path)

    def action(server):
        for path in paths:
            assert dicom.find_outcome(dicom.findscu_file(server, path))[0] == SUCCESS
        return [line for line in server.log().splitlines() if line.startswith('E')]

    results = both(action, script=quiet, dicom=True, config=CONFIG)
    assert_same(results)
    assert results.get('ours', []) == []


@pytest.mark.ours
def test_objects_of_a_request_that_is_over_are_invalid(servers):
    """Contract 2.6: the official plugin crashes the server."""
    server = servers['ours']
    assert find(server, 'KEEP')[1] == ['KEEP-0', 'KEEP-1', 'KEEP-2']
    assert server.get('/stale').json() == ["ValueError('Invalid object',)"] * 5


def test_worklists_are_not_offered_without_a_callback(servers):
    for server in servers.values():
        result = dicom.findscu(server, 'PatientID', model='-W')
        assert 'No Acceptable Presentation Contexts' in result.stdout


@pytest.mark.ours
def test_a_host_that_dies_fails_the_request_and_the_next_one_works(orthanc):
    server = orthanc(script=SCRIPT, dicom=True, config=CONFIG)
    start = time.monotonic()
    assert find(server, 'DIE') == (FAILED, [])
    assert time.monotonic() - start < 5
    server.wait_for_log('was killed by signal 9 .* during the Python C-FIND SCP callback for TESTER')
    assert find(server, 'PLAIN')[1] == ['PLAIN-0', 'PLAIN-1', 'PLAIN-2']
    assert find(server, 'EXIT') == (FAILED, [])


@pytest.mark.ours
def test_without_a_host_a_request_fails(orthanc):
    server = orthanc(script=SCRIPT, dicom=True, config=CONFIG, python={'QueueTimeout': 1})
    host = server.host_pid()
    os.kill(server.supervisor(), signal.SIGSTOP)
    try:
        os.kill(host, signal.SIGKILL)
        assert find(server, 'PLAIN') == (FAILED, [])
        server.wait_for_log('The Python C-FIND SCP callback for TESTER was not run: no host')
    finally:
        os.kill(server.supervisor(), signal.SIGCONT)


TWICE = r'''
import orthanc
def on_find(answers, query, issuer_aet, called_aet):
    print('called', flush=True)
orthanc.RegisterFindCallback(on_find)
for wrong in ((), (on_find, on_find), (on_find,)):
    try:
        orthanc.RegisterFindCallback(*wrong)
    except Exception as e:
        print(repr(e), flush=True)
'''


def test_registering(both):
    def action(server):
        find(server, 'x')
        server.wait_for_out('^called$')
        server.wait_for_log('Registering one Python C-FIND SCP callback$')
        return server.out()
    results = both(action, script=TWICE, dicom=True, config=CONFIG)
    assert_same(results)
    for text in results.values():
        assert text.splitlines()[:3] == [
            "ValueError('Expected a callback function to register one Python C-FIND SCP callback')",
            "ValueError('Expected a callback function to register one Python C-FIND SCP callback')",
            "RuntimeError('Can only register one Python C-FIND SCP callback')"]


LATE = r'''
import orthanc
def on_find(answers, query, issuer_aet, called_aet):
    print('called', flush=True)
def register(output, uri, **request):
    output.AnswerBuffer(repr(orthanc.RegisterFindCallback(on_find)), 'text/plain')
orthanc.RegisterRestCallback('/register', register)
'''


def test_registering_after_the_start_has_no_effect(both):
    def action(server):
        text = server.get('/register').text
        server.upload(dicom.make_dicom(PatientID='CORE'))
        found = find(server, '*')
        if server.plugin == 'ours':
            server.wait_for_log('The Python C-FIND SCP callback was registered after the start of '
                                'Orthanc: it needs a restart of Orthanc')
        return text, found, server.out()
    results = both(action, script=LATE, dicom=True, config=CONFIG)
    assert_same(results)
    for result in results.values():
        assert result == ('None', (SUCCESS, ['CORE']), '')


CHANGING = r'''
import os
import orthanc
MARK = os.path.join(os.path.dirname(__file__), 'second')
def on_find(answers, query, issuer_aet, called_aet):
    print('called', flush=True)
if not os.path.exists(MARK):
    open(MARK, 'w').close()
    orthanc.RegisterFindCallback(on_find)
''' + PID_ROUTE


@pytest.mark.ours
def test_a_host_that_no_longer_registers_it_refuses(orthanc):
    server = orthanc(script=CHANGING, dicom=True, config=CONFIG)
    assert find(server, 'x') == (SUCCESS, [])
    os.kill(server.host_pid(), signal.SIGKILL)
    server.wait_for_log('The new host has not registered the Python C-FIND SCP callback')
    assert find(server, 'x') == (FAILED, [])
    server.wait_for_log('A C-FIND request was refused: the script that runs now')


PROXY = r'''
import json
import orthanc

def on_find(answers, query, issuer_aet, called_aet):
    wanted = {query.GetFindQueryTagName(i): query.GetFindQueryValue(i)
              for i in range(query.GetFindQuerySize())
              if query.GetFindQueryTagName(i) != 'QueryRetrieveLevel'}
    done = json.loads(orthanc.RestApiPost('/modalities/other/query', json.dumps(
        {'Level': 'Patient', 'Query': wanted})))
    for index in json.loads(orthanc.RestApiGet(done['Path'] + '/answers')):
        tags = json.loads(orthanc.RestApiGet('%s/answers/%s/content?simplify' % (done['Path'], index)))
        answers.FindAddAnswer(orthanc.CreateDicom(json.dumps(
            {'PatientID': tags['PatientID'], 'PatientName': tags['PatientName']}),
            None, orthanc.CreateDicomFlags.NONE))

orthanc.RegisterFindCallback(on_find)
'''


def test_a_handler_that_queries_a_second_server(orthanc, plugin):
    """Two scripts in a chain: the second server answers with a script of its own."""
    second = orthanc(plugin, script=SCRIPT, dicom=True, config=CONFIG)
    server = orthanc(plugin, script=PROXY, dicom=True, config={**CONFIG, 'DicomModalities': {
        'other': ['ORTHANC', '127.0.0.1', second.dicom_port]}})
    assert find(server, 'PLAIN') == (SUCCESS, ['PLAIN-0', 'PLAIN-1', 'PLAIN-2'])
    assert find(server, 'RAISE')[0] == FAILED


ITSELF = PROXY.replace('modalities/other', 'modalities/self')


@pytest.mark.ours
def test_a_handler_that_queries_its_own_server_ends_by_the_timeout(orthanc):
    """The core serves one C-FIND at a time: the second waits until the first gives up."""
    directory = orthanc.make(script=ITSELF, dicom=True, config=CONFIG)
    directory.extra_config = {**CONFIG, 'DicomScuTimeout': 2}
    server = directory.start()
    put = server.put('/modalities/self', json.dumps(
        {'AET': 'ORTHANC', 'Host': '127.0.0.1', 'Port': server.dicom_port, 'Timeout': 2}))
    assert put.status_code == 200, put.text
    start = time.monotonic()
    assert find(server, 'x')[0] == FAILED
    assert time.monotonic() - start < 30
    wait_until(lambda: server.get('/system').status_code == 200, 5, 'the server')
    assert re.search(r'C-FIND', server.log())

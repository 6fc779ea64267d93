# SPDX-License-Identifier: GPL-3.0-or-later
"""C-MOVE requests handled by a script (contract 3.10).

The official plugin 4.0 has version 1 only; what is said about version 2 is what 5.0 and 7.1 do.
"""

import json
import os
import re
import signal
import time

import pytest

import dicom
from compare import assert_same
from conftest import PLUGINS
from server import PATIENCE, PID_ROUTE, is_alive, wait_until

SUCCESS = 'Success'
WARNING = 'Warning: SubOperationsCompleteOneOrMoreFailures'
FAILED = 'Failed: UnableToProcess'
CONFIG = {'DicomAlwaysAllowMove': True}

FIRST = r'''
import json
import os
import orthanc

SEEN = []

def hang_here():
    print('hanging', flush=True)
    while True:
        pass

def on_move(*args, **request):
    SEEN.append([len(args), list(request), request, [type(v).__name__ for v in request.values()]])
    action = request['PatientID']
    if action == 'RAISE':
        raise KeyError('some error')
    if action == 'DIE':
        os.kill(os.getpid(), 9)
    if action == 'HANG':
        hang_here()
    return action

def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')

orthanc.RegisterMoveCallback(on_move)
orthanc.RegisterRestCallback('/seen', seen)
''' + PID_ROUTE


@pytest.fixture(scope='module')
def servers(module_orthanc):
    return {name: module_orthanc(name, script=FIRST, dicom=True, config=CONFIG) for name in PLUGINS}


def move(server, patient, *keys, level='STUDY', **kwargs):
    keys = ('PatientID=' + patient,) + keys
    if level is not None:
        keys = ('QueryRetrieveLevel=' + level,) + keys
    return dicom.move_outcome(dicom.movescu(server, *keys, **kwargs))


@pytest.mark.parametrize('action, level, outcome', [
    ('PLAIN', 'STUDY', (SUCCESS, 0)), ('RAISE', 'STUDY', (WARNING, 0)),
    ('PLAIN', None, (WARNING, 0)), ('PLAIN', 'FOO', (FAILED, 0))])
def test_what_the_peer_gets(servers, action, level, outcome):
    results = {name: move(server, action, level=level) for name, server in servers.items()}
    assert_same(results)
    assert set(results.values()) == {outcome}


def test_an_exception_is_logged_with_its_traceback(servers):
    for server in servers.values():
        start = len(server.log())
        move(server, 'RAISE')
        server.wait_for_log(r"Error in the Python C-MOVE SCP callback( \(v1\))?, traceback:\n"
                            r"<class 'KeyError'>\n'some error'", start=start)


def test_what_the_script_receives(servers):
    results = {}
    for name, server in servers.items():
        before = len(server.get('/seen').json())
        for level in ('PATIENT', 'STUDY', 'SERIES', 'IMAGE'):
            move(server, 'PLAIN', level=level)
        move(server, '', r'StudyInstanceUID=1.2\1.3', 'SeriesInstanceUID=1.4', 'SOPInstanceUID=1.5',
             'AccessionNumber=A', aet='SECOND', target='THIRD')
        move(server, 'PLAIN', level='FOO')    # never reaches the script
        move(server, 'PLAIN', level=None)
        results[name] = server.get('/seen').json()[before:]
    assert_same(results)
    for rows in results.values():
        assert [row[2]['Level'] for row in rows] == ['PATIENT', 'STUDY', 'SERIES', 'INSTANCE', 'STUDY']
        assert rows[0][:2] == [0, [
            'Level', 'PatientID', 'AccessionNumber', 'StudyInstanceUID', 'SeriesInstanceUID',
            'SOPInstanceUID', 'OriginatorAET', 'SourceAET', 'TargetAET', 'OriginatorID']]
        assert rows[0][3] == ['str'] * 9 + ['int']
        assert rows[4][2] == {
            'Level': 'STUDY', 'PatientID': '', 'AccessionNumber': 'A', 'StudyInstanceUID': '1.2\\1.3',
            'SeriesInstanceUID': '1.4', 'SOPInstanceUID': '1.5', 'OriginatorAET': 'SECOND',
            'SourceAET': 'ORTHANC', 'TargetAET': 'THIRD', 'OriginatorID': 1}


def test_text_without_a_character_set_is_taken_as_latin_1(servers):
    results = {}
    for name, server in servers.items():
        before = len(server.get('/seen').json())
        keys = ['QueryRetrieveLevel=STUDY', b'PatientID=\xff\xfe']
        results[name] = [dicom.move_outcome(dicom.movescu(server, *keys)),
                         server.get('/seen').json()[before:]]
    assert_same(results)
    for outcome, rows in results.values():
        assert outcome == (SUCCESS, 0) and rows[0][2]['PatientID'] == '\xff\xfe'


@pytest.mark.ours
def test_a_host_that_dies_fails_the_one_sub_operation(orthanc):
    server = orthanc(script=FIRST, dicom=True, config=CONFIG)
    assert move(server, 'DIE') == (WARNING, 0)
    server.wait_for_log(r'during the Python C-MOVE SCP callback \(v1\)')
    assert move(server, 'PLAIN') == (SUCCESS, 0)


SECOND = r'''
import gc
import json
import os
import orthanc

EVENTS = []
LIVING = []

def hang_here():
    print('hanging', flush=True)
    while True:
        pass

class Driver:
    def __init__(self, request):
        self.action, *rest = request['PatientID'].split('^')
        self.count = int(rest[0]) if rest else 0
        self.done = 0
        LIVING.append(1)

    def __del__(self):
        LIVING.pop()

def create(**request):
    EVENTS.append(['create', list(request)])
    if request['PatientID'] == 'RAISE':
        raise KeyError('create')
    if request['PatientID'] == 'NONE':
        return None
    if request['PatientID'] == 'DIE':
        os.kill(os.getpid(), 9)
    if request['PatientID'] == 'HANG':
        hang_here()
    return Driver(request)

def size(driver):
    EVENTS.append(['size'])
    if driver is None:
        return 1
    if driver.action == 'SIZE-DIE':
        os.kill(os.getpid(), 9)
    if driver.action == 'SIZE-HANG':
        hang_here()
    if driver.action == 'SIZE-RAISE':
        raise KeyError('size')
    return {'SIZE-NONE': None, 'SIZE-TEXT': '3', 'SIZE-TRUE': True, 'SIZE-HUGE': 2 ** 40,
            'SIZE-NEGATIVE': -1}.get(driver.action, driver.count)

def apply(driver):
    EVENTS.append(['apply'])
    if driver is None:
        return
    driver.done += 1
    if driver.action == 'APPLY-RAISE' and driver.done == 2 or driver.action == 'SIZE-NEGATIVE':
        raise KeyError('apply')
    if driver.action == 'APPLY-DIE' and driver.done == 2:
        os.kill(os.getpid(), 9)
    if driver.action == 'APPLY-HANG' and driver.done == 2:
        hang_here()
    return orthanc.ErrorCode.SUCCESS if driver.done == 1 else 17

def free(driver):
    EVENTS.append(['free'])
    if driver is not None and driver.action == 'FREE-RAISE':
        raise KeyError('free')
    if driver is not None and driver.action == 'FREE-HANG':
        hang_here()

def events(output, uri, **request):
    gc.collect()
    output.AnswerBuffer(json.dumps([EVENTS, len(LIVING)]), 'application/json')

orthanc.RegisterMoveCallback2(create, size, apply, free)
orthanc.RegisterRestCallback('/events', events)
''' + PID_ROUTE

SIZE_FAILS = ['create', 'size', 'free']


@pytest.fixture(scope='module')
def driver_server(module_orthanc):
    return module_orthanc(script=SECOND, dicom=True, config=CONFIG)


@pytest.mark.ours
@pytest.mark.parametrize('patient, outcome, calls', [
    ('PLAIN^3', (SUCCESS, 2), ['create', 'size', 'apply', 'apply', 'apply', 'free']),
    ('PLAIN^1', (SUCCESS, 0), ['create', 'size', 'apply', 'free']),
    ('PLAIN^0', (SUCCESS, 0), ['create', 'size', 'free']),
    ('NONE', (SUCCESS, 0), ['create', 'size', 'apply', 'free']),
    ('RAISE', (FAILED, 0), ['create']),
    ('SIZE-TRUE', (SUCCESS, 0), ['create', 'size', 'apply', 'free']),
    ('SIZE-RAISE', (WARNING, 0), SIZE_FAILS),
    ('SIZE-NONE', (WARNING, 0), SIZE_FAILS),
    ('SIZE-TEXT', (WARNING, 0), SIZE_FAILS),
    ('SIZE-HUGE', (WARNING, 0), SIZE_FAILS),
    ('SIZE-NEGATIVE', (WARNING, 0), ['create', 'size', 'apply', 'free']),
    ('APPLY-RAISE^3', (WARNING, 1), ['create', 'size', 'apply', 'apply', 'free']),
    ('FREE-RAISE^1', (SUCCESS, 0), ['create', 'size', 'apply', 'free'])])
def test_what_the_peer_gets_from_a_driver(driver_server, patient, outcome, calls):
    before = len(driver_server.get('/events').json()[0])
    assert move(driver_server, patient) == outcome

    def done():
        events, living = driver_server.get('/events').json()
        return living == 0 and [event[0] for event in events[before:]] == calls
    wait_until(done, 5, 'the driver to be freed')


@pytest.mark.ours
def test_create_receives_the_keywords_of_version_1(driver_server):
    move(driver_server, 'PLAIN^0')
    created = [event for event in driver_server.get('/events').json()[0] if event[0] == 'create']
    assert created[-1][1] == [
        'Level', 'PatientID', 'AccessionNumber', 'StudyInstanceUID', 'SeriesInstanceUID',
        'SOPInstanceUID', 'OriginatorAET', 'SourceAET', 'TargetAET', 'OriginatorID']


@pytest.mark.ours
def test_a_driver_without_a_level_is_refused(driver_server):
    before = len(driver_server.get('/events').json()[0])
    assert move(driver_server, 'PLAIN^1', level=None) == (FAILED, 0)
    driver_server.wait_for_log('A C-MOVE request without a query/retrieve level was refused')
    assert len(driver_server.get('/events').json()[0]) == before


@pytest.mark.ours
@pytest.mark.parametrize('patient, text', [
    ('RAISE', r'Create v2\), traceback:'), ('SIZE-RAISE', r'GetMoveSize\), traceback:'),
    ('APPLY-RAISE^3', r'Apply\), traceback:'), ('FREE-RAISE^1', r'Free\), traceback:'),
    ('SIZE-NONE', r'GetMoveSize\) has not returned an int as expected')])
def test_errors_of_a_driver_are_logged(driver_server, patient, text):
    start = len(driver_server.log())
    move(driver_server, patient)
    driver_server.wait_for_log(r'Python C-MOVE SCP callback \(' + text, start=start)


@pytest.mark.ours
@pytest.mark.parametrize('patient, outcome', [
    ('DIE', (FAILED, 0)), ('SIZE-DIE', (WARNING, 0)), ('APPLY-DIE^5', (WARNING, 1))])
def test_a_driver_dies_with_its_host(orthanc, patient, outcome):
    server = orthanc(script=SECOND, dicom=True, config=CONFIG)
    start = time.monotonic()
    assert move(server, patient) == outcome
    assert time.monotonic() - start < 5
    assert move(server, 'PLAIN^2') == (SUCCESS, 1)
    events, living = server.get('/events').json()
    assert [event[0] for event in events] == ['create', 'size', 'apply', 'apply', 'free'] and not living
    assert server.stop() == 0


# Free has no result: what the sub-operations have done stands, and the peer is told that.
LATE = [
    (FIRST, 'HANG', (WARNING, 0), '(v1)', 'on_move'),
    (SECOND, 'HANG', (FAILED, 0), '(Create v2)', 'create'),
    (SECOND, 'SIZE-HANG', (WARNING, 0), '(GetMoveSize)', 'size'),
    (SECOND, 'APPLY-HANG^5', (WARNING, 1), '(Apply)', 'apply'),
    (SECOND, 'FREE-HANG^2', (SUCCESS, 1), '(Free)', 'free'),
]


@pytest.mark.ours
@pytest.mark.survival
@pytest.mark.parametrize('script, patient, outcome, step, function', LATE, ids=[
    'v1', 'create', 'size', 'apply', 'free'])
def test_a_step_that_hangs_ends_with_its_host(orthanc, script, patient, outcome, step, function):
    """The peer has its status, the log where it hung, others are served, and the next one moves."""
    limit = PATIENCE
    server = orthanc(script=script, dicom=True, config=CONFIG, python={'CallTimeout': {'Move': limit}})
    host = server.host_pid()
    start = time.monotonic()
    process = dicom.start_movescu(server, 'QueryRetrieveLevel=STUDY', 'PatientID=' + patient)
    server.wait_for_out('^hanging$')
    assert server.get('/system').status_code == 200
    assert dicom.move_outcome(dicom.finish(process)) == outcome
    server.wait_for_log(r'The Python C-MOVE SCP callback %s has not returned within %g s' % (
        re.escape(step), limit))
    server.wait_for_log(r'The host \(pid %d\) running .* was killed, since the Python C-MOVE SCP callback '
                        r'%s had not returned in time; a new one' % (host, re.escape(step)))
    assert limit <= time.monotonic() - start < limit + 5 * PATIENCE
    stacks = server.log().split('Python stacks of the host (pid %d)' % host)[1]
    assert re.search(r'in hang_here$(.*\n){1,2}?.* in %s$' % function, stacks, re.MULTILINE), stacks
    wait_until(lambda: not is_alive(host), 10, 'the end of the host')
    assert server.host_pid() != host
    assert move(server, 'PLAIN' if script == FIRST else 'PLAIN^3')[0] == SUCCESS
    assert server.stop() == 0
    assert server.out().count('hanging') == 1    # it was not repeated


@pytest.mark.ours
@pytest.mark.survival
def test_a_driver_is_refused_while_there_is_no_host(orthanc):
    server = orthanc(script='import os, time\nwhile os.path.exists("slow"):\n    time.sleep(0.02)\n' + SECOND,
                     dicom=True, config=CONFIG, python={'QueueTimeout': 1})
    slow = os.path.join(server.cwd, 'slow')
    host = server.host_pid()
    with open(slow, 'w', encoding='ascii'):
        pass
    os.kill(host, signal.SIGKILL)
    wait_until(lambda: not is_alive(host), 10, 'the end of the host')
    assert move(server, 'PLAIN^1') == (FAILED, 0)
    server.wait_for_log(r'Python C-MOVE SCP callback \(Create v2\) was not run: no host was ready')
    os.remove(slow)
    server.wait_for_log(r'The new host \(pid \d+\) is running')
    assert move(server, 'PLAIN^2') == (SUCCESS, 1)
    assert server.stop() == 0


SLOW = r'''
import os
import time
import orthanc

def create(**request):
    return os.getpid()

def size(driver):
    return 3

def apply(driver):
    assert driver == os.getpid()
    print('apply', flush=True)
    time.sleep(1)

def free(driver):
    print('free in its host: %s' % (driver == os.getpid()), flush=True)

orthanc.RegisterMoveCallback2(create, size, apply, free)
''' + PID_ROUTE


@pytest.mark.ours
def test_the_next_host_never_sees_a_driver_of_the_last_one(orthanc):
    server = orthanc(script=SLOW, dicom=True, config=CONFIG)
    host = server.host_pid()
    process = dicom.start_movescu(server, 'QueryRetrieveLevel=STUDY', 'PatientID=x')
    server.wait_for_out('^apply$')
    os.kill(host, signal.SIGKILL)
    assert dicom.move_outcome(dicom.finish(process)) == (WARNING, 0)
    wait_until(lambda: server.host_pid() != host, 10, 'the next host')
    assert move(server, 'x') == (SUCCESS, 2)
    assert server.out().count('free') == 1
    server.wait_for_out('^free in its host: True$')


@pytest.mark.ours
def test_orthanc_stops_during_a_move(orthanc):
    server = orthanc(script=SLOW, dicom=True, config=CONFIG)
    process = dicom.start_movescu(server, 'QueryRetrieveLevel=STUDY', 'PatientID=x')
    server.wait_for_out('^apply$')
    assert server.stop() == 0
    dicom.finish(process)


REGISTER = r'''
import orthanc
def f(*args, **kwargs):
    pass
def attempt(name, *args):
    try:
        print(name, repr(getattr(orthanc, name)(*args)), flush=True)
    except Exception as e:
        print(name, repr(e), flush=True)
for name, count in (('RegisterMoveCallback', 1), ('RegisterMoveCallback2', 4)):
    if hasattr(orthanc, name):
        attempt(name)
        attempt(name, *([f] * count))
        attempt(name, *([f] * count))
'''


def test_registering(both):
    """Version 1 and version 2 can both be registered, the core keeps the first (contract 3.1)."""
    def action(server):
        outcome = move(server, 'x')
        server.wait_for_log('Registering one Python C-MOVE SCP callback$')
        if server.plugin == 'ours':
            server.wait_for_log(r'Registering callbacks Python C-MOVE SCP callback \(v2\)$')
            server.wait_for_log('Can only register one plugin to handle C-MOVE requests')
            server.wait_for_log(r'Orthanc does not accept the Python C-MOVE SCP callback \(v2\)')
            assert server.out().splitlines()[3:] == [
                "RegisterMoveCallback2 ValueError('Expected 4 callback functions to register "
                "Python C-MOVE SCP callback (v2)')",
                'RegisterMoveCallback2 None',
                "RegisterMoveCallback2 RuntimeError('Can only register once for "
                "Python C-MOVE SCP callback (v2)')"]
        return outcome, server.out().splitlines()[:3]
    results = both(action, script=REGISTER, dicom=True, config=CONFIG)
    assert_same(results)
    for outcome, lines in results.values():
        assert outcome == (SUCCESS, 0)
        assert lines == [
            "RegisterMoveCallback ValueError('Expected a callback function to register one "
            "Python C-MOVE SCP callback')",
            'RegisterMoveCallback None',
            "RegisterMoveCallback RuntimeError('Can only register one Python C-MOVE SCP callback')"]


PROXY = r'''
import json
import orthanc

def on_move(**request):
    """Fetches the study from the other server, and sends it to the target."""
    level = {'PATIENT': 'Patient', 'STUDY': 'Study'}[request['Level']]
    query = json.loads(orthanc.RestApiPost('/modalities/other/query', json.dumps(
        {'Level': level, 'Query': {'PatientID': request['PatientID']}})))
    orthanc.RestApiPost(query['Path'] + '/retrieve', json.dumps({'TargetAet': 'ORTHANC', 'Synchronous': True}))
    for study in json.loads(orthanc.RestApiGet('/studies')):
        orthanc.RestApiPost('/modalities/%s/store' % request['TargetAET'].lower(), study)

orthanc.RegisterMoveCallback(on_move)
'''


def test_a_proxy_to_a_second_server(orthanc, plugin):
    target = orthanc(None, dicom=True)
    server = orthanc.make(plugin, script=PROXY, dicom=True)
    server.extra_config = dict(CONFIG, DicomAlwaysAllowStore=True)
    server.start()
    other = orthanc(None, dicom=True, config={'DicomAlwaysAllowFind': True, **CONFIG, 'DicomModalities': {
        'proxy': ['ORTHANC', '127.0.0.1', server.dicom_port]}})
    for name, port in (('other', other.dicom_port), ('target', target.dicom_port)):
        put = server.put('/modalities/' + name, json.dumps(
            {'AET': 'ORTHANC', 'Host': '127.0.0.1', 'Port': port}))
        assert put.status_code == 200, put.text
    stored = other.upload(dicom.make_dicom(PatientID='WANTED'))
    other.upload(dicom.make_dicom(PatientID='OTHER'))
    assert move(server, 'WANTED', target='TARGET') == (SUCCESS, 0)
    assert target.get('/instances').json() == [stored]
    assert move(server, 'WANTED', target='UNKNOWN') == (WARNING, 0)
    assert not re.search('Segmentation', server.log())

# SPDX-License-Identifier: GPL-3.0-or-later
"""When Python fails (design 8): every cell of the table, for hosts that die, that hang, and
that are not there; what the configuration changes about it; where a host hangs."""

import os
import re
import signal
import threading
import time

import pytest

import dicom
from server import PATIENCE, PID_ROUTE, is_alive, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival]

# Long enough for a call that does nothing, on a busy machine.
LIMIT = 1 * PATIENCE
FIND_FAILED = 'Failed: UnableToProcess'
MOVE_FAILED = 'Warning: SubOperationsCompleteOneOrMoreFailures'
NO_RESOURCES = 'Refused: OutOfResources'
OPEN_ACCESS = {'DicomAlwaysAllowFind': True, 'DicomAlwaysAllowFindWorklist': True,
               'DicomAlwaysAllowMove': True, 'MaximumStorageCacheSize': 0}

# What a callback does is in a file with its name, so that the next host finds it too. A
# host does not finish loading while there is a file "slow".
BASE = r'''
import ctypes, json, os, re, signal, threading, time
import orthanc

while os.path.exists('slow'):
    time.sleep(0.02)

def hang_here():
    while True:
        pass

def act(kind):
    try:
        with open('act-' + kind) as f:
            action = f.read()
    except FileNotFoundError:
        return None
    if action.endswith('-once'):
        os.remove('act-' + kind)
    print('doing', kind, action, flush=True)
    if action.startswith('die'):
        os._exit(9)
    if action.startswith('hang'):
        hang_here()
    if action == 'raise':
        raise ValueError('as told')
    return action
''' + PID_ROUTE

SCRIPT = BASE + r'''
def rest(output, uri, **request):
    action = act('rest')
    if action == 'stream':
        output.StartMultipartAnswer('mixed', 'text/plain')
        for part in range(3):
            output.SendMultipartItem('part %d' % part)
        orthanc.RestApiGet('/system')       # they are with the client now
        act('streaming')
    else:
        output.AnswerBuffer('ok', 'text/plain')

def received(content, origin):
    act('received')
    return orthanc.ReceivedInstanceAction.MODIFY, content.replace(b'Doe^Jane', b'No^Name ')

def cstore(instance):
    act('cstore')
    return 0

def stored(instance, instance_id):
    act('stored')
    print('stored', instance_id, flush=True)

def find(answers, query, issuer, called):
    act('find')

def worklist(answers, query, issuer, called):
    act('worklist')

def move(**request):
    act('move')

def scp(*arguments):
    act('scp')
    return 'driver'

def lookup(*arguments):
    act('lookup')
    return orthanc.StorageCommitmentFailureReason.SUCCESS

orthanc.RegisterRestCallback('/rest', rest)
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterIncomingCStoreInstanceFilter(cstore)
orthanc.RegisterOnStoredInstanceCallback(stored)
orthanc.RegisterFindCallback(find)
orthanc.RegisterWorklistCallback(worklist)
orthanc.RegisterMoveCallback(move)
orthanc.RegisterStorageCommitmentScpCallback(scp, lookup)
'''

FILTER = BASE + r'''
def accept(uri, **request):
    act('filter')
    return True
orthanc.RegisterIncomingHttpRequestFilter(accept)
'''

STORAGE = BASE + r'''
os.makedirs('files', exist_ok=True)

def create(uuid, content_type, data):
    with open('files/' + uuid, 'wb') as f:
        f.write(data[:len(data) // 2])
        f.flush()
        act('create')
        f.write(data[len(data) // 2:])

def read(uuid, content_type):
    act('read')
    with open('files/' + uuid, 'rb') as f:
        return f.read()

def remove(uuid, content_type):
    if os.path.exists('files/' + uuid):
        os.remove('files/' + uuid)
    act('remove')

orthanc.RegisterStorageArea(create, read, remove)
'''

DIED, LATE, NO_HOST = 'die', 'hang', 'no-host'
WAYS = [DIED, LATE, NO_HOST]


def tell(server, kind, action):
    with open(os.path.join(server.cwd, 'act-' + kind), 'w', encoding='ascii') as f:
        f.write(action)


def tell_nothing(server, kind):
    path = os.path.join(server.cwd, 'act-' + kind)
    if os.path.exists(path):
        os.remove(path)


class Trouble:
    """With this, Python fails the given way when it is asked for the kind."""

    def __init__(self, server, kind, way):
        self.server, self.kind, self.way = server, kind, way
        self.slow = os.path.join(server.cwd, 'slow')

    def __enter__(self):
        if self.way == NO_HOST:
            pid = host_of(self.server)
            with open(self.slow, 'w', encoding='ascii'):
                pass
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), 10, 'the death of the host')
        else:
            tell(self.server, self.kind, self.way)
        return self

    def __exit__(self, *exception):
        tell_nothing(self.server, self.kind)
        if self.way == NO_HOST:
            os.remove(self.slow)
        wait_until(lambda: has_host(self.server), 30, 'the next host')


def host_of(server):
    """The host, told by its program: its routes may be out of order."""
    for pid in os.listdir('/proc'):
        try:
            with open('/proc/%s/cmdline' % pid, 'rb') as f:
                program = f.read().split(b'\0')[0]
            with open('/proc/%s/environ' % pid, 'rb') as f:
                marked = server.mark.encode() in f.read()
            with open('/proc/%s/status' % pid, encoding='ascii', errors='replace') as f:
                parent = int(re.search(r'PPid:\s+(\d+)', f.read()).group(1))
        except (OSError, AttributeError):
            continue
        if marked and program == b'orthanc-python-host' and parent == server.supervisor():
            return int(pid)
    return None


def has_host(server):
    """Calls of a host that is being loaded would wait."""
    loaded = len(re.findall(r'The new host \(pid \d+\) is running', server.log()))
    ended = len(re.findall(r'^[EI].* The host \(pid \d+\) .*running', server.log(), re.MULTILINE))
    return loaded == ended and host_of(server) is not None


def make(orthanc, script=SCRIPT, limits=None, dicom=False, **kwargs):
    python = dict({'QueueTimeout': 15 * PATIENCE, 'StopTimeout': 2,
                   'CallTimeout': LIMIT if limits is None else limits}, **kwargs.pop('python', {}))
    return orthanc(script=script, dicom=dicom, config=dict(OPEN_ACCESS, **kwargs.pop('config', {})),
                   python=python, **kwargs)


def queue_time(way):
    """No reason to wait long when the host will not come."""
    return {'QueueTimeout': 1} if way == NO_HOST else {}


def count_instances(server):
    return server.get('/statistics').json()['CountInstances']


def store(server, tmp_path):
    path = tmp_path / 'file.dcm'
    path.write_bytes(dicom.make_dicom())
    return dicom.dimse_status(dicom.storescu(server, path))


@pytest.mark.parametrize('way, status', [(DIED, 502), (LATE, 504), (NO_HOST, 503)])
def test_rest(orthanc, way, status):
    server = make(orthanc, python=queue_time(way))
    with Trouble(server, 'rest', way):
        start = time.monotonic()
        answer = server.get('/rest')
        took = time.monotonic() - start
    assert answer.status_code == status, answer.text
    # 1.12.7 puts a type of its own behind it
    assert answer.headers['Content-Type'].startswith('application/json')
    assert set(answer.json()) == {'Error', 'Details'}
    assert ('Retry-After' in answer.headers) == (way == NO_HOST)
    if way == LATE:
        assert LIMIT <= took < LIMIT + 2 * PATIENCE
    assert server.get('/rest').text == 'ok'
    assert server.stop() == 0


@pytest.mark.parametrize('way', [DIED, LATE])
def test_a_stream_that_has_begun_is_cut(orthanc, way):
    """The status was sent long ago: the client sees that the last boundary is missing."""
    server = make(orthanc)
    tell(server, 'rest', 'stream')
    whole = server.raw(b'GET /rest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    assert b' 200 ' in whole and whole.count(b'part ') == 3 and whole.rstrip().endswith(b'--')
    with Trouble(server, 'streaming', way):
        cut = server.raw(b'GET /rest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    assert b' 200 ' in cut and b'part 0' in cut
    assert not cut.rstrip().endswith(b'--')
    assert b'Error' not in cut


@pytest.mark.parametrize('way', WAYS)
def test_the_http_filter(orthanc, way):
    server = make(orthanc, FILTER, python=queue_time(way))
    with Trouble(server, 'filter', way):
        assert server.get('/system').status_code == 403
    assert server.get('/system').status_code == 200
    server.wait_for_log('The HTTP request for /system was refused: Python could not be asked')


@pytest.mark.parametrize('way', WAYS)
def test_the_received_instance_callback(orthanc, tmp_path, way):
    """Neither the original is let in, nor is something reported as stored."""
    server = make(orthanc, dicom=True, python=queue_time(way))
    with Trouble(server, 'received', way):
        assert server.post('/instances', dicom.make_dicom()).status_code == 500
        if way == LATE:     # the host that hung is being replaced, and the next one is told again
            wait_until(lambda: has_host(server), 30, 'the next host')
        assert store(server, tmp_path) == NO_RESOURCES
        assert count_instances(server) == 0
    assert store(server, tmp_path) == 'Success'
    instance, = server.get('/instances?expand').json()
    assert instance['MainDicomTags'] and server.get(
        '/instances/%s/simplified-tags' % instance['ID']).json()['PatientName'] == 'No^Name'


@pytest.mark.parametrize('way', WAYS)
def test_the_c_store_filter(orthanc, tmp_path, way):
    script = SCRIPT.replace('orthanc.RegisterReceivedInstanceCallback(received)', '')
    server = make(orthanc, script, dicom=True, python=queue_time(way))
    with Trouble(server, 'cstore', way):
        assert store(server, tmp_path) == NO_RESOURCES
        assert count_instances(server) == 0
    assert store(server, tmp_path) == 'Success'
    assert count_instances(server) == 1
    server.wait_for_log('An instance that came by C-STORE was refused: Python could not be asked')


@pytest.mark.parametrize('way', [DIED, LATE])
def test_on_stored_is_delivered_once_more(orthanc, way):
    server = make(orthanc)
    tell(server, 'stored', way + '-once')
    identifier = server.upload(dicom.make_dicom())
    assert server.out().count('doing stored') == 1
    server.wait_for_out('^stored ' + identifier)
    assert server.out().count('stored ' + identifier) == 1


@pytest.mark.parametrize('way', [DIED, LATE])
def test_on_stored_that_fails_twice_is_counted(orthanc, way):
    server = make(orthanc)
    with Trouble(server, 'stored', way):
        identifier = server.upload(dicom.make_dicom())      # it is stored, and that is said
    assert server.out().count('doing stored') == 2
    assert server.get('/instances/' + identifier).status_code == 200
    server.wait_for_log('on-stored-instance callback for %s is given up, the 1. since' % identifier)
    assert server.stop() == 0
    server.wait_for_log(r'calls since the start that failed.*1 were repeated, 1 given up')


def test_on_stored_without_a_host_is_counted(orthanc):
    script = SCRIPT.replace('orthanc.RegisterReceivedInstanceCallback(received)', '')
    server = make(orthanc, script, python=queue_time(NO_HOST))
    with Trouble(server, 'stored', NO_HOST):
        identifier = server.upload(dicom.make_dicom())
    server.wait_for_log('on-stored-instance callback for %s is given up, the 1. since' % identifier)


@pytest.mark.parametrize('way', WAYS)
def test_c_find_worklist_and_c_move(orthanc, way):
    server = make(orthanc, dicom=True, python=queue_time(way))
    with Trouble(server, 'find', way):
        result = dicom.findscu(server, 'QueryRetrieveLevel=STUDY', 'PatientID=x')
        assert dicom.find_outcome(result) == (FIND_FAILED, [])
    with Trouble(server, 'worklist', way):
        result = dicom.findscu(server, 'PatientID=x', model='-W')
        assert dicom.find_outcome(result) == (FIND_FAILED, [])
    with Trouble(server, 'move', way):
        result = dicom.movescu(server, 'QueryRetrieveLevel=STUDY', 'PatientID=x')
        assert dicom.move_outcome(result) == (MOVE_FAILED, 0)
    result = dicom.findscu(server, 'QueryRetrieveLevel=STUDY', 'PatientID=x')
    assert dicom.find_outcome(result)[0] == 'Success'
    assert server.stop() == 0


# A lookup without a host is one whose host has died since scp.
@pytest.mark.parametrize('kind, way', [('scp', way) for way in WAYS] + [('lookup', DIED), ('lookup', LATE)])
def test_storage_commitment(orthanc, kind, way):
    """The peer is told that the processing failed, and asks again some day."""
    server = make(orthanc, dicom=True, python=queue_time(way))
    scu = orthanc(None, dicom=True, config={'DicomAet': 'SCU'})
    for here, name, other in ((server, 'SCU', scu), (scu, 'ORTHANC', server)):
        assert here.put('/modalities/peer', json=[
            name, '127.0.0.1', other.dicom_port]).status_code == 200

    def ask():
        answer = scu.post('/modalities/peer/storage-commitment', json={'DicomInstances': [
            {'SOPClassUID': dicom.CT, 'SOPInstanceUID': '1.2.3'}]})
        path = '/storage-commitment/' + answer.json()['ID']
        wait_until(lambda: scu.get(path).json()['Status'] != 'Pending', 30, 'the report')
        return scu.get(path).json()

    with Trouble(server, kind, way):
        report = ask()
    assert report['Status'] == 'Failure'
    assert [entry['FailureReason'] for entry in report['Failures']] == [0x0110]
    assert ask()['Status'] == 'Success'


@pytest.mark.parametrize('way', [DIED, LATE])
@pytest.mark.parametrize('kind', ['create', 'read', 'remove'])
def test_a_storage_area_is_asked_again(orthanc, kind, way):
    """Nobody notices, and the half that the first host wrote is not what stays."""
    server = make(orthanc, STORAGE)
    tell(server, kind, way + '-once')
    content = dicom.make_dicom()
    identifier = server.upload(content)
    assert server.get('/instances/%s/file' % identifier).content == content
    assert server.delete('/instances/' + identifier).status_code == 200
    assert os.listdir(os.path.join(server.cwd, 'files')) == []
    assert server.out().count('doing ' + kind) == 1
    server.wait_for_log('is run once more, in the next host')


@pytest.mark.parametrize('way', WAYS)
def test_a_storage_area_that_fails_is_a_storage_error(orthanc, tmp_path, way):
    server = make(orthanc, STORAGE, dicom=True, python=queue_time(way))
    identifier = server.upload(dicom.make_dicom())
    with Trouble(server, 'create', way):
        assert store(server, tmp_path) == NO_RESOURCES
    assert count_instances(server) == 1
    with Trouble(server, 'read', way):
        assert server.get('/instances/%s/file' % identifier).status_code == 500
    with Trouble(server, 'remove', way):
        assert server.delete('/instances/' + identifier).status_code == 200
    server.wait_for_log('StorageRemove callback for')


@pytest.mark.parametrize('way', WAYS)
def test_fail_open_lets_in(orthanc, tmp_path, way):
    """The opposite, for whom availability is more than what the filters do."""
    script = FILTER + SCRIPT[len(BASE):]
    server = make(orthanc, script, dicom=True, python=dict(
        queue_time(way), FailOpen=['HttpFilter', 'ReceivedInstance', 'CStoreFilter']))
    for kind in ('HttpFilter', 'ReceivedInstance', 'CStoreFilter'):
        assert any(level == 'W' and 'Python.FailOpen names ' + kind in text
                   for level, text in server.messages())
    with Trouble(server, 'filter', way):
        assert server.get('/system').status_code == 200
    with Trouble(server, 'received', way):
        assert store(server, tmp_path) == 'Success'
        assert count_instances(server) == 1
    with Trouble(server, 'cstore', way):
        assert store(server, tmp_path) == 'Success'
    assert count_instances(server) == 2
    for what in ('The HTTP request for /system', 'A received instance',
                 'An instance that came by C-STORE'):
        server.wait_for_log(what + ' was let in without having been looked at')


def test_fail_open_of_one_kind_leaves_the_others(orthanc, tmp_path):
    server = make(orthanc, dicom=True, python={'FailOpen': ['CStoreFilter']})
    with Trouble(server, 'received', DIED):
        assert store(server, tmp_path) == NO_RESOURCES
    assert count_instances(server) == 0


@pytest.mark.parametrize('strict', [False, True])
def test_strict_refuses_what_a_raising_handler_let_in(orthanc, tmp_path, strict):
    server = make(orthanc, dicom=True, python={'Strict': strict})
    warned = any('stored as it was received' in text for _, text in server.messages('W'))
    assert warned != strict
    tell(server, 'received', 'raise')
    assert store(server, tmp_path) == (NO_RESOURCES if strict else 'Success')
    assert server.post('/instances', dicom.make_dicom()).status_code == (500 if strict else 200)
    assert count_instances(server) == (0 if strict else 2)
    assert ('Python.Strict is set' in server.log()) == strict
    tell_nothing(server, 'received')
    assert store(server, tmp_path) == 'Success'


def test_each_failure_is_counted_in_the_status(orthanc, tmp_path):
    """But for the lack of a host, which is in test_cli.py."""
    server = make(orthanc, dicom=True, python={'FailOpen': ['CStoreFilter'], 'MaxRestarts': 0})

    deaths = []
    expected = dict(Died=0, Late=0, NoHost=0, Repeated=0, GivenUp=0, Refused=0, LetIn=0, Waiting=0)

    def status():
        return server.get('/python-bridge/status').json()

    def fail(kind, way, action, hosts=1, **more):
        with Trouble(server, kind, way):
            action()
        deaths.extend([kind] * hosts)
        wait_until(lambda: status()['Deaths']['Count'] == len(deaths) and status()['Hosts'], 30,
                   'the death of %d hosts, and the next one' % hosts)
        expected.update({name: expected[name] + more[name] for name in more})
        assert status()['Calls'] == expected, (kind, way)

    assert status()['Calls'] == expected
    fail('rest', DIED, lambda: server.get('/rest'), Died=1)
    fail('rest', LATE, lambda: server.get('/rest'), Late=1)
    fail('received', DIED, lambda: server.post('/instances', dicom.make_dicom()), Died=1, Refused=1)
    fail('cstore', LATE, lambda: store(server, tmp_path), Late=1, LetIn=1)
    fail('stored', DIED + '-once', lambda: server.upload(dicom.make_dicom()), Died=1, Repeated=1)
    fail('stored', DIED, lambda: server.upload(dicom.make_dicom()), hosts=2, Died=2, Repeated=1, GivenUp=1)
    assert server.stop() == 0


# -- hosts that hang ---------------------------------------------------------------------------

WHERE = BASE.replace("        hang_here()", "        globals()[action.replace('hang', 'in')]()") + r'''
def in_python():
    while True:
        pass

def in_a_regular_expression():
    re.match(r'(a+)+$', 'a' * 64 + 'b')     # never lets go of the GIL

def in_c():
    ctypes.PyDLL(None).sleep(600)           # nor does this

def in_a_deadlock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def in_sleep():
    time.sleep(600)

def in_a_stop():
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)

def rest(output, uri, **request):
    act('rest')
    output.AnswerBuffer('ok', 'text/plain')

def wait(output, uri, **request):
    print('waiting', flush=True)
    time.sleep(60)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
orthanc.RegisterRestCallback('/rest', rest)
orthanc.RegisterRestCallback('/wait', wait)
threading.Thread(target=in_sleep, daemon=True, name='bystander').start()
'''


@pytest.mark.parametrize('place', ['python', 'a_regular_expression', 'c', 'a_deadlock', 'sleep'])
def test_where_it_hangs_is_in_the_log(orthanc, place):
    """All its threads, although one may hold the GIL, and although SIGTERM is ignored."""
    server = make(orthanc, WHERE)
    pid = host_of(server)
    tell(server, 'rest', 'hang_' + place)
    assert server.get('/rest').status_code == 504
    wait_until(lambda: not is_alive(pid), 10, 'the death of the host')
    tell_nothing(server, 'rest')
    assert server.get('/rest').text == 'ok'
    log = server.log()
    assert 'The REST callback for GET /rest has not returned within %g s' % LIMIT in log
    stacks = log[log.index('Python stacks of the host (pid %d)' % pid):]
    stacks = stacks[:stacks.index('The host (pid %d)' % pid)]
    hung = re.search(r'line \d+ in in_%s$(.*\n){1,3}?.* in act$(.*\n){1,3}?.* in rest$' % place,
                     stacks, re.MULTILINE)
    assert hung, stacks
    assert len(re.findall(r'in in_sleep$', stacks, re.MULTILINE)) == 1 + (place == 'sleep'), stacks
    assert 'hread 0x' in stacks
    server.wait_for_log(r'The host \(pid %d\) running .* was killed, since the REST callback for '
                        r'GET /rest had not returned in time; a new one' % pid)
    assert server.stop() == 0


def test_a_host_that_is_stopped_does_not_answer(orthanc):
    server = make(orthanc, WHERE)
    pid = host_of(server)
    tell(server, 'rest', 'hang_a_stop')
    assert server.get('/rest').status_code == 504
    wait_until(lambda: not is_alive(pid), 10, 'the death of the host')
    tell_nothing(server, 'rest')
    assert server.get('/rest').text == 'ok'
    server.wait_for_log(r'The host \(pid %d\) did not tell its Python stacks: '
                        'it is stopped by a signal or a debugger' % pid)
    assert server.stop() == 0


def test_what_else_runs_in_the_host_fails_with_it(orthanc):
    """502 for the others: they did not take too long. And at once, not by their own limit."""
    server = make(orthanc, WHERE, python={'CallTimeout': {'Default': 0, 'HttpFilter': 5,
                                                          'Rest': 3 * LIMIT}})
    results = []

    def ask(path):
        results.append((path, server.get(path).status_code, time.monotonic()))

    start = time.monotonic()
    tell(server, 'rest', 'hang_python')
    first = threading.Thread(target=ask, args=('/rest',))
    first.start()
    server.wait_for_out('doing rest')
    time.sleep(LIMIT)
    others = [threading.Thread(target=ask, args=('/wait',)) for _ in range(3)]
    for thread in others:
        thread.start()
    for thread in [first] + others:
        thread.join(60)
    assert sorted(r[:2] for r in results) == [('/rest', 504)] + [('/wait', 502)] * 3
    assert all(3 * LIMIT <= when - start < 3 * LIMIT + 5 * PATIENCE for _, _, when in results)
    tell_nothing(server, 'rest')
    assert server.get('/rest').text == 'ok'


def test_a_stopped_host_that_is_idle_is_replaced(orthanc):
    """Nothing runs in it that could be late, and it takes no lane."""
    server = make(orthanc, WHERE, python={'CallTimeout': 0, 'QueueTimeout': 6})
    pid = host_of(server)
    os.kill(pid, signal.SIGSTOP)
    answer = server.get('/rest')
    assert answer.status_code == 503, answer.text
    server.wait_for_log(r'The host \(pid %d\) takes no more calls' % pid)
    wait_until(lambda: server.get('/rest').status_code == 200, 30, 'the next host')
    assert not is_alive(pid)


def test_a_stopped_supervisor_is_replaced_when_a_host_hangs(orthanc):
    """Nobody is there to kill the host: so both are ended."""
    server = make(orthanc, WHERE)
    supervisor, pid = server.supervisor(), host_of(server)
    assert server.get('/rest').text == 'ok'     # there is a lane now
    tell(server, 'rest', 'hang_python')
    os.kill(supervisor, signal.SIGSTOP)
    assert server.get('/rest').status_code == 504
    tell_nothing(server, 'rest')
    wait_until(lambda: server.get('/rest', timeout=60).status_code == 200, 60, 'service', 0.2)
    assert not is_alive(pid) and not is_alive(supervisor)
    assert server.stop() == 0


IN_SDK = BASE + r'''
def received(content, origin):
    act('received')
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None

def store(output, uri, **request):
    output.AnswerBuffer(orthanc.RestApiPost('/instances', request['body']), 'application/json')

orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterRestCallback('/store', store)
'''


def test_a_call_inside_a_call_has_no_more_time(orthanc):
    """The inner one is on the thread that waits for the outer one."""
    server = make(orthanc, IN_SDK, limits={'Rest': LIMIT, 'ReceivedInstance': 0})
    tell(server, 'received', 'hang')
    start = time.monotonic()
    assert server.post('/store', dicom.make_dicom()).status_code == 504
    assert time.monotonic() - start < LIMIT + 3 * PATIENCE
    tell_nothing(server, 'received')
    assert server.post('/store', dicom.make_dicom()).json()['Status'] == 'Success'
    assert count_instances(server) == 1


SLOW_PEER = BASE + r'''
def caller(output, uri, **request):
    orthanc.HttpGet('http://127.0.0.1:%(port)s/slow?seconds=%(seconds)s' % request['get'], '', '')
    time.sleep(0.2)     # else it may be back before anybody looks at the clock
    output.AnswerBuffer('done', 'text/plain')
orthanc.RegisterRestCallback('/caller', caller)
'''


def test_an_sdk_call_is_not_torn(orthanc):
    """It ends although time has run out meanwhile; then the callback is late."""
    peer = orthanc(script=r'''
import time, orthanc
def slow(output, uri, **request):
    time.sleep(float(request['get']['seconds']))
    output.AnswerBuffer('slow', 'text/plain')
    print('slow', flush=True)
orthanc.RegisterRestCallback('/slow', slow)
''')
    server = make(orthanc, SLOW_PEER)
    path = '/caller?port=%d&seconds=%%g' % peer.http_port
    start = time.monotonic()
    answer = server.get(path % (3 * LIMIT))
    assert time.monotonic() - start >= 3 * LIMIT
    assert answer.status_code == 504
    assert peer.out() == 'slow\n'
    server.wait_for_log('has not returned within')
    assert server.get(path % 0).text == 'done'


@pytest.mark.parametrize('limits, rest, find', [
    ({'Rest': LIMIT}, LATE, 'none'), ({'Default': LIMIT, 'Rest': 0}, 'none', LATE)])
def test_limits_are_by_kind(orthanc, limits, rest, find):
    script = SCRIPT.replace('    while True:\n        pass', '    time.sleep(%g)' % (3 * LIMIT))
    server = make(orthanc, script, dicom=True, limits=limits)
    for kind, way in (('rest', rest), ('find', find)):
        tell(server, kind, 'hang')
        if kind == 'rest':
            failed = server.get('/rest').status_code == 504
        else:
            result = dicom.findscu(server, 'QueryRetrieveLevel=STUDY', 'PatientID=x')
            failed = dicom.find_outcome(result)[0] == FIND_FAILED
        assert failed == (way == LATE)
        tell_nothing(server, kind)
        wait_until(lambda: has_host(server), 30, 'a host')


EVENT = BASE + r'''
def change(change_type, level, resource):
    if change_type == orthanc.ChangeType.NEW_INSTANCE:
        act('change')
        print('event', resource, flush=True)
orthanc.RegisterOnChangeCallback(change)
'''


@pytest.mark.parametrize('way', [DIED, LATE])
def test_an_event_is_delivered_once_more_and_then_set_aside(orthanc, way):
    server = make(orthanc, EVENT)
    tell(server, 'change', way + '-once')
    first = server.upload(dicom.make_dicom())
    server.wait_for_out('^event ' + first, timeout=30)
    assert server.out().count('doing change') == 1
    tell(server, 'change', way)
    second = server.upload(dicom.make_dicom())
    server.wait_for_log('NEW_INSTANCE %s .*has ended two hosts: it is set aside' % second, timeout=30)
    assert server.out().count('doing change') == 3
    tell_nothing(server, 'change')
    third = server.upload(dicom.make_dicom())
    server.wait_for_out('^event ' + third, timeout=30)
    assert server.get('/python-bridge/status').json()['Events']['SetAside'] == 1
    assert server.stop() == 0
    assert 'event ' + second not in server.out()


def test_events_wait_for_a_host_however_long(orthanc):
    """None is given up after QueueTimeout, and they come in order."""
    server = make(orthanc, EVENT, python={'QueueTimeout': 0.5})
    with Trouble(server, 'change', NO_HOST):
        uploaded = [server.upload(dicom.make_dicom()) for _ in range(3)]
        server.wait_for_log('on-change callback for NEW_INSTANCE %s was not run: no host was ready within '
                            'Python.QueueTimeout' % uploaded[0])
        assert 'event' not in server.out()
    server.wait_for_out('^event ' + uploaded[-1], timeout=30)
    assert re.findall('^event (.*)$', server.out(), re.MULTILINE) == uploaded
    assert server.stop() == 0


def test_when_too_many_hosts_have_died_the_log_says_so_once(orthanc):
    """A script that cannot be loaded any more: neither a busy machine nor a full log."""
    server = make(orthanc, BASE + r'''
if os.path.exists('broken'):
    os._exit(3)
orthanc.RegisterRestCallback('/rest', lambda output, uri, **r: output.AnswerBuffer('ok', 'text/plain'))
''', python={'QueueTimeout': 1, 'MaxRestarts': 3})
    with open(os.path.join(server.cwd, 'broken'), 'w', encoding='ascii'):
        pass
    os.kill(host_of(server), signal.SIGKILL)
    server.wait_for_log(r'^E.* More than 3 hosts have died within 60 s: from now on one is started '
                        'every 30 s only', timeout=30)
    assert server.get('/rest').status_code == 503 # after a second: all of the last death is said
    size = len(server.log())
    time.sleep(3)
    assert 'exit code 3' not in server.log()[size:]
    assert server.log().count('More than 3 hosts') == 1
    assert server.stop() == 0

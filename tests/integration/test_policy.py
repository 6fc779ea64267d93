# SPDX-License-Identifier: GPL-3.0-or-later
"""When Python fails (design 8): every cell of the table, for hosts that die, that hang, and
that are not there; what the configuration changes about it. Hosts that hang: test_hanging.py."""

import os
import re
import signal
import time

import pytest

import dicom
from server import PATIENCE, wait_until
from trouble import (BASE, DIED, FIND_FAILED, LATE, LIMIT, NO_HOST, SCRIPT, WAYS, Trouble, count_instances, has_host,
                     host_of, make, tell, tell_nothing)

pytestmark = [pytest.mark.ours, pytest.mark.survival]

MOVE_FAILED = 'Warning: SubOperationsCompleteOneOrMoreFailures'
NO_RESOURCES = 'Refused: OutOfResources'

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

def queue_time(way):
    """No reason to wait long when the host will not come."""
    return {'QueueTimeout': 1} if way == NO_HOST else {}


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

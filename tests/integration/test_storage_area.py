# SPDX-License-Identifier: GPL-3.0-or-later
"""A storage area in Python (contract 3.11)."""

import os
import re
import signal
import threading
import time

import pytest

import dicom
from compare import assert_same
from conftest import PLUGINS
from server import ORTHANC_VERSION, PID_ROUTE, is_alive, wait_until

SCRIPT = r'''
import json, os, threading, time
import orthanc

os.makedirs('files', exist_ok=True)
CALLS = []
CHOICE = {'create': '0', 'read': 'content', 'remove': '0'}
ONCE = []
LOCK = threading.RLock()

def path(uuid):
    return os.path.join('files', uuid)

def note(name, *arguments):
    CALLS.append([name] + [[type(a).__name__, len(a) if isinstance(a, bytes) else a]
                           for a in arguments])

def decide(what, **names):
    return eval(CHOICE[what], dict(globals(), **names))

def create(uuid, content_type, data):
    note('create', uuid, content_type, data)
    value = decide('create', uuid=uuid, data=data)
    with open(path(uuid), 'wb') as f:
        f.write(data)
    return value

def read(uuid, content_type):
    note('read', uuid, content_type)
    with open(path(uuid), 'rb') as f:
        return decide('read', uuid=uuid, content=f.read())

def remove(uuid, content_type):
    note('remove', uuid, content_type)
    value = decide('remove', uuid=uuid)
    if os.path.exists(path(uuid)):
        os.remove(path(uuid))
    return value

def choose(output, uri, **request):
    CHOICE.update(json.loads(request['body']))
    output.AnswerBuffer('', 'text/plain')

def calls(output, uri, **request):
    output.AnswerBuffer(json.dumps(CALLS), 'application/json')
    CALLS.clear()

def attempt(code):
    try:
        print('attempt:', repr(eval(code, globals())), flush=True)
    except Exception as e:
        print('attempt:', type(e).__name__, e, flush=True)

def run(output, uri, **request):
    output.AnswerBuffer(repr(eval(request['body'], globals())), 'text/plain')

orthanc.RegisterStorageArea(create, read, remove)
orthanc.RegisterRestCallback('/choose', choose)
orthanc.RegisterRestCallback('/calls', calls)
orthanc.RegisterRestCallback('/run', run)
'''


def start(orthanc, plugin='ours', script=SCRIPT, config=None, **kwargs):
    """A server that asks the storage area each time it needs a file.

    Without AllowThreads the official plugin waits for itself in Orthanc 1.13 (contract 6.3)."""
    kwargs['python'] = dict({'AllowThreads': True}, **kwargs.get('python', {}))
    return orthanc(plugin, script=script,
                   config=dict({'MaximumStorageCacheSize': 0}, **(config or {})), **kwargs)


def choose(server, **what):
    choice = {'create': '0', 'read': 'content', 'remove': '0'}
    choice.update(what)
    assert server.post('/choose', json=choice).status_code == 200


def upload(server, content=None):
    answer = server.post('/instances', content or dicom.make_dicom())
    assert answer.status_code == 200, answer.text
    return answer.json()['ID']


def files(server):
    return os.listdir(os.path.join(server.cwd, 'files'))


def test_create_read_remove(orthanc):
    results = {}
    content = dicom.make_dicom('gray16', 200, 300)
    for name in PLUGINS:
        server = start(orthanc, name)
        area = server.get('/system').json()['StorageAreaPlugin']
        assert os.path.realpath(area) == os.path.realpath(server.plugin_path())
        identifier = upload(server, content)
        assert server.get('/instances/%s/file' % identifier).content == content
        assert server.get('/instances/%s/tags' % identifier).status_code == 200
        assert server.get('/instances/%s/preview' % identifier).status_code == 200
        assert len(files(server)) == 2
        assert server.delete('/instances/' + identifier).status_code == 200
        assert files(server) == []
        calls = server.get('/calls').json()
        uuids = {}
        for call in calls:        # UUIDs differ from run to run
            call[1][1] = uuids.setdefault(call[1][1], 'uuid %d' % len(uuids))
        results[name] = calls
        assert calls[0] == ['create', ['str', 'uuid 0'], ['int', 1], ['bytes', len(content)]]
        assert calls[1][2] == ['int', 3]
        assert sorted(c[0] for c in calls if c[0] != 'read') == ['create'] * 2 + ['remove'] * 2
    assert_same(results)


def test_user_attachments_have_type_0_and_may_be_empty(orthanc, plugin):
    server = start(orthanc, plugin)
    patient = server.get('/instances/%s/patient' % upload(server)).json()['ID']
    server.get('/calls')
    where = '/patients/%s/attachments/1030' % patient
    for body in (b'abc', b'x' * 5000000, b''):
        assert server.put(where, body).status_code == 200
        answer = server.get(where + '/data')
        assert (answer.status_code, answer.content) == (200, body)
        calls = server.get('/calls').json()
        assert ['create', 0, len(body)] in [[c[0], c[2][1], c[-1][1]] for c in calls]
        assert server.delete(where).status_code == 200


def test_create_that_fails(orthanc, plugin):
    server = start(orthanc, plugin)
    for expression in ('None', 'False', '1', '"text"'):        # whatever it returns is success
        choose(server, create=expression)
        upload(server)
    choose(server, create='1 / 0')
    answer = server.post('/instances', dicom.make_dicom())
    assert (answer.status_code, answer.json()['OrthancStatus']) == (500, 1)
    server.wait_for_log('Error in the Python StorageCreate callback, traceback:\n'
                        "<class 'ZeroDivisionError'>\ndivision by zero\n")
    assert server.get('/statistics').json()['CountInstances'] == 4


def test_c_store_into_an_area_that_fails(orthanc, plugin, tmp_path):
    server = start(orthanc, plugin, dicom=True)
    path = tmp_path / 'file.dcm'
    path.write_bytes(dicom.make_dicom())
    choose(server, create='1 / 0')
    assert dicom.dimse_status(dicom.storescu(server, path)) == 'Refused: OutOfResources'
    choose(server)
    assert dicom.dimse_status(dicom.storescu(server, path)) == 'Success'


def test_read_that_fails(orthanc, plugin):
    server = start(orthanc, plugin)
    identifier = upload(server)
    for expression in ('None', 'bytearray(content)', 'memoryview(content)', '"text"', '0'):
        choose(server, read=expression)
        before = len(server.log())
        answer = server.get('/instances/%s/file' % identifier)
        assert (answer.status_code, answer.json()['OrthancStatus']) == (500, 1), expression
        server.wait_for_log('The Python StorageRead callback has not returned a byte array as '
                            'expected', start=before)
    choose(server, read='{}[uuid]')
    answer = server.get('/instances/%s/file' % identifier)
    assert (answer.status_code, answer.json()['OrthancStatus']) == (500, 1)
    server.wait_for_log('Error in the Python StorageRead callback, traceback:\n'
                        "<class 'KeyError'>\n'[0-9a-f-]{36}'\n")
    choose(server, read='type("B", (bytes,), {})(content)')
    assert server.get('/instances/%s/file' % identifier).status_code == 200


def test_remove_that_fails_is_logged_only(orthanc, plugin):
    server = start(orthanc, plugin)
    identifier = upload(server)
    choose(server, remove='1 / 0')
    assert server.delete('/instances/' + identifier).status_code == 200
    server.wait_for_log('Error in the Python StorageRemove callback, traceback:\n'
                        "<class 'ZeroDivisionError'>\ndivision by zero\n")
    server.wait_for_log('Unable to remove an attachment from the storage area')
    choose(server, remove='"whatever"')
    identifier = upload(server)
    assert server.delete('/instances/' + identifier).status_code == 200
    assert len(files(server)) == 2


def test_below_a_script_that_uploads_reads_and_deletes(orthanc, plugin):
    """Contract 6.2: on the thread that holds the lock, which blocks else; reads only up to 1.12."""
    server = start(orthanc, plugin, SCRIPT + r'''
import contextlib
THREADS = []
def taken(name):
    assert LOCK.acquire(timeout=10)
    LOCK.release()
    THREADS.append([name, threading.get_native_id()])
CHOICE.update(create='taken("create")', remove='taken("remove")',
              read='[taken("read"), content][1]')
READS_ARE_NESTED = %s
def nested(output, uri, **request):
    with LOCK:
        instance = json.loads(orthanc.RestApiPost('/instances', request['body']))['ID']
    with LOCK if READS_ARE_NESTED else contextlib.nullcontext():
        content = orthanc.RestApiGet('/instances/%%s/file' %% instance)
        assert content == request['body'], len(content)
    with LOCK:
        orthanc.RestApiDelete('/instances/%%s' %% instance)
    for name, thread in THREADS:
        if name != 'read' or READS_ARE_NESTED:
            assert thread == threading.get_native_id(), THREADS
    output.AnswerBuffer(json.dumps([name for name, _ in THREADS]), 'application/json')
    THREADS.clear()
orthanc.RegisterRestCallback('/nested', nested)
''' % (ORTHANC_VERSION < (1, 13)))
    for _ in range(3):
        answer = server.post('/nested', dicom.make_dicom())
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {'create', 'read', 'remove'}


def test_sdk_reads_come_back_to_the_area(orthanc, plugin):
    server = start(orthanc, plugin)
    content = dicom.make_dicom()
    identifier = upload(server, content)
    assert server.post('/run', 'len(orthanc.GetDicomForInstance("%s"))' % identifier).text == \
        str(len(content))
    assert '"Doe^Jane"' in server.post(
        '/run', 'orthanc.DicomInstanceToJson("%s", 1, 0, 0)' % identifier).text


def test_create_may_use_the_rest_api(orthanc, plugin):
    server = start(orthanc, plugin)
    choose(server, create='orthanc.RestApiGet("/statistics")',
           read='[orthanc.RestApiGet("/statistics"), content][1]')
    identifier = upload(server)
    assert server.get('/instances/%s/file' % identifier).status_code == 200


def test_many_at_the_same_time(orthanc, plugin):
    server = start(orthanc, plugin)
    choose(server, create='time.sleep(0.1)', read='[time.sleep(0.1), content][1]')
    problems = []

    def work():
        try:
            content = dicom.make_dicom('gray16', 100, 100)
            identifier = upload(server, content)
            if server.get('/instances/%s/file' % identifier).content != content:
                problems.append('another content')
            if server.delete('/instances/' + identifier).status_code != 200:
                problems.append('not deleted')
        except Exception as e:  # pylint: disable=broad-except
            problems.append(e)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert files(server) == []


def test_a_second_registration_is_refused(orthanc, plugin):
    server = start(orthanc, plugin, SCRIPT + r'''
for args in ((create, read, remove), (create, read)):
    try:
        orthanc.RegisterStorageArea(*args)
    except Exception as e:
        print(type(e).__name__, e, flush=True)
''')
    assert server.out().splitlines() == [
        'RuntimeError Cannot register twice a custom storage area',
        'ValueError Expected three callback functions to register a custom storage area']
    server.wait_for_log('Registering a custom storage area in Python')


def test_registered_while_orthanc_runs_has_no_effect(orthanc, plugin):
    """Contract 3.1; ours says so."""
    server = start(orthanc, plugin, r'''
import orthanc
def late(output, uri, **request):
    orthanc.RegisterStorageArea(1, 2, 3)
    output.AnswerBuffer('', 'text/plain')
orthanc.RegisterRestCallback('/late', late)
''')
    assert server.get('/late').status_code == 200
    identifier = upload(server)
    assert server.get('/instances/%s/file' % identifier).status_code == 200
    if plugin == 'ours':
        server.wait_for_log('custom storage area in Python was registered after the start of '
                            'Orthanc: it needs a restart')


# Core notes 5.2: the lock of the database is recursive later.
LOCKED_DATABASE = ORTHANC_VERSION <= (1, 12, 7)


@pytest.mark.ours
def test_a_database_call_while_removing(orthanc):
    """Core notes 5.2: where it would lock up the whole server it raises instead."""
    server = start(orthanc)
    count = 0
    for call, outcome in (
            ('RestApiGet("/statistics")', "b'{"),
            ('RestApiGetAfterPlugins("/statistics")', "b'{"),
            ('RestApiPost("/instances", b"")', r'OrthancException \('),
            ('LookupPatient("x")', r"OrthancException \(-1, 'Internal error'\)"),
            ('GetGlobalProperty(1025, "x")', "'"), ('SetGlobalProperty(1025, "x")', 'None$')):
        if LOCKED_DATABASE:
            outcome = ('RuntimeError %s cannot be called while a file is removed from the storage area'
                       % call[:call.index('(')])
        identifier = upload(server)
        choose(server, remove="attempt('orthanc.%s')" % call)
        assert server.delete('/instances/' + identifier, timeout=20).status_code == 200
        count += 2
        wait_until(lambda count=count: server.out().count('attempt:') == count, 10, call)
        lines = [line for line in server.out().splitlines() if line.startswith('attempt:')]
        for line in lines[-2:]:
            assert re.match('attempt: ' + outcome, line), (call, line)
    choose(server, remove="attempt('orthanc.GetFontsCount()')")         # needs no database
    assert server.delete('/instances/' + upload(server)).status_code == 200
    server.wait_for_out('attempt: [0-9]+')


@pytest.mark.ours
def test_a_database_call_while_removing_ends_with_it(orthanc):
    """What the refusal says, where it is refused; and that it is as usual before and after."""
    server = start(orthanc)
    identifier = upload(server)
    choose(server, remove='orthanc.RestApiGet("/statistics")')
    assert server.delete('/instances/' + identifier, timeout=20).status_code == 200
    if LOCKED_DATABASE:
        server.wait_for_log("<class 'RuntimeError'>\nRestApiGet cannot be called while a file is "
                            'removed from the storage area: this version of Orthanc has locked its '
                            'database')
    else:
        assert not server.messages('E')
    choose(server)
    assert server.get('/statistics').json()['CountInstances'] == 0
    identifier = upload(server)
    assert server.post('/run', 'orthanc.RestApiDelete("/instances/%s")' % identifier).text == 'None'


@pytest.mark.ours
def test_a_context_call_in_a_read_for_the_sdk(orthanc):
    """Core notes 1.15, 5.2: up to 1.12.1 the lock of the server context is held there."""
    server = start(orthanc)
    content = dicom.make_dicom(PatientID='READ')
    identifier = upload(server, content)
    choose(server, read='[orthanc.LookupPatient("READ"), content][1]')
    answer = server.post('/run', 'len(orthanc.GetDicomForInstance("%s"))' % identifier, timeout=20)
    if ORTHANC_VERSION <= (1, 12, 1):
        assert answer.status_code == 500
        server.wait_for_log("<class 'RuntimeError'>\nLookupPatient cannot be called by a storage area "
                            'that reads a file for GetDicomForInstance')
    else:
        assert (answer.status_code, answer.text) == (200, str(len(content)))
    choose(server, read='[orthanc.RestApiGet("/statistics"), content][1]')
    assert server.get('/instances/%s/file' % identifier, timeout=20).status_code == 200


@pytest.mark.ours
@pytest.mark.parametrize('what', ['create', 'read', 'remove'])
def test_a_host_that_dies_is_followed_by_the_next(orthanc, what):
    """Design 8: done by the next host, and nobody notices."""
    server = start(orthanc, script=SCRIPT + r'''
def once():
    if not os.path.exists('died'):
        open('died', 'w').close()
        os._exit(3)
    return 0
CHOICE.update(create=os.environ['CREATE'], read=os.environ['READ'], remove=os.environ['REMOVE'])
''', env={'CREATE': 'once()' if what == 'create' else '0',
          'READ': '[once(), content][1]' if what == 'read' else 'content',
          'REMOVE': 'once()' if what == 'remove' else '0'})
    content = dicom.make_dicom()
    identifier = upload(server, content)
    assert server.get('/instances/%s/file' % identifier).content == content
    assert server.delete('/instances/' + identifier).status_code == 200
    assert files(server) == []
    server.wait_for_log('is run once more, in the next host')
    assert 'exit code 3' in server.log()


@pytest.mark.ours
def test_a_call_that_ends_every_host_fails(orthanc):
    server = start(orthanc, script=SCRIPT + "CHOICE['read'] = 'os._exit(3)'\n")
    identifier = upload(server)
    answer = server.get('/instances/%s/file' % identifier)
    assert (answer.status_code, answer.json()['OrthancStatus']) == (500, 1)
    server.wait_for_log('has ended two hosts, and is not run again')


@pytest.mark.ours
def test_without_a_host_it_is_a_storage_error(orthanc):
    server = start(orthanc, script=SCRIPT + PID_ROUTE + r'''
if os.path.exists('slow'):
    time.sleep(60)
''', python={'QueueTimeout': 1, 'StopTimeout': 1})
    identifier = upload(server)
    with open(os.path.join(server.cwd, 'slow'), 'w', encoding='ascii'):
        pass
    pid = server.host_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), 10, 'the death of the host')
    before = time.monotonic()
    answer = server.get('/instances/%s/file' % identifier)
    assert (answer.status_code, answer.json()['OrthancStatus']) == (500, 1)
    assert time.monotonic() - before < 10
    server.wait_for_log('no host was ready within Python.QueueTimeout')


@pytest.mark.ours
def test_a_script_that_no_longer_has_one_gives_errors(orthanc):
    """Core notes 1.7: Orthanc has no other storage area any more."""
    server = start(orthanc, script=SCRIPT + PID_ROUTE)
    identifier = upload(server)
    pid = server.host_pid()
    with open(server.script_path, 'w', encoding='utf-8') as f:
        f.write('import orthanc\n' + PID_ROUTE)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), 10, 'the death of the host')
    answer = server.get('/instances/%s/file' % identifier)
    assert (answer.status_code, answer.json()['OrthancStatus']) == (500, 1)
    server.wait_for_log('has not registered the custom storage area in Python')
    server.wait_for_log('the script has registered no function for this call')


@pytest.mark.ours
def test_recycling_and_restart(orthanc, tmp_path):
    """Files are removed by other threads, and at the start, before the server serves."""
    config = {'MaximumPatientCount': 2, 'StorageDirectory': str(tmp_path / 'db'),
              'IndexDirectory': str(tmp_path / 'db')}
    server = start(orthanc, config=config, cwd=str(tmp_path))
    for i in range(4):
        upload(server, dicom.make_dicom(PatientID='P%d' % i))
    assert server.get('/statistics').json()['CountPatients'] == 2
    assert len(files(server)) == 4
    assert server.stop() == 0
    config['MaximumPatientCount'] = 1
    server = start(orthanc, config=config, cwd=str(tmp_path))
    assert server.get('/statistics').json()['CountPatients'] == 1
    assert len(files(server)) == 2

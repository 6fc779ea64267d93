# SPDX-License-Identifier: GPL-3.0-or-later
"""The end and the reset of a server (contract 5.2, 5.3, 8 row 10)."""

import json
import os
import signal
import threading

import pytest

import dicom
import sanitizer
from server import OFFICIAL_VERSION, PATIENCE, Timeout, wait_until

FULL = r'''
import atexit, threading, time
import orthanc

class Noisy:
    def __init__(self, text):
        self.text = text

def at_exit():
    orthanc.LogWarning('atexit log')
    try:
        orthanc.RestApiGet('/system')
        print('atexit: database', flush=True)
    except orthanc.OrthancException as e:
        print('atexit:', e, threading.current_thread() is threading.main_thread(), flush=True)
atexit.register(at_exit)

def background():
    STOP.wait(30)
    time.sleep(0.3)
    print('thread: joined', flush=True)
STOP = threading.Event()
threading.Thread(target=background).start()
threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()

def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        print('started', flush=True)
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        print('stopped:', len(orthanc.RestApiGet('/system')) > 0, flush=True)
        time.sleep(0.3)
        STOP.set()
        print('stopped: end', flush=True)
        raise ValueError('ignored')
orthanc.RegisterOnChangeCallback(on_change)
def route(output, uri, **request):      # not held by the registration only: contract 8 row 10
    output.AnswerBuffer('x', 'text/plain')
orthanc.RegisterRestCallback('/x', route)
'''


@pytest.mark.smoke
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_the_sequence_of_the_end(orthanc, plugin, number):
    server = orthanc(plugin, script=FULL)
    assert server.get('/x').text == 'x'
    server.wait_for_out('^started$')
    assert server.stop(number) == 0
    assert server.out().splitlines() == [
        'started', 'stopped: True', 'stopped: end', 'thread: joined',
        "atexit: (2038, 'Plugin trying to call the database during its initialization') True"]
    server.wait_for_log('atexit log')
    server.wait_for_log('Error in the Python on-change callback, traceback:')
    server.assert_no_leftovers()


def test_routes_held_by_the_registration_only(orthanc, plugin):
    """Contract 8 row 10: a crash with some releases of the official plugin."""
    server = orthanc(plugin, script='''
import orthanc
class A:
    def f(self, output, uri, **request):
        output.AnswerBuffer('a', 'text/plain')
orthanc.RegisterRestCallback('/a', A().f)
orthanc.RegisterRestCallback('/b', lambda output, uri, **r: output.AnswerBuffer('b', 'text/plain'))
''')
    assert server.get('/a').text + server.get('/b').text == 'ab'
    assert server.stop() == 0


def test_stop_while_requests_are_running(orthanc, plugin):
    """The core ends its HTTP server only after the running requests."""
    server = orthanc(plugin, script='''
import orthanc, time
def slow(output, uri, **request):
    print('inside', flush=True)
    time.sleep(1)
    output.AnswerBuffer('slow', 'text/plain')
    print('done', flush=True)
orthanc.RegisterRestCallback('/slow', slow)
''')
    thread = threading.Thread(target=lambda: server.raw(b'GET /slow HTTP/1.1\r\nHost: x\r\n\r\n'))
    thread.start()
    server.wait_for_out('^inside$')
    assert server.stop() == 0
    thread.join(10)
    assert 'done' in server.out()


def test_reset_imports_afresh(orthanc, plugin):
    """Contract 5.3: STOPPED, a new module with new globals, STARTED; three times."""
    if plugin == 'official' and OFFICIAL_VERSION >= (7, 0):
        pytest.skip('contract 8 row 10: it corrupts memory when it is finalised, which ends the server')
    server = orthanc(plugin, script=r'''
import os, orthanc
COUNT = []
def route(output, uri, **request):
    COUNT.append(1)
    output.AnswerBuffer(str(len(COUNT)), 'text/plain')
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        print('started', flush=True)
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        print('stopped', flush=True)
orthanc.RegisterOnChangeCallback(on_change)
def stored(instance, identifier):
    print('stored', flush=True)
def allow(uri, **request):
    return True
orthanc.RegisterOnStoredInstanceCallback(stored)
orthanc.RegisterIncomingHttpRequestFilter(allow)
orthanc.RegisterRestCallback('/count', route)
''')
    expected = []
    for turn in range(3):
        expected += ['started', 'stored']
        server.wait_for_out(r'\A(%s\n)+started\n\Z' % '\n'.join(expected[:-2]) if turn else 'started')
        server.upload(dicom.make_dicom())
        assert [server.get('/count').text for _ in range(2)] == ['1', '2']
        expected += ['stopped']
        start = server.log().count('Orthanc has started')
        assert server.post('/tools/reset').status_code == 200
        wait_until(lambda start=start: server.log().count('Orthanc has started') > start
                   and server._connects(), 30, 'the reset')  # pylint: disable=protected-access
    assert server.stop() == 0
    assert server.out().split() == expected + ['started', 'stopped']
    server.assert_no_leftovers()


@pytest.mark.ours
@pytest.mark.parametrize('module', ['numpy', 'pydicom'])
def test_reset_with_any_package(orthanc, module):
    """Contract 8 row 16: the official plugin dies."""
    server = orthanc(script=r'''
import orthanc
import %s as module
orthanc.RegisterRestCallback('/v', lambda output, uri, **r: output.AnswerBuffer(
    module.__version__, 'text/plain'))
print('loaded', flush=True)
''' % module)
    version = server.get('/v').text
    for turn in range(2):
        assert server.post('/tools/reset').status_code == 200
        wait_until(lambda turn=turn: server.out().count('loaded') == turn + 2
                   and server.log().count('Orthanc has started') == turn + 2, 60, 'the reset')
        assert server.get('/v').text == version
    assert server.stop() == 0


@pytest.mark.ours
def test_sighup_resets(orthanc):
    server = orthanc(script="import orthanc\nprint('loaded', flush=True)\n")
    path = os.path.join(server.directory, 'orthanc.json')
    with open(path, encoding='utf-8') as f:
        configuration = json.load(f)
    with open(path, 'w', encoding='utf-8') as f:    # the core ignores the signal otherwise
        json.dump(dict(configuration, Name='another'), f)
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: server.out().count('loaded') == 2, 30, 'the second load')
    wait_until(lambda: server.log().count('Orthanc has started') == 2, 30, 'the second start')
    assert server.stop() == 0


@pytest.mark.ours
def test_threading_first_imported_by_a_callback(orthanc):
    """The module takes the thread that imports it for the main one; the end must not wait
    for that thread, and the real main thread must be the one that Python knows."""
    server = orthanc(script=r'''
import orthanc
def rest(output, uri, **request):
    import subprocess, threading
    subprocess.run(['true'], check=True)
    output.AnswerBuffer(str(threading.current_thread() is threading.main_thread()), 'text/plain')
orthanc.RegisterRestCallback('/x', rest)
''')
    assert server.get('/x').text == 'False'
    assert server.stop(timeout=15) == 0


@pytest.mark.ours
def test_an_endless_thread_does_not_hold_the_server(orthanc):
    """Contract 5.2, 8 row 22: a bounded wait, logged."""
    server = orthanc(script='''
import threading, time
threading.Thread(target=lambda: time.sleep(100000)).start()
''', python={'StopTimeout': 2})
    assert server.stop(timeout=20) == 0
    assert server.messages('WE')
    server.assert_no_leftovers()


@pytest.mark.ours
def test_a_script_that_ignores_signals_is_ended(orthanc):
    server = orthanc(script='''
import atexit, signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
atexit.register(lambda: time.sleep(100000))
''', python={'StopTimeout': 1})
    assert server.stop(timeout=20) == 0
    server.assert_no_leftovers()


def test_the_harness_notices_what_does_not_end():
    """A wait that is never satisfied fails, and in time."""
    with pytest.raises(Timeout):
        wait_until(lambda: False, 0.1 / PATIENCE, 'nothing')


def test_the_harness_notices_what_is_left_behind(orthanc, plugin):
    """A process that outlives its server, and a file in the runtime directory."""
    server = orthanc(plugin, script='''
import os, sys, time
if os.fork() == 0:
    os.setsid()
    for fd in range(64):
        try:
            os.close(fd)
        except OSError:
            pass
    time.sleep(30)
    os._exit(0)
''' if plugin == 'official' else 'import orthanc\n')
    left = os.path.join(server.runtime, 'left')
    with open(left, 'w', encoding='ascii'):
        pass
    assert server.stop() == 0
    with pytest.raises(AssertionError, match='left behind: .*left'):
        server.assert_no_leftovers(0.2)
    found = server.leftovers()
    assert (len(found) == 2) == (plugin == 'official')
    for text in found:
        if text.startswith('process'):
            os.kill(int(text.split()[1].rstrip(':')), signal.SIGKILL)
    os.unlink(left)
    server.assert_no_leftovers()


# -- the end while something is in progress (core notes 1.13, 8; design 7) ------------------

HANGING = r'''
import ctypes, time
import orthanc
def hang():
    if HOW == 'sleep':
        while True:
            time.sleep(1)
    ctypes.PyDLL(None).pause()      # holds the GIL
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.WHEN:
        print('hanging', flush=True)
        hang()
orthanc.RegisterOnChangeCallback(on_change)
'''


@pytest.mark.ours
@pytest.mark.parametrize('how', ['sleep', 'gil'])
@pytest.mark.parametrize('when', ['NEW_INSTANCE', 'ORTHANC_STOPPED'])
def test_an_event_that_never_ends_does_not_hold_the_server(orthanc, when, how):
    """The official plugin waits for ever; docs/decisions.md says why ours does not."""
    server = orthanc(script=HANGING.replace('WHEN', when).replace('HOW', repr(how)),
                     python={'StoppedTimeout': 1, 'StopTimeout': 1})
    server.upload(dicom.make_dicom())
    if when == 'NEW_INSTANCE':
        server.wait_for_out('^hanging$')
    assert server.stop(timeout=20) == 0
    assert server.out() == 'hanging\n'
    server.wait_for_log(r'^E.*longer for the on-change callback for %s.*Python\.StoppedTimeout' % when)
    server.assert_no_leftovers()


@pytest.mark.ours
def test_a_store_of_an_event_while_the_server_stops(orthanc):
    """Core notes 1.13: inside the core's notification it would never return. Ours is not
    inside, and what comes too late is refused. (The core itself begins to stop once it has seen
    no new instance for 0.1 s.)"""
    server = orthanc(script=r'''
import orthanc
import pydicom, io, time
def another(data, number):
    ds = pydicom.dcmread(io.BytesIO(data))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = '%s.%d' % (ds.SOPInstanceUID, number)
    out = io.BytesIO()
    ds.save_as(out)
    return out.getvalue()
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.NEW_INSTANCE:
        data = orthanc.GetDicomForInstance(resource)
        number = 0
        try:
            while True:
                number += 1
                time.sleep(0.2)
                orthanc.RestApiPost('/instances', another(data, number))
                if number == 3:
                    print('storing', flush=True)
        except orthanc.OrthancException as e:
            print('refused', e.args[0], flush=True)
orthanc.RegisterOnChangeCallback(on_change)
''', python={'StoppedTimeout': 1})
    server.upload(dicom.make_dicom())
    server.wait_for_out('^storing$')
    assert server.stop(timeout=30) == 0
    assert server.out() == 'storing\nrefused 2038\n'
    server.assert_no_leftovers()


BUSY = r'''
import json, threading, time
import orthanc

def received(dicom, origin):
    time.sleep(0.2)
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.NEW_INSTANCE:
        orthanc.RestApiGet('/instances/%s/tags' % resource)
        time.sleep(0.1)
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        print('stopped', flush=True)
def stored(instance, instance_id):
    orthanc.RestApiGet('/instances/%s/tags' % instance_id)
def anonymize(output, uri, **request):
    """A job that stores; the caller waits for it."""
    print('waiting', flush=True)
    study = request['groups'][0]
    output.AnswerBuffer(orthanc.RestApiPost('/studies/%s/anonymize' % study,
                                            json.dumps({'Synchronous': True})), 'application/json')
def work():
    """Jobs of a thread that no callback waits for."""
    while True:
        try:
            for study in json.loads(orthanc.RestApiGet('/studies')):
                orthanc.RestApiPost('/studies/%s/anonymize' % study, json.dumps({'Synchronous': True}))
        except orthanc.OrthancException as e:
            if e.args[0] == 2038:
                print('refused', flush=True)
                return

orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterOnStoredInstanceCallback(stored)
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/anonymize/(.*)', anonymize)
def begin(output, uri, **request):
    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    output.AnswerBuffer('begun', 'text/plain')
orthanc.RegisterRestCallback('/begin', begin)
'''


@pytest.mark.ours
@pytest.mark.parametrize('jobs', [1, 2])
def test_the_end_with_callbacks_jobs_and_stores_in_progress(orthanc, jobs):
    """SIGTERM does; with one thread for jobs, others wait for it in vain."""
    server = orthanc(script=BUSY, config={'ConcurrentJobs': jobs}, python={'StoppedTimeout': 5, 'StopTimeout': 5})
    study = server.get('/instances/%s/study' % server.upload(dicom.make_dicom())).json()['ID']
    assert server.get('/begin').text == 'begun'
    stopping = threading.Event()

    def load(action):
        while not stopping.is_set():
            try:
                action()
            except OSError:
                return

    threads = [threading.Thread(target=load, args=(action,)) for action in [
        lambda: server.post('/instances', dicom.make_dicom()),
        lambda: server.get('/anonymize/' + study)] * 3]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.out().count('waiting') >= 3, 20, 'jobs')
    try:
        assert server.stop(timeout=60) == 0
    finally:
        stopping.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert 'stopped' in server.out()
    server.assert_no_leftovers()


@pytest.mark.ours
def test_a_thread_that_waits_for_a_job_that_never_runs(orthanc):
    """With one thread for jobs, which is busy: the core would wait for ours for ever."""
    server = orthanc(script=r'''
import json, threading, time
import orthanc
IS_SLOW = False
def received(dicom, origin):
    if IS_SLOW:
        time.sleep(7)       # longer than the end waits for threads
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None
def work(study):
    print('waiting', flush=True)
    try:
        orthanc.RestApiPost('/studies/%s/anonymize' % study, json.dumps({'Synchronous': True}))
    except orthanc.OrthancException as e:
        print('refused', e.args[0], flush=True)
def begin(output, uri, **request):
    global IS_SLOW
    IS_SLOW = True
    study = request['groups'][0]
    orthanc.RestApiPost('/studies/%s/anonymize' % study, json.dumps({'Synchronous': False}))
    while 'Running' not in orthanc.RestApiGet('/jobs?expand').decode():
        time.sleep(0.05)
    threading.Thread(target=work, args=(study,), daemon=True).start()
    output.AnswerBuffer('begun', 'text/plain')
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterRestCallback('/begin/(.*)', begin)
''', config={'ConcurrentJobs': 1})
    study = server.get('/instances/%s/study' % server.upload(dicom.make_dicom())).json()['ID']
    assert server.get('/begin/' + study).text == 'begun'
    server.wait_for_out('^waiting$')
    wait_until(lambda: [job['State'] for job in server.get('/jobs?expand').json()].count('Pending') == 1,
               5, 'the job that waits')
    assert server.stop(timeout=60) == 0
    assert server.out() == 'waiting\nrefused 37\n'
    server.wait_for_log('The job .* is cancelled: Orthanc stops before it has begun')
    server.assert_no_leftovers()


@pytest.mark.ours
@pytest.mark.parametrize('kind', ['sleep', 'gil'])
def test_a_callback_that_never_returns_does_not_hold_the_server(orthanc, kind):
    """The core would wait for it for ever; the log says where it was."""
    server = orthanc(script=r'''
import ctypes, time
import orthanc
def hang(output, uri, **request):
    print('inside', flush=True)
    if uri == '/gil':
        ctypes.PyDLL(None).pause()
    while True:
        time.sleep(1)
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        print('stopped', flush=True)
orthanc.RegisterRestCallback('/sleep', hang)
orthanc.RegisterRestCallback('/gil', hang)
orthanc.RegisterOnChangeCallback(on_change)
''', python={'DrainTimeout': 1, 'StoppedTimeout': 1, 'StopTimeout': 2})
    thread = threading.Thread(target=lambda: server.raw(b'GET /%s HTTP/1.1\r\nHost: x\r\n\r\n' % kind.encode()))
    thread.start()
    server.wait_for_out('inside')
    assert server.stop(timeout=30) == 0
    thread.join(30)
    assert not thread.is_alive()
    server.wait_for_log(r'^E.*Orthanc stops, and has waited for 1 s for Python callbacks that still run')
    if kind != 'gil':
        assert 'stopped' in server.out() and 'in hang' in server.log()
    server.assert_no_leftovers()


@pytest.mark.ours
def test_a_callback_that_ends_in_time_is_waited_for(orthanc):
    """And what the script does at its end is still done, however long Orthanc takes."""
    server = orthanc(script=r'''
import atexit, time
import orthanc
def slow(output, uri, **request):
    print('inside', flush=True)
    time.sleep(3)
    output.AnswerBuffer('slow', 'text/plain')
    print('done', flush=True)
atexit.register(print, 'atexit', flush=True)
orthanc.RegisterRestCallback('/slow', slow)
''', python={'DrainTimeout': 60})
    thread = threading.Thread(target=lambda: server.raw(b'GET /slow HTTP/1.1\r\nHost: x\r\n\r\n'))
    thread.start()
    server.wait_for_out('inside')
    assert server.stop() == 0
    thread.join(10)
    assert server.out().split() == ['inside', 'done', 'atexit']
    assert 'is killed' not in server.log()


def test_the_harness_notices_what_a_sanitizer_reports(tmp_path, monkeypatch):
    """A file of a process, and a line of libubsan in the log; a notice is none."""
    monkeypatch.setattr(sanitizer, 'NAME', 'address')
    notice = "==7==WARNING: ASan doesn't fully support makecontext/swapcontext functions and may produce false\n"
    (tmp_path / 'asan.7').write_text(notice)
    assert sanitizer.reports(tmp_path, 'W1126 Orthanc has started\n') == []
    (tmp_path / 'asan.8').write_text(notice + '==8==ERROR: AddressSanitizer: heap-use-after-free\n')
    found = sanitizer.reports(tmp_path, 'W1126\ncall.c:1:2: runtime error: shift\n    #0 0x5 in f\nW1126\n')
    assert found == ['asan.8:\n==8==ERROR: AddressSanitizer: heap-use-after-free',
                     'call.c:1:2: runtime error: shift\n    #0 0x5 in f']

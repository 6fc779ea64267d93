# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that die: host, supervisor, server (design 8 and 9 as far as they are built)."""

import os
import signal
import threading
import time

import pytest

import dicom
from server import (PATIENCE, PID_ROUTE, children, command_line, is_alive, marked_processes,
                    wait_until)

pytestmark = pytest.mark.ours

SCRIPT = r'''
import ctypes, os, signal, threading, time
import orthanc

GO = threading.Event()

def rest(output, uri, **request):
    kind = request['groups'][0]
    if kind == 'wait':
        print('waiting', flush=True)
        GO.wait(60)
    elif kind == 'exit':
        os._exit(7)
    elif kind == 'abort':
        os.abort()
    elif kind == 'segfault':
        ctypes.string_at(0)
    elif kind == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == 'in-sdk':
        print('waiting', flush=True)
        orthanc.RestApiPost('/tools/find', '{"Level": "Study", "Query": {}}')
        GO.wait(60)
    output.AnswerBuffer('ok', 'text/plain')

orthanc.RegisterRestCallback('/f/(.*)', rest)
''' + PID_ROUTE


def request_in_background(server, path):
    """Returns (thread, results); a result is (status or None, monotonic time)."""
    results = []

    def ask():
        try:
            status = server.get(path, timeout=60).status_code
        except OSError:
            status = None
        results.append((status, time.monotonic()))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, results


def assert_serves_again(server, timeout=20):
    """No longer than QueueTimeout and one restart: calls wait for the next host."""
    answer = server.get('/f/ok', timeout=timeout)
    assert (answer.status_code, answer.text) == (200, 'ok')


def kill_idle_host(server):
    """Kills the host and waits until it is dead: a call sent to a dying one may be lost."""
    pid = server.host_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), 10, 'the death of the host')


@pytest.mark.parametrize('turns', [1, 3])
def test_a_host_killed_during_a_request(orthanc, turns):
    """The done-criterion: an HTTP error within a second, and the next request is served."""
    server = orthanc(script=SCRIPT)
    for turn in range(turns):
        pid = server.host_pid()
        thread, results = request_in_background(server, '/f/wait')
        wait_until(lambda turn=turn: server.out().count('waiting') == turn + 1, 10, 'the request')
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        thread.join(30)
        status, when = results[0]
        assert status is not None and 500 <= status < 600
        assert when - killed < 1.0 * PATIENCE
        assert_serves_again(server)
        assert server.host_pid() != pid
        assert not is_alive(pid)
    assert any('signal 9' in text for _, text in server.messages('EW')), server.messages('EW')
    assert server.stop() == 0


@pytest.mark.parametrize('kind,said', [
    ('exit', 'exit code 7'), ('abort', 'signal 6'), ('segfault', 'signal 11'), ('kill', 'signal 9')])
def test_a_script_that_ends_its_process(orthanc, kind, said):
    """Contract 8 row 21."""
    server = orthanc(script=SCRIPT)
    answer = server.get('/f/' + kind)
    assert 500 <= answer.status_code < 600
    assert answer.headers['Content-Type'].startswith(('application/json', 'text/'))
    assert_serves_again(server)
    server.wait_for_log(said)
    assert server.stop() == 0


def test_several_requests_in_the_host_that_dies(orthanc):
    server = orthanc(script=SCRIPT)
    pid = server.host_pid()
    asked = [request_in_background(server, '/f/wait') for _ in range(5)]
    wait_until(lambda: server.out().count('waiting') == 5, 10, 'five requests')
    os.kill(pid, signal.SIGKILL)
    for thread, results in asked:
        thread.join(30)
        assert results[0][0] is not None and 500 <= results[0][0] < 600
    assert_serves_again(server)


def test_an_idle_host_killed(orthanc):
    server = orthanc(script=SCRIPT)
    kill_idle_host(server)
    assert_serves_again(server)


def test_lanes_in_the_pool_of_a_dead_host_are_not_used_again(orthanc):
    server = orthanc(script=SCRIPT)
    threads = [threading.Thread(target=server.get, args=('/f/ok',)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    kill_idle_host(server)
    for _ in range(30):
        assert_serves_again(server)


def test_the_supervisor_killed(orthanc):
    """Orthanc goes on, says so, and Python is served again."""
    server = orthanc(script=SCRIPT)
    supervisor, host = server.supervisor(), server.host_pid()
    before = len(server.log())
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not is_alive(host) or not is_alive(supervisor), 10, 'the death')
    assert server.get('/system').status_code == 200
    server.wait_for_log(r'^[EW].*signal 9', timeout=10, start=before)
    wait_until(lambda: not is_alive(host), 10, 'the host to die with its pool')

    def served():
        answer = server.get('/f/ok', timeout=30)
        return answer.status_code == 200
    wait_until(served, 30, 'the next pool', interval=0.2)
    assert server.supervisor() != supervisor
    assert server.stop() == 0


def test_the_supervisor_killed_during_a_request(orthanc):
    server = orthanc(script=SCRIPT)
    thread, results = request_in_background(server, '/f/wait')
    server.wait_for_out('waiting')
    os.kill(server.supervisor(), signal.SIGKILL)
    thread.join(20)
    assert results and results[0][0] is not None and results[0][0] >= 500
    assert server.get('/system').status_code == 200
    wait_until(lambda: server.get('/f/ok', timeout=30).status_code == 200, 30, 'service', 0.2)


def test_the_supervisor_stopped_by_sigterm(orthanc):
    """An operator's mistake; the plugin starts another."""
    server = orthanc(script=SCRIPT)
    os.kill(server.supervisor(), signal.SIGTERM)
    wait_until(lambda: server.get('/f/ok', timeout=30).status_code == 200, 30, 'service', 0.2)
    assert server.stop() == 0


@pytest.mark.smoke
def test_the_server_killed(orthanc):
    """Neither process nor socket nor directory survives."""
    server = orthanc(script=SCRIPT)
    assert len(marked_processes(server.mark)) >= 3
    server.kill()
    server.assert_no_leftovers(5)


def test_the_server_killed_during_a_request(orthanc):
    server = orthanc(script=SCRIPT.replace('GO.wait(60)', 'time.sleep(600)'))
    thread, _ = request_in_background(server, '/f/wait')
    server.wait_for_out('waiting')
    server.kill()
    server.assert_no_leftovers(5)
    thread.join(10)


def test_the_server_killed_while_the_script_loads(orthanc):
    server = orthanc.make(script="import time\nprint('loading', flush=True)\ntime.sleep(600)\n")
    server.spawn()
    server.wait_for_out('loading', timeout=30)
    server.kill()
    server.assert_no_leftovers(5)


def test_the_server_terminated_while_the_script_loads(orthanc):
    """Signals are not handled by the core yet: the default action ends it."""
    server = orthanc.make(script="import time\nprint('loading', flush=True)\ntime.sleep(600)\n")
    server.spawn()
    server.wait_for_out('loading', timeout=30)
    os.kill(server.pid, signal.SIGTERM)
    server.wait()
    server.assert_no_leftovers(5)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_for_the_whole_group(orthanc, number):
    """Ctrl-C in the terminal: ORTHANC_STOPPED comes first, the exit code is 0."""
    server = orthanc(own_group=True, script=r'''
import orthanc
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        print('stopped', len(orthanc.RestApiGet('/system')) > 0, flush=True)
orthanc.RegisterOnChangeCallback(on_change)
''')
    os.killpg(server.pid, number)
    assert server.wait() == 0
    assert server.out() == 'stopped True\n'
    assert 'traceback' not in server.log().lower()
    server.assert_no_leftovers(5)


def test_the_pool_is_in_a_session_of_its_own(orthanc):
    server = orthanc(script=SCRIPT)
    sessions = {os.getsid(pid) for pid in (server.supervisor(), server.host_pid())}
    assert os.getsid(server.pid) not in sessions
    for pid in marked_processes(server.mark):
        assert not any(len(word) >= 32 and word.isalnum() for word in command_line(pid)), \
            'a secret on a command line'
    assert len(children(server.pid)) == 1


def test_the_script_dies_during_the_import(orthanc):
    for body in ('import os\nos._exit(0)\n', 'import os\nos.kill(os.getpid(), 9)\n',
                 'import ctypes\nctypes.string_at(0)\n'):
        server = orthanc.make(script=body)
        assert server.expect_refusal() == 255
        assert any('script' in text or 'host' in text for _, text in server.messages('E'))
        server.assert_no_leftovers(5)


def test_the_host_dies_in_other_callbacks(orthanc):
    """On-stored: the instance stays and the sender sees success. Filter: refused."""
    server = orthanc(script=r'''
import os, orthanc
def on_stored(instance, instance_id):
    if 'DIE' in instance.GetInstanceSimplifiedJson():
        os._exit(1)
def on_filter(uri, **request):
    if uri == '/die':
        os._exit(1)
    return True
orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterIncomingHttpRequestFilter(on_filter)
''')
    assert server.get('/die').status_code in (403, 500)
    wait_until(lambda: server.get('/system').status_code == 200, 20, 'the next host')
    answer = server.post('/instances', dicom.make_dicom(PatientID='DIE'))
    assert (answer.status_code, answer.json()['Status']) == (200, 'Success')
    wait_until(lambda: server.get('/system').status_code == 200, 20, 'the next host')
    assert server.get('/instances/' + answer.json()['ID']).status_code == 200
    assert server.stop() == 0


def test_the_host_dies_in_an_event(orthanc):
    server = orthanc(script=r'''
import os, orthanc
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.NEW_INSTANCE:
        print('event', flush=True)
        os._exit(1)
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        print('stopped', flush=True)
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/f/(.*)', lambda output, uri, **r: output.AnswerBuffer('ok', 'text/plain'))
''')
    server.upload(dicom.make_dicom())
    server.wait_for_out('event')
    wait_until(lambda: server.get('/f/ok', timeout=30).status_code == 200, 30, 'service', 0.2)
    assert server.stop() == 0


def test_the_end_while_the_host_is_dead(orthanc):
    """ORTHANC_STOPPED waits for a host only as long as it may."""
    server = orthanc(script=r'''
import os, orthanc
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        os._exit(1)
orthanc.RegisterOnChangeCallback(on_change)
''')
    assert server.stop(timeout=40) == 0
    server.assert_no_leftovers(5)


def test_no_descriptor_of_the_server_is_inherited(orthanc):
    """A host that outlives Orthanc for a moment must not hold its ports."""
    server = orthanc(script=SCRIPT, dicom=True)
    for pid in (server.supervisor(), server.host_pid()):
        for name in os.listdir('/proc/%d/fd' % pid):
            target = os.readlink('/proc/%d/fd/%s' % (pid, name))
            assert '/db' not in target, target
            if target.startswith('socket:'):
                inode = target[8:-1]
                with open('/proc/net/tcp', encoding='ascii') as f:
                    assert inode not in f.read().split(), 'a TCP socket of the server'

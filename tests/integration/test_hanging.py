# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that hang: where, what fails with it, and how long a call may take (Python.CallTimeout)."""

import os
import re
import signal
import threading
import time

import pytest

import dicom
from server import PATIENCE, is_alive, wait_until
from trouble import BASE, FIND_FAILED, LATE, LIMIT, SCRIPT, count_instances, has_host, host_of, make, tell, tell_nothing

pytestmark = [pytest.mark.ours, pytest.mark.survival]

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

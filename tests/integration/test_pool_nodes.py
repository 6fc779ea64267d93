# SPDX-License-Identifier: GPL-3.0-or-later
"""Several Orthanc servers on one shared pool: what happens to one does not touch the others."""

import os
import re
import signal
import threading
import time

import pytest

from daemon import Daemon
from load import Load
from server import PATIENCE, PID_ROUTE, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival]

COUNT = 4
SCRIPT = '''
import os, time
import orthanc

def work(output, uri, **request):
    name = os.path.basename(os.path.dirname(__file__))
    orthanc.RestApiGet('/statistics')
    output.AnswerBuffer(name, 'text/plain')

def hang(output, uri, **request):
    time.sleep(3600)

def changed(kind, level, resource):
    if kind == orthanc.ChangeType.ORTHANC_STARTED:
        orthanc.LogWarning('I run in ' + os.path.dirname(__file__))

orthanc.RegisterRestCallback('/work', work)
orthanc.RegisterRestCallback('/hang', hang)
orthanc.RegisterOnChangeCallback(changed)
''' + PID_ROUTE


def work(server, _):
    """One request of a Load."""
    answer = server.get('/work', timeout=60)
    wrong = answer.status_code == 200 and answer.text != os.path.basename(server.directory)
    return 'wrong' if wrong else answer.status_code


@pytest.fixture
def scene(orthanc):
    """A pool, and four servers that are attached to it."""
    class Scene:
        def __init__(self):
            self.pool = Daemon().start()
            self.servers = [self.make() for _ in range(COUNT)]

        def make(self, **python):
            return orthanc(script=SCRIPT, python={'Pool': self.pool.socket, 'QueueTimeout': 2, **python})

        def names(self):
            return [os.path.basename(server.directory) for server in self.servers]

    made = Scene()
    yield made
    for server in made.servers:
        if server.poll() is None:
            assert server.stop() == 0
    made.pool.close()


def test_each_server_has_hosts_logs_and_generations_of_its_own(scene):
    servers, pids = scene.servers, [server.host_pid() for server in scene.servers]
    assert len(set(pids)) == COUNT and sorted(pids) == sorted(scene.pool.hosts())
    assert [server.get('/work').text for server in servers] == scene.names()
    for server in servers:
        server.wait_for_log('I run in ' + re.escape(server.directory) + '$')
        assert len(re.findall('I run in ', server.log())) == 1
    assert servers[0].post('/python-bridge/reload').json()['Generation'] == 2
    assert servers[0].host_pid() != pids[0]
    assert [server.host_pid() for server in servers[1:]] == pids[1:]
    os.kill(servers[1].host_pid(), signal.SIGKILL)
    wait_until(lambda: servers[1].get('/_pid').status_code == 200, 10, 'the next host')
    for server in servers[2:]:
        assert 'Killed' not in server.log() and 'Generation' not in server.log()
        assert server.host_pid() in pids


def test_each_server_has_registrations_of_its_own(orthanc):
    """What one script registers, loses or adds changes no other server."""
    pool = Daemon().start()
    script = '''
import orthanc
def answer(output, uri, **request):
    output.AnswerBuffer('NAME', 'text/plain')
orthanc.RegisterRestCallback('/ROUTE', answer)
'''
    with_filter = script + 'orthanc.RegisterIncomingHttpRequestFilter(lambda uri, **request: uri != "/patients")\n'
    first = orthanc(python={'Pool': pool.socket}, script=with_filter.replace('NAME', 'one').replace('ROUTE', 'a'))
    second = orthanc(python={'Pool': pool.socket}, script=script.replace('NAME', 'two').replace('ROUTE', 'b'))
    def found(server):
        return [(answer.status_code, answer.text if answer.status_code == 200 and path in ('/a', '/b') else '')
                for path, answer in ((path, server.get(path)) for path in ('/a', '/b', '/patients'))]
    assert found(first) == [(200, 'one'), (404, ''), (403, '')]
    assert found(second) == [(404, ''), (200, 'two'), (200, '')]
    with open(first.script_path, 'w', encoding='utf-8') as f:
        f.write(script.replace('NAME', 'three').replace('ROUTE', 'b'))
    assert first.post('/python-bridge/reload').json()['Generation'] == 2
    wait_until(lambda: found(first) == [(404, ''), (200, 'three'), (200, '')], 20, 'its new route')
    assert found(second) == [(404, ''), (200, 'two'), (200, '')]
    assert (first.stop(), second.stop()) == (0, 0)
    pool.close()


def test_a_server_that_stops_lets_its_hosts_finish_and_no_other(scene):
    """The call that runs returns, atexit functions run, and the hosts are gone."""
    first, others = scene.servers[0], scene.servers[1:]
    with open(first.script_path, 'a', encoding='utf-8') as f:
        f.write(r'''
import atexit
atexit.register(lambda: os.write(1, b'finished\n'))
def slow(output, uri, **request):
    os.write(1, b'inside\n')
    time.sleep(2)
    os.write(1, b'done\n')
    output.AnswerBuffer('slow', 'text/plain')
orthanc.RegisterRestCallback('/slow', slow)
''')
    assert first.stop() == 0
    first.start()
    mine, theirs = [first.host_pid()], [server.host_pid() for server in others]
    with Load(others, work) as load:
        thread = threading.Thread(target=lambda: first.raw(b'GET /slow HTTP/1.1\r\nHost: x\r\n\r\n'))
        thread.start()
        scene.pool.wait_for_out('^inside$')
        assert first.stop() == 0
        thread.join()
        assert re.findall('^(?:inside|done|finished)$', scene.pool.log(), re.MULTILINE) == [
            'inside', 'done', 'finished']
        assert not set(mine) & set(scene.pool.hosts())
        load.wait_for_more()
    assert all(load.results(server) == {200} for server in others), load.answers
    assert [server.host_pid() for server in others] == theirs


def test_one_server_killed_and_started_in_a_loop(scene):
    """The others answer all the time, by the same hosts; nothing of the dead one is left."""
    first, others = scene.servers[0], scene.servers[1:]
    pids = [server.host_pid() for server in others]
    with Load(others, work) as load:
        for _ in range(5):
            host = first.host_pid()
            first.kill()
            wait_until(lambda: host not in scene.pool.hosts(), 10, 'the end of its host')
            load.wait_for_more()
            first.start()
            assert first.get('/work').text == scene.names()[0]
            load.wait_for_more()
    for server in others:
        assert load.results(server) == {200}, load.answers
    assert [server.host_pid() for server in others] == pids
    assert len(scene.pool.hosts()) == COUNT


def test_one_server_that_stands_still(scene):
    """It reads nothing of the pool meanwhile, and goes on after it."""
    first, others = scene.servers[0], scene.servers[1:]
    host = first.host_pid()
    os.kill(first.pid, signal.SIGSTOP)
    try:
        with Load(others, work) as load:
            load.wait_for_more(more=30)
            os.kill(others[0].host_pid(), signal.SIGKILL)     # there is news
            wait_until(lambda: others[0].get('/_pid').status_code == 200, 10, 'the next host')
            load.wait_for_more()
        assert all(load.results(server) == {200} for server in others[1:]), load.answers
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert first.host_pid() == host


def test_one_server_whose_script_hangs(scene):
    others = scene.servers[1:]
    slow = scene.make(CallTimeout=1)
    try:
        host = slow.host_pid()
        with Load(others, work) as load:
            assert slow.get('/hang').status_code == 504
            wait_until(lambda: slow.get('/_pid').status_code == 200, 10, 'the next host')
            assert slow.host_pid() != host
            load.wait_for_more()
        assert all(load.results(server) == {200} for server in others), load.answers
        slow.wait_for_log('in hang')
        assert all('in hang' not in server.log() for server in others)
    finally:
        assert slow.stop() == 0


def test_the_pool_killed_and_started_under_all_servers(scene):
    """Calls in it fail as when their host dies, the next ones wait, and all attach again."""
    pids = [server.pid for server in scene.servers]
    with Load(scene.servers, work) as load:
        for _ in range(3):
            load.wait_for_more()
            scene.pool.kill()
            scene.pool.start()
            load.wait_for_more(timeout=60)
    for server in scene.servers:
        assert load.results(server) <= {200, 502, 503}, load.answers
    assert [server.poll() for server in scene.servers] == [None] * COUNT
    assert [server.pid for server in scene.servers] == pids
    assert len(scene.pool.hosts()) == COUNT


def test_calls_wait_for_a_pool_that_is_gone_and_then_fail(scene):
    """QueueTimeout is 2 s; and the pool is found again, however long it was away."""
    scene.pool.kill()
    for server in scene.servers:
        began = time.monotonic()
        answer = server.get('/work')
        assert answer.status_code in (502, 503), answer.text
        if answer.status_code == 503:
            assert time.monotonic() - began > 1.5 and 'Retry-After' in answer.headers
    assert [server.get('/system').status_code for server in scene.servers] == [200] * COUNT
    scene.servers[0].wait_for_log(r'The pool does not answer at .*; trying again in 2 s', 20)
    scene.pool.start()
    for server in scene.servers:
        wait_until(lambda server=server: server.get('/work').status_code == 200, 30, 'the pool')


def test_a_pool_that_is_restarted_in_order_loses_no_call(scene):
    """As `systemctl restart` does it: calls that run end, the next ones wait for the next pool."""
    patient = [scene.make(QueueTimeout=60) for _ in range(2)]
    hosts = scene.pool.hosts()
    with Load(patient, work) as load:
        for _ in range(3):
            load.wait_for_more()
            assert scene.pool.terminate() == 0
            assert not os.path.exists(scene.pool.socket)
            scene.pool.start()
            load.wait_for_more(timeout=60)
    for server in patient:
        assert load.results(server) == {200}, load.answers
    assert not set(hosts) & set(scene.pool.hosts())
    assert [server.stop() for server in patient] == [0, 0]


def test_scripts_finish_when_the_pool_is_asked_to_end(orthanc, tmp_path):
    """What runs returns, threads are joined, atexit functions run and may still call Orthanc."""
    pool = Daemon().start()
    server = orthanc(python={'Pool': pool.socket}, script=r'''
import atexit, threading, time
import orthanc

def slow(output, uri, **request):
    time.sleep(1.5)
    output.AnswerBuffer(orthanc.RestApiGet('/system'), 'application/json')

def last():
    orthanc.LogWarning('the last words, %d bytes' % len(orthanc.RestApiGet('/system')))

atexit.register(last)
orthanc.RegisterRestCallback('/slow', slow)
''')
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.get('/slow').status_code))
    thread.start()
    wait_until(lambda: any('lane-' in open('/proc/%d/task/%s/comm' % (pid, task), encoding='ascii').read()
                           for pid in pool.hosts() for task in os.listdir('/proc/%d/task' % pid)), 10, 'the call')
    assert pool.terminate() == 0
    thread.join()
    assert answers == [200]
    server.wait_for_log('the last words, [0-9]{3,} bytes')
    assert server.stop() == 0
    pool.close()


def test_a_script_that_does_not_finish_is_killed_when_the_pool_ends(orthanc):
    pool = Daemon({'StopTimeout': 1}).start()
    server = orthanc(python={'Pool': pool.socket}, script='''
import threading, time
import orthanc
threading.Thread(target=time.sleep, args=(3600,)).start()
''' + PID_ROUTE)
    hosts = pool.hosts()
    began = time.monotonic()
    assert pool.terminate() == 0
    assert 0.9 < time.monotonic() - began < 8 * PATIENCE
    assert not any(os.path.exists('/proc/%d' % pid) for pid in hosts)
    assert server.stop() == 0
    pool.close()

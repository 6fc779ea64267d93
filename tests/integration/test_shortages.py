# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptors, threads, memory and disk run out: a clear error, and service resumes after.

Limits are those of one process, set from outside and taken back (prlimit), so that each
shortage has a beginning and an end.
"""

import contextlib
import os
import re
import resource
import signal
import subprocess
import tempfile
import threading
import time

import pytest
import requests

from server import PATIENCE, PID_ROUTE, is_alive, wait_until, zygotes_of

pytestmark = [pytest.mark.ours, pytest.mark.survival]

SCRIPT = r'''
import threading, time
import orthanc

def sleep(output, uri, **request):
    time.sleep(float(request['groups'][0]))
    output.AnswerBuffer('ok', 'text/plain')

def size(output, uri, **request):
    output.AnswerBuffer(str(len(request['body'])), 'text/plain')

def allocate(output, uri, **request):
    output.AnswerBuffer(str(len(bytearray(int(request['groups'][0])))), 'text/plain')

def answer(output, uri, **request):
    output.AnswerBuffer(bytes(int(request['groups'][0])), 'application/octet-stream')

def threads(output, uri, **request):
    """SDK calls of that many threads at the same time, which no callback runs."""
    results = []
    barrier = threading.Barrier(int(request['groups'][0]))
    def call():
        barrier.wait(20)
        try:
            results.append(orthanc.GenerateUuid() and 'ok')
        except Exception as e:
            results.append('%s: %s' % (type(e).__name__, e))
    started = [threading.Thread(target=call) for _ in range(barrier.parties)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    output.AnswerBuffer('\n'.join(results), 'text/plain')

orthanc.RegisterRestCallback('/sleep/(.*)', sleep)
orthanc.RegisterRestCallback('/size', size)
orthanc.RegisterRestCallback('/allocate/(.*)', allocate)
orthanc.RegisterRestCallback('/answer/(.*)', answer)
orthanc.RegisterRestCallback('/threads/(.*)', threads)
''' + PID_ROUTE
CLIENTS = 6
KEEP_ALIVE = {'KeepAlive': True, 'KeepAliveTimeout': 120}


@contextlib.contextmanager
def limit(pid, which, value):
    """The soft limit of a running process, for a while; it may end meanwhile."""
    before = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (value, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, which, before)


def no_descriptors(pid):
    """Those that are open stay, and no more can be opened."""
    used = {int(name) for name in os.listdir('/proc/%d/fd' % pid)}
    return limit(pid, resource.RLIMIT_NOFILE, min(set(range(len(used) + 1)) - used))


def more_memory(pid, more_bytes):
    """No more address space than that: neither heap nor stacks of new threads."""
    with open('/proc/%d/statm' % pid, encoding='ascii') as f:
        now = int(f.read().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    return limit(pid, resource.RLIMIT_AS, now + more_bytes)


class Clients:
    """Clients whose connections to the server are open already."""

    def __init__(self, server):
        self.server = server
        self.sessions = [requests.Session() for _ in range(CLIENTS)]
        for session in self.sessions:
            assert session.get(server.url('/system'), timeout=30).status_code == 200

    def ask(self, seconds=0.5):
        """All at the same time: the status of each answer."""
        results = []

        def ask(session):
            answer = session.get(self.server.url('/sleep/%s' % seconds), timeout=30 * PATIENCE)
            results.append(answer.status_code)

        threads = [threading.Thread(target=ask, args=(session,)) for session in self.sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(results)

    def assert_service(self):
        """Within the time in which a host or worker is started anew."""
        wait_until(lambda: self.ask(0.05) == [200] * CLIENTS, 30, 'service for all')


@pytest.fixture
def served(orthanc):
    server = orthanc(script=SCRIPT, python={'QueueTimeout': PATIENCE}, config=KEEP_ALIVE)
    server.host_pid()       # so there is one lane
    clients = Clients(server)
    yield server, clients
    assert server.poll() is None
    clients.assert_service()
    assert server.stop() == 0


def assert_some_served(results):
    """What found a lane is served, the others are told to come again."""
    assert set(results) == {200, 503} and len(results) == CLIENTS, results


def test_no_descriptors_in_orthanc(served):
    server, clients = served
    with no_descriptors(server.pid):
        assert_some_served(clients.ask(2.5 * PATIENCE))
        server.wait_for_log('A lane to host 1 cannot be opened now: Too many open files')
        assert server.log().count('cannot be opened now') == 1
    with limit(server.pid, resource.RLIMIT_NOFILE, 3):     # what a dead worker leaves is not enough
        os.kill(server.supervisor(), signal.SIGKILL)
        server.wait_for_log('Too many open files.*; trying again in')
    server.wait_for_log('The worker is running again', 20)


def test_no_descriptors_for_service_lanes(served):
    """SDK calls of threads wait, and go on once a lane can be accepted."""
    server, clients = served
    answers = []
    thread = threading.Thread(target=lambda: answers.append(
        clients.sessions[0].get(server.url('/threads/5'), timeout=30 * PATIENCE).text))
    with no_descriptors(server.pid):
        thread.start()
        server.wait_for_log('A service lane was refused: Too many open files')
    thread.join()
    assert answers == ['\n'.join(['ok'] * 5)]


def test_no_descriptors_in_the_worker(served):
    server, clients = served
    with no_descriptors(server.supervisor()):
        assert_some_served(clients.ask(2.5 * PATIENCE))
        server.wait_for_log(r'Worker: cannot take a connection now \(Too many open files\)')
        assert server.log().count('cannot take a connection now') < 3
        host = server.host_pid()
        os.kill(host, signal.SIGKILL)
        server.wait_for_log('could not be started: Too many open files; trying again')
        assert clients.ask() == [503] * CLIENTS


def test_no_descriptors_in_the_host(served):
    server, clients = served
    host = server.host_pid()
    with no_descriptors(host):
        assert_some_served(clients.ask(2.5 * PATIENCE))
        server.wait_for_log('cannot take a lane from the supervisor: Too many open files')
    clients.assert_service()
    assert server.host_pid() == host


def test_no_threads_in_the_host(served):
    """A thread needs a stack, which needs address space."""
    server, clients = served
    with more_memory(server.host_pid(), 1 << 20):
        assert_some_served(clients.ask(2.5 * PATIENCE))
        server.wait_for_log('cannot serve a call lane: Resource temporarily unavailable')


def test_no_threads_in_orthanc(served):
    """Nor can service lanes be served, nor the stacks of callbacks be had."""
    server, clients = served
    assert set(server.get('/threads/2').text.split('\n')) == {'ok'}
    with more_memory(server.pid, 1 << 20):
        said = clients.sessions[0].get(server.url('/threads/40'), timeout=60).text
        assert set(said.split('\n')) != {'ok'}
        assert 500 in clients.ask()
    server.wait_for_log('A service lane was refused: Resource temporarily unavailable')
    server.wait_for_log('could not be run: there is no memory for its stack')
    clients.assert_service()
    assert set(server.get('/threads/40').text.split('\n')) == {'ok'}


def test_no_memory_in_the_host(served):
    """What is asked for and not to be had is a MemoryError, or ends one call."""
    server, _ = served
    host = server.host_pid()
    with more_memory(host, 64 << 20):
        assert server.get('/allocate/%d' % (10 << 30)).status_code == 500
        server.wait_for_log('MemoryError')
        answer = server.post('/size', b'x' * (100 << 20), timeout=60)
        assert answer.status_code == 502, answer.text
        assert server.get('/allocate/1000').text == '1000'
        assert server.host_pid() == host
    assert server.post('/size', b'x' * (100 << 20), timeout=60).text == str(100 << 20)


def test_no_memory_in_orthanc(served):
    """What the host sends and Orthanc cannot hold fails that call, and no other."""
    server, clients = served
    host = server.host_pid()
    with more_memory(server.pid, 64 << 20):
        answer = clients.sessions[0].get(server.url('/answer/%d' % (400 << 20)), timeout=60 * PATIENCE)
        assert answer.status_code in (500, 502), answer.status_code
        assert server.host_pid() == host
        assert clients.ask(0.05) == [200] * CLIENTS
    assert re.search(r'^E.*([Mm]emory|too large)', server.log(), re.M), server.messages('E')
    assert len(server.get('/answer/%d' % (40 << 20), timeout=60).content) == 40 << 20


def test_no_memory_in_the_worker(served):
    """Hosts and zygotes that it starts inherit the limit, in which no Python starts."""
    server, clients = served
    with more_memory(server.supervisor(), 256 << 10):
        assert server.get('/sleep/0').text == 'ok'
        for zygote in zygotes_of(server.supervisor()):
            os.kill(zygote, signal.SIGKILL)
            wait_until(lambda: not is_alive(zygote), 5, 'the end of the zygote')
        os.kill(server.host_pid(), signal.SIGKILL)
        server.wait_for_log(r'a new one is being started')
        server.wait_for_log(r'^E.*(trying again|could not|ended with|was killed)', 20)
        assert clients.ask() == [503] * CLIENTS
        assert server.get('/system').status_code == 200


def test_a_server_with_a_limit_from_its_start(orthanc):
    """ulimit -v for Orthanc, and so for all below it: what does not fit fails, and no more."""
    server = orthanc.make(script=SCRIPT, config=dict(KEEP_ALIVE, HttpThreadsCount=5))
    limits = (3 << 30, 3 << 30)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limits[0], before[1]))
    try:
        server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert resource.prlimit(server.host_pid(), resource.RLIMIT_AS)[0] == limits[0]
    host = server.host_pid()
    assert server.get('/allocate/%d' % (4 << 30)).status_code == 500
    assert 'MemoryError' in server.log()
    assert server.get('/allocate/1000').text == '1000' and server.host_pid() == host
    assert server.stop() == 0


@pytest.fixture
def small_disk():
    """A file system of a few files; full() makes it full."""
    path = tempfile.mkdtemp(prefix='opbs-')
    mounted = os.geteuid() == 0 and subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=256k,nr_inodes=40,mode=700', 'tmpfs', path],
        stderr=subprocess.DEVNULL, check=False).returncode == 0
    if not mounted:
        os.rmdir(path)
        pytest.skip('a small file system cannot be mounted here')

    @contextlib.contextmanager
    def full():
        made = []
        with contextlib.suppress(OSError):
            while True:
                name = os.path.join(path, 'filler-%d' % len(made))
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
                made.append(name)
        yield
        for name in made:
            os.unlink(name)

    yield path, full
    subprocess.run(['umount', '-l', path], check=True)
    os.rmdir(path)


@contextlib.contextmanager
def kept(path):
    """Whatever is removed meanwhile frees nothing, since it is open."""
    opened = [os.open(os.path.join(parent, name), os.O_PATH)
              for parent, directories, files in os.walk(path) for name in directories + files]
    try:
        yield
    finally:
        for fd in opened:
            os.close(fd)


def test_a_full_disk_at_start(orthanc, small_disk):
    path, full = small_disk
    server = orthanc.make(script=SCRIPT, python={'RuntimeDirectory': path})
    with full():
        assert server.expect_refusal() == 255
        assert re.search(r'The private directory for the sockets of the worker cannot be made below %s.*'
                         r'No space left on device' % path, server.log())
    assert server.start().get('/sleep/0').text == 'ok'
    assert server.stop() == 0


def test_a_full_disk_in_between(orthanc, small_disk):
    path, full = small_disk
    server = orthanc(script=SCRIPT, python={'RuntimeDirectory': path, 'QueueTimeout': PATIENCE})
    with full(), kept(path):
        assert server.get('/sleep/0').text == 'ok'
        os.kill(server.supervisor(), signal.SIGKILL)
        server.wait_for_log('No space left on device.*; trying again in', 20)
        assert server.get('/sleep/0').status_code == 503
        assert server.get('/system').status_code == 200
    server.wait_for_log('The worker is running again', 20)
    began = time.monotonic()
    assert server.get('/sleep/0').text == 'ok'
    assert time.monotonic() - began < 5 * PATIENCE
    assert server.stop() == 0
    assert [name for name in os.listdir(path) if not name.startswith('filler')] == []

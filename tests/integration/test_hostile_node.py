# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever connects to the sockets of the bridge, while a server works with the same pool.

A shared pool, a real Orthanc attached to it, and connections that are none of a node's. The
server keeps answering, the pool lives, loses no descriptor, and says what it has refused.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

import evil_worker
import wire
from server import PATIENCE, PID_ROUTE, hosts_of, is_alive, ours_worker, wait_until
from test_hostile_worker import BOUND, SEED, Clients, descriptors, resident_mb

pytestmark = [pytest.mark.ours, pytest.mark.survival]

SCRIPT = r'''
import time
import orthanc

def rest(output, uri, **request):
    time.sleep(float(request['groups'][0]))
    output.AnswerBuffer('ok', 'text/plain')

orthanc.RegisterRestCallback('/sleep/(.*)', rest)
''' + PID_ROUTE
NOBODY = 65534


class Pool:
    """A shared pool: the daemon alone."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix='opbp-')
        self.socket = os.path.join(self.directory, 'pool.sock')
        self.stderr_path = os.path.join(self.directory, 'stderr')
        with open(self.stderr_path, 'wb') as err:
            self.process = subprocess.Popen([ours_worker(), '--socket', self.socket],
                                            stdin=subprocess.DEVNULL, stderr=err)
        wait_until(lambda: os.path.exists(self.socket), 20, 'the socket of the pool')

    def connect(self):
        return wire.Connection.to(self.socket, 30 * PATIENCE)

    def hosts(self):
        return hosts_of(self.process.pid)

    def close(self):
        hosts = self.hosts()
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(20 * PATIENCE) == 0
            wait_until(lambda: not any(map(is_alive, hosts)), 10, 'the end of the hosts')
        finally:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.directory)


class Scene:
    """Pool, server, and their state before."""

    def __init__(self, pool, server):
        print('OPB_TEST_SEED=%d' % SEED)
        self.pool, self.server = pool, server
        self.rng = random.Random(SEED)
        self.host = server.host_pid()
        # found in its log: what the plugin calls itself
        self.node = 'orthanc-%d' % server.pid
        self.ask_many()
        self.descriptors = descriptors(pool.process.pid)
        self.memory = resident_mb(pool.process.pid)

    def ask_many(self, count=12, timeout=BOUND):
        """So many requests at a time, each with a lane of its own; all are answered."""
        results = []

        def ask():
            try:
                results.append(self.server.get('/sleep/0.2', timeout=timeout).status_code)
            except OSError as e:
                results.append(e)

        threads = [threading.Thread(target=ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [200] * count, results

    def check(self):
        assert self.server.poll() is None and self.pool.process.poll() is None
        self.ask_many()
        assert self.server.host_pid() == self.host     # nothing has touched it
        wait_until(lambda: descriptors(self.pool.process.pid) <= self.descriptors + 2, 10,
                   'the descriptors of the pool to come back to %d' % self.descriptors)
        assert resident_mb(self.pool.process.pid) < self.memory + 50
        wait_until(lambda: self.pool.hosts() == [self.host], 10, 'only one host')
        for line in self.server.log().splitlines():
            assert not re.search(r'[\x00-\x08\x0b-\x1f\x7f]', line), line

    def refused(self, message):
        """The pool's answer to a hello that it does not like."""
        with self.pool.connect() as connection:
            connection.send(message)
            answer = connection.read()
            assert not wire.welcomed(answer), answer
            assert connection.ends()
            return answer[2][2]

    def attach(self, name, secret=None):
        connection = self.pool.connect()
        connection.send(wire.hello(wire.CONTROL))
        assert wire.welcomed(connection.read())
        connection.send([wire.REQUEST, 1, wire.ATTACH,
                         [name, '1.10.1', '/nowhere', secret or self.rng.randbytes(32), os.getpid(), 1]])
        return connection, connection.read()


@pytest.fixture
def scene(orthanc):
    pool = Pool()
    server = orthanc(script=SCRIPT, python={'Pool': pool.socket})
    yield Scene(pool, server)
    assert server.stop() == 0
    pool.close()


def test_greetings_that_are_none(scene):
    with Clients(scene.server) as clients:
        for data in evil_worker.BYTES.values():
            with scene.pool.connect() as connection:
                try:
                    connection.send_bytes(data)
                except wire.Closed:
                    pass
        for data in evil_worker.ENVELOPES.values():
            with scene.pool.connect() as connection:
                try:
                    connection.send_bytes(wire.frame(wire.Raw(data)))
                    assert connection.ends(), data[:20]
                except wire.Closed:
                    pass
        for _ in range(100):
            data = bytearray(wire.frame(wire.hello(scene.rng.randrange(5), scene.node, 1)))
            for _ in range(scene.rng.randrange(1, 4)):
                data[scene.rng.randrange(len(data))] = scene.rng.randrange(256)
            with scene.pool.connect() as connection:
                connection.send_bytes(bytes(data))
        assert 'version' in scene.refused(wire.hello(wire.CONTROL, version=wire.VERSION + 1))
        assert 'no greeting' in scene.refused(wire.hello(wire.CONTROL, magic='other'))
        assert 'of that kind' in scene.refused(wire.hello(wire.SERVICE, scene.node, 1))
    clients.check()
    scene.check()


def test_lanes_to_the_host_of_another_node(scene):
    """The name is no secret; the secret is."""
    other, answer = scene.attach('other', b's' * 32)
    assert answer == [wire.RESPONSE, 1, None, ['other', 1]]
    other.read()    # its host has started
    with Clients(scene.server) as clients:
        for kind in (wire.MAIN, wire.CALL):
            for secret in (bytes(32), b's' * 32, b'x' * 32):
                assert 'secret is not the one' in scene.refused(
                    wire.hello(kind, scene.node, 1, secret))
            assert 'no node of that name' in scene.refused(wire.hello(kind, 'nobody', 1, b's' * 32))
            assert 'not running' in scene.refused(wire.hello(kind, 'other', 1, b's' * 32))
        for _ in range(3):
            other.send([wire.NOTIFY, wire.REPLACE_HOST, [1, 'not yours']])
        again, answer = scene.attach(scene.node)
        assert answer[3] == [scene.node + '-2', 1]    # a name of its own
        again.close()
    other.close()
    clients.check()
    scene.check()
    scene.server.wait_for_log('Worker: refused a connection of process %d: the secret is not the one of the '
                              'node that it names' % os.getpid())


def test_control_connections_that_misbehave(scene):
    with Clients(scene.server) as clients:
        for secret in (bytes(32), b'short', b'x' * 33):
            connection, answer = scene.attach('evil', secret)
            assert 'attach secret' in answer[2][2]
            connection.close()
        for value in evil_worker.ENVELOPES.values():
            with scene.pool.connect() as connection:
                try:
                    connection.send_bytes(wire.frame(wire.hello(wire.CONTROL)) + wire.frame(wire.Raw(value)))
                except wire.Closed:
                    pass
        connection, answer = scene.attach('evil')
        assert answer[3] == ['evil', 1]
        connection.send([wire.REQUEST, 2, wire.ATTACH, ['evil', '', '', b'x' * 32, 1, 1]])
        news = connection.read(), connection.read()      # one of them: its host has started
        assert any('attached its node already' in repr(each) for each in news)
        # Asks and never reads: the pool does not keep answers for ever.
        one = wire.frame([wire.REQUEST, 3, 99, []]) * 100
        with pytest.raises(wire.Closed):
            for _ in range(10000):
                connection.send_bytes(one)
        connection.close()
        connection, _ = scene.attach('evil')
        connection.send_bytes(wire.frame([wire.NOTIFY, wire.REPLACE_HOST, [1 << 31, 'x' * 50000]]) * 200)
        connection.send_bytes(wire.frame([wire.NOTIFY, 88, ['a post of a newer release']]) * 5000)
        for _ in range(2):
            connection.send([wire.REQUEST, 4, wire.DETACH, [1 << 63]])
        connection.close()
    clients.check()
    scene.check()


def test_many_connections(scene):
    """More than the pool lets wait for a greeting: those of the node come in all the same."""
    silent = []
    with Clients(scene.server) as clients:
        for _ in range(600):
            silent.append(scene.pool.connect())
        began = time.monotonic()
        scene.ask_many(18)
        assert time.monotonic() - began < 4 * PATIENCE
        for connection in silent:
            connection.close()
        for _ in range(3000):
            scene.pool.connect().close()
        scene.ask_many(18)
    clients.check()
    scene.check()


# -- another user ----------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')


def as_nobody(code, *arguments):
    """Runs Python text as another user; its exit code and what it has printed."""
    done = subprocess.run([sys.executable, '-I', '-c', code, *arguments], user=NOBODY, group=NOBODY,
                          extra_groups=[], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60, check=False)
    return done.returncode, done.stdout


CONNECT = '''
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect(sys.argv[1])
try:
    s.sendall(bytes.fromhex(sys.argv[2]))
    print(os.getpid(), s.recv(500))
except OSError:
    print(os.getpid(), b'')
'''


@needs_root
def test_another_user_does_not_get_in(scene):
    """Not by the directory's mode; and if somebody opens that, not by the peer's user."""
    node_sockets = [os.path.join(scene.server.runtime, name, 'node.sock')
                    for name in os.listdir(scene.server.runtime)]
    hello = wire.frame(wire.hello(wire.CONTROL)).hex()
    assert len(node_sockets) == 1
    for path in [scene.pool.socket] + node_sockets:
        code, said = as_nobody(CONNECT, path, hello)
        assert code == 1 and 'Permission denied' in said, said
    for path in [scene.pool.socket] + node_sockets:
        opened = [path, os.path.dirname(path), os.path.dirname(os.path.dirname(path)),
                  os.path.dirname(os.path.dirname(os.path.dirname(path)))]
        modes = {each: os.stat(each).st_mode & 0o7777 for each in opened if each not in ('/', '/tmp')}
        for each in modes:
            os.chmod(each, 0o777)
        try:
            code, said = as_nobody(CONNECT, path, hello)
        finally:
            for each, mode in modes.items():
                os.chmod(each, mode)
        assert code == 0, said
        answer = said.split(' ', 1)[1]
        if path == scene.pool.socket:
            assert 'user 65534 may not use this worker' in answer and 'AllowUsers' in answer
        else:
            assert answer == "b''\n"
        pid = int(said.split()[0])
        scene.server.wait_for_log(
            '(refused a connection of process %d|Process %d was refused at the node.s socket): user 65534 may not use this '
            '(worker|node)' % (pid, pid))
    scene.check()


@needs_root
def test_a_pool_of_another_user_is_not_used(orthanc):
    """Orthanc does not give its secret to whoever listens there."""
    directory = tempfile.mkdtemp(prefix='opbp-')
    os.chmod(directory, 0o777)
    path = os.path.join(directory, 'pool.sock')
    stranger = subprocess.Popen(
        [sys.executable, '-I', '-c', 'import socket, sys, time\ns = socket.socket(socket.AF_UNIX)\n'
         's.bind(sys.argv[1])\ns.listen(9)\ns.settimeout(60)\nc, _ = s.accept()\nprint(len(c.recv(9)))', path],
        user=NOBODY, group=NOBODY, extra_groups=[], stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: os.path.exists(path), 10, 'the socket of the stranger')
        server = orthanc.make(script=SCRIPT, python={'Pool': path})
        assert server.expect_refusal() == 255
        assert re.search(r'The pool at \S+ belongs to user 65534, and Orthanc runs as user 0', server.log())
        assert stranger.communicate(timeout=30)[0] == '0\n'     # it was told nothing
    finally:
        stranger.kill()
        stranger.wait()
        shutil.rmtree(directory)

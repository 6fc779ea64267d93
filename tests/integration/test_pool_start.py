# SPDX-License-Identifier: GPL-3.0-or-later
"""Orthanc's start with a shared pool: one that comes later, never, or is of another kind."""

import os
import re
import socket
import tempfile
import threading
import time

import pytest

import wire
from daemon import Daemon
from server import PATIENCE, PID_ROUTE

pytestmark = pytest.mark.ours

SCRIPT = 'import orthanc\n' + PID_ROUTE


@pytest.fixture
def pool():
    made = Daemon()
    yield made
    made.close()


def test_orthanc_waits_for_a_pool_that_comes_later(orthanc, pool):
    server = orthanc.make(script=SCRIPT, python={'Pool': pool.socket})
    server.spawn()
    server.wait_for_log(r'The pool does not answer at \S+: No such file or directory: start it .*; '
                        r'waiting for it for up to 60 s \("Python.StartTimeout"\)', 30)
    pool.start()
    server.wait_for_log('Orthanc has started', 30)
    server.wait_ready()
    assert server.get('/_pid').status_code == 200


def test_orthanc_does_not_start_without_the_pool(orthanc, pool):
    began = time.monotonic()
    server = orthanc.make(script=SCRIPT, python={'Pool': pool.socket, 'StartTimeout': 2})
    assert server.expect_refusal() == 255
    assert time.monotonic() - began > 1.5
    assert re.search(r'The pool does not answer at \S+: No such file or directory: start it \(systemctl start '
                     r'orthanc-python-worker.socket\), or correct the configuration option "Python.Pool"; this '
                     r'server has waited for it for 2 s \("Python.StartTimeout"\)', server.log())
    assert os.listdir(server.runtime) == []


def test_a_socket_that_nobody_listens_on(orthanc, pool):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(pool.socket)
    server = orthanc.make(script=SCRIPT, python={'Pool': pool.socket, 'StartTimeout': 1})
    assert server.expect_refusal() == 255
    assert re.search(r'does not answer at \S+: Connection refused: start it', server.log())
    os.unlink(pool.socket)


def test_a_path_too_long_for_a_socket(orthanc):
    path = '/tmp/' + 'x' * 120
    server = orthanc.make(script=SCRIPT, python={'Pool': path})
    assert server.expect_refusal() == 255
    assert re.search(r'The socket %s, named by the configuration option "Python.Pool", has a path of more than 107 '
                     r'bytes, which no socket can have: give it a shorter one' % path, server.log())


@pytest.mark.parametrize('path', ['node.sock', '/tmp/' + 'x' * 120])
def test_a_node_socket_that_cannot_be(orthanc, path):
    server = orthanc.make(script=SCRIPT, python={'NodeSocket': path})
    assert server.expect_refusal() == 255
    assert re.search(r'The configuration option "Python.NodeSocket" is "%s", and must be an absolute path of at most '
                     r'107 bytes' % path, server.log())


def test_a_node_socket_of_another_server(orthanc):
    """The first keeps it; what a killed one has left is taken."""
    first = orthanc.make(script=SCRIPT)
    path = os.path.join(first.short, 'node.sock')
    first.python = {'NodeSocket': path}
    first.start()
    second = orthanc.make(script=SCRIPT, python={'NodeSocket': path})
    assert second.expect_refusal() == 255
    assert re.search(r"The node's socket %s cannot be made: Address already in use: \"Python.NodeSocket\" must name a "
                     r'path of this server alone, in a directory in which Orthanc may write' % path, second.log())
    assert first.get('/_pid').status_code == 200
    first.kill()
    assert os.path.exists(path)
    second.start()
    assert second.get('/_pid').status_code == 200
    assert second.stop() == 0 and not os.path.exists(path)


def test_a_pool_of_another_protocol_version(orthanc):
    """Told at once, by both sides, with both versions and what to do."""
    directory = tempfile.mkdtemp(prefix='opbp-')
    path = os.path.join(directory, 'pool.sock')
    text = 'this worker speaks protocol version 4, the plugin version 3: install plugin and worker from the same release'
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(30 * PATIENCE)

        def answer():
            accepted, _ = listener.accept()
            with wire.Connection(accepted) as connection:
                connection.read()
                connection.send([wire.RESPONSE, 0, [8, 4, text], None])

        thread = threading.Thread(target=answer)
        thread.start()
        began = time.monotonic()
        server = orthanc.make(script=SCRIPT, python={'Pool': path})
        assert server.expect_refusal() == 255
        thread.join()
    assert time.monotonic() - began < 30 * PATIENCE
    assert text in server.log()
    os.unlink(path)
    os.rmdir(directory)

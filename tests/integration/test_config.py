# SPDX-License-Identifier: GPL-3.0-or-later
"""The section "Python" of the configuration, and workers that cannot be used."""

import os
import signal
import stat
import sys
import time

import pytest

from server import ours_worker

pytestmark = pytest.mark.ours

HELLO = "import orthanc\nprint('loaded', flush=True)\n"
CORE = 'Uncaught exception, stopping now: [Error while using a shared library (plugin)] (code 25)'


def refused(orthanc, timeout=60, **kwargs):
    """Starts what must be refused; returns the errors in the log as one text."""
    server = orthanc.make(script=HELLO, **kwargs)
    assert server.expect_refusal(timeout) == 255
    text = '\n'.join(line for _, line in server.messages('E'))
    assert CORE in text
    assert 'loaded' not in server.out()
    server.assert_no_leftovers()
    return text


@pytest.mark.parametrize('key,nearest', [
    ('Pth', 'Path'), ('verbose', 'Verbose'), ('Wroker', 'Worker'), ('AllowThread', 'AllowThreads'),
    ('DisplayMemoryUsag', 'DisplayMemoryUsage'), ('QueueTimeOut', 'QueueTimeout')])
def test_an_unknown_key_names_the_nearest(orthanc, key, nearest):
    text = refused(orthanc, python={key: 'x'})
    assert key in text and 'Python.' + nearest in text


@pytest.mark.parametrize('python', [
    12, 'x', [], {'Path': 12}, {'Verbose': 'yes'}, {'Verbose': 1}, {'AllowThreads': 'yes'},
    {'DisplayMemoryUsage': 'no'}, {'Workers': 'many'}, {'Worker': 1}, {'RuntimeDirectory': []},
    {'QueueTimeout': 'x'}], ids=str)
def test_wrong_types(orthanc, python):
    """Contract 4.1."""
    text = refused(orthanc, python=python)
    assert 'Exception while starting the Python plugin: Bad file format' in text


@pytest.mark.parametrize('python', [{'Workers': 0}, {'Workers': -1}, {'Workers': 65}, {'Workers': 1.5}, {'QueueTimeout': -1},
                                    {'StartTimeout': -5}], ids=str)
def test_values_out_of_range(orthanc, python):
    assert list(python)[0] in refused(orthanc, python=python)


def test_a_missing_worker(orthanc):
    path = '/nonexistent/orthanc-python-worker'
    assert path in refused(orthanc, python={'Worker': path})


def test_a_worker_that_is_no_program(orthanc, tmp_path):
    directory = tmp_path / 'directory'
    directory.mkdir()
    plain = tmp_path / 'plain'
    plain.write_text('not executable')
    garbage = tmp_path / 'garbage'
    garbage.write_bytes(b'\x7fELF garbage')
    garbage.chmod(0o755)
    for path in (directory, plain, garbage):
        assert str(path) in refused(orthanc, python={'Worker': str(path)})


def fake(tmp_path, body):
    path = tmp_path / 'fake-worker'
    path.write_text('#!%s\nimport os, sys, time\nfd = int(sys.argv[sys.argv.index("--managed-fd") + 1])\n'
                    % sys.executable + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize('body,expected', [
    ('os.write(fd, b"READY 99 %d\\n" % os.getpid())\ntime.sleep(60)\n', '99'),
    ('os.write(fd, b"ERROR no luck today\\n")\n', 'no luck today'),
    ('sys.exit(3)\n', '3'),
    ('os.kill(os.getpid(), 9)\n', 'signal 9'),
    ('os.write(fd, b"nonsense\\n")\ntime.sleep(60)\n', ''),
    ('os.write(fd, b"x" * 100000)\ntime.sleep(60)\n', ''),
    ('os.write(fd, b"READY 3 %d\\n" % os.getpid())\ntime.sleep(60)\n', ''),
], ids=['other version', 'error', 'exit', 'killed', 'nonsense', 'flood', 'does not listen'])
def test_a_worker_that_does_not_behave(orthanc, tmp_path, body, expected):
    start = time.monotonic()
    text = refused(orthanc, python={'Worker': fake(tmp_path, body), 'StartTimeout': 5})
    assert expected in text
    assert 'worker' in text or 'pool' in text
    assert time.monotonic() - start < 30


def test_a_worker_that_never_gets_ready(orthanc, tmp_path):
    start = time.monotonic()
    refused(orthanc, python={'Worker': fake(tmp_path, 'time.sleep(600)\n'), 'StartTimeout': 2})
    assert 1.5 < time.monotonic() - start < 20


def test_the_other_version_is_named_with_ours(orthanc, tmp_path):
    body = 'os.write(fd, b"READY 99 %d\\n" % os.getpid())\ntime.sleep(60)\n'
    text = refused(orthanc, python={'Worker': fake(tmp_path, body)})
    assert '99' in text and 'version' in text and 'fake-worker' in text


def test_a_runtime_directory_that_cannot_be_made(orthanc, tmp_path):
    a_file = tmp_path / 'file'
    a_file.write_text('')
    for path in (str(a_file), str(tmp_path / 'missing' / 'deeper')):
        assert path in refused(orthanc, python={'RuntimeDirectory': path})


def test_a_runtime_directory_too_long_for_a_socket(orthanc, tmp_path):
    path = tmp_path / ('x' * 120)
    path.mkdir()
    text = refused(orthanc, python={'RuntimeDirectory': str(path)})
    assert 'x' * 20 in text
    assert not list(path.iterdir())


def test_the_runtime_directory_is_private_and_goes(orthanc):
    server = orthanc(script=HELLO)
    (entry,) = os.listdir(server.runtime)
    path = os.path.join(server.runtime, entry)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    sockets = [name for name in os.listdir(path)
               if stat.S_ISSOCK(os.stat(os.path.join(path, name)).st_mode)]
    assert sockets
    assert server.stop() == 0
    assert os.listdir(server.runtime) == []


def test_without_a_configured_directory_or_worker(orthanc):
    """The worker is found beside the plugin or in its build tree; TMPDIR is the fallback."""
    server = orthanc(script=HELLO, python={'RuntimeDirectory': None,
                                           'Worker': None if 'OPB_TEST_WORKER' not in os.environ
                                           else ours_worker()},
                     env={'RUNTIME_DIRECTORY': None})
    assert len(os.listdir(server.temporary)) == 1
    server.wait_for_out('^loaded$')
    assert server.stop() == 0
    assert os.listdir(server.temporary) == []


def test_what_a_killed_server_left_is_removed_by_the_next(orthanc):
    """Even if its worker could not clean up."""
    server = orthanc(script=HELLO)
    supervisor = server.supervisor()
    os.kill(supervisor, signal.SIGSTOP)
    server.kill()
    os.kill(supervisor, signal.SIGKILL)
    leftovers = os.listdir(server.runtime)
    assert len(leftovers) == 1
    second = orthanc(script=HELLO, python={'RuntimeDirectory': server.runtime})
    assert leftovers[0] not in os.listdir(server.runtime)
    assert second.stop() == 0
    assert os.listdir(server.runtime) == []

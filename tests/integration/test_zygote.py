# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts are forked by a zygote, with modules that it has imported (Python.Preload)."""

import os
import re
import signal
import time

import pytest

from daemon import Daemon
from server import (PATIENCE, PID_ROUTE, hosts_of, is_alive, marked_processes, ours_worker,
                    wait_until, zygotes_of)
from test_workers import SCRIPT as SCRIPT_OF_WORKERS
from test_workers import Holds, pids_in_time

pytestmark = [pytest.mark.ours, pytest.mark.survival]

SCRIPT = r'''
import sys
HAD = [name for name in ('numpy', 'pydicom', 'threading') if name in sys.modules]
import json, os
import orthanc

def modules(output, uri, **request):
    output.AnswerBuffer(json.dumps(HAD), 'application/json')

orthanc.RegisterRestCallback('/modules', modules)
''' + PID_ROUTE


def zygote_of(server):
    """The zygote, once it is ready or about to be."""
    return wait_until(lambda: zygotes_of(server.supervisor()), 20, 'a zygote')[0]


def kill_host(server):
    """Gives the process id of the host after it."""
    before = server.host_pid()
    os.kill(before, signal.SIGKILL)
    return wait_until(lambda: next_pid(server, before), 30, 'another host')


def next_pid(server, before):
    answer = server.get('/_pid')
    return int(answer.text) if answer.status_code == 200 and int(answer.text) != before else None


def memory_of(pid):
    """Its sizes in KiB, as the kernel counts them."""
    with open('/proc/%d/smaps_rollup' % pid, encoding='ascii') as f:
        return {name: int(value) for name, value in re.findall(r'^(\w+): +(\d+) kB$', f.read(), re.MULTILINE)}


def without_zygotes(tmp_path):
    """A worker that starts each host with a Python of its own."""
    path = tmp_path / 'worker'
    path.write_text('#!/bin/sh\nexec "%s" "$@" --without-zygotes\n' % ours_worker())
    path.chmod(0o755)
    return str(path)


@pytest.mark.smoke
def test_hosts_come_from_one_zygote(orthanc):
    server = orthanc(script=SCRIPT)
    supervisor, zygote = server.supervisor(), zygote_of(server)
    pids = [server.host_pid()] + [kill_host(server) for _ in range(3)]
    assert len(set(pids)) == 4
    assert zygotes_of(supervisor) == [zygote] and hosts_of(supervisor) == pids[-1:]
    assert server.get('/modules').json() == []
    assert 'The zygote' not in server.log()
    assert server.stop() == 0
    assert not is_alive(zygote)


def test_preloaded_modules_are_there_before_the_script(orthanc):
    server = orthanc(script=SCRIPT, python={'Preload': ['numpy', 'pydicom']})
    for _ in range(3):
        assert server.get('/modules').json() == ['numpy', 'pydicom', 'threading']
        kill_host(server)
    assert server.post('/python-bridge/reload').status_code == 200
    assert server.get('/modules').json() == ['numpy', 'pydicom', 'threading']
    assert server.stop() == 0
    assert 'has started' not in '\n'.join(line for line in server.log().splitlines()
                                          if 'Preload' in line)


FACTS = r'''
import ctypes, gc, json, os, signal, sys
import orthanc
MODULES = sorted(sys.modules)

def status():
    with open('/proc/self/status') as f:
        lines = dict(line.rstrip('\n').split(':\t', 1) for line in f)
    return {key: lines[key] for key in ('Name', 'SigBlk', 'SigIgn', 'SigCgt', 'Umask', 'Seccomp')}

def descriptors():
    found = []
    for name in sorted(os.listdir('/proc/self/fd'), key=int):
        try:
            target = os.readlink('/proc/self/fd/' + name)
        except OSError:
            continue    # the one that listed them
        with open('/proc/self/fdinfo/' + name) as f:
            flags = [line.split()[1] for line in f if line.startswith('flags')]
        if name in ('1', '2'):
            target = os.path.basename(target)
        found.append([target.split(':')[0], flags])
    return sorted(found)    # two threads of a host open theirs at the same time

def death_signal():
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))    # PR_GET_PDEATHSIG
    return number.value

BEFORE = status(), descriptors(), death_signal()
import multiprocessing, threading

def facts(output, uri, **request):
    pid = os.getpid()
    value = {
        'modules': MODULES, 'status': BEFORE[0], 'fds': BEFORE[1], 'death signal': BEFORE[2],
        'flags': repr(sys.flags), 'argv': [sys.argv, sys.orig_argv], 'executable': sys.executable,
        'path': sys.path[1:], 'prefix': [sys.prefix, sys.exec_prefix, sys.base_prefix],
        'cwd': os.path.basename(os.getcwd()),
        'environment': sorted(key for key in os.environ if key != 'OPB_TEST_SERVER'),
        'version': os.environ['ORTHANC_PYTHON_BRIDGE_NODE_VERSION'],
        'orthanc': int(os.environ['ORTHANC_PID']) != 0,
        'session': os.getsid(0) == pid, 'group': os.getpgid(0) == pid,
        'main': [threading.main_thread().name, threading.main_thread().native_id == pid],
        'threads': [threading.active_count(), threading.current_thread().name],
        'signals': {number.name: repr(signal.getsignal(number)).split(' at ')[0]
                    for number in sorted(signal.valid_signals())
                    if isinstance(number, signal.Signals)},
        'gc': [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
        'start': multiprocessing.get_start_method(),
        'parent': multiprocessing.parent_process() is None,
        'process': multiprocessing.current_process().name,
        'encoding': [sys.stdout.encoding, sys.getfilesystemencoding()],
        'line': [x for x in open('/proc/self/cmdline').read().split('\0') if x],
        'switch': sys.getswitchinterval(), 'recursion': sys.getrecursionlimit(),
        'hooks': [type(x).__name__ for x in sys.meta_path],
        'builtins': sorted(vars(__builtins__) if not isinstance(__builtins__, dict) else __builtins__),
        'main module': sorted(vars(sys.modules['__main__'])),
    }
    output.AnswerBuffer(json.dumps(value), 'application/json')

orthanc.RegisterRestCallback('/facts', facts)
''' + PID_ROUTE


def test_a_forked_host_is_like_one_with_a_python_of_its_own(orthanc, tmp_path):
    alone = orthanc(script=FACTS, cwd=str(tmp_path), python={'Worker': without_zygotes(tmp_path)})
    assert not zygotes_of(alone.supervisor())
    expected = alone.get('/facts').json()
    forked = orthanc(script=FACTS, cwd=str(tmp_path))
    assert zygotes_of(forked.supervisor())
    for _ in range(3):
        found = forked.get('/facts').json()
        for key, value in expected.items():
            assert found[key] == value, key
        assert found['death signal'] == signal.SIGKILL
        kill_host(forked)


NUMBERS = r'''
import json, multiprocessing, numpy, os, random, secrets, ssl, tempfile, uuid
import orthanc

def numbers(output, uri, **request):
    output.AnswerBuffer(json.dumps({
        'random': random.random(), 'uuid1': str(uuid.uuid1()), 'uuid4': str(uuid.uuid4()),
        'ssl': ssl.RAND_bytes(16).hex(), 'secrets': secrets.token_hex(16),
        'numpy': numpy.random.random(), 'generator': numpy.random.default_rng().random(),
        'temporary': next(tempfile._get_candidate_names()),
        'authkey': bytes(multiprocessing.current_process().authkey).hex(),
    }), 'application/json')

orthanc.RegisterRestCallback('/numbers', numbers)

def children(output, uri, **request):
    numpy.random.random()                   # newer releases seed it when it is first used
    barrier = multiprocessing.Barrier(2)    # so that each child has one
    with multiprocessing.Pool(2, keep, (barrier,)) as pool:
        values = pool.map(draw, range(2), 1)
    output.AnswerBuffer(json.dumps(values), 'application/json')

def keep(barrier):
    global BARRIER
    BARRIER = barrier

def draw(_):
    BARRIER.wait(60)
    return [numpy.random.random(), random.random(), os.getpid()]

orthanc.RegisterRestCallback('/children', children)
''' + PID_ROUTE


def test_hosts_of_one_zygote_share_no_random_numbers(orthanc):
    server = orthanc(script=NUMBERS, python={'Preload': ['numpy', 'random', 'ssl', 'uuid', 'secrets',
                                                         'multiprocessing.pool', 'tempfile']})
    found = []
    for _ in range(3):
        found.append(server.get('/numbers').json())
        kill_host(server)
    for key in found[0]:
        assert len({each[key] for each in found}) == 3, key


def test_children_of_a_script_find_numpy_as_ever(orthanc):
    """Forked children share numpy's global state, as they do without a zygote: scripts that
    seed it rely on that. Those of random never did."""
    server = orthanc(script=NUMBERS, python={'Preload': ['numpy', 'random']})
    first, second = server.get('/children').json()
    assert first[2] != second[2]
    assert first[0] == second[0] and first[1] != second[1]


def test_numpy_computes_with_threads_in_a_forked_host(orthanc):
    server = orthanc(script=r'''
import json, os
import numpy
import orthanc
def compute(output, uri, **request):
    a = numpy.random.rand(600, 600)
    value = numpy.linalg.solve(a @ a.T + numpy.eye(600), numpy.ones(600))
    output.AnswerBuffer(json.dumps(bool(numpy.isfinite(value).all())), 'application/json')
orthanc.RegisterRestCallback('/compute', compute)
''' + PID_ROUTE, python={'Preload': ['numpy']})
    for _ in range(3):
        assert server.get('/compute', timeout=60).json() is True
        kill_host(server)
    assert server.stop() == 0


def test_a_killed_zygote_is_replaced_and_hosts_live_on(orthanc):
    server = orthanc(script=SCRIPT, python={'Preload': ['numpy']})
    host = server.host_pid()
    for _ in range(3):
        first = zygote_of(server)
        time.sleep(1.1)     # one that ends sooner is replaced with the next host only
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not is_alive(first), 10, 'its end')
        second = zygote_of(server)
        assert second != first
        assert server.host_pid() == host
        host = kill_host(server)
        assert server.get('/modules').json()[:1] == ['numpy']
        assert zygotes_of(server.supervisor()) == [second]
    assert 'The zygote (pid %d) has ended' % first in server.log()
    assert server.stop() == 0


def test_zygote_and_host_die_at_once(orthanc):
    server = orthanc(script=SCRIPT)
    for _ in range(3):
        host = server.host_pid()
        for pid in (zygote_of(server), host):
            os.kill(pid, signal.SIGKILL)
        host = wait_until(lambda: next_pid(server, host), 30, 'another host')
        assert hosts_of(server.supervisor()) == [host]
    assert zygote_of(server)
    assert server.stop() == 0


@pytest.mark.parametrize('order', ['zygote first', 'supervisor first'])
@pytest.mark.parametrize('stopped', [False, True])
def test_nothing_is_left_when_all_are_killed(orthanc, order, stopped):
    server = orthanc(script=SCRIPT, python={'Preload': ['numpy']})
    supervisor, zygote, host = server.supervisor(), zygote_of(server), server.host_pid()
    if stopped:     # the end of a socket would not reach it
        os.kill(zygote, signal.SIGSTOP)
        os.kill(host, signal.SIGSTOP)
        os.kill(supervisor, signal.SIGKILL)
    else:
        for pid in [zygote, host, supervisor] if order == 'zygote first' else [supervisor, zygote, host]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass    # went with the others
    for pid in (supervisor, zygote, host):
        wait_until(lambda pid=pid: not is_alive(pid), 10, 'the end of %d' % pid)
    wait_until(lambda: next_pid(server, host), 30, 'another host')
    assert server.stop() == 0
    server.assert_no_leftovers()


def test_nothing_is_left_of_a_killed_server(orthanc):
    server = orthanc(script=SCRIPT)
    mark = server.mark
    assert zygote_of(server)
    server.kill()
    wait_until(lambda: not marked_processes(mark), 20, 'the end of all processes')


def test_a_zygote_that_hangs_is_done_without(orthanc):
    server = orthanc(script=SCRIPT, python={'QueueTimeout': 60})
    zygote = zygote_of(server)
    os.kill(zygote, signal.SIGSTOP)
    host = kill_host(server)
    assert hosts_of(server.supervisor()) == [host]
    assert not is_alive(zygote)
    server.wait_for_log('has not forked a host within 5 s: starting a host without it')
    wait_until(lambda: zygotes_of(server.supervisor()) or not kill_host(server), 30, 'another zygote')
    assert server.stop() == 0


def test_deaths_of_zygotes_in_the_middle_of_a_fork(orthanc):
    """Whatever moment it dies at, there is one host in the end, and no other process."""
    server = orthanc(script=SCRIPT, python={'MaxRestarts': 0})
    supervisor = server.supervisor()
    for turn in range(8):
        host, zygote = server.host_pid(), zygote_of(server)
        os.kill(host, signal.SIGKILL)
        deadline = time.monotonic() + 0.002 * turn
        while time.monotonic() < deadline:
            pass
        try:
            os.kill(zygote, signal.SIGKILL)
        except ProcessLookupError:
            pass
        host = wait_until(lambda host=host: next_pid(server, host), 60, 'another host')
        wait_until(lambda host=host: hosts_of(supervisor) == [host], 10, 'the end of all others')
    assert server.stop() == 0


# -- modules that cannot be preloaded ------------------------------------------------------

def modules_in(tmp_path, **sources):
    folder = tmp_path / 'modules'
    folder.mkdir()
    for name, source in sources.items():
        (folder / (name + '.py')).write_text(source)
    return folder, {'PYTHONPATH': str(folder)}


@pytest.mark.parametrize('source,reason', [
    ("{}['no such key']\n", "'no such key'"),
    ('def f(:\n', 'invalid syntax'),
    ('import no_such_module\n', "No module named 'no_such_module'"),
    ('raise SystemExit(3)\n', '3'),
    ('import orthanc\n', 'import of orthanc halted'),
])
def test_a_module_that_cannot_be_imported_refuses_the_start(orthanc, tmp_path, source, reason):
    _, env = modules_in(tmp_path, broken=source)
    server = orthanc.make(script=SCRIPT, env=env, python={'Preload': ['json', 'broken']})
    assert server.expect_refusal() == 255
    server.assert_no_leftovers()
    log = server.log()
    assert 'Error while the module "broken" was imported, which Python.Preload names, traceback:' in log
    assert 'the module "broken", named by Python.Preload, cannot be imported: ' in log
    assert reason in log
    if 'invalid' not in reason:
        assert 'broken.py", line 1' in log


@pytest.mark.parametrize('source', ['import os\nos._exit(7)\n',
                                    'import os\nos.kill(os.getpid(), 9)\n'])
def test_a_module_that_ends_the_process_refuses_the_start(orthanc, tmp_path, source):
    _, env = modules_in(tmp_path, deadly=source)
    server = orthanc.make(script=SCRIPT, env=env, python={'Preload': ['deadly']})
    assert server.expect_refusal() == 255
    assert 'The zygote ended while it imported the module "deadly", named by Python.Preload' in server.log()


def starting(path):
    """Source of a module that starts a process, whose number is then in the file."""
    return ("import subprocess\nchild = subprocess.Popen(['sleep', '3600'])\n"
            "with open(%r, 'w') as f:\n    f.write(str(child.pid))\n" % str(path))


def test_what_a_preloaded_module_has_started_ends_with_its_hosts(orthanc, tmp_path):
    """Not sooner, since they may use it, and not later: the pool may live for years."""
    names = ('leaves', 'stays', 'fails')
    files = {name: tmp_path / name for name in names}
    _, env = modules_in(tmp_path, leaves=starting(files['leaves']), stays=starting(files['stays']),
                        fails=starting(files['fails']) + "raise ValueError('on purpose')\n")
    pool = Daemon(env=env).start()
    try:
        servers = {name: orthanc.make(script=SCRIPT, python={'Pool': pool.socket, 'Preload': [name]})
                   for name in names}
        for name in ('leaves', 'stays'):
            servers[name].start()
            servers[name].host_pid()
        assert servers['fails'].expect_refusal() == 255
        pids = {name: int(file.read_text()) for name, file in files.items()}
        wait_until(lambda: not is_alive(pids['fails']), 10, 'its end')
        for zygote in zygotes_of(pool.process.pid):
            os.kill(zygote, signal.SIGKILL)
        pool.wait_for_log('and another is started')
        wait_until(lambda: files['leaves'].read_text() not in ('', str(pids['leaves'])), 20, 'another zygote')
        both = [pids['leaves'], int(files['leaves'].read_text())]
        assert all(map(is_alive, both + [pids['stays']]))
        assert servers['leaves'].stop() == 0
        wait_until(lambda: not any(map(is_alive, both)), 10, 'their end')
        assert is_alive(pids['stays']) and servers['stays'].get('/_pid').status_code == 200
        assert servers['stays'].stop() == 0
    finally:
        pool.close()
    wait_until(lambda: not is_alive(pids['stays']), 10, 'its end')


def test_a_module_beside_the_script_cannot_be_preloaded(orthanc):
    """It belongs to the script, and a reload reads it again."""
    server = orthanc.make(script=SCRIPT, files={'beside.py': ''}, python={'Preload': ['beside']})
    assert server.expect_refusal() == 255
    assert "No module named 'beside'" in server.log()


def test_a_module_that_breaks_later_is_logged_and_done_without(orthanc, tmp_path):
    folder, env = modules_in(tmp_path, breaking='')
    server = orthanc(script=SCRIPT, env=env, python={'Preload': ['numpy', 'breaking']})
    zygote = zygote_of(server)
    (folder / 'breaking.py').write_text('1/0 # now\n')
    time.sleep(1.1)     # one that ends sooner is replaced with the next host only
    os.kill(zygote, signal.SIGKILL)
    server.wait_for_log('the module "breaking", named by Python.Preload, cannot be imported: '
                        'division by zero')
    kill_host(server)
    assert server.get('/modules').json() == []
    os.kill(server.supervisor(), signal.SIGKILL)    # a new pool is no new start
    wait_until(lambda: server.get('/_pid').status_code == 200, 30, 'a host of the new pool')
    (folder / 'breaking.py').write_text('value = "mended again"\n')
    wait_until(lambda: kill_host(server) and server.get('/modules').json()[:1] == ['numpy'], 60,
               'a host with modules')
    assert server.stop() == 0


def test_threads_of_a_preloaded_module_are_warned_of(orthanc, tmp_path):
    _, env = modules_in(tmp_path, busy='import threading, time\n'
                        'for _ in range(2):\n'
                        '    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n')
    server = orthanc(script=SCRIPT, env=env, python={'Preload': ['json', 'busy', 'numpy']})
    server.wait_for_log('The module "busy", named by Python.Preload, has started 2 threads')
    assert 'The module "numpy"' not in server.log()
    kill_host(server)
    assert server.stop() == 0


POLITE = '''
import os, threading

class Beat:
    def start(self):
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.end.wait, daemon=True)
        self.thread.start()

    def stop(self):
        self.end.set()
        self.thread.join()

BEAT = Beat()
BEAT.start()
os.register_at_fork(before=BEAT.stop, after_in_parent=BEAT.start, after_in_child=BEAT.start)
'''


def test_a_module_that_knows_of_forks_keeps_its_threads(orthanc, tmp_path):
    """As OpenBLAS does, in C."""
    _, env = modules_in(tmp_path, polite=POLITE)
    server = orthanc(env=env, python={'Preload': ['polite', 'json']}, script=PID_ROUTE + r'''
import polite
def alive(output, uri, **request):
    output.AnswerBuffer(str(polite.BEAT.thread.is_alive()), 'text/plain')
_orthanc.RegisterRestCallback('/alive', alive)
''')
    for _ in range(3):
        assert server.get('/alive').text == 'True'
        kill_host(server)
    assert 'has started' not in '\n'.join(line for line in server.log().splitlines()
                                          if 'Preload' in line)
    assert server.stop() == 0


COUNTED = '''
import os
with open(%r, 'a') as f:
    f.write('%%d\\n' %% os.getpid())
'''


def test_several_hosts_share_what_one_zygote_has_imported(orthanc, tmp_path):
    """Also those that come after them: in a generation, in the place of a dead one, after a reload."""
    counter = tmp_path / 'counter'
    _, env = modules_in(tmp_path, counted=COUNTED % str(counter))
    server = orthanc(env=env, python={'Preload': ['counted'], 'Workers': 3}, script=r'''
import sys
HAD = 'counted' in sys.modules
import counted
''' + SCRIPT_OF_WORKERS + "\nsay('had', HAD, os.getpid())\n")
    supervisor, zygote = server.supervisor(), zygote_of(server)
    held = Holds(server, tmp_path)

    def hosts():
        """They serve, and have found the module: {worker: process}."""
        found = pids_in_time(held, 3)
        assert sorted(found.values()) == sorted(hosts_of(supervisor))
        for pid in found.values():
            assert re.search('^had True %d$' % pid, server.out(), re.MULTILINE)
        return found

    first = hosts()
    os.kill(first[1], signal.SIGKILL)
    wait_until(lambda: not is_alive(first[1]), 10, 'its end')
    second = hosts()
    assert (second[0], second[2]) == (first[0], first[2]) and second[1] != first[1]
    assert server.post('/python-bridge/reload').status_code == 200
    wait_until(lambda: len(hosts_of(supervisor)) == 3, 20, 'the end of the first generation')
    assert not set(hosts().values()) & set(second.values())
    assert zygotes_of(supervisor) == [zygote]
    assert counter.read_text() == '%d\n' % zygote
    held.close()
    assert server.stop() == 0


def test_what_a_module_has_in_memory_is_there_once(orthanc, tmp_path):
    """Of 100 MB that the module has made, no host has a copy of its own, though it reads them,
    and looks for garbage in them."""
    _, env = modules_in(tmp_path, big='BYTES = b"x" * 60_000_000\nOBJECTS = [[str(i)] for i in range(300_000)]\n')
    server = orthanc(env=env, python={'Preload': ['big'], 'Workers': 3}, script=r'''
import big, gc, json, os
import orthanc
def read(output, uri, **request):
    assert big.BYTES.count(b'y') == 0
    gc.collect()
    output.AnswerBuffer(str(os.getpid()), 'text/plain')
orthanc.RegisterRestCallback('/read', read)
''')
    assert server.get('/read', timeout=60).status_code == 200
    hosts = hosts_of(server.supervisor())
    assert len(hosts) == 3
    for pid in hosts + [zygote_of(server)]:
        sizes = memory_of(pid)
        assert sizes['Rss'] > 80_000, sizes
        assert sizes['Private_Dirty'] < 30_000, sizes
        assert sizes['Pss'] < sizes['Rss'] / 2, sizes


def test_a_slow_module_is_imported_once(orthanc, tmp_path):
    _, env = modules_in(tmp_path, slow='import time\ntime.sleep(3)\n')
    server = orthanc(script=SCRIPT, env=env, python={'Preload': ['slow']})
    assert server.get('/_pid').status_code == 200
    began = time.monotonic()
    kill_host(server)
    assert time.monotonic() - began < 2.5 * PATIENCE
    assert server.stop() == 0


def test_a_restart_is_fast(orthanc):
    """The benchmark has the figures; here a loaded machine is allowed for."""
    server = orthanc(script='import numpy, pydicom\n' + SCRIPT, verbose=False,
                     python={'Preload': ['numpy', 'pydicom']})
    began = time.monotonic()
    kill_host(server)
    assert time.monotonic() - began < 1.0 * PATIENCE

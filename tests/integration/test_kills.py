# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of any subset of Orthanc, supervisor, zygote, host, and a forked child that still holds lane
descriptors, at the same instant: nothing is left behind, and Python is served again."""

import contextlib
import itertools
import os
import signal
import threading

import pytest

from server import PID_ROUTE, is_alive, marked_processes, wait_until, zygotes_of

pytestmark = [pytest.mark.ours, pytest.mark.survival]

SCRIPT = r'''
import ctypes, os, time
import orthanc

def fork(output, uri, **request):
    """A child as Python makes it, and one that nobody has told to let go of the lane."""
    child = os.fork()
    if child == 0:
        time.sleep(100000)
        os._exit(0)
    libc = ctypes.PyDLL(None)
    raw = libc.syscall(SYS_FORK)
    if raw == 0:
        while True:
            libc.pause()
    output.AnswerBuffer('%d %d' % (child, raw), 'text/plain')

def wait(output, uri, **request):
    print('waiting', flush=True)
    time.sleep(100000)

orthanc.RegisterRestCallback('/fork', fork)
orthanc.RegisterRestCallback('/wait', wait)
''' + PID_ROUTE
SYS_FORK = {'x86_64': 57}.get(os.uname().machine)
NAMES = ('orthanc', 'supervisor', 'zygote', 'host', 'child')
SUBSETS = [subset for size in range(1, len(NAMES) + 1) for subset in itertools.combinations(NAMES, size)]


@pytest.mark.skipif(SYS_FORK is None, reason='the script calls fork by the number that it has on x86_64')
@pytest.mark.parametrize('victims', SUBSETS, ids='-'.join)
def test_any_subset_killed(orthanc, victims):
    server = orthanc(script=SCRIPT.replace('SYS_FORK', str(SYS_FORK)), python={'QueueTimeout': 20, 'DrainTimeout': 1})
    child, raw = (int(word) for word in server.get('/fork').text.split())
    zygote, = wait_until(lambda: zygotes_of(server.supervisor()), 20, 'a zygote')
    pids = {'orthanc': server.pid, 'supervisor': server.supervisor(), 'zygote': zygote, 'host': server.host_pid(),
            'child': child}
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(server)))
    thread.start()
    server.wait_for_out('waiting')
    for name in victims:
        kill(pids[name])
    if 'orthanc' in victims:
        server.wait()
        if 'supervisor' in victims:     # nobody is left to kill one that Python has not forked
            kill(raw)
        thread.join(30)
        assert answers == [None]
        wait_until(lambda: not marked_processes(server.mark), 10, 'the end of all processes')
        if 'supervisor' in victims:     # nobody could remove the sockets: the next one does
            server.start()
            assert server.host_pid() not in pids.values()
            assert server.stop() == 0
        server.assert_no_leftovers(10)
        return
    if not {'supervisor', 'host'} & set(victims):   # the host goes on, and may wait for its child
        assert is_alive(pids['host']) and server.host_pid() == pids['host'] and answers == []
        assert server.stop() == 0       # after DrainTimeout, since a callback still runs
        thread.join(30)
        server.assert_no_leftovers()
        return
    thread.join(30)
    assert answers == [502]
    assert server.host_pid() not in pids.values()
    spared = {server.pid, server.supervisor(), *zygotes_of(server.supervisor())}
    assert pids['zygote'] not in spared or not {'supervisor', 'zygote'} & set(victims)
    for pid in [*pids.values(), raw]:
        if pid not in spared:
            wait_until(lambda pid=pid: not is_alive(pid), 10, 'the end of process %d' % pid)
    wait_until(lambda: not server.zombies(), 5, 'zombies to be reaped')
    assert server.stop() == 0
    server.assert_no_leftovers()


def kill(pid):
    """One death may have brought about the next one before its turn."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def ask(server):
    try:
        return server.get('/wait', timeout=60).status_code
    except OSError:
        return None

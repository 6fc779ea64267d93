# SPDX-License-Identifier: GPL-3.0-or-later
"""Several hosts (Python.Workers) that come to their end: what runs in each of them is finished."""

import concurrent.futures
import re
import signal

import pytest

from daemon import Daemon
from load import Load
from server import is_alive, status, wait_until
from test_cli import run
from test_reload import reload
from test_workers import SCRIPT, Holds

pytestmark = [pytest.mark.ours, pytest.mark.survival]

LAST_WORDS = SCRIPT + r'''
import atexit
atexit.register(lambda: say('finished', INDEX, len(orthanc.GenerateUuid())))
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        say('stopped', INDEX)
orthanc.RegisterOnChangeCallback(on_change)
'''


def who(server, _):
    """One request of a Load."""
    return server.get('/who', timeout=60).status_code


def running(hosts):
    """The calls that run in each, by its process."""
    return {host['Pid']: host['Running'] for host in hosts}


@pytest.fixture
def holds(tmp_path):
    made = []

    def make(*arguments):
        made.append(Holds(arguments[0], tmp_path, *arguments[1:]))
        return made[-1]
    yield make
    for each in made:
        each.close()


def in_each(held, count):
    """One request that stays in each of so many hosts: {pid: path}."""
    begun = [held.begin() for _ in range(count)]
    found = {pid: path for path, _, pid in begun}
    assert len(found) == count, begun
    return found


def test_the_status_tells_what_runs_in_every_host_until_its_end(orthanc, holds):
    server = orthanc(script=SCRIPT, python={'Workers': 3})
    held = holds(server)
    paths = in_each(held, 3)
    before = status(server)
    assert running(before['Hosts']) == {pid: 1 for pid in paths} and before['EndingHosts'] == []
    reload(server)
    after = status(server)
    assert running(after['EndingHosts']) == running(before['Hosts'])
    assert sorted(host['Worker'] for host in after['EndingHosts']) == [0, 1, 2]
    assert [(host['Worker'], host['Running']) for host in after['Hosts']] == [(0, 0), (1, 0), (2, 0)]
    assert not set(paths) & set(running(after['Hosts']))
    out = run(server, 'status')[1]
    for pid, path in paths.items():
        assert re.search(r'^ending host   pid %d, .* 1 calls, 1 of them running$' % pid, out, re.MULTILINE), out
    for pid, path in paths.items():     # each ends for itself
        assert pid in running(status(server)['EndingHosts'])
        assert held.let_go(path).status_code == 200
        wait_until(lambda pid=pid: pid not in running(status(server)['EndingHosts']), 10, 'the end of it')
    assert status(server)['EndingHosts'] == [] and status(server)['EndingGenerations'] == 0
    assert status(server)['Deaths']['Count'] == 0


def test_recycled_hosts_finish_their_last_calls_while_others_serve(orthanc, holds):
    server = orthanc(script=SCRIPT, python={'Workers': 2, 'MaxCalls': 40, 'DrainTimeout': 60})
    held = holds(server)
    paths = in_each(held, 2)
    with Load([server], who, 3) as load:
        server.wait_for_log('Generation 2 is running', 30)
        load.wait_for_more(more=20)
        ending = running(status(server)['EndingHosts'])
        assert {pid: ending.get(pid) for pid in paths} == {pid: 1 for pid in paths}
        for path in paths.values():
            assert held.let_go(path).status_code == 200
    assert load.results(server) == {200}
    wait_until(lambda: not any(is_alive(pid) for pid in paths), 20, 'the end of both')


def test_a_pool_that_ends_lets_every_host_finish_and_loses_no_call(orthanc, holds):
    pool = Daemon({'StopTimeout': 60}).start()
    try:
        server = orthanc(script=LAST_WORDS, python={'Pool': pool.socket, 'Workers': 3, 'QueueTimeout': 60})
        held = holds(server, pool)
        paths = in_each(held, 3)
        with Load([server], who, 3) as load, concurrent.futures.ThreadPoolExecutor(1) as background:
            load.wait_for_more()
            ended = background.submit(pool.terminate, 60)
            server.wait_for_log('The pool is about to end')
            found = wait_until(lambda: status(server)['EndingHosts'], 10, 'hosts that end')
            assert set(running(found)) == set(paths) and status(server)['Hosts'] == []
            for path in paths.values():
                assert held.let_go(path).status_code == 200
            assert ended.result() == 0
            assert sorted(re.findall(r'^finished (\d) 36$', pool.log(), re.MULTILINE)) == ['0', '1', '2']
            pool.start()
            load.wait_for_more(timeout=60)
        assert load.results(server) == {200}
        wait_until(lambda: len(status(server)['Hosts']) == 3, 30, 'all hosts of the next pool')
        assert status(server)['EndingHosts'] == []
        assert server.stop() == 0
    finally:
        pool.close()


def test_the_end_of_orthanc_waits_for_calls_in_every_host(orthanc, holds):
    server = orthanc(script=LAST_WORDS, python={'Workers': 3, 'DrainTimeout': 60})
    held = holds(server)
    paths = in_each(held, 3)
    with concurrent.futures.ThreadPoolExecutor(1) as background:
        ended = background.submit(server.stop)
        server.wait_for_out('^stopped 0$')
        for path in paths.values():
            with open(path, 'w', encoding='ascii'):
                pass
        assert ended.result() == 0
    assert sorted(re.findall(r'^finished (\d) 36$', server.out(), re.MULTILINE)) == ['0', '1', '2']
    assert 'is killed' not in server.log()


def test_the_end_of_orthanc_kills_the_hosts_in_which_calls_hang_and_no_other(orthanc, holds):
    server = orthanc(script=LAST_WORDS, python={'Workers': 3, 'DrainTimeout': 1, 'StopTimeout': 5})
    held = holds(server)
    paths = in_each(held, 2)
    idle = set(running(status(server)['Hosts'])) - set(paths)
    (worker,) = [host['Worker'] for host in status(server)['Hosts'] if host['Pid'] in idle]
    server.wait_ready()
    server.process.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    killed = re.findall(r'Orthanc stops, and has waited for 1 s for Python callbacks that still run '
                        r'\(Python.DrainTimeout\): the host \(pid (\d+)\) is killed', server.log())
    assert sorted(map(int, killed)) == sorted(paths)
    assert len(re.findall(r'line \d+ in hold$', server.log(), re.MULTILINE)) == 2
    assert len(re.findall(r'^finished %d 36$' % worker, server.out(), re.MULTILINE)) == 1
    server.assert_no_leftovers()

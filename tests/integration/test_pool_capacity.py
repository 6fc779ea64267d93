# SPDX-License-Identifier: GPL-3.0-or-later
"""MaxHosts of a shared pool, and servers that want several hosts each (Python.Workers)."""

import os
import re
import signal

import pytest

import wire
from daemon import Daemon
from load import Load
from server import wait_until, write
from test_cli import run
from test_reload import reload
from test_workers import SCRIPT, Holds, pids

pytestmark = [pytest.mark.ours, pytest.mark.survival]

FULL = r'all hosts that "MaxHosts" in the worker\'s configuration allows belong to other servers'
FEWER = 'The pool gives this server %d of the %d hosts of the configuration option "Python.Workers"'


def who(server, _=''):
    """One request of a Load: 200, or what was wrong."""
    answer = server.get('/who', timeout=60)
    return answer.status_code if answer.status_code != 200 or answer.json()[1] >= 1 else answer.text


def count_told(server):
    """What orthanc.GetWorkersCount() has said."""
    return server.get('/who').json()[1]


def workers(server):
    found = server.get('/python-bridge/status').json()['Workers']
    return found['Given'], found['Wanted']


@pytest.fixture
def daemon():
    made = []

    def make(most):
        made.append(Daemon({'MaxHosts': most}).start())
        return made[-1]
    yield make
    for each in made:
        each.close()


@pytest.fixture
def server(orthanc):
    """server(pool, workers): a server that is attached there."""
    def make(pool, count, script=SCRIPT, make=orthanc):
        return make(script=script, python={'Pool': pool.socket, 'Workers': count, 'QueueTimeout': 60})
    make.unstarted = lambda *arguments, **kwargs: make(*arguments, make=orthanc.make, **kwargs)
    return make


@pytest.fixture
def holds(tmp_path):
    made = []

    def make(each, pool):
        directory = tmp_path / ('holds%d' % len(made))
        directory.mkdir()
        made.append(Holds(each, directory, pool))
        return made[-1]
    yield make
    for each in made:
        each.close()


def test_a_server_gets_what_is_left_and_is_told_so(daemon, server):
    pool = daemon(3)
    first, second = server(pool, 2), server(pool, 2)
    assert (workers(first), workers(second)) == ((2, 2), (1, 2))
    assert (count_told(first), count_told(second)) == (2, 1)
    assert len(pool.hosts()) == 3
    assert FEWER % (1, 2) in second.log() and FEWER % (2, 2) not in first.log()
    assert re.search(r'attached by .*, and 1 of the 2 hosts that it asks for', pool.log())
    assert 'workers       1 of the 2 that Python.Workers asks for' in run(second, 'status')[1]
    assert 'Python.Workers' not in run(first, 'status')[1]


def test_a_server_that_finds_nothing_is_refused_until_another_leaves(daemon, server):
    pool = daemon(2)
    first = server(pool, 2)
    refused = server.unstarted(pool, 2)
    assert refused.expect_refusal() == 255
    assert re.search(FULL, refused.log())
    assert who(first) == 200
    assert first.stop() == 0
    assert workers(refused.start()) == (2, 2)


def test_a_server_gets_its_other_host_with_a_reload_once_there_is_one(daemon, server, holds):
    pool = daemon(3)
    first, second = server(pool, 2), server(pool, 2)
    with Load([first, second], who) as load:
        assert reload(second)['Generation'] == 2    # nothing is free
        assert workers(second) == (1, 2) and count_told(second) == 1
        load.wait_for_more()
    assert load.results(first) == load.results(second) == {200}
    assert first.stop() == 0
    assert workers(second) == (1, 2)                # a host that runs keeps what it was told
    with Load([second], who, 4) as load:
        load.wait_for_more()
        assert reload(second)['Generation'] == 3
        load.wait_for_more()
    assert load.results(second) == {200}
    assert workers(second) == (2, 2) and count_told(second) == 2
    second.wait_for_log('The pool gives this server 2 of the 2 hosts of the configuration option '
                        '"Python.Workers" now')
    found = pids(holds(second, pool), 2)
    assert set(pool.hosts()) >= set(found.values())
    os.kill(found[1], signal.SIGKILL)               # its place is one like the other
    wait_until(lambda: len(set(pool.hosts()) - {found[1]}) == 2, 20, 'its successor')
    assert reload(second)['Generation'] == 4
    third = server(pool, 2)                         # of three, two are taken
    assert workers(third) == (1, 2)
    assert second.stop() == 0


def test_servers_of_a_full_pool_are_reloaded_under_load(daemon, server, holds):
    """The next generation is beside the one before it, and does not count."""
    pool = daemon(4)
    servers = [server(pool, 3), server(pool, 1)]
    held = holds(servers[0], pool)
    path, _, _ = held.begin()       # the first generation drains
    with Load(servers, who, 3) as load:
        for generation in range(2, 5):
            load.wait_for_more()
            for each in servers:
                assert reload(each)['Generation'] == generation
        load.wait_for_more()
        assert held.let_go(path).status_code == 200
    assert all(load.results(each) == {200} for each in servers), load.answers
    assert [workers(each) for each in servers] == [(3, 3), (1, 1)]
    wait_until(lambda: len(pool.hosts()) == 4, 20, 'the end of the generations before')


def test_another_host_that_does_not_load_takes_no_room(daemon, server):
    pool = daemon(3)
    first, second = server(pool, 2), server(pool, 2)
    assert first.stop() == 0
    write(second, SCRIPT + '\nif INDEX == 1:\n    raise KeyError("no second one")\n')
    for _ in range(3):
        assert 'no second one' in reload(second, 500)['Details']
        assert workers(second) == (1, 2) and who(second) == 200
    wait_until(lambda: len(pool.hosts()) == 1, 10, 'the end of those that failed')
    third = server(pool, 2)
    assert workers(third) == (2, 2)
    write(second, SCRIPT)
    assert reload(second)['Generation'] == 2
    assert workers(second) == (1, 2)
    assert third.stop() == 0
    assert reload(second)['Generation'] == 3
    assert workers(second) == (2, 2)


def test_after_a_restart_of_a_full_pool_each_server_finds_what_it_had(daemon, server):
    """Whoever comes first asks for no more than it had, so that nobody is shut out."""
    pool = daemon(2)
    modest, greedy = server(pool, 1), server(pool, 2)
    assert workers(greedy) == (1, 2)
    os.kill(modest.pid, signal.SIGSTOP)
    try:
        pool.kill()
        pool.start()
        wait_until(lambda: greedy.get('/who').status_code == 200, 60, 'the first to come')
    finally:
        os.kill(modest.pid, signal.SIGCONT)
    wait_until(lambda: modest.get('/who').status_code == 200, 60, 'the other')
    assert (workers(modest), workers(greedy)) == ((1, 1), (1, 2))
    assert 'refuses' not in modest.log()


def test_a_pool_of_more_hosts_gives_them_with_a_reload_of_all(daemon, server):
    """As an administrator raises MaxHosts: the pool is restarted, and then reloaded."""
    pool = daemon(3)
    servers = [server(pool, 2), server(pool, 2)]
    assert [workers(each) for each in servers] == [(2, 2), (1, 2)]
    with Load(servers, who) as load:
        assert pool.terminate() == 0
        pool.config['MaxHosts'] = 4
        pool.start()
        load.wait_for_more(timeout=60)
        assert [workers(each) for each in servers] == [(2, 2), (1, 2)]
        pool.process.send_signal(signal.SIGHUP)
        wait_until(lambda: workers(servers[1]) == (2, 2), 30, 'its second host')
        load.wait_for_more()
    assert all(load.results(each) == {200} for each in servers), load.answers
    assert len(set(pool.hosts())) >= 4


def attach(control, name, count):
    """As a server would; its answer: [name, hosts], or what was refused."""
    control.send(wire.hello(wire.CONTROL))
    assert wire.welcomed(control.read())
    control.send([wire.REQUEST, 1, wire.ATTACH, [name, '1.12.1', '/nonexistent', os.urandom(32), os.getpid(), count]])
    _, _, fault, answer = control.read()
    return answer if fault is None else fault[2]


def test_a_node_cannot_hide_the_hosts_of_its_next_generation(daemon):
    """It asks for many, and then for few: those that it has count all the same."""
    pool = daemon(3)
    with pool.connect() as greedy, pool.connect() as other:
        assert attach(greedy, 'greedy', 1) == ['greedy', 1]
        for count in (3, 1):
            greedy.send([wire.NOTIFY, wire.START_NEXT, [['/a.py'], count]])
        told = {wire.NEXT_COUNT: [], wire.NEXT_STARTED: []}
        while len(told[wire.NEXT_COUNT]) < 2 or len(told[wire.NEXT_STARTED]) < 3:
            _, method, parameters = greedy.read()
            if method in told:
                told[method].append(parameters)
        assert told[wire.NEXT_COUNT] == [[3], [1]]
        assert all(pid > 0 for _, pid, _ in told[wire.NEXT_STARTED])
        assert re.match(FULL, attach(other, 'other', 3))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that have reached a limit (Python.MaxCalls, MaxMemory) give their place to others: nothing
is lost, and the limits are spread, so that hosts and servers do not recycle in step. With several
hosts: test_workers.py."""

import re
import threading
import time

import pytest

from server import PATIENCE, wait_until, write
from test_reload import Load, await_one_host, text_of

pytestmark = [pytest.mark.ours, pytest.mark.survival]

CONFIGURED = 400
LEAST, MOST = CONFIGURED * 9 // 10, CONFIGURED * 11 // 10
HOSTS = 3    # of each server
SCRIPT = '''
import orthanc
orthanc.RegisterRestCallback('/call', lambda output, uri, **request: output.AnswerBuffer('ok', 'text/plain'))
'''


def recycled(server):
    """(calls that it ran, its limit) for each host that has given its place to another one."""
    return [(int(calls), int(limit)) for calls, limit in re.findall(
        r'has run (\d+) calls: another one takes its place, since its limit is (\d+) \(Python.MaxCalls\)',
        server.log())]


def use_up(server, number):
    """As many calls as the largest limit allows, then the next generation must come."""
    for _ in range(MOST):
        assert server.get('/call').text == 'ok'
    server.wait_for_log('Generation %d is running' % (number + 1), 20)


def use_up_all(server, problems):
    try:
        for number in range(1, HOSTS + 1):
            use_up(server, number)
    except AssertionError as e:
        problems.append(e)


@pytest.mark.timeout(300)
def test_hosts_with_the_same_maxcalls_recycle_at_different_counts_within_the_documented_band(orthanc):
    """Two servers of the same configuration, three hosts of each, one after the other. That all
    six draw the same of 81 limits happens once in 3 billion times."""
    servers = [orthanc(script=SCRIPT, python={'MaxCalls': CONFIGURED}, verbose=False) for _ in range(2)]
    problems = []
    threads = [threading.Thread(target=use_up_all, args=(server, problems)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    found = [recycled(server) for server in servers]
    for hosts in found:
        assert len(hosts) >= HOSTS, found
        for calls, limit in hosts:
            assert LEAST <= limit <= MOST, found    # docs/configuration.md
            assert limit <= calls, found            # no host left earlier
    limits = [limit for hosts in found for _, limit in hosts]
    assert len(set(limits)) > 1, found
    for server in servers:
        wait_until(lambda server=server: server.get('/call').text == 'ok', 10, 'the last host')
        assert not server.messages('E'), server.messages('E')
        assert server.stop() == 0


def test_max_calls(orthanc):
    """Each host runs about 100 calls, and no request fails."""
    server = orthanc(script=text_of('one'), python={'MaxCalls': 100}, verbose=False)
    with Load(server, 4, ['/version']) as load:
        server.wait_for_log('Generation 4 is running', timeout=60)
    assert load.bad == []
    await_one_host(server, 30)
    assert server.log().count('has run') >= 3
    assert not server.messages('E'), server.messages('E')


def memory_of(pid):
    """In MiB."""
    with open('/proc/%d/smaps_rollup' % pid, encoding='ascii') as f:
        return int(next(line.split()[1] for line in f if line.startswith('Pss:'))) // 1024


def test_a_script_that_leaks(orthanc):
    """Its memory levels off, and no request fails."""
    server = orthanc(script=text_of('one', '''
LEAK = []
def leak(output, uri, **request):
    LEAK.append(bytearray(os.urandom(1)) * 1000000)
    time.sleep(0.02)
    output.AnswerBuffer('ok', 'text/plain')
orthanc.RegisterRestCallback('/leak', leak)
'''), python={'MaxMemory': 100}, verbose=False)
    most = 0
    with Load(server, 2, ['/leak']) as load:
        deadline = time.monotonic() + 60 * PATIENCE
        while 'Generation 4 is running' not in server.log():
            assert time.monotonic() < deadline and not load.bad
            try:
                most = max(most, memory_of(server.host_pid()))
            except (OSError, StopIteration):
                pass    # it has ended meanwhile
            time.sleep(0.2)
    assert load.bad == []
    assert load.good > 200
    assert 100 < most < 100 * 1.1 + 400 * PATIENCE    # 100 MB/s at most, looked at every second
    limits = re.findall(r'MiB of memory: .* its limit is (\d+) MiB \(Python.MaxMemory\)', server.log())
    assert len(limits) >= 3 and all(90 <= int(limit) <= 110 for limit in limits), limits
    await_one_host(server, 30)


def test_a_broken_script_is_not_recycled(orthanc):
    server = orthanc(script=text_of('one'), python={'MaxCalls': 10})
    pid = server.host_pid()
    write(server, 'broken(\n')
    with Load(server, 2, ['/version']) as load:
        server.wait_for_log('the one before goes on', timeout=30)
        time.sleep(2)
    assert load.bad == []
    assert server.host_pid() == pid
    assert server.log().count('the one before goes on') == 1

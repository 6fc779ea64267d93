# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits of hosts (Python.MaxCalls) are spread, so that hosts and servers do not recycle in
step. That recycling loses nothing is in test_reload.py and test_workers.py."""

import re
import threading

import pytest

from server import wait_until

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

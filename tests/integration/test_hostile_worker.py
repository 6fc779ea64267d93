# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker that breaks the rules, attached to a server that clients use (evil_worker.py).

Whatever it sends, Orthanc lives, answers its other clients in time, and gets back its
descriptors. OPB_TEST_SEED makes another run of the same tests; the seed is printed.
"""

import json
import os
import random
import re
import subprocess
import threading
import time

import pytest

import dicom
import evil_worker
import wire
from server import PATIENCE, REPOSITORY, is_alive, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival]

SEED = int(os.environ.get('OPB_TEST_SEED', '20240229'))
WORKER = os.path.join(REPOSITORY, 'tests', 'integration', 'evil_worker.py')
# One SDK call of another thread may take that long while 2 cores are busy with nonsense.
BOUND = 5.0


def descriptors(pid):
    return len(os.listdir('/proc/%d/fd' % pid))


def resident_mb(pid):
    with open('/proc/%d/statm' % pid, encoding='ascii') as f:
        return int(f.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') // (1 << 20)


class Clients:
    """Threads that use the server all the time; slowest() tells what they have seen."""

    def __init__(self, server):
        self.server = server
        self.is_ended = False
        self.problems = []
        self.slowest = 0.0
        self.count = 0
        self.threads = [threading.Thread(target=self._use, args=(path,))
                        for path in ('/system', '/statistics')]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_ended = True
        for thread in self.threads:
            thread.join()

    def _use(self, path):
        while not self.is_ended:
            began = time.monotonic()
            try:
                answer = self.server.get(path, timeout=BOUND)
                if answer.status_code != 200:
                    self.problems.append('%s: %d %s' % (path, answer.status_code, answer.text))
            except OSError as e:
                self.problems.append('%s: %s' % (path, e))
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.count += 1
            time.sleep(0.02)

    def check(self):
        assert not self.problems, self.problems[:5]
        assert self.count > 0
        assert self.slowest < BOUND * PATIENCE


class Victim:
    """A server with the evil worker, and its state before."""

    def __init__(self, server, told):
        print('OPB_TEST_SEED=%d' % SEED)
        self.server = server
        self.told = told
        self.rng = random.Random(SEED)
        self.pid = server.pid
        for _ in range(3):
            self.ok()
        self.descriptors = descriptors(self.pid)
        self.memory = resident_mb(self.pid)

    def do(self, what, timeout=30):
        """The status of one evil request, None if the connection was cut."""
        path = '/evil/%s/%d' % (what, self.rng.randrange(1, 1 << 30))
        try:
            return self.server.get(path, timeout=timeout)
        except OSError:
            return None

    def ok(self):
        answer = self.server.get('/evil/ok/1')
        assert (answer.status_code, answer.text) == (200, 'ok'), answer.text

    def node(self):
        with open(self.told, encoding='utf-8') as f:
            return json.load(f)

    def check(self, descriptors_more=6, memory_more=200):
        """What must hold after anything."""
        assert self.server.poll() is None, 'Orthanc has ended:\n' + self.server.log()[-3000:]
        assert self.server.pid == self.pid
        self.ok()
        wait_until(lambda: descriptors(self.pid) <= self.descriptors + descriptors_more, 10,
                   'the descriptors to come back to %d, they are %d' % (
                       self.descriptors, descriptors(self.pid)))
        assert resident_mb(self.pid) < self.memory + memory_more
        for line in self.server.log().splitlines():
            assert not re.search(r'[\x00-\x08\x0b-\x1f\x7f]', line), line
            assert not line.startswith('E0101'), line


@pytest.fixture
def victim(orthanc, tmp_path):
    def make(kinds='', **kwargs):
        told = str(tmp_path / 'told.json')
        env = {'OPB_TEST_EVIL': told, 'OPB_TEST_EVIL_KINDS': kinds}
        return Victim(orthanc(script='', python={'Worker': WORKER}, env=env, **kwargs), told)
    return make


def test_broken_answers(victim):
    """Truncated, oversized, deep, of the wrong shape: each fails the call that it is in."""
    evil = victim()
    with Clients(evil.server) as clients:
        for what in list(evil_worker.BYTES) + list(evil_worker.ENVELOPES):
            answer = evil.do(what)
            assert answer is not None and answer.status_code in (500, 502), (what, answer)
            assert json.loads(answer.text), what
            assert evil.server.poll() is None, what
    clients.check()
    evil.check()
    log = evil.server.log()
    for text in ('the peer closed the connection in the middle of a frame',
                 'the peer sent a malformed frame', 'the peer sent a frame larger than',
                 'no memory for a frame of the peer'):
        assert text in log, text
    assert len(re.findall('The connection to the host .* was lost during the REST callback', log)) >= 20
    assert evil.server.stop() == 0


def test_answers_out_of_order(victim):
    evil = victim()
    with Clients(evil.server) as clients:
        assert evil.do('wrong-msgid').status_code == 502
        assert evil.do('answer-inside').status_code == 502
        assert evil.do('answer-twice').text == 'twice'
        evil.ok()
        assert evil.do('two-requests').text == 'two'
        assert evil.do('drip').text == 'drip'
        assert evil.do('posts').text == 'posts'
        assert evil.do('nest').text in ('nested', 'refused')
        for what in ('odd-faults', 'odd-result', 'odd-segments', 'wrong-posts', 'random-bytes'):
            for _ in range(25):
                evil.do(what)
                assert evil.server.poll() is None, what
        evil.do('endless-posts')
    clients.check()
    evil.check()
    log = evil.server.log()
    assert re.search('the peer answered request .* where the answer to .* was due', log)
    assert 'the host has posted an SDK call with wrong arguments' in log
    assert evil.server.stop() == 0


def test_forged_sdk_calls(victim):
    """Handles, types, counts and numbers that are made up never reach Orthanc."""
    evil = victim()
    with Clients(evil.server) as clients:
        for _ in range(6):
            faults = evil.do('forged-handles').json()
            assert set(faults) <= {'1', '2'} and faults['1'] > 20, faults
        faults = evil.do('wrong-arguments').json()
        assert faults['8'] > 100 and faults['2'] >= 3 and 'result' not in faults, faults
        for _ in range(10):
            assert evil.do('odd-arguments', timeout=60).status_code == 200
        faults = evil.do('odd-registrations').json()
        assert set(faults) & {'4', '5', '8'}, faults
    clients.check()
    evil.check(memory_more=600)
    assert evil.server.stop() == 0


def test_requests_that_are_never_answered(victim):
    """Each holds its own thread, and no more; their end frees all."""
    evil = victim()
    with Clients(evil.server) as clients:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(evil.do('never', 60))) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        for _ in range(5):
            evil.ok()
        assert not answers
        assert evil.do('release').text == 'released'
        for thread in threads:
            thread.join(30 * PATIENCE)
    assert [answer.status_code for answer in answers] == [502] * 8
    clients.check()
    evil.check()
    assert evil.server.stop() == 0


def test_odd_results_of_each_kind(victim, tmp_path):
    """Callbacks other than REST: a result of the wrong type is a failure of that call."""
    evil = victim('Change ReceivedInstance StoredInstance Find Worklist CStoreFilter', dicom=True)
    instance = dicom.make_dicom()
    path = tmp_path / 'instance.dcm'
    path.write_bytes(instance)
    with Clients(evil.server) as clients:
        for _ in range(6):
            assert evil.do('odd-calls').text == 'ok'
            evil.server.post('/instances', instance)
            dicom.storescu(evil.server, str(path))
            dicom.findscu(evil.server, 'QueryRetrieveLevel=STUDY', 'PatientID=*')
            assert evil.server.poll() is None
        assert evil.server.get('/evil/odd-calls/0').text == 'ok'
        evil.server.upload(instance)
    clients.check()
    evil.check()
    assert evil.server.stop() == 0


def test_odd_results_of_an_http_filter(victim):
    """Only true lets a request in."""
    evil = victim('HttpFilter')
    seen = set()
    for _ in range(12):
        assert evil.do('odd-calls').text == 'ok'
        seen |= {evil.server.get('/system').status_code for _ in range(10)}
    assert seen <= {200, 403} and 403 in seen
    evil.check()
    assert evil.server.stop() == 0


def innocent(told):
    """A process that leads its session as hosts do, and is none."""
    process = subprocess.Popen(['sleep', '600'], start_new_session=True)
    with open(told + '.innocent', 'w', encoding='ascii') as f:
        f.write(str(process.pid))
    return process


def test_a_control_connection_with_nonsense(victim):
    """What is well-formed is refused piece by piece; nobody outside is harmed by it."""
    evil = victim()
    process = innocent(evil.told)
    with Clients(evil.server) as clients:
        for what in ('logs', 'unknown-deaths', 'log-flood'):
            assert evil.do('control-' + what).text == 'ok'
            evil.ok()
        evil.server.wait_for_log('Worker: more than 4000 lines in a second: the rest is left out', 20)
        assert evil.server.log().count('Worker: flood') < 25000
        evil.do('control-odd-pids')
        evil.do('control-strangers')
        evil.server.wait_for_log('named an impossible process as a host: 1$')
        evil.server.wait_for_log('named a process as a host that it has not started', 10)
        evil.do('control-close')
        evil.server.wait_for_log('The worker is running again', 20)
        evil.ok()
    clients.check()
    assert process.poll() is None
    process.kill()
    process.wait()
    evil.check()
    assert evil.server.stop() == 0


@pytest.mark.parametrize('names', [['half', 'pid-64'], ['host-flood', 'deep'], ['response', 'huge', 'worker-64']])
def test_a_broken_control_connection(victim, names):
    """Each ends the worker, and everything is started anew."""
    evil = victim()
    with Clients(evil.server) as clients:
        for count, what in enumerate(names, 1):
            old = evil.node()['pid']
            evil.do('control-' + what)
            wait_until(lambda old=old: not is_alive(old), 10, 'the end after ' + what)
            wait_until(lambda count=count: evil.server.log().count('The worker is running again') >= count,
                       15, 'a new worker after ' + what)
            evil.ok()
    clients.check()
    evil.check()
    assert evil.server.stop() == 0


def test_strangers_at_the_socket_of_the_node(victim):
    """The socket on which hosts open service lanes."""
    evil = victim()
    told = evil.node()
    secret = bytes.fromhex(told['secret'])
    rng = random.Random(SEED)

    def refused(message, text):
        with wire.Connection.to(told['socket']) as lane:
            lane.send(message)
            answer = lane.read()
            assert not wire.welcomed(answer) and text in answer[2][2], answer

    with Clients(evil.server) as clients:
        right = {'node': told['node'], 'host': told['host'], 'secret': secret}
        with wire.Connection.to(told['socket']) as lane:
            lane.send(wire.hello(wire.SERVICE, **right))
            assert wire.welcomed(lane.read())
        refused(wire.hello(wire.SERVICE, **dict(right, secret=bytes(31) + b'x')), 'wrong secret')
        refused(wire.hello(wire.SERVICE, **dict(right, secret=secret[:31])), '')
        refused(wire.hello(wire.SERVICE, **dict(right, node='other')), 'wrong node')
        refused(wire.hello(wire.SERVICE, **dict(right, host=77)), 'none that this node has')
        refused(wire.hello(wire.CALL, **right), 'only service lanes')
        refused(wire.hello(wire.SERVICE, **dict(right, version=9)), 'version')
        for data in evil_worker.BYTES.values():
            with wire.Connection.to(told['socket']) as lane:
                try:
                    lane.send_bytes(data)
                except wire.Closed:
                    pass
        lanes = []
        for _ in range(300):
            lanes.append(wire.Connection.to(told['socket']))
            try:
                lanes[-1].send_bytes(rng.randbytes(20))
            except wire.Closed:
                pass
        evil.ok()
        for lane in lanes:
            lane.close()
    clients.check()
    evil.check()
    log = evil.server.log()
    assert re.search('Process %d was refused at the node.s socket: wrong node or wrong secret' % os.getpid(), log)
    assert secret.hex() not in log
    assert evil.server.stop() == 0

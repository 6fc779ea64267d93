# SPDX-License-Identifier: GPL-3.0-or-later
"""Python.Workers: several hosts for one node."""

import collections
import concurrent.futures
import json
import os
import re
import signal
import threading

import pytest

import dicom
from server import REPOSITORY, is_alive, wait_until, write
from test_commitment import Pair
from test_move import SUCCESS, move
from test_reload import RELOAD, reload

pytestmark = [pytest.mark.ours]

# /hold/PATH says "held PATH worker pid" and then waits until somebody has opened the FIFO to write.
SCRIPT = r'''
import json, os
import orthanc

INDEX, COUNT = orthanc.GetWorkerIndex(), orthanc.GetWorkersCount()

def say(*words):
    """In one piece, whoever else writes."""
    os.write(1, (' '.join(str(word) for word in words) + '\n').encode())

def who(output, uri, **request):
    output.AnswerBuffer(json.dumps([INDEX, COUNT, os.getpid(), 'VERSION']), 'application/json')

def hold(output, uri, **request):
    path = request['groups'][0]
    say('held', path, INDEX, os.getpid())
    with open(path) as f:
        f.read()
    output.AnswerBuffer(str(INDEX), 'text/plain')

orthanc.RegisterRestCallback('/who', who)
orthanc.RegisterRestCallback('/hold(/.*)', hold)
'''


class Holds:
    """Requests that stay in the host that has taken them until they are let go.

    printer: the shared pool, where hosts of it print; else the server.
    """

    def __init__(self, server, directory, printer=None):
        self.server = server
        self.printer = printer or server
        self.directory = str(directory)
        self.pool = concurrent.futures.ThreadPoolExecutor(40)
        self.futures = {}

    def begin(self):
        """One more. Returns (path, worker, pid)."""
        path = os.path.join(self.directory, 'fifo%d' % len(self.futures))
        os.mkfifo(path)
        self.futures[path] = self.pool.submit(self.server.get, '/hold' + path)
        match = self.printer.wait_for_out(r'^held %s (\d+) (\d+)$' % re.escape(path))
        return path, int(match.group(1)), int(match.group(2))

    def let_go(self, path):
        """To be answered."""
        with open(path, 'w', encoding='ascii'):
            pass
        return self.answer(path)

    def answer(self, path):
        return self.futures[path].result(60)

    def close(self):
        self.pool.shutdown()


@pytest.fixture
def holds(tmp_path):
    made = []

    def make(server):
        made.append(Holds(server, tmp_path))
        return made[-1]
    yield make
    for each in made:
        each.close()


class Load:
    """Requests without a break, until the end of the block; keeps all answers."""

    def __init__(self, server, path='/who', threads=4):
        self.server = server
        self.path = path
        self.stop = threading.Event()
        self.answers = []
        self.threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self):
        while not self.stop.is_set():
            answer = self.server.get(self.path)
            self.answers.append((answer.status_code, answer.text))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def await_more(self, count=20):
        before = len(self.answers)
        wait_until(lambda: len(self.answers) >= before + count, 30, 'more answers')

    def failed(self):
        return [answer for answer in self.answers if answer[0] != 200]


def pids(holds, count):
    """The hosts by their numbers, told by one request in each."""
    begun = [holds.begin() for _ in range(count)]
    found = {worker: pid for _, worker, pid in begun}
    for path, _, _ in begun:
        assert holds.let_go(path).status_code == 200
    assert sorted(found) == list(range(count)), found
    return found


def pids_in_time(holds, count):
    """The same once all are there."""
    def all_of_them():
        begun = [holds.begin() for _ in range(count)]
        for path, _, _ in begun:
            assert holds.let_go(path).status_code == 200
        found = {worker: pid for _, worker, pid in begun}
        return found if len(found) == count else None
    return wait_until(all_of_them, 30, 'all hosts', 0.1)


def test_by_default_there_is_one(orthanc):
    server = orthanc(script=SCRIPT)
    assert server.get('/who').json()[:2] == [0, 1]
    assert server.stop() == 0


@pytest.mark.smoke
def test_calls_go_to_the_least_busy_host(orthanc, holds):
    server = orthanc(script=SCRIPT, python={'Workers': 3})
    held = holds(server)
    begun = [held.begin() for _ in range(9)]
    assert collections.Counter(worker for _, worker, _ in begun) == {0: 3, 1: 3, 2: 3}
    for i in range(3):      # after each three, all are equally busy
        assert {worker for _, worker, _ in begun[3 * i:3 * i + 3]} == {0, 1, 2}
    first = [each for each in begun if each[1] == begun[4][1]]
    for path, _, _ in first:
        assert held.let_go(path).status_code == 200
    again = [held.begin() for _ in range(3)]
    assert {each[1:] for each in again} == {first[0][1:]}    # which has nothing else to do
    for path, worker, _ in [each for each in begun if each not in first] + again:
        assert held.let_go(path).text == str(worker)
    server.stop()


def test_a_lone_client_stays_with_one_host(orthanc):
    """But for a request that comes before the callback of the one before has returned."""
    server = orthanc(script=SCRIPT, python={'Workers': 4})
    answers = collections.Counter(server.get('/who').text for _ in range(40))
    assert answers.most_common(1)[0][1] > 20


# The example, which uses one processor; with several hosts it uses as many without a change.
# Appended: when each computation has begun and ended, and where.
RECORD = r'''
import os
inner = slow_computation

def slow_computation():
    begin = time.monotonic()
    result = inner()
    os.write(1, b'computed %d %.6f %.6f\n' % (os.getpid(), begin, time.monotonic()))
    return result
'''


def test_two_hosts_compute_at_the_same_time(orthanc):
    """In processes of their own, hence with a GIL of their own."""
    path = os.path.join(REPOSITORY, 'examples', 'multiprocessing_1', 'multiprocessing_1.py')
    with open(path, encoding='utf-8') as f:
        server = orthanc(script=f.read() + RECORD, python={'Workers': 2})
    with concurrent.futures.ThreadPoolExecutor(2) as clients:
        for number in range(1, 4):
            answers = list(clients.map(lambda _: server.get('/computation', timeout=60), range(2)))
            assert all(answer.text.startswith('computation done') for answer in answers)
            seen = re.findall(r'^computed (\d+) (\S+) (\S+)$', server.out(), re.MULTILINE)
            assert len(seen) == 2 * number
            (first, begin, end), (second, other_begin, other_end) = seen[-2:]
            assert first != second, seen
            assert max(float(begin), float(other_begin)) < min(float(end), float(other_end)), seen


def test_the_death_of_a_host_fails_its_calls_only(orthanc, holds):
    server = orthanc(script=SCRIPT, python={'Workers': 3})
    held = holds(server)
    begun = [held.begin() for _ in range(6)]
    victim = begun[0][1:]
    assert len({each[2] for each in begun}) == 3
    with Load(server) as load:
        load.await_more()
        os.kill(victim[1], signal.SIGKILL)
        for path, worker, _ in begun:
            if worker == victim[0]:
                assert held.answer(path).status_code == 502
        load.await_more()
        for path, worker, _ in begun:
            if worker != victim[0]:
                assert held.let_go(path).text == str(worker)
        wait_until(lambda: len({tuple(json.loads(text)[:3:2]) for status, text in load.answers
                                if status == 200} - {victim}) == 3, 30, 'the new host')
    # A request of the load may have been in the host as well: each that failed is one of those.
    failures = len(re.findall(r'The (?:host|connection to the host) \(pid %d\) .* during the REST' % victim[1],
                              server.log()))
    assert len(load.failed()) == failures - 2, (load.failed(), failures)
    assert all(status == 502 for status, _ in load.failed())
    assert server.stop() == 0


def test_a_host_that_hangs_is_one_of_several(orthanc, holds):
    server = orthanc(script=SCRIPT, python={'Workers': 2, 'CallTimeout': {'Rest': 2}})
    held = holds(server)
    stuck, worker, pid = held.begin()
    answer = held.answer(stuck)
    assert answer.status_code == 504
    wait_until(lambda: not is_alive(pid), 10, 'its end')
    other = server.get('/who').json()
    assert other[0] != worker and other[2] != pid
    found = pids_in_time(held, 2)
    assert pid not in found.values() and found[other[0]] == other[2]
    server.stop()


def test_a_stopped_host_is_passed_by_and_replaced(orthanc, holds):
    server = orthanc(script=SCRIPT, python={'Workers': 2})
    held = holds(server)
    path, worker, pid = held.begin()
    os.kill(pid, signal.SIGSTOP)
    with Load(server, threads=8) as load:   # some of them find it less busy, and wait for a lane
        wait_until(lambda: not is_alive(pid), 30, 'its end')
        load.await_more()
    assert held.answer(path).status_code == 502
    assert {json.loads(text)[0] for status, text in load.answers if status == 200} >= {1 - worker}
    assert pid not in pids_in_time(held, 2).values()


@pytest.mark.survival
def test_reloads_of_three_hosts_lose_no_request(orthanc, holds):
    server = orthanc(script=SCRIPT.replace('VERSION', '1'), python={'Workers': 3})
    held = holds(server)
    old = set(pids(held, 3).values())
    path, _, _ = held.begin()       # stays in its host, which drains
    with Load(server, threads=6) as load:
        for version in '234':
            load.await_more()
            write(server, SCRIPT.replace('VERSION', version))
            assert reload(server)['Generation'] == int(version)
            assert server.get('/who').json()[3] == version
            load.await_more()
        assert held.let_go(path).status_code == 200
    assert not load.failed(), load.failed()[:3]
    versions = [json.loads(text)[3] for _, text in load.answers]
    assert set(versions) == set('1234')
    wait_until(lambda: not any(is_alive(pid) for pid in old), 20, 'the end of the first generation')
    assert not old & set(pids(held, 3).values())
    assert not server.messages('E'), server.messages('E')
    assert server.stop() == 0


def test_calls_move_only_when_all_hosts_are_ready(orthanc, tmp_path):
    gate = str(tmp_path / 'gate')
    os.mkfifo(gate)
    server = orthanc(script=SCRIPT.replace('VERSION', 'old'), python={'Workers': 3})
    write(server, SCRIPT.replace('VERSION', 'new') + '''
if INDEX == 2:
    say('at the gate')
    with open(%r) as f:
        f.read()
''' % gate)
    with concurrent.futures.ThreadPoolExecutor(1) as clients:
        asked = clients.submit(reload, server)
        server.wait_for_out('at the gate')
        with Load(server) as load:
            load.await_more(50)
        assert {json.loads(text)[3] for _, text in load.answers} == {'old'}
        with open(gate, 'w', encoding='ascii'):
            pass
        asked.result(30)
    with Load(server) as load:
        load.await_more(50)
    assert {(status, json.loads(text)[3]) for status, text in load.answers} == {(200, 'new')}


@pytest.mark.parametrize('number', [0, 1])
def test_one_of_the_next_hosts_that_fails_leaves_all_old_ones(orthanc, holds, number):
    server = orthanc(script=SCRIPT, python={'Workers': 2})
    held = holds(server)
    before = pids(held, 2)
    for text, said in (('raise KeyError("not this one")', 'not this one'), ('os._exit(3)', 'exit code 3'),
                       ("orthanc.RegisterRestCallback('/mine', who)", None)):
        write(server, SCRIPT + "\nif INDEX == %d:\n    %s\n" % (number, text))
        details = reload(server, 500)['Details']
        if said is None:
            said = 'it lacks the REST route /mine' if number == 0 else 'only it has the REST route /mine'
        assert said in details, details
        assert pids(held, 2) == before
    write(server, SCRIPT)
    assert reload(server)['Generation'] == 2
    assert not set(before.values()) & set(pids(held, 2).values())


@pytest.mark.parametrize('text,said', [
    ("orthanc.RegisterRestCallback('/mine', who)", r'only it has the REST route /mine'),
    ('orthanc.RegisterOnChangeCallback(print)', r'only it has the Python on-changes callback')])
def test_a_start_with_different_hosts_is_refused(orthanc, text, said):
    server = orthanc.make(script=SCRIPT + '\nif INDEX == 1:\n    ' + text + '\n', python={'Workers': 3})
    server.expect_refusal()
    assert re.search('has not registered the same callbacks as the other hosts of its generation, and is '
                     'refused: ' + said, server.log())


def test_a_new_host_that_differs_is_refused_and_the_others_go_on(orthanc, holds):
    server = orthanc(script=SCRIPT, python={'Workers': 2})
    held = holds(server)
    before = pids(held, 2)
    write(server, SCRIPT.replace("'/hold(/.*)'", "'/other'"))
    os.kill(before[1], signal.SIGKILL)
    server.wait_for_log(r'is refused: it lacks the REST route /hold\(/\.\*\); only it has the REST route '
                        r'/other\. If the script has changed, load it again')
    with Load(server) as load:
        load.await_more()
    assert {json.loads(text)[2] for _, text in load.answers} == {before[0]}
    write(server, SCRIPT)
    assert pids_in_time(held, 2)[0] == before[0]
    assert reload(server)['Generation'] == 2


def test_a_callback_cannot_register_what_other_hosts_lack(orthanc):
    server = orthanc(script=SCRIPT + r'''
def late(output, uri, **request):
    try:
        orthanc.RegisterRestCallback('/late', who)
    except RuntimeError as e:
        output.AnswerBuffer(str(e), 'text/plain')
orthanc.RegisterRestCallback('/register', late)
''', python={'Workers': 2})
    assert 'while the script is imported only' in server.get('/register').text
    assert server.get('/late').status_code == 404


def test_a_route_of_the_next_generation_works_in_every_host(orthanc):
    server = orthanc(script=SCRIPT, python={'Workers': 3, 'LateRoutes': True})
    write(server, SCRIPT + "\northanc.RegisterRestCallback('/new', who)\n")
    reload(server)
    wait_until(lambda: server.get('/new').status_code == 200, 30, 'the new route')
    with Load(server, '/new', threads=8) as load:
        wait_until(lambda: len({json.loads(text)[0] for status, text in load.answers
                                if status == 200}) == 3, 30, 'all hosts')
    assert not load.failed()
    assert server.log().count('Registering a Python REST callback on URI: /new') <= 1


EVENTS = SCRIPT + r'''
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        say('started', INDEX)
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        say('stopped', INDEX)
    elif change_type == orthanc.ChangeType.NEW_INSTANCE:
        say('instance', resource, INDEX, os.getpid())
        if os.path.exists(FIFO):
            with open(FIFO) as f:
                f.read()
        say('done', resource)
orthanc.RegisterOnChangeCallback(on_change)
'''


def test_events_go_to_the_primary_in_order_before_and_after_its_death(orthanc, holds, tmp_path):
    fifo = str(tmp_path / 'event')
    server = orthanc(script='FIFO = %r\n' % fifo + EVENTS, python={'Workers': 3})
    before = pids(holds(server), 3)
    server.wait_for_out('^started 0$')
    known = [server.upload(dicom.make_dicom()) for _ in range(3)]
    server.wait_for_out('^done ' + known[-1])
    os.mkfifo(fifo)
    known += [server.upload(dicom.make_dicom()) for _ in range(4)]
    server.wait_for_out('^instance ' + known[3])
    with Load(server) as load:      # the others go on
        os.kill(before[0], signal.SIGKILL)
        os.unlink(fifo)
        server.wait_for_out('^done ' + known[-1], 30)
    assert len(load.failed()) <= 4
    assert server.stop() == 0
    seen = re.findall(r'^instance (\S+) (\d+) (\d+)$', server.out(), re.MULTILINE)
    assert [each[0] for each in seen] == known[:4] + known[3:]      # one is delivered once more
    assert {each[1] for each in seen} == {'0'}
    assert {each[2] for each in seen[:4]} == {str(before[0])}
    assert len({each[2] for each in seen[4:]}) == 1 and seen[4][2] != str(before[0])
    assert re.findall('^(?:started|stopped) .*', server.out(), re.MULTILINE) == ['started 0', 'stopped 0']


def test_a_reload_tells_the_primaries_only(orthanc, tmp_path):
    server = orthanc(script='FIFO = %r\n' % str(tmp_path / 'none') + EVENTS, python={'Workers': 3})
    server.wait_for_out('^started 0$')
    reload(server)
    server.wait_for_out('^stopped 0\nstarted 0$')
    assert server.stop() == 0
    assert re.findall('^(?:started|stopped) .*', server.out(), re.MULTILINE) == [
        'started 0', 'stopped 0'] * 2


DRIVERS = SCRIPT + r'''
import threading
class Driver:
    def __init__(self):
        self.thread = threading.get_ident()

def create(**request):
    say('create', request['PatientID'], os.getpid())
    driver = Driver()
    driver.name = request['PatientID']
    return driver

def tell(what, result):
    def call(driver):
        say(what, driver.name, os.getpid())
        return result
    return call

orthanc.RegisterMoveCallback2(create, tell('size', 3), tell('apply', orthanc.ErrorCode.SUCCESS),
                              tell('free', None))
'''


def test_drivers_stay_with_the_host_that_made_them(orthanc):
    server = orthanc(script=DRIVERS, dicom=True, config={'DicomAlwaysAllowMove': True},
                     python={'Workers': 3})
    names = ['P%d' % i for i in range(8)]
    with Load(server, threads=3):
        for name in names:
            assert move(server, name)[0] == SUCCESS
    found = collections.defaultdict(set)
    for name in names:
        server.wait_for_out(r'^free %s \d+$' % name)
        calls = re.findall(r'^(create|size|apply|free) %s (\d+)$' % name, server.out(), re.MULTILINE)
        assert [call for call, _ in calls] == ['create', 'size'] + 3 * ['apply'] + ['free'], calls
        assert len({pid for _, pid in calls}) == 1, calls
        found[calls[0][1]].add(name)
    assert len(found) > 1, 'all moves went to one host, which proves nothing: %s' % found


COMMITMENT = SCRIPT + r'''
class Driver:
    def __init__(self, transaction):
        self.transaction = transaction

def scp(job, transaction, classes, instances, remote, called):
    say('scp', transaction, os.getpid())
    return Driver(transaction)

def lookup(sop_class, sop_instance, driver):
    say('lookup', driver.transaction, os.getpid())
    return orthanc.StorageCommitmentFailureReason.SUCCESS

orthanc.RegisterStorageCommitmentScpCallback(scp, lookup)
'''


def test_a_storage_commitment_stays_with_the_host_that_took_it(orthanc):
    pair = Pair(orthanc, COMMITMENT, python={'Workers': 3})
    with Load(pair.scp, threads=3):
        transactions = [pair.ask() for _ in range(8)]
        for transaction in transactions:
            assert set(pair.reasons(transaction).values()) == {0}
    hosts = set()
    for transaction in transactions:
        calls = re.findall(r'^(scp|lookup) %s (\d+)$' % transaction, pair.scp.out(), re.MULTILINE)
        assert [call for call, _ in calls] == ['scp'] + 3 * ['lookup'], calls
        assert len({pid for _, pid in calls}) == 1, calls
        hosts.add(calls[0][1])
    assert len(hosts) > 1, 'all went to one host, which proves nothing: %s' % hosts


def test_all_hosts_finish_when_orthanc_stops(orthanc):
    server = orthanc(script=SCRIPT + r'''
import atexit
atexit.register(lambda: say('finished', INDEX, len(orthanc.GenerateUuid()) == 36))
''', python={'Workers': 5})
    assert server.stop() == 0
    assert sorted(re.findall('^finished .*', server.out(), re.MULTILINE)) == [
        'finished %d True' % i for i in range(5)]
    assert 'SIGTERM' not in server.log()


def test_a_pool_that_dies_comes_back_with_all_hosts(orthanc, holds):
    server = orthanc(script=SCRIPT, python={'Workers': 3})
    held = holds(server)
    before = pids(held, 3)
    os.kill(server.supervisor(), signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in before.values()), 10, 'the end of the hosts')
    server.wait_for_log('The worker is running again', 20)

    def all_three():
        with Load(server, threads=8) as load:
            load.await_more(50)
        return len({json.loads(text)[0] for status, text in load.answers if status == 200}) == 3
    wait_until(all_three, 30, 'three hosts')
    assert not set(before.values()) & set(pids(held, 3).values())
    assert reload(server)['Generation'] == 2


def test_a_host_that_has_run_enough_calls_takes_the_others_with_it(orthanc, holds):
    server = orthanc(script=SCRIPT, python={'Workers': 2, 'MaxCalls': 30})
    before = pids(holds(server), 2)
    with Load(server) as load:
        server.wait_for_log('Generation 2 is running', 20)
        load.await_more()
    assert not load.failed()
    wait_until(lambda: not any(is_alive(pid) for pid in before.values()), 20, 'the end of both')


def test_service_lanes_work_from_every_host(orthanc):
    server = orthanc(script=SCRIPT + r'''
import threading
def count():
    say('counted', INDEX, len(orthanc.GenerateUuid()))
for _ in range(3):
    threading.Thread(target=count).start()
''', python={'Workers': 3})
    wait_until(lambda: len(re.findall(r'^counted \d 36$', server.out(), re.MULTILINE)) == 9, 20,
               'all threads')


def test_crowds_of_hosts_start_and_stop(orthanc):
    server = orthanc(script='import orthanc, os\nos.write(1, b"worker %d of %d\\n" % '
                            '(orthanc.GetWorkerIndex(), orthanc.GetWorkersCount()))\n',
                     python={'Workers': 12})
    assert sorted(set(re.findall('worker .*', server.out()))) == sorted(
        'worker %d of 12' % i for i in range(12))
    assert server.post(RELOAD, timeout=60).status_code == 200
    assert server.stop(timeout=60) == 0

# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations: the script is loaded again, beside the one that runs (design 7 and 9)."""

import os
import re
import signal
import threading
import time

import pytest

import dicom
from server import PATIENCE, PID_ROUTE, hosts_of, is_alive, reload, wait_until, write

pytestmark = [pytest.mark.ours, pytest.mark.survival]

SCRIPT = r'''
import os, threading, time
import orthanc

COUNT = 0
GO = threading.Event()

def say(*words):
    """In one piece, whoever else writes."""
    os.write(1, (' '.join(str(word) for word in words) + '\n').encode())

def version(output, uri, **request):
    global COUNT
    COUNT += 1
    output.AnswerBuffer('VERSION %d' % COUNT, 'text/plain')

def wait(output, uri, **request):
    say('waiting VERSION')
    time.sleep(float(request['groups'][0]))
    orthanc.RestApiGet('/system')
    output.AnswerBuffer('waited VERSION', 'text/plain')

def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        say('started VERSION')
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        time.sleep(0.2)
        GO.set()
        say('stopped VERSION', len(orthanc.RestApiGet('/system')) > 0)
    elif change_type == orthanc.ChangeType.NEW_INSTANCE:
        time.sleep(0.05)
        say('instance', resource, 'VERSION')

orthanc.RegisterRestCallback('/version', version)
orthanc.RegisterRestCallback('/wait/(.*)', wait)
orthanc.RegisterOnChangeCallback(on_change)
''' + PID_ROUTE

RELOAD = '/python-bridge/reload'


def text_of(version, more=''):
    return SCRIPT.replace('VERSION', version) + more


def await_one_host(server, timeout=20):
    """The worker has no more than one child but the zygote: earlier generations have ended."""
    supervisor = server.supervisor()
    wait_until(lambda: len(hosts_of(supervisor)) == 1, timeout, 'the end of the other hosts')
    return hosts_of(supervisor)[0]


@pytest.mark.smoke
def test_a_reload_begins_anew(orthanc):
    server = orthanc(script=text_of('one'))
    first = server.host_pid()
    assert [server.get('/version').text for _ in range(2)] == ['one 1', 'one 2']
    answer = reload(server)
    assert answer['Generation'] == 2
    assert answer['Pid'] == server.host_pid() != first
    assert server.get('/version').text == 'one 1'
    write(server, text_of('two'))
    assert reload(server)['Generation'] == 3
    assert server.get('/version').text == 'two 1'
    await_one_host(server)
    assert not is_alive(first)
    assert not server.messages('E'), server.messages('E')
    assert server.stop() == 0


@pytest.mark.parametrize('text,said', [
    ("import orthanc\ndef broken():\n    return {}['no such key']\nbroken()\n", "no such key"),
    ('def f(:\n', 'SyntaxError'),
    ('import os\nos._exit(9)\n', 'exit code 9'),
    ('import os\nos.kill(os.getpid(), 9)\n', 'signal 9')])
def test_a_broken_script_leaves_the_old_one(orthanc, text, said):
    server = orthanc(script=text_of('one'))
    pid = server.host_pid()
    write(server, text)
    for _ in range(2):
        answer = reload(server, 500)
        assert said in answer['Details'], answer
    assert server.host_pid() == pid
    assert server.get('/version').text == 'one 1'
    errors = [text for _, text in server.messages('E')]
    assert any(said in text for text in errors), errors
    assert any('the one before goes on' in text for text in errors), errors
    assert not any('is being started' in text for text in errors), errors
    await_one_host(server)
    write(server, text_of('two'))
    reload(server)
    assert server.get('/version').text == 'two 1'
    server.wait_for_out('stopped one True\nstarted two\n')
    assert server.stop() == 0


def test_a_script_that_does_not_load_in_time(orthanc):
    server = orthanc(script=text_of('one'), python={'ReloadTimeout': 1})
    write(server, 'import time\ntime.sleep(1000)\n')
    assert 'ReloadTimeout' in reload(server, 500)['Details']
    assert server.get('/version').text == 'one 1'
    await_one_host(server)


def test_routes_that_go_and_come(orthanc):
    server = orthanc(script=text_of(
        'one', "orthanc.RegisterRestCallback('/old', version)\n"))
    assert server.get('/old').status_code == 200
    write(server, text_of('two', "orthanc.RegisterRestCallback('/new', version)\n"))
    reload(server)
    assert server.get('/old').status_code == 404
    wait_until(lambda: server.get('/new').status_code == 200, 20, 'the new route')
    write(server, text_of('three', "orthanc.RegisterRestCallback('/old', version)\n"))
    reload(server)
    assert server.get('/old').text == 'three 1'
    assert server.get('/new').status_code == 404
    assert any('/old' in text and '404' in text for _, text in server.messages('W'))


def test_kinds_that_go_and_come(orthanc):
    """C-FIND is looked up once by the core: it needs a restart, and the log says so."""
    server = orthanc(script=text_of('one'))
    write(server, text_of('two', r'''
def find(answers, query, issuer, called):
    pass
def on_filter(uri, **request):
    return uri != '/statistics'
orthanc.RegisterFindCallback(find)
orthanc.RegisterIncomingHttpRequestFilter(on_filter)
'''))
    reload(server)
    server.wait_for_log('C-FIND.*needs a restart of Orthanc')
    assert server.get('/statistics').status_code == 403
    write(server, text_of('three'))
    reload(server)
    assert server.get('/statistics').status_code == 200


@pytest.mark.smoke
def test_the_old_one_stops_before_the_new_one_starts(orthanc):
    server = orthanc(script=text_of('one'))
    ids = []
    for number in range(8):
        ids.append(server.upload(dicom.make_dicom(PatientID=str(number))))
        if number == 3:
            write(server, text_of('two'))
            reload(server)
        if number == 6:
            write(server, text_of('three'))
            reload(server)
    assert server.stop() == 0
    lines = [line for line in server.out().splitlines() if not line.startswith('waiting')]
    expected = ['started one'] + ['instance %s one' % each for each in ids[:4]]
    expected += ['stopped one True', 'started two'] + ['instance %s two' % each for each in ids[4:7]]
    expected += ['stopped two True', 'started three', 'instance %s three' % ids[7]]
    assert lines == expected + ['stopped three True']


def ask(server, path, results):
    try:
        answer = server.get(path, timeout=60)
        results.append((answer.status_code, answer.text))
    except OSError as e:
        results.append((None, repr(e)))


def in_background(server, path):
    results = []
    thread = threading.Thread(target=ask, args=(server, path, results))
    thread.start()
    return thread, results


def test_a_long_request_ends_in_its_generation(orthanc):
    server = orthanc(script=text_of('one'))
    thread, results = in_background(server, '/wait/3')
    server.wait_for_out('waiting one')
    write(server, text_of('two'))
    began = time.monotonic()
    reload(server)
    assert server.get('/version').text == 'two 1'
    assert time.monotonic() - began < 2.5 * PATIENCE    # it did not wait for the request
    thread.join(60)
    assert results == [(200, 'waited one')]
    await_one_host(server)


def test_a_request_that_outlasts_the_limit(orthanc):
    server = orthanc(script=text_of('one'), python={'DrainTimeout': 0.5, 'StopTimeout': 1})
    thread, results = in_background(server, '/wait/600')
    server.wait_for_out('waiting one')
    reload(server)
    thread.join(60)
    assert results[0][0] == 502
    server.wait_for_log('DrainTimeout')
    await_one_host(server)


def test_a_callback_that_hangs_in_the_old_generation(orthanc):
    """It is ended by CallTimeout, and the generation that serves does not notice."""
    server = orthanc(script=text_of('one'), python={'CallTimeout': {'Rest': 2}})
    thread, results = in_background(server, '/wait/600')
    server.wait_for_out('waiting one')
    pid = reload(server)['Pid']
    thread.join(60)
    assert results[0][0] == 504
    assert await_one_host(server) == pid == server.host_pid()
    time.sleep(1)
    thread, results = in_background(server, '/wait/600')    # and later the same there
    thread.join(60)
    assert results[0][0] == 504
    wait_until(lambda: server.get('/version').status_code == 200, 20, 'the next host')
    assert server.host_pid() != pid
    assert server.supervisor() and server.log().count('everything is started anew') == 0
    assert server.stop() == 0


def test_what_python_does_at_its_end(orthanc):
    """atexit functions and threads that are no daemons, with the SDK at hand."""
    server = orthanc(script=text_of('one', r'''
import atexit
atexit.register(lambda: print('atexit', len(orthanc.RestApiGet('/system')) > 0, flush=True))
def run():
    while not GO.is_set():
        time.sleep(0.01)
    orthanc.RestApiGet('/system')
    print('thread', flush=True)
threading.Thread(target=run).start()
'''))
    write(server, text_of('two'))
    reload(server)
    server.wait_for_out('atexit True')
    assert 'thread\n' in server.out()
    await_one_host(server)
    assert not server.messages('E'), server.messages('E')


@pytest.mark.smoke
def test_sighup(orthanc):
    server = orthanc(script=text_of('one'))
    write(server, text_of('two'))
    os.kill(server.supervisor(), signal.SIGHUP)
    wait_until(lambda: server.get('/version').text.startswith('two'), 20, 'the reload')
    assert server.stop() == 0


def test_two_at_a_time(orthanc):
    """The second one is refused; SIGHUP is remembered."""
    server = orthanc(script=text_of('one'))
    write(server, text_of('two', 'time.sleep(1.5)\n'))
    results = []
    thread = threading.Thread(target=lambda: results.append(reload(server)))
    thread.start()
    server.wait_for_log('for the next generation')
    reload(server, 409)
    os.kill(server.supervisor(), signal.SIGHUP)
    thread.join(60)
    assert results[0]['Generation'] == 2
    server.wait_for_log('Generation 3 is running')


def test_the_route(orthanc):
    server = orthanc(script=text_of('one', r'''
def nested(output, uri, **request):
    output.AnswerBuffer(orthanc.RestApiPostAfterPlugins('/my-own/reload', b''), 'application/json')
orthanc.RegisterRestCallback('/nested', nested)
orthanc.RegisterRestCallback('/my-own/(.*)', version)
'''), python={'AdminPath': '/my-own'})
    assert server.get('/my-own/reload').status_code == 405
    assert server.post(RELOAD).status_code == 404
    assert server.post('/my-own/reload').json()['Generation'] == 2
    assert server.get('/nested').json()['Generation'] == 3
    assert server.get('/my-own/other').text == 'one 1'


def test_no_route(orthanc):
    server = orthanc(script=text_of('one'), python={'AdminPath': ''})
    assert server.post(RELOAD).status_code == 404


def test_the_next_host_killed(orthanc):
    server = orthanc(script=text_of('one'))
    write(server, text_of('two', 'print("loading", os.getpid(), flush=True)\ntime.sleep(100)\n'))
    results = []
    thread = threading.Thread(target=lambda: results.append(server.post(RELOAD, timeout=60)))
    thread.start()
    pid = int(server.wait_for_log(r'loading (\d+)', stream='out').group(1))
    os.kill(pid, signal.SIGKILL)
    thread.join(60)
    assert results[0].status_code == 500 and 'signal 9' in results[0].json()['Details']
    assert server.get('/version').text == 'one 1'
    await_one_host(server)
    assert server.stop() == 0


def test_the_old_host_killed_during_a_reload(orthanc):
    """Calls wait for the next generation, or for the host in the place of the dead one."""
    server = orthanc(script=text_of('one'))
    pid = server.host_pid()
    write(server, text_of('two', 'print("loading", flush=True)\ntime.sleep(2)\n'))
    results = []
    thread = threading.Thread(target=lambda: results.append(server.post(RELOAD, timeout=60)))
    thread.start()
    server.wait_for_out('loading')
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), 10, 'its death')
    answer = server.get('/version', timeout=60)
    assert (answer.status_code, answer.text) == (200, 'two 1')
    thread.join(60)
    assert results[0].status_code == 200
    await_one_host(server)
    reload(server)
    assert server.get('/version').text == 'two 1'
    await_one_host(server)
    assert server.stop() == 0


def test_a_generation_killed_after_the_switch(orthanc):
    server = orthanc(script=text_of('one'))
    reload(server)
    pid = server.host_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), 10, 'its death')
    assert server.get('/version', timeout=60).status_code == 200
    assert server.host_pid() != pid
    await_one_host(server)


def test_the_worker_killed_during_a_reload(orthanc):
    server = orthanc(script=text_of('one'))
    write(server, text_of('two', 'print("loading", flush=True)\ntime.sleep(1)\n'))
    results = []
    thread = threading.Thread(target=lambda: results.append(server.post(RELOAD, timeout=60)))
    thread.start()
    server.wait_for_out('loading')
    os.kill(server.supervisor(), signal.SIGKILL)
    thread.join(60)
    assert results[0].status_code == 500
    wait_until(lambda: server.get('/version', timeout=60).text == 'two 1', 40, 'service')
    reload(server)
    await_one_host(server)
    assert server.stop() == 0


def test_the_end_during_a_reload(orthanc):
    server = orthanc(script=text_of('one'))
    write(server, text_of('two', 'print("loading", flush=True)\ntime.sleep(100)\n'))
    thread = threading.Thread(target=lambda: server.post(RELOAD, timeout=60))
    thread.start()
    server.wait_for_out('loading')
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10 * PATIENCE
    assert server.out().endswith('stopped one True\n')
    thread.join(60)
    server.assert_no_leftovers()


def test_the_end_while_a_generation_drains(orthanc):
    server = orthanc(script=text_of('one'))
    thread, _ = in_background(server, '/wait/4')
    server.wait_for_out('waiting one')
    reload(server)
    assert server.stop() == 0
    thread.join(60)
    server.assert_no_leftovers()
    assert server.out().count('stopped one True') == 2


class Load:
    """Clients that ask without a pause, and count what they get."""

    def __init__(self, server, count, paths):
        self.server = server
        self.paths = paths
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self.good = 0
        self.bad = []
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(count)]

    def _run(self, number):
        connection = self.server.connection(60)
        turn = number
        while not self.is_over.is_set():
            path = self.paths[turn % len(self.paths)]
            turn += 1
            try:
                connection.request('GET', path)
                answer = connection.getresponse()
                body = answer.read()
                problem = None if answer.status == 200 else (path, answer.status, body)
            except OSError as e:
                problem = (path, repr(e), b'')
                connection.close()
            with self.lock:
                if problem is None:
                    self.good += 1
                else:
                    self.bad.append(problem)
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def test_no_request_fails_in_twenty_reloads(orthanc):
    """The done-criterion: 16 clients, 20 reloads, zero failed requests."""
    server = orthanc(script=text_of('one', r'''
orthanc.RegisterIncomingHttpRequestFilter(lambda uri, **request: True)
def nested(output, uri, **request):
    orthanc.RestApiGet('/system')
    output.AnswerBuffer(orthanc.RestApiGetAfterPlugins('/version'), 'text/plain')
orthanc.RegisterRestCallback('/nested', nested)
'''), config={'HttpThreadsCount': 30}, verbose=False)
    with Load(server, 16, ['/version', '/nested', '/system', '/wait/0.5']) as load:
        for number in range(20):
            before = load.good
            assert reload(server)['Generation'] == number + 2
            wait_until(lambda before=before: load.good > before + 16 or load.bad, 20, 'answers')
    assert load.bad == []
    assert load.good > 20 * 16
    await_one_host(server, 30)
    assert not server.messages('E'), server.messages('E')
    assert server.stop() == 0


def test_every_instance_is_modified_and_seen_in_five_reloads(orthanc):
    """Stores, with a handler that changes each instance, another that is told of each, and
    change events: nothing fails, nothing is left as it came, nothing is told of twice."""
    server = orthanc(script=SCRIPT.replace('time.sleep(0.05)', '') + r'''
import io, pydicom
def received(data, origin):
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.InstitutionName = 'seen'
    out = io.BytesIO()
    dataset.save_as(out)
    return orthanc.ReceivedInstanceAction.MODIFY, out.getvalue()
def stored(instance, instance_id):
    assert 'seen' in instance.GetInstanceSimplifiedJson()
    say('stored', instance_id)
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterOnStoredInstanceCallback(stored)
''', verbose=False)
    is_over = threading.Event()
    ids = []
    bad = []

    def store(client):
        number = 0
        while not is_over.is_set():
            number += 1
            answer = server.post('/instances', dicom.make_dicom(
                PatientID='%d-%d' % (client, number)), timeout=60)
            if answer.status_code == 200:
                ids.append(answer.json()['ID'])
            else:
                bad.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=store, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        before = len(ids)
        reload(server)
        wait_until(lambda before=before: len(ids) > before + 4 or bad, 30, 'stores')
    is_over.set()
    for thread in threads:
        thread.join()
    assert bad == []
    for instance in ids:
        assert server.get('/instances/%s/simplified-tags' % instance).json()[
            'InstitutionName'] == 'seen'
    await_one_host(server, 30)
    assert not server.messages('E'), server.messages('E')
    assert server.stop() == 0
    out = server.out().splitlines()
    assert sorted(ids) == sorted(line.split()[1] for line in out if line.startswith('stored'))
    assert sorted(ids) == sorted(line.split()[1] for line in out if line.startswith('instance'))
    assert [line.split()[0] for line in out if line.startswith(('started', 'stopped'))] == [
        'started', 'stopped'] * 6


def generation_of(server):
    """The last one that the log names."""
    found = re.findall(r'Generation (\d+) is running', server.log())
    return int(found[-1]) if found else 1


def test_reload_on_change(orthanc):
    server = orthanc(script='from package.part import NAME\n' + SCRIPT.replace(
        "'VERSION %d' % COUNT", 'NAME'), files={'package/__init__.py': '',
                                               'package/part.py': 'NAME = "one"\n'},
                     python={'ReloadOnChange': True})
    part = os.path.join(server.directory, 'package', 'part.py')
    other = os.path.join(server.directory, 'other.py')

    def change(path, text):
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)

    assert server.get('/version').text == 'one'
    change(part, 'NAME = "two"\n')
    wait_until(lambda: server.get('/version').text == 'two', 20, 'the reload')
    change(other, 'NAME = "other"\n')
    time.sleep(1)
    assert generation_of(server) == 2
    with open(server.script_path, encoding='utf-8') as f:
        text = f.read()
    write(server, 'import other\n' + text.replace('import NAME', 'import MISSING'))
    server.wait_for_log('the one before goes on')
    assert server.get('/version').text == 'two'
    write(server, 'from other import NAME\n' + text.split('\n', 1)[1])
    wait_until(lambda: server.get('/version').text == 'other', 20, 'the reload')
    change(other, 'NAME = "another"\n')
    wait_until(lambda: server.get('/version').text == 'another', 20, 'the reload')
    assert server.stop() == 0


def test_a_change_during_a_reload(orthanc):
    """Nothing that is written is overlooked."""
    server = orthanc(script=text_of('one'), python={'ReloadOnChange': True})
    write(server, text_of('two', 'print("loading", flush=True)\ntime.sleep(1)\n'))
    server.wait_for_out('loading')
    write(server, text_of('three'))
    wait_until(lambda: server.get('/version').text.startswith('three'), 20, 'the last one')
    for number in range(20):
        write(server, text_of('number %d;' % number))
        time.sleep(0.05 * (number % 10))
    wait_until(lambda: server.get('/version').text.startswith('number 19;'), 20, 'the last one')
    await_one_host(server)
    assert not server.messages('E'), server.messages('E')

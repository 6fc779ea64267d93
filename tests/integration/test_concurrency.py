# SPDX-License-Identifier: GPL-3.0-or-later
"""Many HTTP threads of Orthanc inside the script at once (contract 6.1 and 6.3)."""

import concurrent.futures
import json
import threading
import time

import pytest

from compare import assert_same
from conftest import PLUGINS
from server import PATIENCE, PID_ROUTE

THREADS = 32
CONFIG = {'HttpThreadsCount': 50}

SCRIPT = r'''
import concurrent.futures
import json
import threading
import time
import orthanc

THREADS = 32
POOL = concurrent.futures.ThreadPoolExecutor(4)
BARRIER = threading.Barrier(THREADS)
INSIDE = threading.BoundedSemaphore(1)
GO = threading.Event()

def on_barrier(output, uri, **request):
    """Nobody gets out before all are in."""
    BARRIER.wait(PATIENCE * 40)
    output.AnswerBuffer(request['groups'][0], 'text/plain')

def on_sleep(output, uri, **request):
    INSIDE.acquire()
    GO.wait(PATIENCE * 40)
    INSIDE.release()
    output.AnswerBuffer('slept', 'text/plain')

def on_quick(output, uri, **request):
    output.AnswerBuffer(str(INSIDE._value), 'text/plain')

def on_go(output, uri, **request):
    GO.set()
    output.AnswerBuffer('go', 'text/plain')

def on_inner(output, uri, **request):
    """Called by on_mixed, through Orthanc, on the thread that waits there."""
    time.sleep(0.002)
    output.AnswerBuffer('%s %d' % (request['groups'][0], threading.get_ident()), 'text/plain')

def on_mixed(output, uri, **request):
    """Calls of many kinds among 31 others: each answer is for its own question."""
    key = request['groups'][0]
    BARRIER.wait(PATIENCE * 40)
    for number in range(ROUNDS):
        name = '%s-%d' % (key, number)
        image = orthanc.CreateImage(1, int(key) + 1, number + 1)
        inner = orthanc.RestApiGetAfterPlugins('/inner/' + name).decode()
        wrong = orthanc.AutodetectMimeType(name + '.png') if number % 2 else None
        try:
            orthanc.RestApiGet('/instances/' + name)
        except orthanc.OrthancException as e:
            wrong = (wrong, e.args[0])
        seen = (image.GetImageWidth(), image.GetImageHeight(), inner, wrong,
                orthanc.BufferCompression(orthanc.BufferCompression(name * 3000, 2, 0), 2, 1))
        expected = (int(key) + 1, number + 1, '%s %d' % (name, threading.get_ident()),
                    ('image/png' if number % 2 else None, 17), (name * 3000).encode())
        if seen != expected:
            output.AnswerBuffer('%.300r, not %.300r' % (seen, expected), 'text/plain')
            return
    output.SetHttpHeader('X-Key', key)
    output.AnswerBuffer('right ' + key, 'text/plain')

def on_threads(output, uri, **request):
    """Does a thread of the script run while this one is inside an SDK call?"""
    ticks, stop = [0], threading.Event()
    def tick():
        while not stop.wait(0.001):
            ticks[0] += 1
    thread = threading.Thread(target=tick)
    thread.start()
    before = ticks[0]
    orthanc.RestApiGetAfterPlugins('/slow')
    during = ticks[0] - before
    stop.set()
    thread.join()
    output.AnswerBuffer(str(during), 'text/plain')

def on_slow(output, uri, **request):
    time.sleep(0.3)
    output.AnswerBuffer('slow', 'text/plain')

def on_handed(output, uri, **request):
    """Begun here, ended by another thread: what was said first comes first."""
    output.SetHttpHeader('X-First', request['groups'][0])
    output.SetCookie('second', request['groups'][0])
    content = 'x' * int(request['groups'][0])
    POOL.submit(output.AnswerBuffer, content, 'text/plain').result()

def on_own(output, uri, **request):
    """Orthanc's HTTP client asks this very script, on another thread."""
    url = 'http://127.0.0.1:%s/quick' % json.loads(orthanc.GetConfiguration())['HttpPort']
    output.AnswerBuffer(orthanc.HttpGet(url, '', ''), 'text/plain')

for _route, _function in (('/barrier/(.*)', on_barrier), ('/sleep', on_sleep), ('/quick', on_quick),
                          ('/go', on_go), ('/inner/(.*)', on_inner), ('/mixed/(.*)', on_mixed),
                          ('/threads', on_threads), ('/slow', on_slow), ('/own', on_own),
                          ('/handed/(.*)', on_handed)):
    orthanc.RegisterRestCallback(_route, _function)
'''
SCRIPT = 'PATIENCE = %r\nROUNDS = %d\n' % (PATIENCE, 6) + SCRIPT


def ask_all(server, path):
    """THREADS requests at once; returns their answers in order."""
    with concurrent.futures.ThreadPoolExecutor(THREADS) as executor:
        waiting = [executor.submit(server.get, path % key, timeout=60) for key in range(THREADS)]
        return [future.result() for future in waiting]


@pytest.fixture(scope='module')
def servers(module_orthanc):
    """The official plugin with threads allowed, which is what ours always does; 4.0 cannot."""
    return {name: module_orthanc(name, script=SCRIPT + PID_ROUTE, config=CONFIG,
                                 python={'AllowThreads': True}) for name in PLUGINS}


@pytest.mark.smoke
def test_as_many_callbacks_run_at_once_as_orthanc_has_threads(servers):
    outcomes = {}
    for name, server in servers.items():
        answers = ask_all(server, '/barrier/%d')
        outcomes[name] = [(answer.status_code, answer.text) for answer in answers]
        assert outcomes[name] == [(200, str(key)) for key in range(THREADS)]
    assert_same(outcomes)


@pytest.mark.smoke
def test_a_callback_that_sleeps_does_not_block_another(servers):
    for server in servers.values():
        sleeper = threading.Thread(target=server.get, args=('/sleep',), kwargs={'timeout': 60})
        sleeper.start()
        deadline = time.monotonic() + 20 * PATIENCE
        while server.get('/quick').text != '0':     # it is inside
            assert time.monotonic() < deadline
        begin = time.monotonic()
        answers = [server.get('/quick').text for _ in range(50)]
        assert answers == ['0'] * 50                # and it still is
        assert time.monotonic() - begin < 10 * PATIENCE
        assert sleeper.is_alive()
        assert server.get('/go').text == 'go'
        sleeper.join(20 * PATIENCE)
        assert not sleeper.is_alive() and server.get('/quick').text == '1'


@pytest.mark.smoke
def test_sdk_calls_of_concurrent_callbacks_are_not_mixed_up(servers):
    outcomes = {}
    for name, server in servers.items():
        answers = ask_all(server, '/mixed/%d')
        outcomes[name] = [(answer.status_code, answer.headers.get('X-Key'), answer.text)
                          for answer in answers]
        assert outcomes[name] == [(200, str(key), 'right %d' % key) for key in range(THREADS)]
    assert_same(outcomes)


@pytest.mark.smoke
def test_an_answer_that_another_thread_ends_has_what_was_said_before(servers):
    sizes = [1, 100, 3000, 60000, 300000] * 20
    outcomes = {}
    for name, server in servers.items():
        answers = [server.get('/handed/%d' % size) for size in sizes]
        outcomes[name] = [(answer.status_code, answer.headers.get('X-First'),
                           answer.cookies.get('second'), len(answer.content))
                          for answer in answers]
        assert outcomes[name] == [(200, str(size), str(size), size) for size in sizes]
    assert_same(outcomes)


@pytest.mark.ours
def test_threads_are_always_allowed(orthanc, servers):
    """Contract 6.3: the key is read and checked; what it says changes nothing."""
    refusing = orthanc(script=SCRIPT, config=CONFIG, python={'AllowThreads': False})
    for server in servers['ours'], refusing:
        assert int(server.get('/threads').text) > 20
        assert server.get('/own').text == '1'
        assert 'AllowThreads' not in server.log()


@pytest.mark.ours
def test_one_host_serves_all_of_them(servers):
    server = servers['ours']
    pid = server.host_pid()
    for _ in range(3):
        assert {answer.status_code for answer in ask_all(server, '/mixed/%d')} == {200}
    assert server.host_pid() == pid
    assert json.loads(server.get('/system').text)['Name'] == 'test'

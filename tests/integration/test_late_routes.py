# SPDX-License-Identifier: GPL-3.0-or-later
"""REST routes that appear while Orthanc serves, beside another plugin that serves some
(design 6, core notes 7): they never stop the server, and the user is told what to do."""

import collections
import os
import threading
import time

import pytest

import dicom
from server import BUILD, ours_plugin, status, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival]

SCRIPT = r'''
import json, time
import orthanc

def plain(output, uri, **request):
    output.AnswerBuffer('plain', 'text/plain')

def nested(output, uri, **request):
    """Back into plugins: the registration of a route must not stand between."""
    output.AnswerBuffer(orthanc.RestApiGetAfterPlugins('/' + request['groups'][0]), 'text/plain')

def protected(output, uri, **request):
    """What the core protects by the lock that a registration holds."""
    output.AnswerBuffer(json.loads(orthanc.RestApiGet('/system'))['Name'], 'text/plain')

def store(output, uri, **request):
    output.AnswerBuffer(json.loads(orthanc.RestApiPost('/instances', request['body']))['Status'], 'text/plain')

def slow(output, uri, **request):
    time.sleep(0.3)
    output.AnswerBuffer('slow', 'text/plain')

orthanc.RegisterRestCallback('/plain', plain)
orthanc.RegisterRestCallback('/nested/(.*)', nested)
orthanc.RegisterRestCallback('/protected', protected)
orthanc.RegisterRestCallback('/store', store)
orthanc.RegisterRestCallback('/slow', slow)
'''
OURS = {'/plain': 'plain', '/nested/plain': 'plain', '/nested/nested/plain': 'plain',
        '/nested/neighbour/plain': 'neighbour', '/protected': 'test', '/slow': 'slow'}
NEIGHBOURS = {'/neighbour/plain': 'neighbour', '/neighbour/slow/300': 'neighbour',
              '/neighbour/nested/plain': 'plain', '/neighbour/nested/neighbour/plain': 'neighbour',
              '/neighbour/nested/nested/plain': 'plain'}
TURNS = 6


class Load:
    """Clients that ask for these paths in turn, until the end of the block."""

    def __init__(self, server, expected, count):
        self.server, self.expected = server, expected
        self.stopping = threading.Event()
        self.outcomes = collections.Counter()
        self.wrong = []
        self.threads = [threading.Thread(target=self.ask, args=(n,)) for n in range(count)]
        self.threads.append(threading.Thread(target=self.store))

    def note(self, path, answer, expected):
        self.outcomes[answer.status_code] += 1
        if answer.status_code != 200 or answer.text != expected:
            self.wrong.append((path, answer.status_code, answer.text[:200]))

    def go_on(self):
        """Until each client has had some more answers."""
        until = sum(self.outcomes.values()) + 30
        wait_until(lambda: sum(self.outcomes.values()) >= until, 30, 'answers')

    def ask(self, number):
        paths = sorted(self.expected)
        while not self.stopping.is_set():
            path = paths[number % len(paths)]
            self.note(path, self.server.get(path), self.expected[path])
            number += 1

    def store(self):
        while not self.stopping.is_set():
            self.note('/store', self.server.post('/store', dicom.make_dicom()), 'Success')
            self.stopping.wait(0.05)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), 'a request is never answered'


def start(orthanc, **python):
    neighbour = os.path.join(BUILD, 'tests', 'integration', 'plain', 'libneighbour.so')
    return orthanc(script=SCRIPT, python=python, config={'Plugins': [neighbour, ours_plugin()]})


def reload_with(server, number):
    reload_script(server, SCRIPT + ''.join("orthanc.RegisterRestCallback('/late-%d', plain)\n" % n
                                           for n in range(number + 1)))


def reload_script(server, script):
    with open(server.script_path + '.new', 'w', encoding='utf-8') as f:
        f.write(script)
    os.replace(server.script_path + '.new', server.script_path)
    answer = server.post('/python-bridge/reload', timeout=60)
    assert answer.status_code == 200, answer.text


def test_beside_another_plugin_a_new_route_needs_a_restart(orthanc):
    """Nothing is registered while the neighbour's callbacks run: no request waits or fails."""
    server = start(orthanc)
    with Load(server, {**OURS, **NEIGHBOURS}, 8) as load:
        for number in range(TURNS):
            load.go_on()
            reload_with(server, number)
            server.wait_for_log(r'^W.*REST route /late-%d was registered after the start of Orthanc: it needs a restart '
                                r'of Orthanc to become effective, since other plugins are loaded.*LateRoutes' % number)
            assert server.get('/late-%d' % number).status_code == 404
            wait_until(lambda number=number: status(server)['NeedRestart'] == [
                '/late-%d' % n for n in range(number + 1)], 10, 'the status to say so')
    assert not load.wrong, load.wrong[:5]
    assert set(load.outcomes) == {200} and load.outcomes[200] > 100
    assert server.stop() == 0
    server.start()
    assert server.get('/late-0').text == server.get('/late-%d' % (TURNS - 1)).text == 'plain'
    assert status(server)['NeedRestart'] == []


def test_a_new_route_under_the_load_of_our_own_callbacks(orthanc):
    """With LateRoutes, and a neighbour that is quiet: each one becomes effective."""
    server = start(orthanc, LateRoutes=True)
    with Load(server, OURS, 8) as load:
        for number in range(TURNS):
            load.go_on()
            reload_with(server, number)
            wait_until(lambda number=number: server.get('/late-%d' % number).status_code == 200, 30, 'the new route')
            assert status(server)['NeedRestart'] == status(server)['WaitingRoutes'] == []
    # one that slips in while a route is registered is told to come again (503; 500 if it was nested)
    assert len(load.wrong) <= TURNS * 2, load.wrong[:20]
    assert set(load.outcomes) <= {200, 503, 500} and load.outcomes[200] > 100, load.outcomes
    assert server.stop() == 0


def test_a_callback_of_the_neighbour_that_runs_is_waited_for(orthanc):
    server = start(orthanc, LateRoutes=True)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.get('/neighbour/slow/2000').text))
    thread.start()
    wait_until(lambda: '/neighbour/slow' in server.log(), 10, 'the request')
    reload_with(server, 0)
    began = time.monotonic()
    wait_until(lambda: server.get('/late-0').status_code == 200, 30, 'the new route')
    thread.join(30)
    assert answers == ['neighbour'] and time.monotonic() - began < 20
    assert server.stop() == 0


def test_a_route_waits_while_a_callback_of_ours_runs(orthanc):
    """One that never ends must not let anybody else wait for ever: it is tried again."""
    server = start(orthanc, LateRoutes=True)
    thread = threading.Thread(target=lambda: server.get('/nested/neighbour/slow/9000', timeout=60))
    thread.start()
    wait_until(lambda: '/neighbour/slow' in server.log(), 10, 'the request')
    reload_with(server, 0)
    server.wait_for_log('REST routes still wait to be registered', 15)
    assert status(server)['WaitingRoutes'] == ['/late-0']
    assert server.get('/plain').text == 'plain'     # the gate is open again
    thread.join(60)
    wait_until(lambda: server.get('/late-0').status_code == 200, 30, 'the new route')
    assert status(server)['WaitingRoutes'] == []


MANY = SCRIPT + r'''
def answer(text):
    return lambda output, uri, **request: output.AnswerBuffer(text, 'text/plain')

for n in range(1000):
    orthanc.RegisterRestCallback('/many-%d' % n, answer('one %d' % n))
    if n % 100 == 50:
        orthanc.RegisterRestCallback('/many-%d' % n, answer('again %d' % n))
        orthanc.RegisterRestCallback('/many-(%d|%d)' % (n, n + 1), answer('pair %d' % n))
orthanc.RegisterRestCallback('/many-.*', answer('any'))
'''


def test_of_many_new_routes_that_fit_the_first_one_answers(orthanc):
    """As if the server had started with them, in each host of the new generation."""
    server = orthanc(script=SCRIPT, python={'Workers': 2})
    expected = {'/many-%d' % n: 'pair %d' % (n - 1) if n % 100 == 51 else 'one %d' % n for n in range(0, 1000, 7)}
    expected.update({'/many-50': 'one 50', '/many-51': 'pair 50', '/many-951': 'pair 950', '/many-1000': 'any'})
    assert server.get('/many-1000').status_code == 404
    reload_script(server, MANY)
    wait_until(lambda: server.get('/many-1000').status_code == 200, 60, 'the new routes')
    for _ in range(2):
        assert {path: server.get(path).text for path in expected} == expected
        assert status(server)['NeedRestart'] == status(server)['WaitingRoutes'] == []
        assert server.stop() == 0
        server.start()
    assert server.stop() == 0

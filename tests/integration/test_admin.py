# SPDX-License-Identifier: GPL-3.0-or-later
"""What the routes below Python.AdminPath say: docs/admin-api.md, field by field."""

import datetime
import os
import re
import signal
import threading
import time

import pytest

from server import PATIENCE, PID_ROUTE, REPOSITORY, is_alive, status, wait_until, write

pytestmark = pytest.mark.ours

SCRIPT = r'''
import os, time, orthanc
def answer(output, uri, **request):
    output.AnswerBuffer('hello', 'text/plain')
def slow(output, uri, **request):
    time.sleep(float(request['groups'][0]))
    output.AnswerBuffer('slow', 'text/plain')
def inner():
    raise KeyError('<script>alert(1)</script>')
def broken(output, uri, **request):
    inner()
def die(output, uri, **request):
    os._exit(3)
orthanc.RegisterRestCallback('/hello', answer)
orthanc.RegisterRestCallback('/slow/(.*)', slow)
orthanc.RegisterRestCallback('/broken', broken)
orthanc.RegisterRestCallback('/die', die)
''' + PID_ROUTE


def is_recent(text):
    then = datetime.datetime.strptime(text, '%Y-%m-%dT%H:%M:%SZ').replace(tzinfo=datetime.timezone.utc)
    return abs((datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()) < 120 * PATIENCE


@pytest.mark.smoke
def test_the_status_describes_node_and_hosts(orthanc):
    server = orthanc(script=SCRIPT, python={'Workers': 2, 'NodeName': 'first'})
    found = status(server)
    assert found['Node'] == 'first'
    assert [host['Worker'] for host in found['Hosts']] == [0, 1] and found['StartingHosts'] == found['EndingHosts'] == []
    for host in found['Hosts']:
        assert is_alive(host['Pid'])
        assert host['State'] == 'serving' and host['Running'] == 0 and host['Uptime'] > 0
        assert 1000000 < host['Memory']['Pss'] <= host['Memory']['Rss'] < 10 ** 9
    (begun,) = found['Generations']
    assert begun['Generation'] == 1 and begun['Reason'] == 'Orthanc has started' and begun['Failure'] is None
    assert begun['Pid'] == found['Hosts'][0]['Pid'] and is_recent(begun['At'])


@pytest.mark.smoke
def test_the_status_counts_calls_and_measures_them(orthanc):
    server = orthanc(script=SCRIPT)
    assert status(server)['Callbacks'].get('Rest') is None
    for _ in range(19):
        assert server.get('/hello').status_code == 200
    assert server.get('/slow/0.5').status_code == 200
    assert server.get('/broken').status_code == 500
    assert server.get('/die').status_code == 502
    found = status(server)
    rest = found['Callbacks']['Rest']
    assert {name: rest[name] for name in ('Calls', 'Errors', 'Died', 'Late', 'NoHost')} == {
        'Calls': 22, 'Errors': 1, 'Died': 1, 'Late': 0, 'NoHost': 0}
    assert 0 < rest['P50'] <= rest['P95'] <= rest['P99'] <= rest['Max']
    assert rest['P50'] < 0.4 * PATIENCE and 0.46 < rest['P99'] and 0.5 <= rest['Max']
    assert 0.5 / 22 < rest['Mean'] <= rest['Max']
    assert 22 / 60 * 0.99 < rest['Rate'] <= 22
    assert rest['Recent']['Calls'] == 22 or found['Uptime'] > 50
    routes = {route['Pattern']: route for route in found['Routes']}
    assert {name: route['Calls'] for name, route in routes.items()} == {
        '/hello': 19, '/slow/(.*)': 1, '/broken': 1, '/die': 1}
    assert routes['/broken']['Errors'] == 1 and routes['/die']['Died'] == 1 and routes['/hello']['Errors'] == 0
    assert routes['/slow/(.*)']['P50'] >= 0.46 > routes['/hello']['P50'] / PATIENCE


def test_a_route_that_the_script_no_longer_has_is_not_counted(orthanc):
    server = orthanc(script=SCRIPT)
    write(server, SCRIPT.replace("orthanc.RegisterRestCallback('/hello', answer)\n", ''))
    assert server.post('/python-bridge/reload').status_code == 200
    assert server.get('/hello').status_code == 404
    assert 'Rest' not in status(server)['Callbacks']


@pytest.mark.smoke
def test_the_status_keeps_exceptions(orthanc):
    server = orthanc(script=SCRIPT)
    assert status(server)['Exceptions'] == {'Count': 0, 'List': []}
    pid = server.host_pid()
    for _ in range(40):
        server.get('/broken?with=arguments')
    server.get('/die')                          # what the host has said is still there
    found = status(server)['Exceptions']
    assert found['Count'] == 40 and len(found['List']) == 32
    last = found['List'][0]
    assert is_recent(last['At']) and last['Pid'] == pid and last['Callback'] == 'Rest'
    assert last['What'] == 'REST callback for GET /broken' and last['Script'] == server.script_path
    assert "KeyError" in last['Traceback'] and '<script>alert(1)</script>' in last['Traceback']
    assert re.search(r'line \d+, in broken\n.*inner\(\)\n', last['Traceback']), last['Traceback']
    assert re.search(r'line \d+, in inner\n', last['Traceback'])


def test_long_exceptions_are_cut_and_stay_utf_8(orthanc):
    server = orthanc(script=SCRIPT.replace("KeyError('<script>alert(1)</script>')", "KeyError(' \\u00e9\\u20ac' * 9000)"))
    server.get('/broken')
    (found,) = status(server)['Exceptions']['List']
    assert 8000 < len(found['Traceback'].encode()) <= 8192
    assert found['Traceback'].rstrip('\u00e9\u20ac ') == "<class 'KeyError'>\n'"


def test_the_status_keeps_changes_of_generation_and_their_failures(orthanc):
    server = orthanc(script=SCRIPT)
    first = server.host_pid()
    assert server.post('/python-bridge/reload').status_code == 200
    second = server.host_pid()
    write(server, "raise ValueError('broken on purpose')\n")
    assert server.post('/python-bridge/reload').status_code == 500
    write(server, SCRIPT)
    os.kill(server.supervisor(), signal.SIGHUP)
    wait_until(lambda: status(server)['Generation'] == 3, 30, 'the third generation')
    found = status(server)
    assert [each['Generation'] for each in found['Generations']] == [3, 2, 2, 1]
    assert [each['Pid'] for each in found['Generations'][1:]] == [second, second, first]
    assert found['Generations'][0]['Reason'] == 'The worker was sent SIGHUP'
    assert found['Generations'][1]['Reason'] == 'It was asked for, by REST'
    assert 'broken on purpose' in found['Generations'][1]['Failure']
    assert [each['Failure'] for each in found['Generations'] if each != found['Generations'][1]] == [None] * 3
    (raised,) = found['Exceptions']['List']
    assert raised['Callback'] == 'Load' and 'broken on purpose' in raised['Traceback']


def test_the_status_keeps_restarts_and_their_reasons(orthanc):
    server = orthanc(script=SCRIPT)
    first = server.host_pid()
    server.get('/die')
    second = server.host_pid()
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: status(server)['Deaths']['Count'] == 2, 20, 'the second death')
    found = status(server)['Restarts']
    assert [each['Pid'] for each in found] == [second, first]
    assert [each['Reason'] for each in found] == ['was killed by signal 9 (Killed)', 'ended with exit code 3']
    assert all(is_recent(each['At']) for each in found)


def test_a_host_that_never_served_is_no_restart(orthanc):
    """Which is why one death and a script that is broken meanwhile are one, however often it is tried."""
    server = orthanc(script=SCRIPT)
    first = server.host_pid()
    write(server, 'raise ValueError("broken on purpose")\n')
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: status(server)['Exceptions']['Count'] >= 3, 30, 'the third host that cannot load the script')
    write(server, SCRIPT)
    wait_until(lambda: status(server)['Hosts'], 30, 'a host that can')
    found = status(server)
    assert found['Deaths']['Count'] == 1 and [each['Pid'] for each in found['Restarts']] == [first]
    second = found['Hosts'][0]['Pid']
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: status(server)['Deaths']['Count'] == 2, 20, 'the death of the one that served')
    assert [each['Pid'] for each in status(server)['Restarts']] == [second, first]


def test_the_pid_of_a_worker_is_no_part_of_how_it_ended(orthanc):
    """It has a field of its own; the log has it in the line."""
    server = orthanc(script=SCRIPT)
    worker = server.supervisor()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: status(server)['Restarts'], 20, 'the death of the worker')
    (found,) = status(server)['Restarts']
    assert found['Pid'] == worker
    assert re.match('The worker was killed by signal 9|The control connection to the worker failed: ', found['Reason']), found
    server.wait_for_log(r'worker \(pid %d\) (was killed by signal 9|failed: )' % worker)


def test_the_status_tells_what_runs_and_what_waits(orthanc):
    server = orthanc(script=SCRIPT, python={'QueueTimeout': 60})
    running = threading.Thread(target=lambda: server.get('/slow/3'))
    running.start()
    wait_until(lambda: status(server)['Hosts'][0]['Running'] == 1, 20, 'the call to run')
    running.join()
    worker = server.supervisor()
    host = server.host_pid()
    os.kill(worker, signal.SIGSTOP)             # nobody starts another host
    try:
        os.kill(host, signal.SIGKILL)
        waits = False
        while not waits:    # a call that is quicker than the news of the death fails with the host
            waiting = threading.Thread(target=lambda: server.get('/hello', timeout=60))
            waiting.start()
            wait_until(lambda: status(server)['Calls']['Waiting'] == 1 or not waiting.is_alive(), 20, 'a call to wait')
            waits = waiting.is_alive()
    finally:
        os.kill(worker, signal.SIGCONT)
    waiting.join()
    wait_until(lambda: status(server)['Calls']['Waiting'] == 0, 20, 'the call to end')


def test_the_status_shows_hosts_that_begin_and_end(orthanc):
    server = orthanc(script=SCRIPT, python={'DrainTimeout': 20})
    first = server.host_pid()
    running = threading.Thread(target=lambda: server.get('/slow/4'))
    running.start()
    wait_until(lambda: status(server)['Hosts'][0]['Running'] == 1, 20, 'the call to run')
    write(server, 'import time\ntime.sleep(2)\n' + SCRIPT)
    reloading = threading.Thread(target=lambda: server.post('/python-bridge/reload'))
    reloading.start()
    (following,) = wait_until(lambda: status(server)['StartingHosts'], 20, 'the next host')
    assert following['State'] == 'next' and following['Pid'] != first
    reloading.join()
    found = status(server)
    assert found['Hosts'][0]['Pid'] == following['Pid']
    assert [(host['Pid'], host['State']) for host in found['EndingHosts']] == [(first, 'ending')]
    assert found['EndingHosts'][0]['Running'] == 1 and found['StartingHosts'] == []
    running.join()
    wait_until(lambda: status(server)['EndingHosts'] == [], 20, 'the end of the first host')


def test_the_filter_of_the_script_guards_all_of_it(orthanc):
    server = orthanc(script=SCRIPT + '''
def may(uri, **request):
    return not uri.startswith('/python-bridge')
orthanc.RegisterIncomingHttpRequestFilter(may)
''')
    for path in ADMIN_ROUTES:
        assert server.get('/python-bridge' + path).status_code == 403, path
    assert server.post('/python-bridge/reload').status_code == 403


ADMIN_ROUTES = ['/status', '/stacks', '/reload']


def test_every_field_is_documented(orthanc):
    server = orthanc(script=SCRIPT)
    for path in ('/hello', '/broken', '/die'):
        server.get(path)
    with open(os.path.join(REPOSITORY, 'docs', 'admin-api.md'), encoding='utf-8') as f:
        documented = set(re.findall(r'`(\w+)`', f.read()))

    def names(value, inside=''):
        if isinstance(value, dict):
            for key, each in value.items():
                yield from () if inside == 'Callbacks' else (key,)
                yield from names(each, key)
        elif isinstance(value, list):
            for each in value:
                yield from names(each)

    found = set(names(status(server))) | set(names(server.get('/python-bridge/stacks').json()))
    assert found and not found - documented


STACKS = SCRIPT + r'''
import ctypes, threading
def waits_for_ever(seconds):
    time.sleep(seconds)
threading.Thread(target=waits_for_ever, args=(600,), daemon=True).start()
def spin(output, uri, **request):
    print('spinning', flush=True)
    ctypes.PyDLL(None).sleep(6)
    output.AnswerBuffer('spun', 'text/plain')
orthanc.RegisterRestCallback('/spin', spin)
'''


def functions(host):
    return {frame.get('Function') for thread in host['Threads'] for frame in thread['Frames']}


def test_stacks_of_all_hosts_while_they_go_on(orthanc):
    server = orthanc(script=STACKS, python={'Workers': 2})
    pids = [host['Pid'] for host in status(server)['Hosts']]
    running = threading.Thread(target=lambda: server.get('/slow/5'))
    running.start()
    wait_until(lambda: any(host['Running'] for host in status(server)['Hosts']), 20, 'the call to run')
    answer = server.get('/python-bridge/stacks')
    assert answer.status_code == 200 and answer.headers['Content-Type'] == 'application/json'
    found = answer.json()['Hosts']
    assert [(host['Pid'], host['State'], host['Problem']) for host in found] == [
        (pid, 'serving', None) for pid in pids]
    assert all('waits_for_ever' in functions(host) for host in found)
    assert sorted('slow' in functions(host) for host in found) == [False, True]
    (frame,) = [frame for thread in found[0]['Threads'] for frame in thread['Frames']
                if frame['Function'] == 'waits_for_ever']
    assert frame['File'] == server.script_path and STACKS.splitlines()[frame['Line'] - 1] == '    time.sleep(seconds)'
    assert not any('Text' in frame for host in found for thread in host['Threads'] for frame in thread['Frames'])
    assert all(thread['Frames'] for host in found for thread in host['Threads'])
    text = server.get('/python-bridge/stacks?format=text')
    assert text.headers['Content-Type'].startswith('text/plain')
    assert 'Host 1 (pid %d), serving\n' % pids[1] in text.text
    assert '  File "%s", line %d in waits_for_ever\n' % (server.script_path, frame['Line']) in text.text
    running.join()
    assert [host['Pid'] for host in status(server)['Hosts']] == pids
    assert not server.messages('E')


def test_stacks_of_a_host_that_keeps_the_gil_and_of_one_that_is_stopped(orthanc):
    server = orthanc(script=STACKS)
    pid = server.host_pid()
    spinning = threading.Thread(target=lambda: server.get('/spin'))
    spinning.start()
    server.wait_for_out('spinning')
    (host,) = server.get('/python-bridge/stacks').json()['Hosts']
    assert {'spin', 'waits_for_ever'} <= functions(host) and host['Problem'] is None
    spinning.join()
    os.kill(pid, signal.SIGSTOP)
    try:
        (host,) = server.get('/python-bridge/stacks').json()['Hosts']
        assert host['Threads'] == [] and host['Problem'] == 'stopped by a signal or a debugger'
        assert 'no stacks: stopped by' in server.get('/python-bridge/stacks?format=text').text
    finally:
        os.kill(pid, signal.SIGCONT)
    assert server.host_pid() == pid
    assert server.get('/python-bridge/stacks').json()['Hosts'][0]['Problem'] is None


def test_many_look_at_hosts_that_work_and_die(orthanc):
    """Whoever asks gets an answer, and no host is hurt by it."""
    server = orthanc(script=STACKS, python={'Workers': 3})
    stop = threading.Event()
    codes = []

    def look():
        while not stop.is_set():
            codes.append(server.get('/python-bridge/stacks', timeout=60).status_code)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        server.get('/die')
        assert server.post('/python-bridge/reload', timeout=60).status_code == 200
        for _ in range(50):
            assert server.get('/hello').status_code == 200
    stop.set()
    for thread in threads:
        thread.join()
    assert set(codes) == {200}
    assert status(server)['Deaths']['Count'] == 3
    assert all(each['Reason'] == 'ended with exit code 3' for each in status(server)['Restarts'])


def test_admin_routes_take_their_methods_only(orthanc):
    server = orthanc(script=SCRIPT)
    for path in ('/status', '/stacks'):
        assert server.post('/python-bridge' + path).status_code == 405
    assert server.get('/python-bridge/reload').status_code == 405


def test_who_looks_does_not_keep_orthanc_from_stopping(orthanc):
    """The script itself asks all the time, also of hosts that do not answer."""
    server = orthanc(script=SCRIPT + r'''
import threading
import time
def look():
    while True:
        try:
            orthanc.RestApiGetAfterPlugins('/python-bridge/stacks')
        except Exception:
            time.sleep(0.01)
for _ in range(4):
    threading.Thread(target=look, daemon=True).start()
''')
    assert len(server.get('/python-bridge/stacks').json()['Hosts']) == 1
    begun = time.monotonic()
    assert server.stop(timeout=40) == 0
    assert time.monotonic() - begun < 20 * PATIENCE


def test_the_status_tells_which_of_several_scripts_has_raised(orthanc, tmp_path):
    paths = [tmp_path / 'first.py', tmp_path / 'second.py']
    for path in paths:
        path.write_text('''
import orthanc
def broken(output, uri, **request):
    raise ValueError('on purpose')
orthanc.RegisterRestCallback('/%s', broken)
''' % path.stem)
    server = orthanc(python={'Path': [str(path) for path in paths]})
    for name in ('second', 'first'):
        assert server.get('/' + name).status_code == 500
    found = status(server)
    assert [each['Script'] for each in found['Exceptions']['List']] == [str(path) for path in paths]
    assert all(each['Traceback'].startswith("<class 'ValueError'>\non purpose\n") for each in found['Exceptions']['List'])
    assert found['Scripts'] == [str(path) for path in paths]

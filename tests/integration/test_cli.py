# SPDX-License-Identifier: GPL-3.0-or-later
"""The command orthanc-python, and the status that it shows (design 8 and 9)."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import types

import pytest

import dicom
from daemon import Daemon
from server import PATIENCE, PID_ROUTE, REPOSITORY, free_port, is_alive, status, wait_until, write

pytestmark = pytest.mark.ours

COMMAND = os.path.join(REPOSITORY, 'worker', 'cli', 'orthanc-python')
SCRIPT = r'''
import os, orthanc
def version(output, uri, **request):
    output.AnswerBuffer('VERSION', 'text/plain')
def die(output, uri, **request):
    os._exit(3)
orthanc.RegisterRestCallback('/version', version)
orthanc.RegisterRestCallback('/die', die)
''' + PID_ROUTE
FIND = r'''
def find(answers, query, issuer, called):
    pass
orthanc.RegisterFindCallback(find)
'''


def run(server, *words, url=None, env=None):
    """(exit code, stdout, stderr). Nobody else's credentials are in reach."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith('ORTHANC_PYTHON')}
    environment.update({'NETRC': os.path.join(server.directory, 'netrc'), 'http_proxy': 'http://127.0.0.1:1'},
                       **(env or {}))
    result = subprocess.run(['/usr/bin/python3', COMMAND, words[0], '--url', url or server.url(), *words[1:]],
                            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, timeout=90 * PATIENCE, check=False)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.smoke
def test_reload(orthanc):
    server = orthanc(script=SCRIPT.replace('VERSION', 'one'))
    write(server, SCRIPT.replace('VERSION', 'two'))
    code, out, err = run(server, 'reload')
    assert (code, err) == (0, '') and out == 'Generation 2 serves (pid %d)\n' % server.host_pid()
    assert server.get('/version').text == 'two'
    code, out, err = run(server, 'reload', '--json')
    assert (code, err) == (0, '') and json.loads(out) == {'Generation': 3, 'Pid': server.host_pid()}


def test_reload_of_a_broken_script_shows_the_traceback(orthanc):
    server = orthanc(script=SCRIPT.replace('VERSION', 'one'))
    write(server, SCRIPT + '\n1 // 0\n')
    code, out, err = run(server, 'reload')
    assert (code, out) == (1, '')
    assert err.startswith('orthanc-python: The script could not be loaded: the generation before goes on:\n')
    assert re.search(r'ZeroDivisionError.*script\.py", line \d+.*1 // 0', err, re.S), err
    assert server.get('/version').text == 'one'
    code, out, err = run(server, 'reload', '--json')
    assert code == 1 and 'ZeroDivisionError' in json.loads(out)['Details']
    code, out, err = run(server, 'status')
    assert code == 0 and 'does not load now' in out
    assert re.search(r'^the last reload has failed:\n    .*ZeroDivisionError', out, re.M | re.S), out


def test_reload_while_it_is_being_loaded(orthanc):
    server = orthanc(script=SCRIPT)
    write(server, "import time\nprint('loading', flush=True)\ntime.sleep(4)\n" + SCRIPT)
    thread = threading.Thread(target=run, args=(server, 'reload'))
    thread.start()
    server.wait_for_out('loading')
    assert status(server)['Reload']['Running'] is True
    code, _, err = run(server, 'reload')
    assert (code, err) == (5, 'orthanc-python: The script is being loaded already\n')
    thread.join()
    assert status(server)['Generation'] == 2 and status(server)['Reload']['Running'] is False


def test_what_cannot_be_reached(orthanc):
    server = orthanc(script=SCRIPT, python={'AdminPath': '/my-own'})
    code, out, err = run(server, 'status', url='http://127.0.0.1:%d' % free_port())
    assert (code, out) == (3, '') and 'Connection refused' in err
    code, _, err = run(server, 'reload')
    assert code == 3 and '/python-bridge/reload' in err and '--path' in err
    assert run(server, 'reload', '--path', 'my-own')[0] == 0
    assert run(server, 'status', url='ftp://x')[0] == 2
    code, _, err = run(server, 'status', url=server.url().replace('//', '//user:secret@'))
    assert code == 2 and 'secret' not in err
    assert run(server, 'status', '--nonsense')[0] == 2
    code, _, err = run(server, 'status', url='http://127.0.0.1:%d/system' % server.http_port)
    assert code == 3 and 'Traceback' not in err


def test_users_and_passwords(orthanc):
    server = orthanc(script=SCRIPT, config={'AuthenticationEnabled': True, 'RegisteredUsers': {'me': 'pass:word'}})
    code, out, err = run(server, 'reload')
    assert (code, out) == (4, '') and 'without a user' in err
    user = {'ORTHANC_PYTHON_USER': 'me', 'ORTHANC_PYTHON_PASSWORD': 'pass:word'}
    assert run(server, 'reload', env=user)[0] == 0
    code, _, err = run(server, 'status', env=dict(user, ORTHANC_PYTHON_PASSWORD='wrong'))
    assert code == 4 and 'wrong' not in err and 'without' not in err
    with open(os.path.join(server.directory, 'netrc'), 'w', encoding='ascii') as f:
        f.write('machine 127.0.0.1 login me password pass:word\n')
    assert run(server, 'status')[0] == 0
    with open(os.path.join(server.directory, 'netrc'), 'w', encoding='ascii') as f:
        f.write('machine\n')
    code, _, err = run(server, 'status')
    assert code == 2 and 'netrc' in err and 'Traceback' not in err


@pytest.fixture
def answering(tmp_path):
    """answering(bytes): a server that answers so, once, and keeps in .asked what it was asked."""
    def start(answer):
        def serve():
            connection, _ = listener.accept()
            with connection:
                server.asked.append(connection.recv(65536))
                connection.sendall(answer)
        threads.append(threading.Thread(target=serve))
        threads[0].start()
        server = types.SimpleNamespace(directory=tmp_path, asked=[], url=lambda: 'http://127.0.0.1:%d' % port)
        return server
    threads = []
    with socket.create_server(('127.0.0.1', 0)) as listener:
        listener.settimeout(60 * PATIENCE)
        port = listener.getsockname()[1]
        yield start
        for thread in threads:
            thread.join()


@pytest.mark.parametrize('url, words', [
    ('http://[::1', ()), ('http://%s.org' % ('a' * 64), ()), ('http://localhost:99999', ()),
    ('http://localhost', ('--path', '/python-br\u00fcdge'))])
def test_a_url_that_cannot_be_one_is_refused_in_one_line(tmp_path, url, words):
    code, out, err = run(types.SimpleNamespace(directory=tmp_path), 'status', *words, url=url)
    assert (code, out) == (2, '') and re.fullmatch('orthanc-python: The URL %s.* cannot be used: .*\n' % re.escape(url), err), err


def test_a_netrc_that_is_no_text_is_refused_in_one_line(tmp_path):
    (tmp_path / 'netrc').write_bytes(b'machine 127.0.0.1 login me password caf\xe9\n')
    code, _, err = run(types.SimpleNamespace(directory=tmp_path), 'status', url='http://127.0.0.1:1')
    assert code == 2 and re.fullmatch('orthanc-python: .*netrc cannot be used: .*\n', err), err


def test_a_password_of_any_bytes_is_sent_as_it_is(answering):
    server = answering(b'HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n')
    code, _, err = run(server, 'status', env={'ORTHANC_PYTHON_USER': 'me', 'ORTHANC_PYTHON_PASSWORD': '\udcff'})
    assert code == 4 and 'does not allow this' in err, err
    assert b'Authorization: Basic ' + base64.b64encode(b'me:\xff') in server.asked[0]


def test_an_answer_that_is_cut_short_is_none(answering):
    server = answering(b'HTTP/1.1 500 Internal Server Error\r\nContent-Length: 100\r\n\r\n{')
    code, _, err = run(server, 'status')
    assert code == 3 and re.fullmatch('orthanc-python: .* does not answer: .*\n', err), err


def test_what_nobody_has_foreseen_is_one_line_too(tmp_path):
    """As a part of the bridge that is damaged."""
    (tmp_path / 'worker' / 'cli').mkdir(parents=True)
    (tmp_path / 'worker' / 'cli' / 'bridge.json').write_text('{', encoding='ascii')
    code, out, err = run(types.SimpleNamespace(directory=tmp_path), '--version', url='http://x',
                         env={'ORTHANC_PYTHON_BRIDGE_BUILD': str(tmp_path)})
    assert (code, out) == (2, '') and re.fullmatch('orthanc-python: JSONDecodeError: .*\n', err), err


def test_help_names_every_command(orthanc):
    server = orthanc.make(script=SCRIPT)
    for words in [('--help',), ('reload', '--help'), ('status', '--help')]:
        result = subprocess.run(['/usr/bin/python3', COMMAND, *words], stdout=subprocess.PIPE, text=True, check=True,
                                timeout=60, cwd=server.directory)
        assert 'reload' in result.stdout or 'status' in result.stdout
        assert '--url' in result.stdout and 'orthanc-python' in result.stdout


@pytest.mark.smoke
def test_the_status_of_a_server_that_is_well(orthanc):
    server = orthanc(script=SCRIPT)
    before = status(server)
    host = server.host_pid()
    for _ in range(3):
        server.get('/version')
    after = status(server)
    (described,) = after['Hosts']
    assert described['Pid'] == host and described['Calls'] == before['Hosts'][0]['Calls'] + 4
    assert 0 < before['Uptime'] < after['Uptime'] < 120 * PATIENCE and 0 < described['Uptime'] <= after['Uptime']
    assert after['Script'] == server.script_path and after['Generation'] == 1
    assert after['Deaths'] == {'Count': 0, 'Last': None}
    assert after['Reload'] == {'Mode': 'beside', 'OldIsGone': False, 'Running': False, 'ScriptIsBroken': False,
                               'Failure': None}
    assert set(after['Calls'].values()) == set(after['Events'].values()) == {0}
    assert after['NeedRestart'] == after['WaitingRoutes'] == [] and after['EndingGenerations'] == 0
    assert server.post('/python-bridge/status').status_code == 405
    code, out, err = run(server, 'status')
    assert (code, err) == (0, '') and 'host          pid %d' % host in out and 'script        ' in out
    assert json.loads(run(server, 'status', '--json')[1])['Hosts'][0]['Pid'] == host


def test_the_status_names_several_scripts(orthanc, tmp_path):
    paths = [str(tmp_path / name) for name in ('one.py', 'two.py')]
    for path in paths:
        with open(path, 'w', encoding='utf-8') as f:
            f.write('import orthanc\n')
    server = orthanc(script_path=paths)
    code, out, err = run(server, 'status')
    assert (code, err) == (0, '')
    assert 'script        %s and 1 more\n              %s\n              %s\n' % (paths[0], *paths) in out
    assert json.loads(run(server, 'status', '--json')[1])['Scripts'] == paths


def test_the_status_tells_of_deaths_and_of_what_they_cost(orthanc):
    server = orthanc(script=SCRIPT)
    first = server.host_pid()
    assert server.get('/die').status_code == 502
    second = server.host_pid()
    found = status(server)
    assert found['Calls']['Died'] == 1 and found['Calls']['NoHost'] == 0
    assert found['Deaths']['Count'] == 1 and found['Deaths']['Last']['Pid'] == first
    assert found['Deaths']['Last']['Reason'] == 'ended with exit code 3'
    at = time.strptime(found['Deaths']['Last']['At'], '%Y-%m-%dT%H:%M:%SZ')
    assert abs(time.time() - (time.mktime(at) - time.timezone)) < 60 * PATIENCE
    out = run(server, 'status')[1]
    assert 'failed calls  1 with a host that died' in out
    assert re.search(r'deaths        1, the last at \S+: ended with exit code 3 \(pid %d\)' % first, out), out
    worker = server.supervisor()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_alive(second), 10, 'the host to end with its worker')
    wait_until(lambda: server.get('/version').status_code == 200, 30, 'service')
    found = status(server)
    assert found['Deaths']['Count'] >= 2 and 'signal 9' in found['Deaths']['Last']['Reason']


def test_the_status_tells_that_a_shared_pool_was_lost(orthanc):
    """Whose process is not known here."""
    pool = Daemon().start()
    server = orthanc(script=SCRIPT, python={'Pool': pool.socket})
    pool.kill()
    wait_until(lambda: status(server)['Deaths']['Last'], 20, 'the loss')
    (line,) = [line for line in run(server, 'status')[1].splitlines() if line.startswith('deaths')]
    assert 'pool' in line and 'pid' not in line
    pool.close()


def test_the_status_tells_of_exceptions_of_callbacks(orthanc, tmp_path):
    """As the field Exceptions does, out of which the status page makes its list."""
    server = orthanc(script=SCRIPT + r"""
def broken(output, uri, **request):
    raise KeyError('a name')
def stored(instance, instance_id):
    raise ValueError('a name')
orthanc.RegisterRestCallback('/broken', broken)
orthanc.RegisterOnStoredInstanceCallback(stored)
""")
    assert 'exceptions' not in run(server, 'status')[1]
    assert server.get('/broken').status_code == 500
    (last,) = json.loads(run(server, 'status', '--json')[1])['Exceptions']['List']
    code, out, _ = run(server, 'status')
    assert code == 0 and 'exceptions    1, the last at %s: KeyError in REST callback for GET /broken\n' % last['At'] in (
        out + '\n')
    server.upload(dicom.make_dicom())
    found = json.loads(run(server, 'status', '--json')[1])['Exceptions']
    assert found == status(server)['Exceptions'] and found['Count'] == 2
    out = run(server, 'status')[1]
    assert 'exceptions    2, the last at %s: ValueError in %s\n' % (
        found['List'][0]['At'], found['List'][0]['What']) in out + '\n' and 'stored' in found['List'][0]['What']
    assert 'a name' not in out, 'what an exception says may be of a patient'


def test_the_status_of_several_scripts_says_which_one_has_raised(orthanc, tmp_path):
    paths = [str(tmp_path / name) for name in ('one.py', 'two.py')]
    for path, text in zip(paths, ('import orthanc\n', SCRIPT.replace("'VERSION'", '1 // 0'))):
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)
    server = orthanc(script_path=paths)
    assert server.get('/version').status_code == 500
    assert ': ZeroDivisionError in REST callback for GET /version (%s)\n' % paths[1] in run(server, 'status')[1] + '\n'


def test_the_status_without_a_host(orthanc):
    server = orthanc(script=SCRIPT, python={'QueueTimeout': 0.5})
    write(server, "raise ValueError('broken')\n")
    assert server.get('/die').status_code == 502
    assert server.get('/version').status_code == 503
    found = wait_until(lambda: status(server)['Reload']['ScriptIsBroken'] and status(server), 20, 'the failure')
    assert found['Hosts'] == [] and found['Calls']['NoHost'] == 1
    code, out, _ = run(server, 'status')
    assert code == 1 and 'none serves' in out and 'does not load now' in out
    write(server, SCRIPT)
    wait_until(lambda: run(server, 'status')[0] == 0, 60, 'a host', interval=0.5)
    assert status(server)['Reload']['ScriptIsBroken'] is False


def test_the_status_tells_of_events(orthanc):
    server = orthanc(script=SCRIPT + r'''
import time
DYING = []
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.NEW_INSTANCE:
        print('event', flush=True)
        os._exit(1)
    if change_type == orthanc.ChangeType.NEW_STUDY:
        time.sleep(5)
orthanc.RegisterOnChangeCallback(on_change)
''')
    server.upload(dicom.make_dicom())
    found = wait_until(lambda: status(server)['Events']['SetAside'] == 1 and status(server), 30, 'the event set aside')
    assert found['Events']['Lost'] == 0
    wait_until(lambda: status(server)['Events']['Queued'] >= 3, 5, 'events that wait')
    assert '1 set aside' in run(server, 'status')[1]
    assert server.out().count('event') == 2


def test_the_status_names_what_needs_a_restart(orthanc):
    server = orthanc(script=SCRIPT)
    write(server, SCRIPT + FIND)
    assert run(server, 'reload')[0] == 0
    assert status(server)['NeedRestart'] == ['Python C-FIND SCP callback']
    assert 'needs a restart of Orthanc: Python C-FIND SCP callback\n' in run(server, 'status')[1]
    write(server, SCRIPT)
    assert run(server, 'reload')[0] == 0
    assert status(server)['NeedRestart'] == []

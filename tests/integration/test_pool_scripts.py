# SPDX-License-Identifier: GPL-3.0-or-later
"""A shared pool that runs some scripts only ("Scripts"), and the names of its servers."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

import wire
from daemon import Daemon
from server import PID_ROUTE, wait_until

pytestmark = pytest.mark.ours

SCRIPT = '''
import orthanc

def where(output, uri, **request):
    output.AnswerBuffer(__file__, 'text/plain')

orthanc.RegisterRestCallback('/where', where)
''' + PID_ROUTE
OUTSIDE = r'outside of what "Scripts" in the worker\'s configuration allows: add it or its directory there, or move it'


@pytest.fixture
def place():
    """Two directories with a script each, of which "Scripts" is to name the first."""
    class Place:
        def __init__(self):
            self.base = os.path.realpath(tempfile.mkdtemp(prefix='opbs-'))
            self.allowed, self.other = (self.directory(name) for name in ('allowed', 'allowed-not'))
            self.pools = []

        def path(self, *parts):
            return os.path.join(self.base, *parts)

        def directory(self, name):
            os.mkdir(self.path(name))
            with open(self.path(name, 'script.py'), 'w', encoding='ascii') as f:
                f.write(SCRIPT)
            return self.path(name)

        def pool(self, *scripts):
            self.pools.append(Daemon({'Scripts': list(scripts)}))
            return self.pools[-1].start()

        def close(self):
            for pool in self.pools:
                pool.close()
            shutil.rmtree(self.base)

    made = Place()
    yield made
    made.close()


def test_scripts_in_an_allowed_directory_or_named_themselves_run(orthanc, place):
    os.symlink(place.allowed, place.path('link'))
    for scripts in ([place.allowed], [place.other, place.allowed + '/script.py'], ['/'], [place.path('link')]):
        pool = place.pool(*scripts)
        for path in (place.allowed + '/script.py', place.path('link', 'script.py')):
            server = orthanc(script_path=path, python={'Pool': pool.socket})
            assert server.get('/where').text == place.allowed + '/script.py'    # behind all links
            assert server.stop() == 0
        assert 'attached by process' in pool.log()


@pytest.mark.parametrize('how', ['beside', 'dots', 'link', 'nothing allowed'])
def test_a_script_outside_is_refused_when_orthanc_starts(orthanc, place, how):
    """Also one whose path only looks as if it were inside."""
    pool = place.pool(*([] if how == 'nothing allowed' else [place.allowed]))
    path = place.other + '/script.py'
    if how == 'dots':
        path = place.allowed + '/../allowed-not/script.py'
    elif how == 'link':
        path = place.allowed + '/link.py'
        os.symlink(place.other + '/script.py', path)
    elif how == 'nothing allowed':
        path = place.allowed + '/script.py'
    server = orthanc.make(script_path=path, python={'Pool': pool.socket})
    assert server.expect_refusal() == 255
    assert re.search(r'The pool refuses this server: the script %s is %s' % (os.path.realpath(path), OUTSIDE),
                     server.log())
    pool.wait_for_log('refused orthanc-')
    assert pool.hosts() == []


def test_modules_before_the_script_are_refused(orthanc, place):
    pool = place.pool(place.allowed)
    server = orthanc.make(script_path=os.path.join(place.allowed, 'script.py'),
                          python={'Pool': pool.socket, 'Preload': ['wave']})
    assert server.expect_refusal() == 255
    assert 'no other modules before them: leave "Python.Preload" out' in server.log()


def test_an_environment_must_be_allowed_like_a_script(orthanc, place):
    for directory in (place.allowed, place.other):
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip', directory + '/venv'], check=True)
    pool = place.pool(place.allowed)
    path = os.path.join(place.allowed, 'script.py')
    server = orthanc.make(script_path=path, python={'Pool': pool.socket, 'VirtualEnv': place.other + '/venv'})
    assert server.expect_refusal() == 255
    assert 'does not allow the virtual environment %s/venv: add it there' % place.other in server.log()
    server = orthanc(script_path=path, python={'Pool': pool.socket, 'VirtualEnv': place.allowed + '/venv'})
    assert server.get('/where').text == path


def test_a_link_that_is_pointed_elsewhere_is_followed_if_that_is_allowed(orthanc, place):
    """As administrators switch releases. If not, the reload fails and says why."""
    link = place.path('current')
    os.symlink(place.allowed, link)
    second = place.directory('second')
    pool = place.pool(place.allowed, second)
    server = orthanc(script_path=link + '/script.py', python={'Pool': pool.socket})
    assert server.get('/where').text == place.allowed + '/script.py'
    for target, status in ((second, 200), (place.other, 500)):
        os.unlink(link)
        os.symlink(target, link)
        answer = server.post('/python-bridge/reload')
        assert answer.status_code == status, answer.text
        assert server.get('/where').text == second + '/script.py'
    assert re.search(OUTSIDE, server.log())


def test_each_of_several_scripts_must_be_allowed(orthanc, place):
    """Also those that a reload adds."""
    pool = place.pool(place.allowed)
    paths = [os.path.join(place.allowed, 'script.py'), os.path.join(place.allowed, 'two.py')]
    shutil.copy(paths[0], paths[1])
    shutil.move(place.other + '/script.py', place.other + '/three.py')
    server = orthanc.make(script_path=paths + [place.other + '/three.py'], python={'Pool': pool.socket})
    assert server.expect_refusal() == 255
    assert re.search(r'The pool refuses this server: the script %s/three.py is %s' % (place.other, OUTSIDE),
                     server.log())
    with open(paths[1], 'w', encoding='ascii') as f:
        f.write(SCRIPT.replace('/where', '/two').replace(PID_ROUTE, ''))
    server = orthanc(script_path=place.allowed, python={'Pool': pool.socket})
    assert (server.get('/where').text, server.get('/two').text) == tuple(paths)
    pool.wait_for_log('with the script %s and 1 more' % paths[0])
    link = place.allowed + '/three.py'
    os.symlink(place.other + '/three.py', link)
    answer = server.post('/python-bridge/reload')
    assert answer.status_code == 500 and re.search(OUTSIDE, answer.json()['Details'])
    assert server.get('/two').text == paths[1]
    # the host's successor is bound to what its generation runs, not to what was wanted last
    pid = server.host_pid()
    os.kill(pid, 9)
    wait_until(lambda: server.get('/two').text == paths[1] and server.host_pid() != pid, 20, 'the next host')
    os.unlink(link)
    with open(link, 'w', encoding='ascii') as f:
        f.write(SCRIPT.replace('/where', '/three').replace(PID_ROUTE, ''))
    answer = server.post('/python-bridge/reload')
    assert answer.status_code == 200, answer.text
    wait_until(lambda: server.get('/three').text == link, 20, 'the new route')
    pid = server.host_pid()
    os.kill(pid, 9)
    wait_until(lambda: server.get('/three').text == link and server.host_pid() != pid, 20, 'the next host')


@pytest.mark.parametrize('scripts', [[], ['script.py'], ['/a.py'] * 65, ['/' + 'x' * 40000] * 2, '/a.py', [12], None],
                         ids=['none', 'relative', '65', 'long', 'text', 'number', 'nil'])
@pytest.mark.parametrize('method', ['describe', 'start next'])
def test_malformed_lists_of_scripts_end_the_connection(place, method, scripts):
    pool = place.pool(place.allowed)
    with pool.connect() as control:
        control.send(wire.hello(wire.CONTROL))
        assert wire.welcomed(control.read())
        if method == 'describe':
            control.send([wire.NOTIFY, wire.DESCRIBE, [scripts, False]])
        else:
            control.send([wire.NOTIFY, wire.DESCRIBE, [[place.allowed + '/script.py'], False]])
            control.send([wire.REQUEST, 1, wire.ATTACH, ['evil', '1.12.1', '/nonexistent', os.urandom(32), os.getpid(), 1]])
            assert control.read()[0] == wire.RESPONSE
            control.send([wire.NOTIFY, wire.START_NEXT, [scripts]])
        with pytest.raises(wire.Closed):
            while True:
                control.read()
    wait_until(lambda: pool.hosts() == [], 10, 'the end of all hosts')


def load(connection, name, host, secret, scripts):
    """Says Load on a main lane; the answer."""
    connection.send(wire.hello(wire.MAIN, name, host, secret))
    assert wire.welcomed(connection.read())
    connection.send([wire.REQUEST, 1, 0, [{
        'version': '1.12.1', 'functions': [], 'calls': ['Load', 'Finalize'], 'scripts': scripts, 'verbose': False,
        'memory_usage': False, 'node_socket': '/nonexistent', 'node': name, 'host': host, 'secret': secret,
        'orthanc': '/usr/sbin/Orthanc', 'worker_index': 0, 'workers_count': 1, 'slow_call_ms': 0}]])
    return connection.read()


def attach_and_load(pool, described, scripts):
    """What the host of a node that has described some scripts answers to Load with others."""
    secret = os.urandom(32)
    with pool.connect() as control, pool.connect() as lane:
        control.send(wire.hello(wire.CONTROL))
        assert wire.welcomed(control.read())
        control.send([wire.NOTIFY, wire.DESCRIBE, [described, False]])
        control.send([wire.REQUEST, 1, wire.ATTACH, ['evil', '1.12.1', '/nonexistent', secret, os.getpid(), 1]])
        name, workers = control.read()[3]
        assert workers == 1
        return load(lane, name, control.read()[2][0], secret, scripts)


def test_a_node_that_tells_the_pool_one_script_and_the_host_another(place):
    pool = place.pool(place.allowed)
    good = place.allowed + '/script.py'
    shutil.copy(good, place.allowed + '/two.py')
    for scripts, expected in (([place.other + '/script.py'], 'lets this host run %s only' % good),
                              (['/nonexistent/script.py'], 'lets this host run'),
                              ([good, place.other + '/script.py'], 'lets this host run 1 scripts, and not 2'),
                              ([good], None)):
        answer = attach_and_load(pool, [good], scripts)
        if expected is not None:
            assert expected in answer[2][2]
        else:
            # it begins to run: its first SDK call, or the failure of that
            assert answer[0] == wire.REQUEST or 'orthanc' in str(answer[2][2]).lower() or answer[2][0] == 6
    both = [good, place.allowed + '/two.py']
    assert 'lets this host run %s only, and not %s' % tuple(both) in attach_and_load(pool, both, both[::-1])[2][2]


@pytest.mark.parametrize('scripts,expected', [
    ([], 'Load has a wrong value of scripts'), (['/a.py'] * 65, 'Load has a wrong value of scripts'),
    (['/' + 'x' * 40000] * 2, 'Load has a wrong value of scripts'), ('/a.py', 'Load has a wrong value of scripts'),
    ([12], 'Load has a wrong value of scripts'), (['/a.py', 'b.py'], 'the path of the script is not absolute: b.py'),
], ids=['none', '65', 'long', 'text', 'number', 'relative'])
def test_a_load_with_a_list_of_scripts_that_makes_no_sense(place, scripts, expected):
    assert expected in attach_and_load(place.pool('/'), [place.allowed + '/script.py'], scripts)[2][2]


def test_a_node_that_does_not_tell_its_script(place):
    pool = place.pool(place.allowed)
    with pool.connect() as control:
        control.send(wire.hello(wire.CONTROL))
        assert wire.welcomed(control.read())
        control.send([wire.REQUEST, 1, wire.ATTACH, ['old', '1.12.1', '/nonexistent', os.urandom(32), os.getpid(), 1]])
        assert 'has not told which one it has' in control.read()[2][2]


@pytest.mark.parametrize('config,expected', [
    ({'Scripts': ['/nonexistent/scripts']}, 'cannot read /nonexistent/scripts, which "Scripts" names: No such file'),
    ({'Scripts': ['scripts']}, 'key "Scripts" is ["scripts"], and must be an array of absolute paths'),
    ({'Scripts': '/srv'}, 'key "Scripts" is "/srv", and must be an array of absolute paths'),
], ids=str)
def test_a_wrong_list_of_scripts(config, expected):
    assert expected in Daemon(config).refusal()


# -- names ------------------------------------------------------------------------------------------

def test_two_servers_of_one_configured_name(orthanc, place):
    pool = place.pool('/')
    python = {'Pool': pool.socket, 'NodeName': 'main'}
    first = orthanc(script=SCRIPT, python=python)
    second = orthanc.make(script=SCRIPT, python=python)
    assert second.expect_refusal() == 255
    assert re.search(r'another server is attached under the name "main": give each a "Python.NodeName" of its own',
                     second.log())
    assert first.get('/where').status_code == 200
    first.kill()    # its name is free at once, whatever is left of it
    third = orthanc(script=SCRIPT, python={**python, 'RuntimeDirectory': first.runtime})
    assert third.get('/where').status_code == 200
    pool.wait_for_log('main: attached by process %d ' % third.pid)


def test_names_that_are_not_configured_are_made_unique(place):
    pool = place.pool('/')
    found = []
    controls = [pool.connect() for _ in range(3)]
    for control in controls:
        control.send(wire.hello(wire.CONTROL))
        assert wire.welcomed(control.read())
        control.send([wire.NOTIFY, wire.DESCRIBE, [[place.allowed + '/script.py'], False]])
        control.send([wire.REQUEST, 1, wire.ATTACH, ['same', '1.12.1', '/nonexistent', os.urandom(32), os.getpid(), 1]])
        found.append(control.read()[3][0])
    assert found == ['same', 'same-2', 'same-3']
    for control in controls:
        control.close()
    wait_until(lambda: pool.hosts() == [], 10, 'the end of all hosts')


@pytest.mark.parametrize('name', ['', 'x' * 65, 'a b', 'a/b', 'a\nb', 12])
def test_a_name_that_cannot_be(orthanc, name):
    server = orthanc.make(script=SCRIPT, python={'NodeName': name})
    assert server.expect_refusal() == 255
    assert re.search(r'"Python.NodeName" is .*, and must be ', server.log())

# SPDX-License-Identifier: GPL-3.0-or-later
"""A shared pool that runs as another user than Orthanc: who may use whom, on both sides."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile

import pytest

import wire
from conftest import Farm
from daemon import Daemon
from server import BUILD, PATIENCE, PID_ROUTE, REPOSITORY, ours_plugin, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival,
              pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')]

# Users that need not exist, but for the pool's, whom Python.PoolUser must find.
POOL = 65534
POOL_GROUP = 65534
ORTHANC = 54321
MEMBER = 54322
STRANGER = 54323

SCRIPT = '''
import os, threading
import orthanc

def rest(output, uri, **request):
    found = []
    thread = threading.Thread(target=lambda: found.append(orthanc.RestApiGet('/system')))
    thread.start()      # a thread in no callback: over the node's own socket
    thread.join()
    output.AnswerBuffer('%d %d' % (os.getuid(), len(found)), 'text/plain')

orthanc.RegisterRestCallback('/whose', rest)
''' + PID_ROUTE


@pytest.fixture
def place():
    """A directory that all users can enter, with servers, a pool and the plugin."""
    class Place:
        def __init__(self):
            self.base = tempfile.mkdtemp(prefix='opbu-')
            os.chmod(self.base, 0o755)
            self.plugin = shutil.copy(ours_plugin(), self.base)
            self.script = os.path.join(self.base, 'script.py')
            with open(self.script, 'w', encoding='ascii') as f:
                f.write(SCRIPT)
            self.farm = Farm(self.base)
            self.pools = []

        def pool(self, config=None, user=POOL):
            self.pools.append(Daemon(config, user=user, group=POOL_GROUP))
            os.chmod(self.pools[-1].directory, 0o755)
            return self.pools[-1]

        def server(self, pool, python=None, user=ORTHANC, groups=(POOL_GROUP,)):
            return self.farm.make(script_path=self.script, config={'Plugins': [self.plugin]},
                                  python={'Pool': pool.socket, 'PoolUser': str(POOL), **(python or {})},
                                  user=(user, user, list(groups)))

        def close(self):
            try:
                self.farm.close()
                for pool in self.pools:
                    pool.close()
            finally:
                shutil.rmtree(self.base)

    made = Place()
    yield made
    made.close()


OPEN = {'SocketMode': '0666'}


@pytest.mark.parametrize('config', [{'AllowUsers': [str(ORTHANC)]}, {'AllowGroup': str(POOL_GROUP)}],
                         ids=['AllowUsers', 'AllowGroup'])
def test_the_script_runs_as_the_pool_and_reaches_orthanc(place, config):
    """Callbacks, and threads that use the node's own socket; both after a restart of the pool."""
    pool = place.pool({**OPEN, **config}).start()
    server = place.server(pool).start()
    assert server.get('/whose').text == '%d 1' % POOL
    (directory,) = os.listdir(server.runtime)
    found = os.stat(os.path.join(server.runtime, directory))
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o750, ORTHANC, POOL_GROUP)
    pool.kill()
    pool.start()
    wait_until(lambda: server.get('/whose').status_code == 200, 20, 'the server to attach again')
    assert server.get('/whose').text == '%d 1' % POOL
    assert server.stop() == 0
    assert os.listdir(server.runtime) == []


def test_a_console_of_root_is_one_of_the_pools_user(place):
    """He finds the file of the host, and the node lets him in by the group."""
    pool = place.pool({**OPEN, 'AllowUsers': [str(ORTHANC)]}).start()
    server = place.server(pool).start()
    command = ['/usr/bin/python3', os.path.join(REPOSITORY, 'worker', 'cli', 'orthanc-python'), 'console',
               '--pid', str(server.host_pid())]
    code = 'import os; print(os.getresuid(), os.getresgid(), len(orthanc.RestApiGet("/system")) > 10)'
    environment = dict(os.environ, ORTHANC_PYTHON_BRIDGE_BUILD=BUILD)
    done = subprocess.run([*command, '-c', code], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60 * PATIENCE, check=False)
    assert done.stdout == '%s %s True\n' % ((POOL,) * 3, (POOL_GROUP,) * 3), done.stderr
    for user in (ORTHANC, STRANGER):    # not even the user of Orthanc
        done = subprocess.run([*command, '-c', code], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60 * PATIENCE, check=False, user=user, group=user, extra_groups=[])
        assert done.returncode == 4 and 'only that user, or root' in done.stderr, done.stderr


def test_a_group_of_the_user_besides_his_own_lets_him_in(place):
    pool = place.pool({**OPEN, 'AllowGroup': str(POOL_GROUP)}).start()
    assert place.server(pool, user=MEMBER).start().get('/whose').status_code == 200


def test_what_a_killed_server_left_is_removed_by_the_next(place):
    """Though it is open to the pool's group."""
    pool = place.pool({**OPEN, 'AllowUsers': [str(ORTHANC)]}).start()
    server = place.server(pool).start()
    before = os.listdir(server.runtime)
    server.kill()
    assert os.listdir(server.runtime) == before
    server.start()
    assert len(os.listdir(server.runtime)) == 1 and os.listdir(server.runtime) != before


def test_root_may_use_every_pool(place):
    pool = place.pool().start()
    assert place.server(pool, user=0).start().get('/whose').text == '%d 1' % POOL


def test_a_user_that_the_pool_does_not_know_is_told_the_key(place):
    pool = place.pool({**OPEN, 'AllowUsers': [str(ORTHANC)]}).start()
    allowed = place.server(pool).start()
    stranger = place.server(pool, user=STRANGER)
    assert stranger.expect_refusal() == 255
    assert re.search(r'user %d may not use this worker, which is that of user %d: add the user to '
                     r'"AllowUsers" in the worker' % (STRANGER, POOL), stranger.log())
    pool.wait_for_log('user %d may not use this worker' % STRANGER)
    assert allowed.get('/whose').status_code == 200


def test_a_socket_that_the_users_group_may_not_use_is_told_with_the_key(place):
    pool = place.pool({'SocketMode': '0600', 'AllowUsers': [str(ORTHANC)]}).start()
    server = place.server(pool)
    assert server.expect_refusal() == 255
    assert re.search(r'does not answer at \S+: Permission denied: Orthanc\'s user must be in the group of the '
                     r'socket \("SocketGroup"', server.log())


def test_a_pool_of_another_user_is_told_with_the_key(place):
    pool = place.pool({**OPEN, 'AllowUsers': [str(ORTHANC)]}).start()
    server = place.server(pool, {'PoolUser': None})
    assert server.expect_refusal() == 255
    assert re.search(r'belongs to user %d, and Orthanc runs as user %d: if that is who it should be, name the '
                     r'user in the configuration option "Python.PoolUser"' % (POOL, ORTHANC), server.log())


def test_orthanc_outside_of_the_pools_group_is_told_so(place):
    """It could not open its directory to the hosts."""
    pool = place.pool({**OPEN, 'AllowUsers': [str(ORTHANC)]}).start()
    server = place.server(pool, groups=())
    assert server.expect_refusal() == 255
    assert re.search(r'cannot be opened to the group %d of the user whom the configuration option '
                     r'"Python.PoolUser" names' % POOL_GROUP, server.log())
    assert os.listdir(server.runtime) == []


@pytest.mark.parametrize('python,expected', [
    ({'PoolUser': 'nosuchuser'}, r'There is no user nosuchuser, whom the configuration option "Python.PoolUser"'),
    ({'Pool': None}, r'"Python.PoolUser" is about a shared pool: name its socket in "Python.Pool"'),
], ids=['unknown', 'without a pool'])
def test_a_pool_user_that_cannot_be(place, python, expected):
    server = place.server(place.pool(), python)
    assert server.expect_refusal() == 255
    assert re.search(expected, server.log())


@pytest.mark.parametrize('config,expected', [
    ({'AllowUsers': ['nosuchuser']}, 'there is no user nosuchuser, whom "AllowUsers" names'),
    ({'AllowGroup': 'nosuchgroup'}, 'there is no group nosuchgroup, which "AllowGroup" names'),
    ({'AllowUsers': 'root'}, 'key "AllowUsers" is "root", and must be an array of strings'),
    ({'AllowUsers': [1]}, 'key "AllowUsers" is [1], and must be an array of strings that are not empty'),
], ids=str)
def test_users_and_groups_that_there_are_not(config, expected):
    assert expected in Daemon(config).refusal()
    checked = Daemon(config, arguments=['--check'])
    assert expected in checked.refusal()


def test_strangers_do_not_take_the_places_of_others(place):
    """Connections that say nothing, of a user that may not come in."""
    pool = place.pool({**OPEN, 'AllowUsers': [str(ORTHANC)]}).start()
    server = place.server(pool).start()
    code = ('import os, socket, sys\nos.setuid(%d)\nmany = []\nfor _ in range(400):\n s = socket.socket(socket.AF_UNIX)\n'
            ' s.connect(sys.argv[1])\n many.append(s)\nprint("ready", flush=True)\nsys.stdin.read()\n' % STRANGER)
    crowd = subprocess.Popen([sys.executable, '-I', '-c', code, pool.socket], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    try:
        assert crowd.stdout.readline() == 'ready\n'
        open_now = len(os.listdir('/proc/%d/fd' % pool.process.pid))
        assert open_now < 80
        with wire.Connection.to(pool.socket, 10 * PATIENCE) as connection:     # we are root
            connection.send(wire.hello(wire.CONTROL))
            assert wire.welcomed(connection.read())
        assert server.get('/whose').status_code == 200
    finally:
        crowd.communicate('')

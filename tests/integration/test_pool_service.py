# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool as a service: its configuration, and what it and systemd say to each other.

systemd itself is not needed (test_machine.py has one): systemd-socket-activate makes the socket, a
datagram socket of the test hears what sd_notify says, and systemd-analyze judges the units.
"""

import json
import os
import re
import signal
import stat
import subprocess

import pytest

from daemon import Daemon, NotifyListener
from server import BUILD, PATIENCE, PID_ROUTE, ours_worker, wait_until

pytestmark = pytest.mark.ours

SCRIPT = 'import orthanc\n' + PID_ROUTE
UNITS = os.path.join(BUILD, 'worker', 'systemd')


@pytest.fixture
def daemon():
    """A maker of pools; all of them end with the test."""
    made = []

    def make(*args, **kwargs):
        made.append(Daemon(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def listener():
    made = NotifyListener()
    yield made
    made.close()


# -- the configuration ---------------------------------------------------------------------------

@pytest.mark.parametrize('text,expected', [
    ('{"Sockt": "/x"}', r'key "Sockt", which is "/x", is not known.*nearest known key is "Socket"'),
    ('{"maxhosts": 3}', r'key "maxhosts", which is 3, is not known.*nearest known key is "MaxHosts"'),
    ('{"Socket": 12}', r'key "Socket" is 12, and must be an absolute path of at most 107 bytes'),
    ('{"Socket": "pool.sock"}', r'key "Socket" is "pool.sock", and must be an absolute path'),
    ('{"Socket": "/%s"}' % ('x' * 120), r'key "Socket" is "/x+", and must be .* at most 107 bytes'),
    ('{"Socket": "/a", "Socket": "/b"}', r'line 1, column \d+: duplicate object key'),
    ('{"SocketMode": "0999"}', r'key "SocketMode" is "0999", and must be a string of octal digits'),
    ('{"SocketMode": 660}', r'key "SocketMode" is 660, and must be a string of octal digits'),
    ('{"SocketMode": "0060"}', r'key "SocketMode" is "0060", and must be .*owner may read and write'),
    ('{"SocketGroup": ""}', r'key "SocketGroup" is "", and must be a string that is not empty'),
    ('{"MaxHosts": -1}', r'key "MaxHosts" is -1, and must be a whole number from 0 to 10000'),
    ('{"MaxHosts": "many"}', r'key "MaxHosts" is "many", and must be a whole number'),
    ('{"MaxHosts": 1.5}', r'key "MaxHosts" is 1.5, and must be a whole number'),
    ('{"StopTimeout": -1}', r'key "StopTimeout" is -1, and must be a number of seconds from 0 to 3600'),
    ('{"StopTimeout": "soon"}', r'key "StopTimeout" is "soon", and must be a number of seconds'),
    ('{"LogLevel": "debug"}', r'key "LogLevel" is "debug", and must be "error", "warning" or "info"'),
    ('{"HostProgram": "host"}', r'key "HostProgram" is "host", and must be an absolute path'),
    ('[]', r'no JSON object'),
    ('{"Socket": "/x"', r'line 1, column 15: .*expected near end of file'),
    ('', r'line 1, column 0'),
], ids=lambda value: value[:30] if isinstance(value, str) else None)
def test_a_wrong_file_is_refused_by_key_value_and_what_is_allowed(tmp_path, text, expected):
    path = tmp_path / 'pool.json'
    path.write_text(text)
    done = subprocess.run([ours_worker(), '--config', str(path)], stderr=subprocess.PIPE, text=True,
                          timeout=20 * PATIENCE, check=False)
    assert done.returncode == 2
    assert re.search(expected, done.stderr), done.stderr
    assert str(path) in done.stderr


@pytest.mark.parametrize('arguments,expected', [
    ([], r'no socket to listen on: name one with --socket PATH, or with "Socket"'),
    (['--config', '/nonexistent/pool.json'], r'/nonexistent/pool.json: No such file'),
    (['--socket', 'x'], r'option --socket is "x", and must be an absolute path'),
    (['--socket', '/nonexistent/pool.sock'], r'cannot listen on /nonexistent/pool.sock: No such file'),
    (['--socket', '/tmp/x', '--max-hosts', 'ab'], r'option --max-hosts is "ab", and must be a whole number'),
    (['--socket', '/tmp/x', '--socket-mode', '7'], r'option --socket-mode is "7"'),
    (['--socket', '/tmp/x', '--stop-timeout', '-3'], r'option --stop-timeout is "-3", and must be a number of seconds'),
    (['--frobnicate'], r'unknown option; see --help'),
    (['--socket', '/tmp/x', 'more'], r'this is no option: more'),
    (['--socket', '/tmp/x', '--host-program', '/nonexistent/host'], r'cannot run the host program: /nonexist'),
], ids=lambda value: ' '.join(value)[:30] if isinstance(value, list) else None)
def test_a_wrong_command_line_is_refused(arguments, expected):
    done = subprocess.run([ours_worker()] + arguments, stderr=subprocess.PIPE, text=True,
                          timeout=20 * PATIENCE, check=False)
    assert done.returncode in (1, 2)
    assert re.search(expected, done.stderr), done.stderr


def test_help_and_version_need_no_configuration():
    for option in ('--help', '--version'):
        done = subprocess.run([ours_worker(), option], stdout=subprocess.PIPE, text=True,
                              timeout=20 * PATIENCE, check=False)
        assert done.returncode == 0
        assert 'orthanc-python-worker' in done.stdout
    for key in ('--config FILE', '--socket PATH', '--max-hosts N', '--log-level LEVEL'):
        assert key in subprocess.run([ours_worker(), '--help'], stdout=subprocess.PIPE, text=True,
                                     check=True).stdout


def test_check_says_whether_a_file_is_good_and_makes_no_socket(daemon):
    good = daemon(arguments=['--check']).spawn()
    assert good.process.wait(20 * PATIENCE) == 0
    assert not os.path.exists(good.socket)
    activated = daemon({'Socket': None}, arguments=['--check']).spawn()     # systemd may make it
    assert activated.process.wait(20 * PATIENCE) == 0
    bad = daemon({'LogLevel': 'x'}, arguments=['--check']).spawn()
    assert bad.process.wait(20 * PATIENCE) == 2


def test_options_win_over_the_file(daemon, tmp_path):
    pool = daemon({'Socket': '/nonexistent/pool.sock', 'SocketMode': '0600'})
    pool.arguments = ['--socket', pool.socket, '--socket-mode', '0606']
    pool.start()
    assert stat.S_IMODE(os.stat(pool.socket).st_mode) == 0o606


def test_the_socket_has_the_mode_and_group_of_the_file(daemon):
    assert stat.S_IMODE(os.stat(daemon().start().socket).st_mode) == 0o600
    group = os.getgroups()[-1] if os.geteuid() != 0 else 4242
    pool = daemon({'SocketGroup': str(group)}).start()

    def mode():
        found = os.stat(pool.socket)
        return stat.S_IMODE(found.st_mode), found.st_gid
    # Made for its owner only, and then opened to the group.
    wait_until(lambda: mode() == (0o660, group), 5, 'the mode %o, not %o, and group %d' % ((0o660,) + mode()))
    text = daemon({'SocketGroup': 'nosuchgroup'}).refusal()
    assert 'there is no group nosuchgroup, which "SocketGroup" names' in text


def test_two_pools_on_one_socket(daemon):
    pool = daemon().start()
    other = daemon({'Socket': pool.socket})
    assert 'another worker is using it' in other.refusal()
    assert pool.answers()


def test_the_log_level_bounds_what_is_said(daemon, orthanc):
    quiet, talkative = daemon({'LogLevel': 'warning'}).start(), daemon().start()
    for pool in (quiet, talkative):
        server = orthanc(script=SCRIPT, python={'Pool': pool.socket})
        assert server.stop() == 0
    talkative.wait_for_log('detached')
    assert re.search(r'orthanc-\d+: attached by process \d+', talkative.log())
    assert 'attached' not in quiet.log()


def test_a_server_that_finds_no_free_host_is_refused(daemon, orthanc):
    pool = daemon({'MaxHosts': 2}).start()
    servers = [orthanc(script=SCRIPT, python={'Pool': pool.socket}) for _ in range(2)]
    third = orthanc.make(script=SCRIPT, python={'Pool': pool.socket})
    assert third.expect_refusal() == 255
    assert 'all hosts that "MaxHosts" in the worker\'s configuration allows belong to other servers' in third.log()
    assert servers[0].stop() == 0
    assert orthanc(script=SCRIPT, python={'Pool': pool.socket}).get('/_pid').status_code == 200
    assert servers[1].get('/_pid').status_code == 200


# -- systemd --------------------------------------------------------------------------------------

def test_readiness_status_and_end_are_told(daemon, listener, orthanc):
    pool = daemon(env={'NOTIFY_SOCKET': listener.path}).start()
    listener.wait_for('READY=1')
    assert listener.wait_for('STATUS=') == 'STATUS=0 Orthanc servers, 0 hosts'
    server = orthanc(script=SCRIPT, python={'Pool': pool.socket})
    assert listener.wait_for('STATUS=1 Orthanc server, 1') == 'STATUS=1 Orthanc server, 1 host'
    assert server.stop() == 0
    listener.wait_for('STATUS=0 Orthanc servers, 0 hosts')
    assert pool.terminate() == 0
    listener.wait_for('STOPPING=1')
    assert 'WATCHDOG=1' not in listener.lines


def test_hosts_see_nothing_of_systemd(daemon, listener, orthanc):
    pool = daemon(env={'NOTIFY_SOCKET': listener.path, 'WATCHDOG_USEC': '30000000'}).start()
    orthanc(script=SCRIPT, python={'Pool': pool.socket})
    (host,) = pool.hosts()
    with open('/proc/%d/environ' % host, encoding='ascii', errors='replace') as f:
        environment = f.read()
    for name in ('NOTIFY_SOCKET', 'WATCHDOG', 'LISTEN_'):
        assert name not in environment


def test_the_watchdog_hears_the_loop_until_it_hangs(daemon, listener):
    """WATCHDOG_PID is the process itself: so it is made by a shell that becomes it."""
    pool = daemon(env={'NOTIFY_SOCKET': listener.path, 'WATCHDOG_USEC': '300000'},
                  wrapper=['/bin/sh', '-c', 'WATCHDOG_PID=$$ exec "$0" "$@"']).start()
    for _ in range(4):
        listener.wait_for('WATCHDOG=1')
    os.kill(pool.process.pid, signal.SIGSTOP)
    try:
        listener.socket.settimeout(1)    # more than three periods
        with pytest.raises(TimeoutError):
            while True:
                listener.socket.recv(4096)
    finally:
        os.kill(pool.process.pid, signal.SIGCONT)
    listener.wait_for('WATCHDOG=1')


def test_a_managed_pool_tells_systemd_nothing(listener, orthanc):
    """What is in Orthanc's environment is meant for Orthanc."""
    server = orthanc(script=SCRIPT, env={'NOTIFY_SOCKET': listener.path})
    assert server.stop() == 0
    listener.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.socket.recv(100)


def test_sighup_reloads_the_scripts_of_all_servers(daemon, orthanc):
    pool = daemon().start()
    servers = [orthanc(script=SCRIPT, python={'Pool': pool.socket}) for _ in range(2)]
    before = [server.host_pid() for server in servers]
    pool.process.send_signal(signal.SIGHUP)
    for server, pid in zip(servers, before):
        server.wait_for_log(r'Generation 2 is running')
        wait_until(lambda: server.host_pid() != pid, 10, 'another host')


def test_a_socket_that_systemd_has_made(daemon, orthanc):
    """The pool starts with the first connection, and leaves the socket where it is."""
    pool = daemon({'Socket': None})
    pool.wrapper = ['systemd-socket-activate', '-l', pool.socket]
    pool.spawn()
    wait_until(lambda: os.path.exists(pool.socket), 10, 'the socket')
    server = orthanc(script=SCRIPT, python={'Pool': pool.socket})
    assert server.get('/_pid').status_code == 200
    assert server.stop() == 0
    assert pool.terminate() == 0
    assert os.path.exists(pool.socket)


def test_a_socket_that_systemd_has_made_elsewhere(daemon):
    pool = daemon({'Socket': '/nonexistent/pool.sock'})
    pool.wrapper = ['systemd-socket-activate', '-l', pool.socket]
    pool.spawn()
    wait_until(pool.answers, 10, 'the socket')
    assert pool.process.wait(20 * PATIENCE) == 2
    assert 'the key "Socket" is /nonexistent/pool.sock, and systemd passed ' + pool.socket in pool.log()


def test_something_else_than_one_stream_socket_is_refused(daemon):
    pool = daemon({'Socket': None})
    pool.wrapper = ['systemd-socket-activate', '-l', pool.socket, '-l', pool.socket + '2']
    pool.spawn()
    wait_until(pool.answers, 10, 'the socket')
    assert pool.process.wait(20 * PATIENCE) == 2
    assert 'systemd passed 2 sockets' in pool.log()


def test_lines_for_the_journal_begin_with_their_level(daemon):
    """Where stderr is what $JOURNAL_STREAM says; elsewhere they begin with our name."""
    pool = daemon()
    with open(pool.stderr_path, 'ab') as f:
        info = os.fstat(f.fileno())
    pool.env['JOURNAL_STREAM'] = '%d:%d' % (info.st_dev, info.st_ino)
    pool.start()
    pool.wait_for_log('<6>READY')
    with pool.connect() as connection:
        connection.send_bytes(b'x' * 64)
        pool.wait_for_log('<4>refused a connection of process')
    other = daemon(env={'JOURNAL_STREAM': '1:2'}).start()
    other.wait_for_log('orthanc-python-worker: READY')
    assert '<6>' not in other.log()


def unit(name, directory):
    """A unit as it is installed, but with the programs of the build; its path."""
    with open(os.path.join(UNITS, name), encoding='ascii') as f:
        text = re.sub(r'^ExecStart=\S+', 'ExecStart=' + ours_worker(), f.read(), flags=re.M)
    path = os.path.join(str(directory), name.replace('@.', '@test.'))
    with open(path, 'w', encoding='ascii') as f:
        f.write(text)
    return path


def test_systemd_analyze_finds_nothing_wrong_in_the_units(tmp_path):
    paths = [unit(name, tmp_path) for name in sorted(os.listdir(UNITS)) if name.startswith('orthanc-')]
    assert len(paths) == 3
    done = subprocess.run(['systemd-analyze', 'verify', '--recursive-errors=one'] + paths,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60 * PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, '')


@pytest.mark.parametrize('name', ['orthanc-python-worker.service', 'orthanc-python-worker@.service'])
def test_the_sandbox_is_rated_as_the_documentation_says(tmp_path, name):
    done = subprocess.run(['systemd-analyze', 'security', '--offline=yes', '--no-pager', '--threshold=20',
                           unit(name, tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=60 * PATIENCE, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r'exposure level for \S+: [01]\.\d OK', done.stdout), done.stdout


def test_an_installed_tree_has_all_that_the_units_name(tmp_path):
    """An administrator's configuration file stays as it is."""
    root = tmp_path / 'root'
    for text in (None, '{"MaxHosts": 7}\n'):
        if text is not None:
            (found,) = root.rglob('pool.json')
            found.write_text(text)
        subprocess.run(['cmake', '--install', BUILD], env={**os.environ, 'DESTDIR': str(root)},
                       stdout=subprocess.DEVNULL, check=True, timeout=120 * PATIENCE)
    (config,) = root.rglob('pool.json')
    assert json.loads(config.read_text()) == {'MaxHosts': 7}
    (service,) = root.rglob('orthanc-python-worker.service')
    program, _, file = re.search(r'^ExecStart=(\S+) (\S+) (\S+)$', service.read_text(), re.M).groups()
    assert os.access(str(root) + program, os.X_OK)
    assert str(root) + file == str(config)
    for kind in ('sysusers.d', 'tmpfiles.d'):
        assert (root / os.path.relpath(str(service.parent.parent.parent / kind / 'orthanc-python.conf'),
                                       str(root))).exists()
    done = subprocess.run(['systemd-sysusers', '--root=' + str(root), '--dry-run',
                           str(next(root.rglob('sysusers.d/*.conf')))],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0 and 'orthanc-python' in done.stdout, done.stdout

# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of docs/operations.md, as they stand there, on a machine with a real systemd.

The machine is this one in namespaces of its own: processes, mounts, network; what is written to /usr,
/etc, /var and /srv is gone afterwards. Its systemd sees our units, Orthanc's and the journal's, and no
others. Where this cannot be had (no root, no overlay file systems), the test is skipped and says so.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile

import pytest

from server import BUILD, PATIENCE, REPOSITORY, children, is_alive, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival]

UNITS = '/lib/systemd/system'
TARGETS = ('default', 'sysinit', 'basic', 'sockets', 'shutdown', 'multi-user', 'network')
BOOT = r'''
set -e
cd "$1"
mount -t proc proc /proc
mount -t tmpfs tmpfs upper
for each in usr etc var srv; do
    mkdir -p upper/$each upper/$each.work
    mount -t overlay overlay -o lowerdir=/$each,upperdir=upper/$each,workdir=upper/$each.work /$each
done
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /etc/systemd/system
printf '[Journal]\nReadKMsg=no\nAudit=no\nStorage=volatile\n' >/etc/systemd/journald.conf
/usr/bin/python3 -c '
import fcntl, socket, struct
s = socket.socket()
fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"lo", 0x41))    # SIOCSIFFLAGS: up, running
'
export container=opb SYSTEMD_UNIT_PATH=/etc/systemd/system:$1/units:$2/lib/systemd/system
exec /lib/systemd/systemd --system --unit=default.target --log-target=null --show-status=no
'''
SCRIPT = r'''
import json, multiprocessing, os, socket, ssl, subprocess, sys, threading
import orthanc

def try_to(action):
    try:
        action()
        return 'done'
    except OSError as e:
        return type(e).__name__

def numbers():
    try:
        import numpy
    except ImportError:
        return None
    return float((numpy.ones((300, 300)) @ numpy.ones((300, 300))).sum())

def rest(output, uri, **request):
    threads = [threading.Thread(target=orthanc.RestApiGet, args=('/system',)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    output.AnswerBuffer(json.dumps({
        'uid': os.getuid(), 'pid': os.getpid(), 'numpy': numbers(), 'file': __file__,
        'tmp': try_to(lambda: open('/tmp/mine', 'w').close()),
        'var': try_to(lambda: open('/var/tmp/../lib/theirs', 'w').close()),
        'root': try_to(lambda: os.setuid(0)),
        'home': os.listdir('/home') + os.listdir('/root') if os.access('/root', os.R_OK) else [],
        'system': json.loads(orthanc.RestApiGet('/system'))['Name']}), 'application/json')

def child(output, uri, **request):
    text = subprocess.run([sys.executable, '-c', 'import orthanc; print(len(orthanc.RestApiGet("/system")))'],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True).stdout
    output.AnswerBuffer(text, 'text/plain')

orthanc.RegisterRestCallback('/sandbox', rest)
orthanc.RegisterRestCallback('/child', child)
print('the script was loaded', flush=True)
'''


def prefix():
    with open(os.path.join(BUILD, 'CMakeCache.txt'), encoding='utf-8') as f:
        return re.search(r'^CMAKE_INSTALL_PREFIX:\w+=(.*)$', f.read(), re.M).group(1)


class Machine:
    """A systemd in namespaces; run() is a shell there."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix='opbm-')
        os.chmod(self.base, 0o755)
        os.mkdir(self.path('upper'))
        os.mkdir(self.path('units'))
        for name in TARGETS:
            with open(self.path('units', name + '.target'), 'w', encoding='ascii') as f:
                f.write('[Unit]\nDefaultDependencies=no\n')
        for name in ('orthanc.service', 'systemd-journald.service', 'systemd-journald.socket'):
            shutil.copy(os.path.join(UNITS, name), self.path('units'))
        self.process = subprocess.Popen(
            ['unshare', '--mount', '--pid', '--uts', '--ipc', '--cgroup', '--net', '--fork', '--kill-child',
             '--propagation', 'private', 'sh', '-c', BOOT, 'boot', self.base, prefix()],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.init = None

    def path(self, *parts):
        return os.path.join(self.base, *parts)

    def has_booted(self):
        self.init = next(iter(children(self.process.pid)), None)
        return self.init is not None and self.run('systemctl is-system-running', check=False) in (
            'running\n', 'degraded\n')

    def run(self, command, check=True):
        done = subprocess.run(['nsenter', '--target', str(self.init), '--mount', '--pid', '--uts', '--ipc', '--cgroup',
                               '--net', 'sh', '-ec', command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120 * PATIENCE, check=False,
                              cwd=REPOSITORY)
        assert not check or done.returncode == 0, '%s\n%s' % (command, done.stdout)
        return done.stdout

    def get(self, uri, check=True):
        return self.run('curl --silent --show-error --fail http://127.0.0.1:8042' + uri, check)

    def wait_for_script(self, path, what):
        try:
            wait_until(lambda: path in self.get('/sandbox', check=False), 30, what)
        except AssertionError as e:
            raise AssertionError('%s; Orthanc says:\n%s' % (e, self.run('tail -n 20 /var/log/orthanc/Orthanc.log'))) from e

    def close(self):
        pids = list(children(self.process.pid))
        self.process.kill()     # and with it the first process of the machine, and so all
        self.process.communicate()
        wait_until(lambda: not any(map(is_alive, pids)), 20, 'the end of the machine')
        shutil.rmtree(self.base, ignore_errors=True)


@pytest.fixture
def machine():
    if os.geteuid() != 0:
        pytest.skip('only root can make a machine')
    made = Machine()
    try:
        try:
            wait_until(lambda: made.has_booted() or made.process.poll() is not None, 30, 'systemd')
        except AssertionError:
            pytest.skip('systemd does not start in namespaces of its own here')
        if made.process.poll() is not None:
            pytest.skip('no machine can be made here: ' + made.process.communicate()[0][-500:])
        yield made
    finally:
        made.close()


def steps():
    """The blocks of the first chapter that a shell runs."""
    with open(os.path.join(REPOSITORY, 'docs', 'operations.md'), encoding='utf-8') as f:
        chapter = f.read().split('\n## ')[1]
    found = re.findall(r'^\*\*(\d)\. .*?^```sh\n(.*?)^```', chapter, re.M | re.S)
    assert [number for number, _ in found] == ['1', '2', '3', '4', '5', '6', '7']
    return [text for _, text in found]


def as_here(text):
    """The page says /usr; the build of the test may be for another place."""
    return text if prefix() == '/usr' else text.replace('/etc/orthanc-python', prefix() + '/etc/orthanc-python')


def begin_as_debian(machine, script=SCRIPT):
    """A server as Debian has it, with the official plugin; its files are those of the packages, but for the script's name."""
    changed = machine.run('dpkg --verify orthanc orthanc-python | grep " /etc/orthanc/"', check=False)
    assert changed == '', 'the steps are for the configuration of Debian, and this machine has changed it:\n' + changed
    machine.run('systemctl start systemd-journald.socket systemd-journald.service')
    with open(machine.path('script.py'), 'w', encoding='ascii') as f:
        f.write(script)
    machine.run('install -m 644 %s /etc/orthanc/script.py; sed -i s/sample.py/script.py/ /etc/orthanc/python.json; '
                'mkdir -p /var/lib/orthanc/db-v6 /var/log/orthanc; chown -R orthanc: /var/lib/orthanc /var/log/orthanc'
                % machine.path('script.py'))
    machine.run('systemctl start orthanc.service')
    machine.wait_for_script('/etc/orthanc/script.py', 'the official plugin')


def switch_to_a_pool(machine):
    """The steps of the page."""
    install, *others = steps()
    assert 'cmake --install build/release' in install
    machine.run('cmake --install ' + BUILD)     # of the build that is being tested
    if prefix() != '/usr':                      # where Debian's Orthanc looks for plugins
        machine.run('ln -s %s/share/orthanc/plugins/libOrthancPythonBridge.so /usr/share/orthanc/plugins/' % prefix())
    for text in others:
        machine.run(as_here(text))
    machine.wait_for_script('/srv/orthanc-python/script.py', 'our plugin')


def test_from_the_official_plugin_to_a_shared_pool_step_by_step(machine):
    begin_as_debian(machine)
    switch_to_a_pool(machine)
    found = json.loads(machine.get('/sandbox'))
    uid = int(machine.run('id --user orthanc-python'))
    assert found['uid'] == uid != 0
    assert found['system'] == 'Orthanc'     # as in Debian's configuration
    assert found['numpy'] in (None, 300.0 ** 3)
    assert found['tmp'] == 'done'
    assert (found['var'], found['root']) == ('OSError', 'PermissionError')
    assert found['home'] == []
    assert re.fullmatch(r'\d{3,}\n', machine.get('/child')), machine.get('/child')
    status = machine.run('systemctl status --no-pager orthanc-python-worker.service')
    assert 'Status: "1 Orthanc server, 1 host"' in status

    # every day
    machine.run('systemctl reload orthanc-python-worker')
    wait_until(lambda: json.loads(machine.get('/sandbox'))['pid'] != found['pid'], 20, 'another generation')
    machine.run('systemctl restart orthanc-python-worker')
    found = json.loads(machine.get('/sandbox'))
    machine.run('kill -9 $(systemctl show --property=MainPID --value orthanc-python-worker)')
    wait_until(lambda: '"pid"' in machine.get('/sandbox', check=False), 30, 'systemd to start the pool again')
    wait_until(lambda: machine.run('journalctl --no-pager -u orthanc-python-worker -o cat').count('main: attached') >= 3,
               20, 'the lines of the pool in the journal')
    journal = machine.run('journalctl --no-pager -u orthanc-python-worker -o cat')
    assert 'the script was loaded' in journal
    assert 'attached' not in machine.run('journalctl --no-pager -u orthanc-python-worker -o cat -p warning')

    # a loop that does not run
    machine.run("""mkdir -p /etc/systemd/system/orthanc-python-worker.service.d
printf '[Service]\\nWatchdogSec=2\\n' >/etc/systemd/system/orthanc-python-worker.service.d/test.conf
systemctl daemon-reload; systemctl restart orthanc-python-worker""")
    wait_until(lambda: '"pid"' in machine.get('/sandbox', check=False), 30, 'the pool')
    main_pid = 'systemctl show --property=MainPID --value orthanc-python-worker'
    before = machine.run(main_pid)
    machine.run('kill -STOP ' + before)
    wait_until(lambda: machine.run(main_pid).strip() not in ('0', before.strip()), 30, 'the watchdog')
    wait_until(lambda: '"pid"' in machine.get('/sandbox', check=False), 30, 'the next pool')

    machine.run('systemctl stop orthanc.service')
    wait_until(lambda: 'Status: "0 Orthanc servers, 0 hosts"' in
               machine.run('systemctl status --no-pager orthanc-python-worker.service'), 20, 'the end of the host')

    # the template
    machine.run(as_here('cp /etc/orthanc-python/pool.json /etc/orthanc-python/second.json; '
                        'systemctl start orthanc-python-worker@second; test -S /run/orthanc-python-second/pool.sock'))

    # back
    machine.run('systemctl disable --now orthanc-python-worker.socket orthanc-python-worker.service')
    assert 'inactive' in machine.run('systemctl is-active orthanc-python-worker.service', check=False)


def test_the_scripts_of_the_package_know_further_pools(machine):
    """Those of packaging/debian/worker, as dpkg calls them."""
    scripts = os.path.join(REPOSITORY, 'packaging', 'debian', 'worker')
    machine.run('systemctl start systemd-journald.socket systemd-journald.service; cmake --install ' + BUILD)
    machine.run('rm -f /usr/sbin/policy-rc.d')       # with which images of containers forbid services
    machine.run(as_here('systemd-sysusers orthanc-python.conf; systemd-tmpfiles --create orthanc-python.conf; systemctl daemon-reload; '
                        'cp /etc/orthanc-python/pool.json /etc/orthanc-python/second.json; '
                        'cp /etc/orthanc-python/pool.json /etc/orthanc-python/third.json'))
    pools = ['orthanc-python-worker', 'orthanc-python-worker@second', 'orthanc-python-worker@third']
    machine.run('systemctl enable --now orthanc-python-worker.socket ' + ' '.join(pools[:2]))    # the third is not enabled

    def pids():
        return [machine.run('systemctl show --property=MainPID --value ' + each).strip() for each in pools]

    before = pids()
    assert '0' not in before[:2] and before[2] == '0'
    machine.run(scripts + '/prerm upgrade 2')
    assert pids() == before
    machine.run(scripts + '/postinst configure 1')
    after = pids()
    assert '0' not in after[:2] and not set(after[:2]) & set(before[:2]) and after[2] == '0'
    machine.run('systemctl start ' + pools[2])
    machine.run(scripts + '/prerm remove')
    assert pids() == ['0', '0', '0']
    assert machine.run('find /etc/systemd/system -name "orthanc-python-worker*"') == ''


def test_the_scripts_of_the_package_end_well_where_systemd_does_not_answer(machine):
    scripts = os.path.join(REPOSITORY, 'packaging', 'debian', 'worker')
    machine.run('cmake --install %s; mkdir %s' % (BUILD, machine.path('mute')))
    machine.run('cd %s; printf "#!/bin/sh\\nexit 1\\n" >systemctl; chmod +x systemctl; ln -s systemctl systemd-tmpfiles'
                % machine.path('mute'))
    for call in ('postinst configure', 'postinst configure 1', 'prerm remove', 'postrm remove'):
        machine.run('PATH=%s:$PATH %s/%s' % (machine.path('mute'), scripts, call))

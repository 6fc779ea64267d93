# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines for a test: network, mount and host name namespaces, with HAProxy in them.

Each has a /run, /srv and /etc/haproxy of its own, so that configurations stand there as on
real ones. Only root can make them.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess

from server import OrthancServer, wait_until

CLONE_NEWNET = 0x40000000
SETUP = '''set -e
hostname "$1"
for directory in /run /srv /etc/haproxy; do mount -t tmpfs -o mode=755 none "$directory"; done
ip link set lo up
echo ready
exec cat
'''
_libc = ctypes.CDLL(None, use_errno=True)


def _enter_network(path):
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), path)
    finally:
        os.close(fd)


class NoMachine(Exception):
    """The system does not allow it, although we are root."""


class Machine:
    """It ends with its standard input, so with the test, whatever happens to that."""

    def __init__(self, name):
        self.name = name
        self.processes = []
        self.holder = subprocess.Popen(
            ['unshare', '--net', '--mount', '--uts', '--propagation', 'private', 'sh', '-c', SETUP, 'sh', name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self.holder.stdout.readline() != b'ready\n':
            raise NoMachine(self.holder.communicate()[1].decode())
        if subprocess.run(self.enter() + ['test', '-e', __file__], stderr=subprocess.DEVNULL, timeout=60,
                          check=False).returncode != 0:
            self.holder.communicate()
            raise NoMachine('this is a chroot, which what enters the machine would leave')

    def path(self, path):
        """Of a file of the machine, for others."""
        return '/proc/%d/root%s' % (self.holder.pid, path)

    def enter(self, user=None):
        """A command that runs another in the machine; user: (user, group, [groups]), or root."""
        command = ['nsenter', '--target', str(self.holder.pid), '--net', '--mount', '--uts', '--']
        if user is not None:
            command += ['setpriv', '--reuid=%d' % user[0], '--regid=%d' % user[1],
                        '--groups=' + ','.join(map(str, user[2])), '--']
        return command

    def run(self, *command):
        done = subprocess.run(self.enter() + list(command), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def network(self):
        """Sockets that this thread makes meanwhile are the machine's."""
        _enter_network('/proc/%d/ns/net' % self.holder.pid)
        try:
            yield
        finally:
            _enter_network('/proc/%d/ns/net' % os.getpid())

    def connect(self, address, other, other_address):
        """A cable to another machine."""
        self.run('ip', 'link', 'add', 'to-' + other.name, 'type', 'veth', 'peer', 'name', 'to-' + self.name,
                 'netns', str(other.holder.pid))
        for machine, own, peer, far in ((self, address, other, other_address), (other, other_address, self, address)):
            device = 'to-' + peer.name
            machine.run('ip', 'address', 'add', own + '/32', 'dev', device)
            machine.run('ip', 'link', 'set', device, 'up')
            machine.run('ip', 'route', 'add', far, 'dev', device, 'src', own)

    def copy(self, source, target, mode=0o644):
        os.makedirs(os.path.dirname(self.path(target)), exist_ok=True)
        shutil.copy(source, self.path(target))
        os.chmod(self.path(target), mode)

    def start_haproxy(self, log, socket):
        """With its master, as by systemd; reads /etc/haproxy/haproxy.cfg."""
        with open(log, 'ab') as err:
            process = subprocess.Popen(self.enter() + ['haproxy', '-W', '-f', '/etc/haproxy/haproxy.cfg'],
                                       stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        self.processes.append(process)
        wait_until(lambda: os.path.exists(self.path(socket)) or process.poll() is not None, 20, 'HAProxy')
        with open(log, encoding='utf-8') as f:
            assert process.poll() is None, f.read()
        return process

    def close(self):
        for process in self.processes:
            process.terminate()
            process.wait(20)
        self.holder.communicate()


class OrthancThere(OrthancServer):
    """A server in a machine."""

    def __init__(self, machine, directory, **kwargs):
        super().__init__(directory, wrapper=machine.enter(kwargs.get('user')), **kwargs)
        self.machine = machine

    def _connects(self):
        with self.machine.network():
            return super()._connects()

    def request(self, method, path, timeout=30, **kwargs):
        with self.machine.network():
            return super().request(method, path, timeout, **kwargs)

# SPDX-License-Identifier: GPL-3.0-or-later
"""A shared pool for a test: the daemon alone, with its configuration, its log and its end."""

import contextlib
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import wire
from server import BUILD, children, descendants, is_alive, is_zygote, ours_worker, PATIENCE, wait_until


def copy_programs(directory):
    """Where other users can run them; the path of the worker."""
    host = os.path.join(BUILD, 'worker', 'host', 'orthanc-python-host')
    for path in [ours_worker(), host] + glob.glob(os.path.join(BUILD, 'worker', 'module', 'orthanc*.so')):
        shutil.copy(path, directory)
    return os.path.join(directory, 'orthanc-python-worker')


class Daemon:
    """orthanc-python-worker with a configuration file.

    config: its keys; "Socket" is added unless it is there, or None. wrapper: a command in
    front of it. user, group, groups: numbers, for root only.
    """

    def __init__(self, config=None, arguments=(), wrapper=(), env=None, user=None, group=None,
                 groups=()):
        self.directory = tempfile.mkdtemp(prefix='opbp-')
        os.chmod(self.directory, 0o755)
        self.socket = os.path.join(self.directory, 'pool.sock')
        self.config_path = os.path.join(self.directory, 'pool.json')
        self.stderr_path = os.path.join(self.directory, 'stderr')
        self.arguments, self.wrapper = list(arguments), list(wrapper)
        self.env, self.user, self.group, self.groups = dict(env or {}), user, group, list(groups)
        self.config = {'Socket': self.socket, **(config or {})}
        self.config = {key: value for key, value in self.config.items() if value is not None}
        self.program = ours_worker()
        if user is not None:
            os.chown(self.directory, user, group)
            self.program = copy_programs(self.directory)
        self.process = None
        self.hosts_seen = set()

    def command(self):
        return self.wrapper + [self.program, '--config', self.config_path] + self.arguments

    def spawn(self, **kwargs):
        """Starts it, and waits for nothing."""
        with open(self.config_path, 'w', encoding='ascii') as f:
            json.dump(self.config, f)
        os.chmod(self.config_path, 0o644)
        identity = {} if self.user is None else {
            'user': self.user, 'group': self.group, 'extra_groups': self.groups}
        with open(self.stderr_path, 'ab') as err:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=err, stderr=err,
                env={**os.environ, **self.env}, **identity, **kwargs)
        return self

    def start(self, **kwargs):
        self.spawn(**kwargs)
        wait_until(lambda: self.answers() or self.process.poll() is not None, 20, 'the pool')
        assert self.process.poll() is None, self.log()
        return self

    def answers(self):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(self.socket)
                return True
        except OSError:
            return False

    def log(self):
        with open(self.stderr_path, encoding='utf-8', errors='surrogateescape') as f:
            return f.read()

    def wait_for_log(self, text, timeout=10):
        wait_until(lambda: text in self.log(), timeout, '%r in: %s' % (text, self.log()[-2000:]))

    def wait_for_out(self, pattern, timeout=10):
        """As a server's: what scripts print is here. Returns the match."""
        return wait_until(lambda: re.search(pattern, self.log(), re.MULTILINE), timeout, pattern)

    def refusal(self):
        """Starts what must be refused; what it says."""
        self.spawn()
        try:
            assert self.process.wait(20 * PATIENCE) not in (0, None)
            return self.log()
        finally:
            self.close()

    def connect(self):
        return wire.Connection.to(self.socket, 30 * PATIENCE)

    def hosts(self):
        found = [pid for pid, (_, state) in children(self.process.pid).items()
                 if state != 'Z' and not is_zygote(pid)]
        self.hosts_seen.update(found)
        return found

    def kill(self):
        """As a crash of it: its hosts end with it."""
        hosts = self.hosts()
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not any(map(is_alive, hosts)), 10, 'the end of the hosts')

    def terminate(self, timeout=20):
        """As systemd stops it; its exit code."""
        self.hosts()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout * PATIENCE)

    def close(self):
        try:
            if self.process is not None and self.process.poll() is None:
                self.hosts_seen.update(descendants(self.process.pid))
                assert self.terminate() == 0, self.log()
            wait_until(lambda: not any(map(is_alive, self.hosts_seen)), 10,
                       'the end of the hosts')
        finally:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            with contextlib.suppress(OSError):
                shutil.rmtree(self.directory)


class NotifyListener:
    """What systemd would hear: a datagram socket, as $NOTIFY_SOCKET names it."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix='opbn-')
        self.path = os.path.join(self.directory, 'notify')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.lines, self.unread = [], []

    def wait_for(self, wanted, timeout=10):
        """Reads until a line that begins so has come; that line. Those before it are gone."""
        self.socket.settimeout(timeout * PATIENCE)
        while True:
            while self.unread:
                line = self.unread.pop(0)
                if line.startswith(wanted):
                    return line
            self.unread = self.socket.recv(4096).decode().splitlines()
            self.lines += self.unread

    def close(self):
        self.socket.close()
        shutil.rmtree(self.directory)

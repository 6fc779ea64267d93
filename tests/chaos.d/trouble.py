# SPDX-License-Identifier: GPL-3.0-or-later
"""The troubles of tests/chaos: one after the other, at random, until told to stop."""

import collections
import contextlib
import os
import random
import signal
import threading

import sanitizer
from server import children, command_line, supervisor_of, zygotes_of


def hosts_of(supervisor):
    return [pid for pid in children(supervisor)
            if os.path.basename((command_line(pid) or [''])[0]) == 'orthanc-python-host']


class Trouble(threading.Thread):
    """Kills and stops processes below the server, and reloads the script. counts: how often which trouble."""

    def __init__(self, server, stop, seed):
        super().__init__(name='Trouble', daemon=True)
        self.server = server
        self.stopping = stop
        self.random = random.Random(seed)
        self.counts = collections.Counter()

    def run(self):
        # To a sanitizer each SIGSEGV is a finding.
        crash = signal.SIGSEGV if sanitizer.NAME is None else signal.SIGABRT
        troubles = (
            (4, 'host killed', lambda: self.to_host(signal.SIGKILL)),
            (1, 'host crashed', lambda: self.to_host(crash)),
            (1, 'host terminated', lambda: self.to_host(signal.SIGTERM)),
            (2, 'host stopped for a while', self.stop_host),
            (4, 'script reloaded', lambda: self.to_supervisor(signal.SIGHUP)),
            (1, 'zygote killed', self.kill_zygote),
            (1, 'worker killed', lambda: self.to_supervisor(signal.SIGKILL)),
            (1, 'worker and host killed', self.kill_both),
            (1, 'worker stopped for a while', self.stop_supervisor),
        )
        weights = [weight for weight, _, _ in troubles]
        while not self.stopping.wait(self.random.uniform(0.2, 2)):
            _, name, action = self.random.choices(troubles, weights)[0]
            with contextlib.suppress(ProcessLookupError):
                if action():
                    self.counts[name] += 1

    def supervisor(self):
        return supervisor_of(self.server.pid)

    def host(self):
        supervisor = self.supervisor()
        hosts = hosts_of(supervisor) if supervisor else []
        return self.random.choice(hosts) if hosts else None

    @staticmethod
    def send(pid, number):
        if pid is None:
            return False
        os.kill(pid, number)
        return True

    def to_host(self, number):
        return self.send(self.host(), number)

    def to_supervisor(self, number):
        return self.send(self.supervisor(), number)

    def kill_zygote(self):
        supervisor = self.supervisor()
        zygotes = zygotes_of(supervisor) if supervisor else []
        return bool(zygotes) and self.send(zygotes[0], signal.SIGKILL)

    def kill_both(self):
        supervisor, host = self.supervisor(), self.host()
        return self.send(host, signal.SIGKILL) and self.send(supervisor, signal.SIGKILL)

    def pause(self, pid):
        if not self.send(pid, signal.SIGSTOP):
            return False
        self.stopping.wait(self.random.uniform(0.1, 1.5))
        return self.send(pid, signal.SIGCONT)

    def stop_host(self):
        return self.pause(self.host())

    def stop_supervisor(self):
        return self.pause(self.supervisor())

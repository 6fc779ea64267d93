# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers for the curves: the benchmark's, with more configuration; a shared pool."""

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import server as bench

SCRIPTS = Path(__file__).resolve().parent / "scripts"
HTTP_THREADS = 80  # a connection that is kept alive holds one: more than the 64 clients
START_SECONDS = 20


class Server(bench.Server):
    """The benchmark's server with a script of this folder, as text or by its name."""

    def __init__(self, label, plugin, directory, script, python=None, configuration=None):
        path = SCRIPTS / script
        if "\n" in script:
            path = Path(f"{directory}.py")
            path.write_text(script)
        super().__init__(label, plugin, directory, path, python)
        content = json.loads(self.configuration.read_text())
        content.update({"HttpThreadsCount": HTTP_THREADS, "StableAge": 3600, "SaveJobs": False, **(configuration or {})})
        self.configuration.write_text(json.dumps(content))

    def __enter__(self):
        try:
            self.start_seconds = self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self.process.pid

    def text(self, path):
        return self.get(path).decode()

    def status(self):
        return json.loads(self.get("/python-bridge/status"))


class Pool:
    """A shared pool on a socket of its own, without systemd."""

    def __init__(self, worker, directory):
        self.socket = str(Path(directory) / "pool.sock")
        self.log = Path(directory) / "pool.log"
        self.command = [str(worker), "--socket", self.socket]
        self.process = None

    def __enter__(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(self.socket) == 0:
                    return self
            if self.process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise RuntimeError(f"the pool did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.01)  # a start has no event to wait for

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError("the pool did not stop within 30 s") from None

    @property
    def pid(self):
        return self.process.pid

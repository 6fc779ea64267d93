# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers for the curves: the benchmark's, with more configuration; a shared pool; clients."""

import json
import os
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


def _seconds(text):
    for suffix, factor in (("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)):
        if text.endswith(suffix):
            return float(text[: -len(suffix)]) * factor
    raise ValueError(text)


class Wrk:
    """Connections that ask all the time, from a program that costs little; rate, p99, requests."""

    def __init__(self, server, path, connections, seconds):
        self.label, self.limit = f"{server.label}: {path}", seconds + 60
        self.process = subprocess.Popen(
            ["wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s",
             "--latency", f"http://127.0.0.1:{server.port}{path}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ,
        )  # fmt: skip

    def result(self):
        output, _ = self.process.communicate(timeout=self.limit)
        if self.process.returncode != 0 or "Non-2xx" in output or "Socket errors" in output:
            raise RuntimeError(f"{self.label}: failed requests:\n{output}")
        words = {line.split()[0]: line.split()[1] for line in output.splitlines() if len(line.split()) >= 2}
        count = next(int(line.split()[0]) for line in output.splitlines() if " requests in " in line)
        return {"rate": float(words["Requests/sec:"]), "p99_ms": _seconds(words["99%"]) * 1e3, "count": count}


def wrk(server, path, connections, seconds):
    return Wrk(server, path, connections, seconds).result()

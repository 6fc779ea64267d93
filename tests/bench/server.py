# SPDX-License-Identifier: GPL-3.0-or-later
"""One Orthanc server for the benchmark: start, ask, weigh, stop."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import processes

START_SECONDS = 60
# DCMTK's own switch: with Nagle's algorithm every C-STORE waits 2 x 40 ms for delayed
# acknowledgements, which would hide what is compared.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A real Orthanc with one plugin and the benchmark's script."""

    def __init__(self, label, plugin, directory, script, python=None, options=None):
        """python: the section Python of the configuration; options: more keys at its top."""
        self.label = label
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        self.port, self.dicom_port = _free_port(), _free_port()
        configuration = {
            "Name": label,
            "HttpPort": self.port,
            "DicomPort": self.dicom_port,
            "DicomAet": "BENCH",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "StorageDirectory": str(self.directory / "db"),
            "IndexDirectory": str(self.directory / "db"),
            "KeepAlive": True,
            "Plugins": [str(plugin)],
            "PythonScript": str(script),
            **(options or {}),
        }
        if python is not None:
            configuration["Python"] = python
        self.configuration = self.directory / "orthanc.json"
        self.configuration.write_text(json.dumps(configuration))
        self.process = None

    def start(self):
        """Starts it; returns the seconds to the first answer of the script."""
        log = open(self.directory / "log", "ab")
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            ["Orthanc", str(self.configuration)], stdout=log, stderr=log, env=ENVIRONMENT,
            start_new_session=True,
        )  # fmt: skip
        log.close()
        while True:
            try:
                if self.get("/bench/trivial") == b"ok\n":
                    return time.perf_counter() - begin
            except OSError:
                pass
            if self.process.poll() is not None or time.perf_counter() - begin > START_SECONDS:
                raise RuntimeError(
                    f"{self.label} did not start:\n{(self.directory / 'log').read_text()[-3000:]}"
                )
            time.sleep(0.002)  # the server's start has no event to wait for; 2 ms is the resolution

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"{self.label} did not stop within 30 s") from None
        self.process = None

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def request(self, connection, method, path, body=None):
        connection.request(method, path, body=body)
        response = connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise RuntimeError(f"{self.label}: {method} {path} answered {response.status}: {data[:300]}")
        return data

    def get(self, path):
        connection = self.connection()
        try:
            return self.request(connection, "GET", path)
        finally:
            connection.close()

    def memory_bytes(self):
        """Proportional set size of Orthanc and all its descendants."""
        return sum(processes.sizes(pid)["Pss"] for pid in processes.tree(self.process.pid))


@contextlib.contextmanager
def running(server):
    """Lends the server, started, until the end of the block."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def stopped_together():
    """Gives a list for servers, which are stopped at its end: Orthanc takes 3.5 s for that."""
    servers = []
    try:
        yield servers
    finally:
        with concurrent.futures.ThreadPoolExecutor(max(1, len(servers))) as executor:
            list(executor.map(Server.stop, servers))


def which_orthanc():
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/sbin"):
        if os.access(f"{directory}/Orthanc", os.X_OK):
            return f"{directory}/Orthanc"
    raise SystemExit("No Orthanc in PATH: install the Debian package orthanc.")

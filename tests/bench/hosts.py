# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured of hosts: how long the death of one or a reload is felt, and their memory.

Ours alone: the official plugin has no hosts. Figures are absolute: (name, unit, value).
"""

import itertools
import os
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import NamedTuple

from server import Server, running, stopped_together

HEALTHY_SECONDS = 10.2  # a host that has lived for 10 s is replaced at once
ANSWER_SECONDS = 60
ENDING_SECONDS = 0.3  # after a reload has answered, the old generation still ends
SCRIPT = """
{imports}
import os
import orthanc
def answer(output, uri, **request):
    output.AnswerBuffer(str(os.getpid()), "text/plain")
orthanc.RegisterRestCallback("/bench/pid", answer)
orthanc.RegisterRestCallback("/bench/trivial", lambda output, uri, **request:
                             output.AnswerBuffer("ok\\n", "text/plain"))
"""


class Case(NamedTuple):
    """A script, and what is preloaded for it."""

    title: str
    imports: str = ""
    preload: tuple = ()
    worker: Path | None = None  # another than the plugin finds itself


SMALL = Case("nothing preloaded")
PRELOADED = Case("numpy and pydicom preloaded", "import numpy, pydicom", ("numpy", "pydicom"))


def make_server(plugin, directory, case):
    """A server that is not started yet."""
    python = {"Preload": list(case.preload), "MaxRestarts": 0}
    if case.worker is not None:
        python["Worker"] = str(case.worker)
    directory.mkdir(parents=True)
    script = directory / "script.py"
    script.write_text(SCRIPT.format(imports=case.imports))
    return Server(case.title, plugin, directory / "server", script, python)


def host_of(server):
    return int(server.get("/bench/pid"))


def _answer_after_death(server):
    """Milliseconds from SIGKILL to the next host's first answer."""
    pid = host_of(server)
    begin = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    while time.perf_counter() - begin < ANSWER_SECONDS:
        try:
            after = host_of(server)
        except RuntimeError:
            continue  # the call was in the host when it died
        if after != pid:
            return (time.perf_counter() - begin) * 1e3
    raise RuntimeError(f"{server.label}: no other host answered within {ANSWER_SECONDS} s")


def deaths(plugin, directory, cases, count):
    """{case: [milliseconds]} of so many hosts each, which get old enough together."""
    times = {case: [] for case in cases}
    with stopped_together() as servers:
        for turn in range(count):
            for number, case in enumerate(cases):
                servers.append(make_server(plugin, directory / f"{number}-{turn}", case))
                servers[-1].start()
        time.sleep(HEALTHY_SECONDS)
        for case, server in zip(itertools.cycle(cases), servers):
            times[case].append(_answer_after_death(server))
    return times


class Watch:
    """Clients that ask all the time until the end of the block: longest is in seconds."""

    def __init__(self, server, clients=2):
        self.server, self.longest, self.failures = server, 0.0, []
        self.is_over, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def _run(self):
        connection, longest = self.server.connection(), 0.0
        try:
            while not self.is_over.is_set():
                begin = time.perf_counter()
                self.server.request(connection, "GET", "/bench/trivial")
                longest = max(longest, time.perf_counter() - begin)
        except (OSError, RuntimeError) as error:
            self.failures.append(error)
        finally:
            connection.close()
        with self.lock:
            self.longest = max(self.longest, longest)


def reloads(plugin, directory, case, count):
    """[milliseconds]: for each reload the longest wait of any request of two clients."""
    waits = []
    with running(make_server(plugin, directory, case)) as server:
        for _ in range(count):
            with Watch(server) as watch:
                connection = server.connection()
                server.request(connection, "POST", "/python-bridge/reload", b"")
                connection.close()
                time.sleep(ENDING_SECONDS)
            if watch.failures:
                raise RuntimeError(f"a request failed during a reload: {watch.failures[0]}")
            waits.append(watch.longest * 1e3)
    return waits


def figures(plugin, directory, count=5):
    """All rows of this file, once."""
    times = deaths(plugin, directory / "deaths", (SMALL, PRELOADED), count)
    for case, milliseconds in times.items():
        yield f"host death to next answer, {case.title}", "ms", statistics.median(milliseconds)
    waits = reloads(plugin, directory / "reloads", PRELOADED, count)
    yield "reload with heavy preloaded imports, longest wait", "ms", statistics.median(waits)

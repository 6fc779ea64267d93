# SPDX-License-Identifier: GPL-3.0-or-later
"""A day of calls: what a busy hospital's server does, hour by hour, and what must have come of it."""

import concurrent.futures
import http.client
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import wrk
from measure_dicom import make_instance
from server import ENVIRONMENT
from servers import Server

WORKERS = 2
CONNECTIONS = 8  # of wrk
CLIENTS = 2  # further ones
ROLL_CALL = 20  # lanes of each host: more than calls can be in it otherwise
WAIT_SECONDS = 60
ROLL_CALL_BYTES = 600_000  # more than the memory of a lane in each direction
IMAGES_OF_SERIES, SERIES_OF_STUDY = 50, 2


@dataclass
class Amounts:
    """600 examinations of 100 images each are stored, and deleted again, as by a server that forwards them. 200 workstations
    and devices ask the script 5000 times each. Archive and viewers make 10 000 C-FINDs."""

    requests: int = 1_000_000  # all of the next four, and what is left of it: a trivial route
    nested: int = 50_000  # the script asks Orthanc's REST API
    echoes: int = 20_000  # 20 KB in and out
    images: int = 20_000  # an object of Orthanc's in the script
    failures: int = 2_000  # the script raises
    instances: int = 60_000
    finds: int = 10_000

    def of_an_hour(self, requests, hours):
        """The same for another number of requests, and a part of a day."""
        factor = requests / self.requests / hours
        return Amounts(**{name: max(2, round(value * factor)) for name, value in vars(self).items()})


class Day:
    """A server and its load. What is wrong is a problem, in words."""

    def __init__(self, plugin, directory, leak):
        self.directory = Path(directory)
        (self.directory / "counts").mkdir()
        self.instance = self.directory / "instance.dcm"
        make_instance(self.instance, "SOAK")
        self.server = Server("soak", plugin, self.directory / "server", "day.py", {"Workers": WORKERS}, {
            "DicomAlwaysAllowFind": True, "OverwriteInstances": True,
            "Soak": {"Directory": str(self.directory / "counts"), "Leak": leak},
        })  # fmt: skip
        self.problems = []
        self.called = 0
        self.done = {"REST requests": 0, "C-STOREs": 0, "C-FINDs": 0, "instances deleted": 0, "reloads": 0}

    # -- the load of an hour, each on a thread of its own --------------------------------------

    def _trivial(self, count):
        while count > 0:
            found = wrk.run(self.server, "/soak/trivial", CONNECTIONS, 1)["count"]
            self.done["REST requests"] += found
            count -= found

    def _ask(self, connection, method, path, body, status, answer):
        connection.request(method, path, body)
        response = connection.getresponse()
        data = response.read()
        if response.status != status or (answer is not None and data != answer):
            self.problems.append(f"{method} {path}: {response.status}, {data[:200]}")

    def _mixed(self, amounts, part):
        """Its part of the other requests, one kind among the others."""
        body = bytes(range(250)) * 80
        kinds = (
            ("GET", "/soak/nested", None, 200, b'"soak"', amounts.nested),
            ("POST", "/soak/echo", body, 200, body, amounts.echoes),
            ("GET", "/soak/image", None, 200, b"256", amounts.images),
            ("GET", "/soak/fail", None, 500, None, amounts.failures),
        )
        left = [kind[-1] // CLIENTS for kind in kinds]
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=WAIT_SECONDS)
        most, turn = max(left), 0
        try:
            for turn in range(most):
                for kind, count in zip(kinds, left):
                    if (turn + part) * count // most != (turn + part + 1) * count // most:
                        self._ask(connection, *kind[:-1])
                        self.done["REST requests"] += 1
        finally:
            connection.close()

    def _run(self, *command):
        result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=600, check=False)
        if result.returncode != 0:
            self.problems.append(f"{command[0]} ended with {result.returncode}: {(result.stdout + result.stderr)[-500:]}")

    def _store(self, count):
        self._run("storescu", "-aec", "BENCH", "--repeat", str(count),
                  "+IR", str(IMAGES_OF_SERIES), "+IS", str(SERIES_OF_STUDY), "+IP", "1", "127.0.0.1", str(self.server.dicom_port), str(self.instance))  # fmt: skip
        self.done["C-STOREs"] += count

    def _find(self, count):
        self._run("findscu", "-S", "-aec", "BENCH", "--repeat", str(count),
                  "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=P", "127.0.0.1", str(self.server.dicom_port))  # fmt: skip
        self.done["C-FINDs"] += count

    def _reload(self):
        connection = self.server.connection()
        try:
            self.server.request(connection, "POST", "/python-bridge/reload", b"")
            self.done["reloads"] += 1
        finally:
            connection.close()

    def hour(self, amounts, with_reload):
        """All of an hour's load at once, a reload in the midst of it; then all is taken away."""
        trivial = amounts.requests - amounts.nested - amounts.echoes - amounts.images - amounts.failures
        with concurrent.futures.ThreadPoolExecutor() as executor:
            jobs = [executor.submit(self._trivial, trivial), executor.submit(self._store, amounts.instances),
                    executor.submit(self._find, amounts.finds)]  # fmt: skip
            jobs += [executor.submit(self._mixed, amounts, part) for part in range(CLIENTS)]
            if with_reload:
                jobs.append(executor.submit(self._reload))
            for job in jobs:
                job.result()
        connection = self.server.connection()
        try:
            for patient in json.loads(self.server.request(connection, "GET", "/patients")):
                self.server.request(connection, "DELETE", f"/patients/{patient}")
        finally:
            connection.close()
        self.done["instances deleted"] = self.done["C-STOREs"]

    # -- what must have come of it ----------------------------------------------------------------

    def counts(self):
        return {path.name: path.stat().st_size for path in (self.directory / "counts").iterdir() if path.name != "roll-call"}

    def settle(self):
        """Waits until every event has come, and old hosts are gone; what has not is a problem."""
        stored, found = self.done["C-STOREs"], self.done["C-FINDs"]
        expected = {"new-instance": stored, "deleted": stored, "stored": stored, "found": found}
        until, before = time.monotonic() + WAIT_SECONDS, None
        while True:
            status = self.server.status()
            is_quiet = status["Events"]["Queued"] == 0 and not status["EndingHosts"] and not status["StartingHosts"]
            is_quiet = is_quiet and [host["Running"] for host in status["Hosts"]] == [0] * WORKERS
            calls = sum(kind["Calls"] for kind in status["Callbacks"].values())  # events that are not counted, too
            if is_quiet and calls == before and self.counts() == expected:
                break
            before = calls
            if time.monotonic() > until:
                self.problems.append(f"{WAIT_SECONDS} s after the load: expected {expected}, and the script counts "
                                     f"{self.counts()}; {status['Events']}; hosts: {len(status['Hosts'])}")  # fmt: skip
                break
            time.sleep(0.1)  # the last events are on their way
        lost = {name: status["Events"][name] for name in ("Lost", "SetAside")}
        calls = {name: status["Calls"][name] for name in ("Died", "Late", "NoHost", "Repeated", "GivenUp", "Refused")}
        for name, value in {**lost, **calls}.items():
            if value != 0:
                self.problems.append(f"the status counts {value} as {name}")
        return status

    def call_the_roll(self):
        """Every host has as many lanes and threads as it ever needs, and all memory of the lanes was in use: so
        they can be compared."""
        self.called += ROLL_CALL * WORKERS
        with concurrent.futures.ThreadPoolExecutor(ROLL_CALL * WORKERS) as executor:
            path = f"/soak/roll-call/{self.called}"
            jobs = [executor.submit(self._answer, path) for _ in range(ROLL_CALL * WORKERS)]
            for job in jobs:
                job.result()

    def _answer(self, path):
        body, connection = bytes(ROLL_CALL_BYTES), self.server.connection()
        try:
            if self.server.request(connection, "POST", path, body) != body:
                self.problems.append("another answer to the roll call")
        finally:
            connection.close()

    def log_problems(self):
        """What Orthanc's log says that is no exception of the route that raises."""
        log = (self.directory / "server" / "log").read_text(errors="replace")
        return [line for line in log.splitlines() if "objects are lent still" in line or "Segmentation" in line]

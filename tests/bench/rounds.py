# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers a round starts, and which rows each of them is asked for.

Here:      the order. The two plugins take turns at each kind of server, so that what is compared
           was measured within seconds.
Elsewhere: the rows (measure.py, measure_dicom.py, hosts.py), what they mean (report.py).
"""

import json
import statistics
import time
from pathlib import Path

import hosts
import measure
import measure_dicom
from server import Server, running, stopped_together

HERE = Path(__file__).resolve().parent
LABELS = ("official", "ours")
MANY_HOSTS = 4
STARTS = 5  # of which the median counts
MEMORY = "memory of all processes (PSS)"
ANSWERS_FIND = {"DicomAlwaysAllowFind": True}
WITHOUT_CACHE = {"MaximumStorageCacheSize": 0}  # all files come from the script


class Bench:
    """The two plugins, a directory for the servers, and what they are fed with."""

    def __init__(self, plugins, directory, seconds):
        self.plugins, self.directory, self.seconds = plugins, Path(directory), seconds
        self.files = measure_dicom.make_files(self.directory / "dicom", 100)
        self.large_files = measure_dicom.make_large_files(self.directory / "large")
        self.query = measure_dicom.make_query(self.directory / "query.dcm")
        self.count = 0

    def next_directory(self, label):
        self.count += 1
        return self.directory / f"{label}-{self.count}"

    def make_server(self, label, script="script.py", workers=1, options=None):
        """A server that is not started yet."""
        section = {"Workers": workers} if workers > 1 and label == "ours" else None
        return Server(label, self.plugins[label], self.next_directory(label), HERE / script, section, options)

    def server(self, label, *arguments, **more):
        """Lends a server that runs."""
        return running(self.make_server(label, *arguments, **more))


class Figures:
    """Of one round: official and ours {name: (unit, value, better)}, absolute {name: (unit, value)}."""

    def __init__(self):
        self.official, self.ours, self.absolute = {}, {}, {}

    def add(self, label, name, unit, value, better):
        getattr(self, label)[name] = (unit, value, better)

    def add_rows(self, label, *rows):
        for row in rows:
            for figure in row:
                self.add(label, *figure)


def start_up(bench, order, figures):
    """Those that have started already have nothing to do until all are stopped."""
    seconds = {label: [] for label in order}
    with stopped_together() as servers:
        for _ in range(STARTS):
            for label in order:
                servers.append(bench.make_server(label))
                seconds[label].append(servers[-1].start())
    for label in order:
        figures.add(label, "start-up to first answer", "ms", statistics.median(seconds[label]) * 1e3, "less")


def one_host(bench, order, figures):
    for label in order:
        with bench.server(label) as server:
            measure.parallel_health(server)
            figures.add(label, MEMORY, "MB", server.memory_bytes() / 1e6, "less")
            figures.add_rows(
                label,
                measure.trivial_one_client(server, bench.seconds),
                measure.trivial_many_clients(server, bench.seconds),
                measure.sdk_calls(server),
                measure.large_bodies(server),
                measure_dicom.store_instances(server, bench.files),
                measure.native_while_busy(server, bench.seconds),
            )
            rate = measure.compute_rate(server, bench.seconds)
            figures.add(label, "CPU-bound route, 4 clients, 1 host, rate", "1/s", rate, "more")
    over = figures.ours[MEMORY][1] - figures.official[MEMORY][1]
    figures.absolute["memory over the official plugin's (PSS), 1 host"] = ("MB", over)


def two_hosts(bench, order, figures):
    """The official plugin has one interpreter, and is measured again beside them."""
    for label in order:
        with bench.server(label, workers=2) as server:
            rate = measure.trivial_rate(server, bench.seconds)
            figures.add(label, "REST trivial, 16 clients, 2 hosts, rate", "1/s", rate, "more")
            rate = measure.compute_rate(server, bench.seconds)
            figures.add(label, "CPU-bound route, 4 clients, 2 hosts, rate", "1/s", rate, "more")


def many_hosts(bench, order, figures):
    for label in order:
        with bench.server(label, workers=MANY_HOSTS) as server:
            measure.parallel_health(server)
            if label == "ours":
                more = server.memory_bytes() / 1e6 - figures.ours[MEMORY][1]
                figures.absolute["memory of each further host (PSS)"] = ("MB", more / (MANY_HOSTS - 1))
            rate = measure.compute_rate(server, bench.seconds)
            figures.add(label, f"CPU-bound route, 4 clients, {MANY_HOSTS} hosts, rate", "1/s", rate, "more")


def events_and_find(bench, order, figures):
    for label in order:
        with bench.server(label, "event_script.py", options=ANSWERS_FIND) as server:
            figures.add_rows(label, measure_dicom.uploads_seen(server, bench.files),
                             measure_dicom.find(server, bench.query))  # fmt: skip


def storage_area(bench, order, figures):
    for label in order:
        with bench.server(label, "storage_script.py", options=WITHOUT_CACHE) as server:
            figures.add_rows(label, measure_dicom.storage_area(server, bench.large_files))


def hosts_alone(bench, order, figures):
    for name, unit, value in hosts.figures(bench.plugins["ours"], bench.next_directory("hosts")):
        figures.absolute[name] = (unit, value)


PARTS = (start_up, one_host, two_hosts, many_hosts, events_and_find, storage_area, hosts_alone)


def one_round(bench, number):
    """The plugins take turns at beginning, too."""
    figures = Figures()
    for part in PARTS:
        begin = time.monotonic()
        part(bench, LABELS[:: -1 if number % 2 else 1], figures)
        print(f"round {number + 1}: {part.__name__.replace('_', ' ')}, {time.monotonic() - begin:.0f} s", flush=True)
    return figures


def versions(bench):
    """What runs here; a first start of each also brings its files into memory."""
    found = {}
    for label in LABELS:
        with bench.server(label) as server:
            found["orthanc"] = json.loads(server.get("/system"))["Version"]
            found[label] = json.loads(server.get("/plugins/python"))["Version"]
    return found

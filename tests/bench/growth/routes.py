# SPDX-License-Identifier: GPL-3.0-or-later
"""10 to 10 000 REST routes: what one costs at the start, and what it costs a request."""

import statistics
import time

import processes
from model import Curve
from servers import Server

SCRIPT = """
import time
import orthanc

def trivial(output, uri, **request):
    output.AnswerBuffer("ok\\n", "text/plain")

orthanc.RegisterRestCallback("/bench/trivial", trivial)
BEGIN = time.perf_counter()
for number in range(COUNT):
    orthanc.RegisterRestCallback("/system/%d" % number, trivial)
TAKEN = repr(time.perf_counter() - BEGIN)
orthanc.RegisterRestCallback("/bench/taken", lambda output, uri, **request: output.AnswerBuffer(TAKEN, "text/plain"))
"""
# The routes begin as a route of Orthanc does, so that expressions are compared as far for both.
ROUTE_BYTES = 4000.0  # Orthanc keeps a compiled regular expression of each, Python a string
SLOWER = 1.5


def _median_us(server, path, seconds):
    taken, connection, until = [], server.connection(), time.perf_counter() + seconds
    try:
        while time.perf_counter() < until or len(taken) < 20:
            begin = time.perf_counter()
            server.request(connection, "GET", path)
            taken.append(time.perf_counter() - begin)
    finally:
        connection.close()
    return statistics.median(taken) * 1e6


def routes(bench):
    curve = Curve("routes", "REST routes of a script", "routes", "us per request")
    counts = bench.points([10, 100, 1000, 10000], [10, 1000, 10000])
    for label, plugin in bench.plugins():
        for count in counts:
            with Server(label, plugin, bench.directory(), SCRIPT.replace("COUNT", str(count))) as server:
                registering = float(server.get("/bench/taken"))
                for what, path in (("the last route", f"/system/{count - 1}"), ("the first route", "/bench/trivial"),
                                   ("a route of Orthanc's own", "/system")):  # fmt: skip
                    curve.line(f"{what}, {label}", "us").add(count, _median_us(server, path, bench.seconds(1)))
                curve.line(f"to register one, {label}", "us", False).add(count, registering * 1e6 / count)
                curve.line(f"start-up to first answer, {label}", "ms", False).add(count, server.start_seconds * 1e3)
                curve.line(f"memory of all processes (PSS), {label}", "MB", False).add(count, processes.memory_mb(server.pid))
    curve.notes.append("Orthanc itself compares each request with one pattern after the other: its own routes come last")
    curve.check_no_cliff("to register a route", curve.line("to register one, ours", ""))
    curve.check_no_cliff("the first route", curve.line("the first route, ours", ""))
    _check_last(curve, counts)
    memory = curve.line("memory of all processes (PSS), ours", "")
    each = (memory.at(counts[-1]) - memory.at(counts[0])) * 1e6 / (counts[-1] - counts[0])
    curve.check(f"each route takes {each:.0f} bytes; allowed: {ROUTE_BYTES:g}", each <= ROUTE_BYTES)
    return curve


def _check_last(curve, counts):
    """The last route costs what Orthanc's look at all patterns costs, and what a route costs."""
    last, native = curve.line("the last route, ours", ""), curve.line("a route of Orthanc's own, ours", "")
    allowed = SLOWER * native.at(counts[-1]) + last.at(counts[0])
    curve.check(f"the last of {counts[-1]} routes: {last.at(counts[-1]):.0f} us; a route of Orthanc's own, which is behind "
                f"all of them: {native.at(counts[-1]):.0f}; allowed: {allowed:.0f}", last.at(counts[-1]) <= allowed)  # fmt: skip

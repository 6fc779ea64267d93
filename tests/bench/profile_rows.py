# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows that tests/bench/profile can look into: how each is started, and what it does once.

Here:      what is done while something else counts.
Elsewhere: the counting (profile_looks.py), start-up and memory, which are no load (profile_start.py),
           the load of rows that the benchmark measures as well (measure.py, measure_dicom.py).
"""

import contextlib
import statistics
from typing import Callable, NamedTuple

import measure
import measure_dicom
import profile_native
import rounds
from profile_looks import Done

SECONDS = 3  # of rows that last as long as they are let
PAYLOAD = 50 * 1000 * 1000


class Row(NamedTuple):
    """ready(server, material) lends a function that does it once, and gives Done."""

    unit: str  # what is counted as a call
    ready: Callable
    material: Callable = lambda directory: None
    script: str = "script.py"
    options: dict = {}


def _gets(path, repeats):
    """Requests on one connection."""

    @contextlib.contextmanager
    def ready(server, _):
        def run():
            for _ in range(repeats):
                server.request(connection, "GET", path)
            return Done(repeats)

        with contextlib.closing(server.connection()) as connection:
            yield run

    return ready


def _in_the_script(path, calls, repeats=10):
    """Callbacks that make so many SDK calls each, and say how long one took."""

    @contextlib.contextmanager
    def ready(server, _):
        def run():
            seconds = [float(server.request(connection, "GET", path)) for _ in range(repeats)]
            return Done(calls * repeats, {"in the script us": statistics.median(seconds) * 1e6})

        with contextlib.closing(server.connection()) as connection:
            yield run

    return ready


@contextlib.contextmanager
def _echo(server, _, repeats=5):
    body = bytes(PAYLOAD)

    def run():
        for _ in range(repeats):
            server.request(connection, "POST", "/bench/echo", body)
        return Done(repeats)

    with contextlib.closing(server.connection()) as connection:
        yield run


def _as_measured(ready, calls):
    """What measure_dicom.py does, with a number of calls."""

    @contextlib.contextmanager
    def counted(server, material):
        def run():
            once()
            return Done(calls)

        with ready(server, material) as once:
            yield run

    return counted


@contextlib.contextmanager
def _compute(server, _):
    def run():
        count, _ = measure.compute(server, SECONDS)
        return Done(count)

    yield run


@contextlib.contextmanager
def _native(server, _):
    yield lambda: profile_native.while_busy(server, SECONDS)


def _files(directory):
    return measure_dicom.make_files(directory / "dicom", 100)


ROWS = {
    "trivial": Row("REST request, 1 client", _gets("/bench/trivial", 1000)),
    "sdk-value": Row("GenerateUuid()", _in_the_script("/bench/sdk-value", 2000)),
    "sdk-void": Row("SetMetricsValue()", _in_the_script("/bench/sdk-void", 2000)),
    "rest-api-get": Row("RestApiGet('/system')", _in_the_script("/bench/rest-api-get", 500)),
    "echo": Row("50 MB in and out", _echo),
    "out": Row("50 MB out", _gets("/bench/payload", 5)),
    "stored": Row("stored instance", _as_measured(measure_dicom.ready_to_store, 100), _files),
    "uploads": Row("uploaded instance", _as_measured(measure_dicom.ready_to_upload, measure_dicom.UPLOADS),
                   _files, "event_script.py"),
    "find": Row("query with 20 tags", _as_measured(measure_dicom.ready_to_find, measure_dicom.QUERIES),
                lambda directory: measure_dicom.make_query(directory / "query.dcm"),
                "event_script.py", rounds.ANSWERS_FIND),
    "storage": Row("512 KB in and out", _as_measured(measure_dicom.ready_for_files, 100),
                   lambda directory: measure_dicom.make_large_files(directory / "large"),
                   "storage_script.py", rounds.WITHOUT_CACHE),
    "cpu": Row("request of the CPU-bound route, 4 clients", _compute),
    "native": Row("/system while Python is busy", _native),
}  # fmt: skip

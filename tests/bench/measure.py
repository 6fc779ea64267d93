# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured by HTTP. Each row is a function of a running server that gives named figures.

A figure is (name, unit, value, better) with better "less" or "more". Rows with DICOM are in
measure_dicom.py, those of hosts that die or are replaced in hosts.py.
"""

import concurrent.futures
import statistics
import time

import wrk

REPEATS = 5  # of what is short; the median counts


def _percentile(values, fraction):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def _client(server, path, until):
    durations = []
    connection = server.connection()
    try:
        while True:
            begin = time.perf_counter()
            if begin >= until:
                return durations
            server.request(connection, "GET", path)
            durations.append(time.perf_counter() - begin)
    finally:
        connection.close()


def trivial_one_client(server, seconds):
    durations = _client(server, "/bench/trivial", time.perf_counter() + seconds)
    yield "REST trivial, 1 client, rate", "1/s", len(durations) / seconds, "more"
    yield "REST trivial, 1 client, p50", "us", _percentile(durations, 0.50) * 1e6, "less"
    yield "REST trivial, 1 client, p99", "us", _percentile(durations, 0.99) * 1e6, "less"


def trivial_many_clients(server, seconds):
    figures = wrk.run(server, "/bench/trivial", 16, seconds)
    yield "REST trivial, 16 clients, rate", "1/s", figures["rate"], "more"
    yield "REST trivial, 16 clients, p50", "us", figures["50%"], "less"
    yield "REST trivial, 16 clients, p99", "us", figures["99%"], "less"


def trivial_rate(server, seconds):
    """The rate of 16 clients alone."""
    return wrk.run(server, "/bench/trivial", 16, seconds)["rate"]


def sdk_calls(server):
    for name, path in (
        ("SDK call with a value (GenerateUuid)", "/bench/sdk-value"),
        ("SDK call without a value (SetMetricsValue)", "/bench/sdk-void"),
        ("RestApiGet('/system')", "/bench/rest-api-get"),
    ):
        seconds = statistics.median(float(server.get(path)) for _ in range(REPEATS))
        yield name, "us", seconds * 1e6, "less"


def _median_ms(server, method, path, body, expected):
    connection, durations = server.connection(), []
    try:
        for _ in range(REPEATS):
            begin = time.perf_counter()
            if len(server.request(connection, method, path, body)) != expected:
                raise RuntimeError(f"{server.label}: {path} answered another length")
            durations.append(time.perf_counter() - begin)
    finally:
        connection.close()
    return statistics.median(durations) * 1e3


def large_bodies(server):
    body = bytes(50 * 1000 * 1000)
    yield "50 MB in and out", "ms", _median_ms(server, "POST", "/bench/echo", body, len(body)), "less"
    yield "50 MB out", "ms", _median_ms(server, "GET", "/bench/payload", None, len(body)), "less"


def native_while_busy(server, seconds):
    """/system, which no script serves, while four clients keep Python computing."""
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        until = time.perf_counter() + max(1, round(seconds)) + 0.2
        clients = [executor.submit(_client, server, "/bench/compute", until) for _ in range(4)]
        figures = wrk.run(server, "/system", 1, seconds)
        if not all(client.result() for client in clients):
            raise RuntimeError(f"{server.label}: Python was not busy")
    yield "native /system while Python is busy, p99", "us", figures["99%"], "less"


def compute(server, seconds):
    """How often four clients were answered on a route that does nothing but compute, and in how many seconds."""
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        begin = time.perf_counter()
        clients = [executor.submit(_client, server, "/bench/compute", begin + seconds) for _ in range(4)]
        count = sum(len(client.result()) for client in clients)
        return count, time.perf_counter() - begin


def compute_rate(server, seconds):
    count, took = compute(server, seconds)
    return count / took


def parallel_health(server):
    """All figures are void if the server does not answer correctly under load."""
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        answers = set(executor.map(lambda _: server.get("/bench/trivial"), range(40)))
    if answers != {b"ok\n"}:
        raise RuntimeError(f"{server.label}: wrong answers {answers}")

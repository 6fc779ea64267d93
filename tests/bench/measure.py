# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured. Each row is a function of a running server that gives named figures.

A figure is (name, unit, value, better) with better "less" or "more".
"""

import concurrent.futures
import json
import statistics
import subprocess
import time

from server import ENVIRONMENT


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


def _to_microseconds(text):
    for suffix, factor in (("us", 1.0), ("ms", 1e3), ("s", 1e6)):
        if text.endswith(suffix):
            return float(text[: -len(suffix)]) * factor
    raise ValueError(text)


def trivial_many_clients(server, seconds):
    """16 connections by wrk: a client in Python would measure itself."""
    output = subprocess.run(
        ["wrk", "-t", "2", "-c", "16", "-d", f"{max(1, round(seconds))}s", "--latency",
         f"http://127.0.0.1:{server.port}/bench/trivial"],
        check=True, capture_output=True, text=True, timeout=seconds + 60,
    ).stdout  # fmt: skip
    words = {line.split()[0]: line.split()[1] for line in output.splitlines() if len(line.split()) >= 2}
    if "Non-2xx" in output:
        raise RuntimeError(f"{server.label}: failed requests:\n{output}")
    yield "REST trivial, 16 clients, rate", "1/s", float(words["Requests/sec:"]), "more"
    yield "REST trivial, 16 clients, p50", "us", _to_microseconds(words["50%"]), "less"
    yield "REST trivial, 16 clients, p99", "us", _to_microseconds(words["99%"]), "less"


def sdk_calls(server, seconds):
    for name, path in (
        ("SDK call with a value (GenerateUuid)", "/bench/sdk-value"),
        ("SDK call without a value (SetMetricsValue)", "/bench/sdk-void"),
        ("RestApiGet('/system')", "/bench/rest-api-get"),
    ):
        yield name, "us", float(server.get(path)) * 1e6, "less"


def large_body(server, seconds):
    body = bytes(50 * 1000 * 1000)
    connection = server.connection()
    durations = []
    try:
        for _ in range(3):
            begin = time.perf_counter()
            if len(server.request(connection, "POST", "/bench/echo", body)) != len(body):
                raise RuntimeError(f"{server.label}: the echo has another length")
            durations.append(time.perf_counter() - begin)
    finally:
        connection.close()
    yield "50 MB in and out", "ms", statistics.median(durations) * 1e3, "less"


def store_instances(server, seconds, files):
    before = int(server.get("/bench/stored"))
    begin = time.perf_counter()
    subprocess.run(
        ["storescu", "-aec", "BENCH", "127.0.0.1", str(server.dicom_port), *map(str, files)],
        check=True, capture_output=True, timeout=120, env=ENVIRONMENT,
    )  # fmt: skip
    duration = time.perf_counter() - begin
    if int(server.get("/bench/stored")) - before != len(files):
        raise RuntimeError(f"{server.label}: OnStoredInstance did not see all {len(files)} instances")
    yield f"C-STORE of {len(files)} with OnStoredInstance", "ms", duration * 1e3, "less"
    for study in json.loads(server.get("/studies")):
        connection = server.connection()
        server.request(connection, "DELETE", f"/studies/{study}")
        connection.close()


def compute_rate(server, seconds):
    """Requests per second of four clients on a route that does nothing but compute."""
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        begin = time.perf_counter()
        clients = [executor.submit(_client, server, "/bench/compute", begin + seconds) for _ in range(4)]
        count = sum(len(client.result()) for client in clients)
        return count / (time.perf_counter() - begin)


def parallel_health(server):
    """All figures are void if the server does not answer correctly under load."""
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        answers = set(executor.map(lambda _: server.get("/bench/trivial"), range(40)))
    if answers != {b"ok\n"}:
        raise RuntimeError(f"{server.label}: wrong answers {answers}")

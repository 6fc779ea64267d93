# SPDX-License-Identifier: GPL-3.0-or-later
"""1 to 64 HTTP clients on one host; 1 to 8 hosts; 1 to 8 nodes on one pool."""

import processes
import wrk
from model import Curve, core_count
from servers import Pool, Server

CONNECTIONS = 16
HOST_MB = 10.0  # what each further host may take


def clients(bench):
    curve = Curve("clients", "HTTP clients, a trivial route, one host", "clients", "us per request")
    for label, plugin in bench.plugins():
        cost, late = curve.line(label, "us per request"), curve.line(f"{label}, p99", "ms", False)
        with Server(label, plugin, bench.directory(), "load.py") as server:
            for number in bench.points([1, 2, 4, 8, 16, 32, 64], [1, 8, 64]):
                figures = wrk.run(server, "/bench/trivial", number, bench.seconds(2))
                cost.add(number, 1e6 / figures["rate"])
                late.add(number, figures["99%"] / 1e3)
    curve.check_no_cliff("ours", curve.line("ours", ""), beside=curve.line("official", ""))
    return curve


def hosts(bench):
    curve = Curve("hosts", f"Hosts (Python.Workers), {CONNECTIONS} clients", "hosts", "us per request")
    lines = {"trivial": curve.line("trivial route", "us per request"),
             "compute": curve.line("CPU-bound route", "us per request")}  # fmt: skip
    memory = curve.line("memory of all processes (PSS)", "MB", False)
    start = curve.line("start-up to first answer", "ms", False)
    for number in bench.points([1, 2, 4, 8], [1, 2, 8]):
        with Server("ours", bench.plugin, bench.directory(), "load.py", {"Workers": number}) as server:
            start.add(number, server.start_seconds * 1e3)
            for path, line in lines.items():
                rate = wrk.run(server, f"/bench/{path}", CONNECTIONS, bench.seconds(3))["rate"]
                line.add(number, 1e6 / rate)
            memory.add(number, processes.memory_mb(server.pid))
    for line in lines.values():
        curve.check_no_cliff(line.label, line)
    gain = lines["compute"].at(1) / lines["compute"].at(2)
    if core_count() >= 2:
        curve.check(f"CPU-bound route: 2 hosts answer {gain:.2f} times as often as 1; wanted: 1.5", gain >= 1.5)
    (_, first), (largest, last) = memory.points[0], memory.last()
    each = (last - first) / (largest - 1)
    curve.check(f"each further host takes {each:.1f} MB (PSS); allowed: {HOST_MB:g}", each <= HOST_MB)
    return curve


def nodes(bench):
    curve = Curve("nodes", f"Orthanc servers on one shared pool, {CONNECTIONS} clients in all", "servers",
                  "us per request")  # fmt: skip
    cost = curve.line("trivial route, all servers together", "us per request")
    memory = curve.line("memory of a server with its host (PSS)", "MB", False)
    start = curve.line("start-up of the last", "ms", False)
    idle = curve.line("memory of the pool's supervisor (PSS)", "MB", False)
    with Pool(bench.worker, bench.directory(is_made=True)) as pool:
        servers = []
        try:
            for number in bench.points([1, 2, 4, 8], [1, 4]):
                while len(servers) < number:
                    servers.append(Server("ours", bench.plugin, bench.directory(), "load.py", {"Pool": pool.socket}))
                    begun = servers[-1].start()
                start.add(number, begun * 1e3)
                share = max(1, CONNECTIONS // number)
                running = [wrk.Wrk(server, "/bench/trivial", share, bench.seconds(3)) for server in servers]
                cost.add(number, 1e6 / sum(each.result()["rate"] for each in running))
                all_mb = processes.memory_mb(pool.pid, *(server.pid for server in servers))
                own_mb = processes.pss_bytes(pool.pid) / 1e6
                memory.add(number, (all_mb - own_mb) / number)
                idle.add(number, own_mb)
        finally:
            for server in servers:
                server.stop()
    curve.check_no_cliff("requests", cost)
    curve.check_no_cliff("start-up", start)
    curve.check_no_cliff("memory", memory)
    return curve

# SPDX-License-Identifier: GPL-3.0-or-later
"""/system, which no script serves, while Python is busy: what its slowest requests waited for.

A request on one connection is a pair of threads that take turns, the client's and the one of
Orthanc's that serves the connection. The kernel says of each thread how long it has run, how long
it has waited for a core, and how often it was given one (/proc/PID/task/TID/schedstat): read
around every request, that tells what its time was. What is left is sleep, mostly while the other works.
"""

import contextlib
import os
import socket
import statistics
import threading
import time
from pathlib import Path
from typing import NamedTuple

import wrk
from profile_looks import Done

BUSY_CLIENTS = 4
ANSWER_SECONDS = 30
PERCENTILES = (50, 90, 98, 99, 99.5)
SLOW_US = 500  # no request takes as long that has waited for nothing


class Schedule(NamedTuple):
    """Of one thread, as the kernel counts."""

    running_ns: int
    waiting_ns: int
    turns: int

    def __sub__(self, before):
        return Schedule(*(now - then for now, then in zip(self, before)))


class Request(NamedTuple):
    """All in us, except turns: how often Orthanc's thread was given a core."""

    took: float
    client_ran: float
    client_waited: float
    orthanc_ran: float
    orthanc_waited: float
    turns: float

    @property
    def rest(self):
        """Both slept; below 0 if they ran at the same time."""
        return self.took - sum(self[1:5])


def parse_schedule(text):
    return Schedule(*map(int, text.split()))


class Thread:
    """Whose counters are read again and again."""

    def __init__(self, pid, tid):
        self.tid = tid
        self.file = os.open(f"/proc/{pid}/task/{tid}/schedstat", os.O_RDONLY)

    def read(self):
        return parse_schedule(os.pread(self.file, 100, 0))

    def close(self):
        os.close(self.file)


class Closed(ConnectionError):
    pass


class Client:
    """One connection, with little work at its own end."""

    def __init__(self, server, path):
        self.request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self.socket = socket.create_connection(("127.0.0.1", server.port), ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self):
        self.socket.sendall(self.request)
        answer = self.socket.recv(65536)
        while not is_whole(answer):
            more = self.socket.recv(65536)
            if not more:
                raise Closed(f"the server closed the connection after {answer[:100]}")
            answer += more
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the server answered {answer[:100]}")

    def close(self):
        self.socket.close()


def is_whole(answer):
    """Whether an answer with Content-Length is there to its end."""
    head, end, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if end and line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return False


class Pair:
    """A client, and the thread of Orthanc's that serves it: of all the one that is given a core most often."""

    def __init__(self, server, path):
        self.server, self.path = server, path
        self.open()

    def open(self):
        self.client = Client(self.server, self.path)
        before = self._turns()
        for _ in range(50):
            self.client.ask()
        after = self._turns()
        self.thread = Thread(self.server.process.pid, max(after, key=lambda tid: after[tid] - before.get(tid, 0)))

    def _turns(self):
        return {tid.name: parse_schedule((tid / "schedstat").read_text()).turns
                for tid in Path(f"/proc/{self.server.process.pid}/task").iterdir()}  # fmt: skip

    def close(self):
        self.thread.close()
        self.client.close()

    def reopen(self):
        self.close()
        self.open()


def _ask_until(pair, ours, until):
    """[Request]"""
    requests = []
    while time.perf_counter() < until:
        before, orthanc_before, ran = ours.read(), pair.thread.read(), time.thread_time_ns()
        begin = time.perf_counter_ns()
        try:
            pair.client.ask()
        except ConnectionError:  # we had no core between two requests until the server took us for gone
            pair.reopen()
            continue
        took = time.perf_counter_ns() - begin
        ran = time.thread_time_ns() - ran
        orthanc, own = pair.thread.read() - orthanc_before, ours.read() - before
        requests.append(Request(took / 1e3, ran / 1e3, own.waiting_ns / 1e3, orthanc.running_ns / 1e3,
                                orthanc.waiting_ns / 1e3, orthanc.turns))  # fmt: skip
    return requests


def summary(requests, seconds):
    """{name: us} of some percentiles, and of what the slowest 1 % consist of."""
    ordered = sorted(requests)
    figures = {f"p{percent:g} us": ordered[int(len(ordered) * percent / 100)].took for percent in PERCENTILES}
    for title, part in (("all", ordered), ("slowest 1 %", ordered[int(len(ordered) * 0.99):])):
        for name in (*Request._fields, "rest"):
            unit = "" if name == "turns" else " us"
            figures[f"{title}: {name.replace('_', ' ')}{unit}"] = statistics.mean(getattr(r, name) for r in part)
    slow = sum(request.took > SLOW_US for request in ordered)
    return {**figures, "requests per second": len(ordered) / seconds,
            f"of them over {SLOW_US} us": slow / seconds}  # fmt: skip


def while_busy(server, seconds):
    """The busy clients are wrk's: in threads of this process they would be what is measured."""
    with contextlib.closing(Pair(server, "/system")) as pair, \
            contextlib.closing(Thread(os.getpid(), threading.get_native_id())) as ours:  # fmt: skip
        busy = wrk.Wrk(server, "/bench/compute", BUSY_CLIENTS, seconds + 1)
        requests = _ask_until(pair, ours, time.perf_counter() + seconds)
        computed = busy.result()["count"]
    if not requests or computed < BUSY_CLIENTS:
        raise RuntimeError(f"{server.label}: {len(requests)} native requests, {computed} of Python's")
    return Done(len(requests), {**summary(requests, seconds),
                                "requests of the busy clients, per second": computed / seconds},
                {int(pair.thread.tid): "the thread that serves", ours.tid: "the client"})  # fmt: skip

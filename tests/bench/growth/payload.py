# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies of 0 bytes to 1 GB, in and out."""

import socket
import statistics
import time
from pathlib import Path

import processes
from model import Curve, Series, in_words
from servers import Server

COPIES = 8  # of a body that Orthanc, the host and the client may hold at a time
KEPT_MB = 96.0  # that may be kept after the largest: an allocator keeps up to 64 MB at the end of its memory
WARM = 10**6
# The allocator uses buffers of up to 32 MB again, and smaller ones stay in the processor's caches; for larger
# ones the kernel clears fresh memory, in each process. That is one step, and not a slope:
# from FRESH_BYTES on little changes but what the kernel has at hand.
FRESH, FRESHER = 5.0, 3.0
FRESH_BYTES = 10**8
SMALL = 10**6  # below it a request costs what an empty one does, more or less


class Client:
    """One connection that reads answers without keeping them: its memory is not measured, but
    it would take the place of the server's."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), 120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(1 << 20)

    def ask(self, method, path, body=b""):
        """Seconds, and how long the answer's body was."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        begin = time.perf_counter()
        if len(body) <= 65536:
            self.socket.sendall(head + body)
        else:
            self.socket.sendall(head)
            self.socket.sendall(body)
        head = b""
        while b"\r\n\r\n" not in head:
            part = self.socket.recv(65536)
            if not part:
                raise RuntimeError(f"{method} {path}: no answer, but {head!r}")
            head += part
        head, _, body = head.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        if " 200 " not in lines[0]:
            raise RuntimeError(f"{method} {path}: {lines[0]}")
        length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
        left = length - len(body)
        while left > 0:
            count = self.socket.recv_into(self.buffer)
            if count == 0:
                raise RuntimeError(f"{method} {path}: the answer ends {left} bytes too early")
            left -= count
        return time.perf_counter() - begin, length

    def close(self):
        self.socket.close()


def _repeat(seconds, ask):
    """The median of what takes so long altogether, of 3 at least."""
    taken = []
    while len(taken) < 3 or (sum(taken) < seconds and len(taken) < 2000):
        taken.append(ask())
    return statistics.median(taken)


def ask_in(server, size):
    body = memoryview(bytes(size))

    def ask():
        client = Client(server)  # Orthanc closes a connection that waits for a second
        try:
            seconds, _ = client.ask("POST", "/bench/take", body)
        finally:
            client.close()
        return seconds

    return ask


def ask_out(server, size, path=None):
    """path: of a route that answers with so many bytes."""
    path = path or f"/bench/give?bytes={size}"

    def ask():
        client = Client(server)
        try:
            seconds, length = client.ask("GET", path)
        finally:
            client.close()
        if length != size:
            raise RuntimeError(f"{server.label}: an answer of {length} bytes instead of {size}")
        return seconds

    return ask


def _available():
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def payload(bench):
    curve = Curve("payload", "Size of a body", "bytes", "ms per request")
    sizes = bench.points([0] + [10**power for power in range(1, 10)], [0, 10**3, 10**6, 10**7, 10**8])
    room = _available() // COPIES
    if sizes[-1] > room:
        curve.notes.append(f"larger than {in_words(room)} bytes is left out: this machine has too little memory")
        sizes = [size for size in sizes if size <= room]
    for label, plugin in bench.plugins():
        kept = _measure(bench, curve, label, plugin, sizes)
        text = f"{kept:.0f} MB more are kept after all of them than before, {label}"
        if label == "ours":
            curve.check(f"{text}; allowed: {KEPT_MB:g}", kept <= KEPT_MB)
        else:
            curve.notes.append(text)
    for way in ("in", "out"):
        line = curve.line(f"{way}, ours", "")
        curve.check_no_cliff(f"{way}, a megabyte", _per_megabyte(line), FRESH, _per_megabyte(curve.line(f"{way}, official", "")))
        if sizes[-1] > FRESH_BYTES:
            curve.check_no_cliff(f"{way}, a megabyte of fresh memory", _per_megabyte(line, FRESH_BYTES), FRESHER)
        small = [(size, value) for size, value in line.points if size <= 1000]
        curve.check_no_cliff(f"{way}, up to {in_words(small[-1][0])} bytes", Series(line.label, "ms", small))
    return curve


def _per_megabyte(line, smallest=SMALL):
    return Series(line.label, "ms per MB", [(size, value / (size / 1e6)) for size, value in line.points if size >= smallest])


def _measure(bench, curve, label, plugin, sizes):
    """Adds the points of one plugin; MB that are kept after it."""
    with Server(label, plugin, bench.directory(), "load.py") as server:
        for ask in (ask_in, ask_out):  # each size up to this leaves its buffers
            _repeat(bench.seconds(0.2), ask(server, WARM))
        before = processes.own_mb(server.pid)
        for way, ask in (("in", ask_in), ("out", ask_out)):
            line = curve.line(f"{way}, {label}", "ms")
            for size in sizes:
                ask(server, size)()  # what is kept for the next time is made
                line.add(size, _repeat(bench.seconds(0.3), ask(server, size)) * 1e3)
        ask_out(server, 0)()  # the script keeps none any more
        return processes.settled_own_mb(server.pid, before + KEPT_MB / 2, 5) - before

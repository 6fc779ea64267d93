# SPDX-License-Identifier: GPL-3.0-or-later
"""1 to 1 000 000 change events that wait for a callback."""

import time

import processes
from model import Curve, in_words
from servers import Server

EVENT_BYTES = 200.0  # docs/configuration.md says about 150
KEPT_MB = 8.0
BEYOND_BURST = 10**4  # events whose delivery takes long enough for the scheduler to settle
MOST = 10**6  # the largest Python.MaxEvents


def _await_queue(server, count):
    """Orthanc hands events on by a thread of its own."""
    until = time.monotonic() + 60
    while True:
        events = server.status()["Events"]
        if events["Queued"] >= count or events["Lost"] > 0 or time.monotonic() > until:
            return events
        time.sleep(0.01)


def events(bench):
    curve = Curve("events", "Change events that wait for the on-change callback", "events", "us per event")
    making, delivering = curve.line("to make one", "us per event"), curve.line("to deliver one", "us per event")
    memory = curve.line("memory of the queue", "MB", False)
    after = curve.line("of it kept when the queue is empty again", "MB", False)
    with Server("ours", bench.plugin, bench.directory(), "events.py", {"MaxEvents": MOST}) as server:
        for number in (1000, 1000):  # warm
            server.get("/bench/hold")
            server.get(f"/bench/make?count={number}")
            server.get(f"/bench/release?count={number + 1}")
        for number in bench.points([10**power for power in range(0, 7)], [1, 1000, 10**5]):
            server.get("/bench/hold")
            before = processes.own_bytes(server.pid)
            making.add(number, float(server.get(f"/bench/make?count={number}")) * 1e6 / number)
            found = _await_queue(server, number)
            memory.add(number, (processes.own_bytes(server.pid) - before) / 1e6)
            delivering.add(number, float(server.get(f"/bench/release?count={number + 1}")) * 1e6 / number)
            after.add(number, (processes.own_bytes(server.pid) - before) / 1e6)
            is_whole = found["Queued"] == number and found["Lost"] == 0 and server.text("/bench/delivered") == str(number + 1)
            if not is_whole:
                curve.check(f"{in_words(number)} events were made; the queue says {found}, the script saw "
                            f"{server.text('/bench/delivered')} with the one that was held", False)  # fmt: skip
        curve.check("every event was delivered once, none was lost", server.status()["Events"]["Lost"] == 0)
    curve.notes.append("the script looks each millisecond whether all have come: so figures of few events say little")
    curve.notes.append("a thousand come in a burst of 12 ms, in which both threads stay awake on their cores; what lasts "
                       "is some 30 us for each, however many still wait")  # fmt: skip
    for line, text, least in ((making, "to make an event", 1000), (delivering, "to deliver an event", BEYOND_BURST)):
        line_of_many = type(line)(line.label, "us", [point for point in line.points if point[0] >= least])
        curve.check_no_cliff(text, line_of_many)
    number, most_mb = memory.last()
    each = most_mb * 1e6 / number
    curve.check(f"an event takes {each:.0f} bytes in the queue; allowed: {EVENT_BYTES:g}", each <= EVENT_BYTES)
    kept = after.last()[1]
    curve.check(f"{kept:.1f} MB are kept of a queue of {in_words(number)}; allowed: {KEPT_MB:g}", kept <= KEPT_MB)
    return curve

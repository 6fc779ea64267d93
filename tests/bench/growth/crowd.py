# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests while processes that have nothing to do with Orthanc keep the cores busy."""

import contextlib
import subprocess
import sys
import time

from model import Curve, core_count, in_words
from payload import WARM, ask_in, ask_out
from servers import Server

# Two processes have to get their turn for each frame, where the official plugin has one.
WORSE = 3.0
JUDGED = 1  # others for each core. With more the kernel may let a woken process wait for milliseconds
SDK_CALLS = "100 SDK calls"


@contextlib.contextmanager
def _busy(count):
    """So many processes that count as fast as they can, each a session of its own, as services are."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _mean_ms(seconds, ask):
    """Not the median: what is lost to others is lost in few of the requests."""
    begin = time.perf_counter()
    taken = []
    while time.perf_counter() - begin < seconds or len(taken) < 3:
        taken.append(ask())
    return sum(taken) / len(taken) * 1e3


def crowd(bench):
    curve = Curve("crowd", "A crowded machine", "other busy processes for each core", "ms per request")
    numbers = bench.points([0, 1, 2, 4], [0, JUDGED])
    for label, plugin in bench.plugins():
        with Server(label, plugin, bench.directory(), "load.py") as server:
            asks = {
                "1 MB in": ask_in(server, WARM),
                "1 MB out": ask_out(server, WARM),
                "a trivial route": ask_out(server, 3, "/bench/trivial"),
                SDK_CALLS: ask_out(server, 3, "/bench/calls"),
            }
            for number in numbers:
                with _busy(number * core_count()):
                    for way, ask in asks.items():
                        ask()
                        curve.line(f"{way}, {label}", "ms").add(number, _mean_ms(bench.seconds(3), ask))
    for way in asks:
        ours, official = (curve.line(f"{way}, {label}", "").at(JUDGED) for label in ("ours", "official"))
        text = f"{way}, with {JUDGED} other for each core: {in_words(ours)} ms, official {in_words(official)}"
        if way == SDK_CALLS:
            curve.notes.append(f"{text}. Where all cores are busy both ends of a call sleep, which costs each some 20 us of its share.")
        else:
            curve.check(f"{text}; allowed: {WORSE:g} times as long", ours <= WORSE * official)
    return curve

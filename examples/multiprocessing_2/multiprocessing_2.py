# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /computation computes in one of four processes: requests use several processors."""

import math
import multiprocessing
import signal
import time
from typing import Any

import orthanc

ROUNDS = 100


def slow_computation() -> str:
    """Keeps a processor busy for a while, in a process of the pool."""
    start = time.monotonic()
    for _ in range(ROUNDS):
        for number in range(30000):
            math.sqrt(float(number))
    return 'computation done in %.03f seconds\n' % (time.monotonic() - start)


def ignore_interrupts() -> None:
    """Ctrl-C is for Orthanc, which ends the pool with the script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


POOL = multiprocessing.Pool(4, initializer=ignore_interrupts)


def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Other requests are served while this one waits."""
    output.AnswerBuffer(POOL.apply(slow_computation), 'text/plain')


def on_change(change_type: int, level: int, resource: str) -> None:
    """Ends the processes with the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        POOL.terminate()


orthanc.RegisterRestCallback('/computation', answer)
orthanc.RegisterOnChangeCallback(on_change)

# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /computation computes in the thread of the request.

Requests at the same time share one interpreter, hence one processor: the example
multiprocessing_2 does better.
"""

import math
import time
from typing import Any

import orthanc

ROUNDS = 100


def slow_computation() -> str:
    """Keeps a processor busy for a while."""
    start = time.monotonic()
    for _ in range(ROUNDS):
        for number in range(30000):
            math.sqrt(float(number))
    return 'computation done in %.03f seconds\n' % (time.monotonic() - start)


def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Serves the route."""
    output.AnswerBuffer(slow_computation(), 'text/plain')


orthanc.RegisterRestCallback('/computation', answer)

# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /parse/ID lets another process parse an instance.

The script's own process fetches the file from Orthanc; what the other one gets and gives
back are plain Python values.
"""

import io
import multiprocessing
import signal
from typing import Any

import orthanc
import pydicom


def parse(content: bytes) -> str:
    """Runs in a process of the pool."""
    return str(pydicom.dcmread(io.BytesIO(content)))


def ignore_interrupts() -> None:
    """Ctrl-C is for Orthanc, which ends the pool with the script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


POOL = multiprocessing.Pool(4, initializer=ignore_interrupts)


def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Serves the route."""
    (instance_id,) = request['groups']
    content = orthanc.RestApiGet('/instances/%s/file' % instance_id)
    output.AnswerBuffer(POOL.apply(parse, (content,)), 'text/plain')


def on_change(change_type: int, level: int, resource: str) -> None:
    """Ends the processes with the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        POOL.terminate()


orthanc.RegisterRestCallback('/parse/(.*)', answer)
orthanc.RegisterOnChangeCallback(on_change)

# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /statistics/ID lets another process compute with numpy, in a Python started afresh.

A forked process has the locks of its parent's threads, but not the threads: libraries that
have some can hang there. `spawn` starts a new Python instead, which imports this script again
to find the function; registering callbacks does nothing there.
"""

import concurrent.futures
import json
import multiprocessing
import signal
from typing import Any

import numpy
import orthanc


def ignore_interrupts() -> None:
    """Ctrl-C is for Orthanc, which ends the pool with the script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# No process is started before there is work.
POOL = concurrent.futures.ProcessPoolExecutor(
    2, mp_context=multiprocessing.get_context('spawn'), initializer=ignore_interrupts)


def compute(pixels: bytes) -> dict[str, float | str]:
    """Runs in a process of the pool."""
    values = numpy.frombuffer(pixels, dtype='<f4')
    return {'Minimum': float(values.min()), 'Maximum': float(values.max()),
            'Mean': round(float(values.mean(dtype='f8')), 3),
            'StartMethod': multiprocessing.get_start_method()}


def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Objects of Orthanc stay in this process; what travels are plain Python values."""
    (instance_id,) = request['groups']
    content = orthanc.RestApiGet('/instances/%s/file' % instance_id)
    frame = orthanc.DecodeDicomImage(content, 0).ConvertPixelFormat(orthanc.PixelFormat.FLOAT32)
    pitch, row = frame.GetImagePitch(), 4 * frame.GetImageWidth()
    raw = frame.GetImageBuffer()
    pixels = b''.join(raw[y * pitch:y * pitch + row] for y in range(frame.GetImageHeight()))
    output.AnswerBuffer(json.dumps(POOL.submit(compute, pixels).result()), 'application/json')


def on_change(change_type: int, level: int, resource: str) -> None:
    """Ends the processes with the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        POOL.shutdown()


orthanc.RegisterRestCallback('/statistics/(.*)', answer)
orthanc.RegisterOnChangeCallback(on_change)

# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /brightness/ID gives the mean pixel value of each instance of a series.

Processes of a pool compute it, each on a core of its own. They fetch the files themselves:
the SDK works in child processes too, which Orthanc's in-process plugin does not offer.
"""

import concurrent.futures
import io
import json
import signal
from typing import Any

import orthanc
import pydicom


def measure(instance_id: str) -> float:
    """Runs in a process of the pool."""
    content = orthanc.RestApiGet('/instances/%s/file' % instance_id)
    return float(pydicom.dcmread(io.BytesIO(content)).pixel_array.mean())


def ignore_interrupts() -> None:
    """Ctrl-C is for Orthanc, which ends the pool with the script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


POOL = concurrent.futures.ProcessPoolExecutor(4, initializer=ignore_interrupts)


def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Serves the route."""
    (series_id,) = request['groups']
    instances = json.loads(orthanc.RestApiGet('/series/%s' % series_id))['Instances']
    values = dict(zip(instances, POOL.map(measure, instances)))
    output.AnswerBuffer(json.dumps(values, indent=2), 'application/json')


def on_change(change_type: int, level: int, resource: str) -> None:
    """Ends the processes with the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        POOL.shutdown()


orthanc.RegisterRestCallback('/brightness/(.*)', answer)
orthanc.RegisterOnChangeCallback(on_change)

# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /brightness/ID gives the mean pixel value of each instance of a series.

Processes of a pool compute it, each on a core of its own. They fetch the files themselves:
the SDK works in child processes too, which Orthanc's in-process plugin does not offer.
"""

import concurrent.futures
import io
import json
import signal

import orthanc
import pydicom


def measure(instance_id):
    """Runs in a process of the pool."""
    content = orthanc.RestApiGet('/instances/%s/file' % instance_id)
    return float(pydicom.dcmread(io.BytesIO(content)).pixel_array.mean())


def ignore_interrupts():
    """Ctrl-C is for Orthanc, which ends the pool with the script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


POOL = concurrent.futures.ProcessPoolExecutor(4, initializer=ignore_interrupts)


def answer(output, uri, **request):
    """Serves the route."""
    (series_id,) = request['groups']
    instances = json.loads(orthanc.RestApiGet('/series/%s' % series_id))['Instances']
    values = dict(zip(instances, POOL.map(measure, instances)))
    output.AnswerBuffer(json.dumps(values, indent=2), 'application/json')


def on_change(change_type, level, resource):
    """Ends the processes with the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        POOL.shutdown()


orthanc.RegisterRestCallback('/brightness/(.*)', answer)
orthanc.RegisterOnChangeCallback(on_change)

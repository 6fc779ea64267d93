# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /computation lets another process ask the REST API over HTTP.

A token made at the start gives it access, whatever users the server knows.
"""

import json
import multiprocessing
import signal
from typing import Any

import orthanc
import requests

TOKEN = orthanc.GenerateRestApiAuthorizationToken()
PORT = json.loads(orthanc.GetConfiguration()).get('HttpPort', 8042)
TIMEOUT_S = 30


def list_instances(port: int, token: str) -> str:
    """Runs in a process of the pool."""
    answer = requests.get('http://127.0.0.1:%d/instances' % port,
                          headers={'Authorization': token}, timeout=TIMEOUT_S)
    answer.raise_for_status()
    return json.dumps(answer.json())


def ignore_interrupts() -> None:
    """Ctrl-C is for Orthanc, which ends the pool with the script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


POOL = multiprocessing.Pool(4, initializer=ignore_interrupts)


def answer_list(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Serves the route."""
    output.AnswerBuffer(POOL.apply(list_instances, (PORT, TOKEN)), 'application/json')


def on_change(change_type: int, level: int, resource: str) -> None:
    """Ends the processes with the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        POOL.terminate()


orthanc.RegisterRestCallback('/computation', answer_list)
orthanc.RegisterOnChangeCallback(on_change)

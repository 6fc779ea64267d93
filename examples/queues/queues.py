# SPDX-License-Identifier: GPL-3.0-or-later
"""Work for later in a queue of Orthanc's database, and its results in a store there (from
Orthanc 1.12.8 on): both outlive the script and the server.

Each stored instance is put into the queue, and a thread takes them out one by one.
"""

import json
import threading
from typing import Any

import orthanc

QUEUE, STORE = 'to-do', 'sizes'
WORK = threading.Semaphore(0)
IS_OVER = threading.Event()


def on_stored(dicom: orthanc.DicomInstance, instance: str) -> None:
    """Quick: the sender waits for it."""
    orthanc.EnqueueValue(QUEUE, instance)
    WORK.release()


def work() -> None:
    """All that is there at the start, then what comes."""
    while not IS_OVER.is_set():
        value = orthanc.DequeueValue(QUEUE, orthanc.QueueOrigin.FRONT)
        if value is None:
            WORK.acquire()
            continue
        instance = value.decode()
        try:
            size = len(orthanc.RestApiGet('/instances/%s/file' % instance))
        except orthanc.OrthancException as e:       # it has been deleted meanwhile
            orthanc.LogWarning('%s cannot be read: %s' % (instance, e.args[1]))
            continue
        orthanc.StoreKeyValue(STORE, instance, str(size))


THREAD = threading.Thread(target=work)


def on_change(change_type: int, level: int, resource: str) -> None:
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        THREAD.start()
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        IS_OVER.set()
        WORK.release()
        THREAD.join()


def on_sizes(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """GET /sizes, /sizes/{instance}."""
    instance = request['groups'][0].strip('/')
    if instance:
        value = orthanc.GetKeyValue(STORE, instance)
        if value is None:
            output.SendHttpStatusCode(404)
        else:
            output.AnswerBuffer(value, 'text/plain')
        return
    found = {}
    iterator = orthanc.CreateKeysValuesIterator(STORE)
    while iterator.Next():
        found[iterator.GetKey()] = int(iterator.GetValue())
    output.AnswerBuffer(json.dumps({'Waiting': orthanc.GetQueueSize(QUEUE), 'Sizes': found}), 'application/json')


orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/sizes(/.*)?', on_sizes)

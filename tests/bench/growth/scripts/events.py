# SPDX-License-Identifier: GPL-3.0-or-later
"""Change events that wait: the callback is held, events are made, the callback is let go.

Each change of a modality is an event that Orthanc makes without its database.
"""

import threading
import time

import orthanc

LOCK = threading.Condition()
STATE = {"is_held": False, "is_inside": False, "count": 0}
MODALITY = b'["MODALITY", "127.0.0.1", 104]'


def on_change(change, level, resource):
    if change != orthanc.ChangeType.UPDATED_MODALITIES:
        return
    with LOCK:
        STATE["is_inside"] = True
        LOCK.notify_all()
        while STATE["is_held"]:
            LOCK.wait()
        STATE["is_inside"] = False
        STATE["count"] += 1
        LOCK.notify_all()


def hold(output, uri, **request):
    """Answers when the callback is held, with one event."""
    with LOCK:
        STATE.update(is_held=True, is_inside=False, count=0)
    orthanc.RestApiPut("/modalities/bench", MODALITY)
    with LOCK:
        LOCK.wait_for(lambda: STATE["is_inside"])
    output.AnswerBuffer("held", "text/plain")


def make(output, uri, **request):
    """Seconds for so many events."""
    begin = time.perf_counter()
    for _ in range(int(request["get"]["count"])):
        orthanc.RestApiPut("/modalities/bench", MODALITY)
    output.AnswerBuffer(repr(time.perf_counter() - begin), "text/plain")


def release(output, uri, **request):
    """Seconds until so many have been delivered."""
    count = int(request["get"]["count"])
    begin = time.perf_counter()
    with LOCK:
        STATE["is_held"] = False
        LOCK.notify_all()
    while True:  # without being woken by each event
        with LOCK:
            if STATE["count"] >= count:
                break
        time.sleep(0.001)
    output.AnswerBuffer(repr(time.perf_counter() - begin), "text/plain")


def delivered(output, uri, **request):
    output.AnswerBuffer(str(STATE["count"]), "text/plain")


orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback("/bench/hold", hold)
orthanc.RegisterRestCallback("/bench/make", make)
orthanc.RegisterRestCallback("/bench/release", release)
orthanc.RegisterRestCallback("/bench/delivered", delivered)
orthanc.RegisterRestCallback("/bench/trivial", lambda output, uri, **request: output.AnswerBuffer("ok\n", "text/plain"))

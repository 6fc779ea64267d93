# SPDX-License-Identifier: GPL-3.0-or-later
"""The script under measurement: the same file for both plugins."""

import time

import orthanc

STORED = 0
PAYLOAD = []


def trivial(output, uri, **request):
    output.AnswerBuffer("ok\n", "text/plain")


def _time_calls(function, count):
    start = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - start) / count


def compute(output, uri, **request):
    """Some 20 ms of pure Python, in which no other thread of the interpreter gets far."""
    total = 0
    for number in range(300000):
        total += number & 3
    output.AnswerBuffer(str(total), "text/plain")


def sdk_value(output, uri, **request):
    """Seconds per SDK call that returns a value."""
    output.AnswerBuffer(repr(_time_calls(orthanc.GenerateUuid, 2000)), "text/plain")


def sdk_void(output, uri, **request):
    """Seconds per SDK call that returns nothing."""
    seconds = _time_calls(lambda: orthanc.SetMetricsValue("bench", 1.0, orthanc.MetricsType.DEFAULT), 2000)
    output.AnswerBuffer(repr(seconds), "text/plain")


def rest_api_get(output, uri, **request):
    """Seconds per RestApiGet('/system')."""
    output.AnswerBuffer(repr(_time_calls(lambda: orthanc.RestApiGet("/system"), 500)), "text/plain")


def echo(output, uri, **request):
    output.AnswerBuffer(request["body"], "application/octet-stream")


def payload(output, uri, **request):
    """50 MB that the script has at hand from the second time on."""
    if not PAYLOAD:
        PAYLOAD.append(bytes(50 * 1000 * 1000))
    output.AnswerBuffer(PAYLOAD[0], "application/octet-stream")


def on_stored(instance, instance_id):
    global STORED
    STORED += instance.GetInstanceSize() > 0


def stored(output, uri, **request):
    output.AnswerBuffer(str(STORED), "text/plain")


orthanc.RegisterRestCallback("/bench/trivial", trivial)
orthanc.RegisterRestCallback("/bench/compute", compute)
orthanc.RegisterRestCallback("/bench/sdk-value", sdk_value)
orthanc.RegisterRestCallback("/bench/sdk-void", sdk_void)
orthanc.RegisterRestCallback("/bench/rest-api-get", rest_api_get)
orthanc.RegisterRestCallback("/bench/echo", echo)
orthanc.RegisterRestCallback("/bench/payload", payload)
orthanc.RegisterRestCallback("/bench/stored", stored)
orthanc.RegisterOnStoredInstanceCallback(on_stored)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the curves of clients, hosts, payload and nodes ask; the same for both plugins."""

import orthanc

BODY = b""


def trivial(output, uri, **request):
    output.AnswerBuffer("ok\n", "text/plain")


def compute(output, uri, **request):
    """Some 20 ms of pure Python, in which no other thread of the interpreter gets far."""
    total = 0
    for number in range(300000):
        total += number & 3
    output.AnswerBuffer(str(total), "text/plain")


def take(output, uri, **request):
    output.AnswerBuffer(str(len(request["body"])), "text/plain")


def give(output, uri, **request):
    """A body that is kept for the next time. Not of zeros: memory that was never written costs little to read."""
    global BODY
    size = int(request["get"]["bytes"])
    if len(BODY) != size:
        BODY = b"x" * size
    output.AnswerBuffer(BODY, "application/octet-stream")


def calls(output, uri, **request):
    for _ in range(100):
        orthanc.GenerateUuid()
    output.AnswerBuffer("ok\n", "text/plain")


orthanc.RegisterRestCallback("/bench/calls", calls)
orthanc.RegisterRestCallback("/bench/trivial", trivial)
orthanc.RegisterRestCallback("/bench/compute", compute)
orthanc.RegisterRestCallback("/bench/take", take)
orthanc.RegisterRestCallback("/bench/give", give)

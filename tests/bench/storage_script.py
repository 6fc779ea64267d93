# SPDX-License-Identifier: GPL-3.0-or-later
"""A storage area in Python, which is for a whole server: files in a dictionary."""

import orthanc

FILES = {}
READS = 0


def create(uuid, content_type, data):
    FILES[uuid] = data


def read(uuid, content_type):
    global READS
    READS += 1
    return FILES[uuid]


def remove(uuid, content_type):
    FILES.pop(uuid, None)


def trivial(output, uri, **request):
    output.AnswerBuffer("ok\n", "text/plain")


def reads(output, uri, **request):
    output.AnswerBuffer(str(READS), "text/plain")


orthanc.RegisterStorageArea(create, read, remove)
orthanc.RegisterRestCallback("/bench/trivial", trivial)
orthanc.RegisterRestCallback("/bench/reads", reads)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server of tests/chaos runs: each callback leaves a trace that can be checked.

Events and stored instances are written to files of their own, one line each, before
anything else: what is in the file was delivered.
"""

import json
import os
import subprocess
import sys
import threading
import time

import orthanc

DIRECTORY = json.loads(orthanc.GetConfiguration())['ChaosDirectory']
EVENTS = os.open(os.path.join(DIRECTORY, 'events'), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
STORED = os.open(os.path.join(DIRECTORY, 'stored'), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
GENERATION = '%d-%d' % (os.getpid(), time.monotonic_ns())


def on_change(change, level, resource):
    if change == orthanc.ChangeType.NEW_INSTANCE:
        os.write(EVENTS, ('%s %s\n' % (GENERATION, resource)).encode())


def on_stored(instance, instance_id):
    os.write(STORED, ('%s\n' % instance_id).encode())
    assert instance.GetInstanceSize() > 0


def received(dicom, origin):
    return orthanc.ReceivedInstanceAction.MODIFY, dicom.replace(b'CHAOS^ORIGINAL', b'CHAOS^MODIFIED')


def cstore_filter(instance):
    tags = json.loads(instance.GetInstanceSimplifiedJson())
    return 0xa700 if tags['PatientID'].startswith('REFUSED') else 0


def find(answers, query, issuer, called):
    for number in range(3):
        answers.FindAddAnswer(orthanc.CreateDicom(
            json.dumps({'PatientID': 'FOUND%d' % number, 'QueryRetrieveLevel': 'STUDY'}), None, 0))


def echo(output, uri, **request):
    output.AnswerBuffer(request['body'][::-1], 'application/octet-stream')


def nested(output, uri, **request):
    statistics = json.loads(orthanc.RestApiGet('/statistics'))
    output.AnswerBuffer(json.dumps(statistics['CountInstances'] >= 0), 'application/json')


def image(output, uri, **request):
    """An object of Orthanc's, as large as one would see if they were not freed."""
    picture = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, 512, 512)
    output.AnswerBuffer(json.dumps(picture.GetImageWidth() == 512), 'application/json')


def slow(output, uri, **request):
    time.sleep(float(request['get']['seconds']))
    output.AnswerBuffer('awake', 'text/plain')


def background(output, uri, **request):
    """SDK calls of a thread, which may outlive the callback."""
    threading.Thread(target=orthanc.RestApiGet, args=('/system',), daemon=True).start()
    output.AnswerBuffer('begun', 'text/plain')


def child(output, uri, **request):
    """A process that is still there when this host ends."""
    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3)'])
    output.AnswerBuffer('begun', 'text/plain')


orthanc.RegisterRestCallback('/chaos/echo', echo)
orthanc.RegisterRestCallback('/chaos/nested', nested)
orthanc.RegisterRestCallback('/chaos/image', image)
orthanc.RegisterRestCallback('/chaos/slow', slow)
orthanc.RegisterRestCallback('/chaos/background', background)
orthanc.RegisterRestCallback('/chaos/child', child)
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterIncomingCStoreInstanceFilter(cstore_filter)
orthanc.RegisterFindCallback(find)

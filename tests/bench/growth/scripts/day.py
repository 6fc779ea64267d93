# SPDX-License-Identifier: GPL-3.0-or-later
"""The script of tests/bench/soak: each callback leaves a byte in a file of its kind, which counts it.

Files outlive hosts and generations, so that what was delivered twice, or not at all, is seen.
"""

import json
import os
import time

import orthanc

CONFIGURATION = json.loads(orthanc.GetConfiguration())["Soak"]
FILES = {
    name: os.open(os.path.join(CONFIGURATION["Directory"], name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for name in ("new-instance", "deleted", "stored", "found", "roll-call")
}
LEAKED = []


def count(name):
    os.write(FILES[name], b".")


def on_change(change, level, resource):
    if change == orthanc.ChangeType.NEW_INSTANCE:
        count("new-instance")
    elif change == orthanc.ChangeType.DELETED and level == orthanc.ResourceType.INSTANCE:
        count("deleted")


def on_stored(instance, instance_id):
    if instance.GetInstanceSize() > 0 and instance.GetInstanceOrigin() == orthanc.InstanceOrigin.DICOM_PROTOCOL:
        count("stored")


def find(answers, query, issuer, called):
    asked = {query.GetFindQueryTagName(number): query.GetFindQueryValue(number) for number in range(query.GetFindQuerySize())}
    answers.FindAddAnswer(orthanc.CreateDicom(json.dumps({"PatientID": asked.get("PatientID") or "NONE",
                                                          "QueryRetrieveLevel": "STUDY"}), None, 0))  # fmt: skip
    count("found")


def trivial(output, uri, **request):
    if CONFIGURATION["Leak"]:
        LEAKED.append(bytearray(CONFIGURATION["Leak"]))
    output.AnswerBuffer("ok\n", "text/plain")


def echo(output, uri, **request):
    output.AnswerBuffer(request["body"], "application/octet-stream")


def nested(output, uri, **request):
    output.AnswerBuffer(json.dumps(json.loads(orthanc.RestApiGet("/system"))["Name"]), "application/json")


def image(output, uri, **request):
    """An object of Orthanc's, which must be freed."""
    picture = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, 256, 256)
    output.AnswerBuffer(str(picture.GetImageWidth()), "text/plain")


def fail(output, uri, **request):
    raise ValueError("as scripts do now and then")


def roll_call(output, uri, **request):
    """Answers when so many calls are in all hosts: each has a lane and a thread, then."""
    count("roll-call")
    until = time.monotonic() + 30
    while os.fstat(FILES["roll-call"]).st_size < int(request["groups"][0]):
        if time.monotonic() > until:
            raise TimeoutError("the others are missing")
        time.sleep(0.01)  # they are in another process, too
    output.AnswerBuffer(request["body"], "application/octet-stream")


orthanc.RegisterRestCallback("/bench/trivial", trivial)
orthanc.RegisterRestCallback("/soak/trivial", trivial)
orthanc.RegisterRestCallback("/soak/echo", echo)
orthanc.RegisterRestCallback("/soak/nested", nested)
orthanc.RegisterRestCallback("/soak/image", image)
orthanc.RegisterRestCallback("/soak/fail", fail)
orthanc.RegisterRestCallback("/soak/roll-call/([0-9]+)", roll_call)
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterFindCallback(find)

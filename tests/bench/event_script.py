# SPDX-License-Identifier: GPL-3.0-or-later
"""Change events and C-FIND: apart from script.py, so that no other row pays for them."""

import threading

import orthanc

PATIENT = '{"PatientID": "BENCH", "PatientName": "Bench^Mark"}'
ANSWER = orthanc.CreateDicom(PATIENT, None, orthanc.CreateDicomFlags.NONE)
COUNTS = {"instances": 0, "queries": 0, "tags": 0}
CHANGED = threading.Condition()


def on_change(change, level, resource):
    if change == orthanc.ChangeType.NEW_INSTANCE:
        with CHANGED:
            COUNTS["instances"] += 1
            CHANGED.notify_all()


def seen(output, uri, **request):
    """Answers when OnChange has seen so many instances, or after 60 s."""
    count = int(request["groups"][0])
    with CHANGED:
        CHANGED.wait_for(lambda: COUNTS["instances"] >= count, 60)
    output.AnswerBuffer(str(COUNTS["instances"]), "text/plain")


def on_find(answers, query, issuer_aet, called_aet):
    """Reads what handlers usually read of each tag, and answers with one patient."""
    COUNTS["queries"] += 1
    for index in range(query.GetFindQuerySize()):
        query.GetFindQueryTagGroup(index)
        query.GetFindQueryTagElement(index)
        query.GetFindQueryTagName(index)
        query.GetFindQueryValue(index)
        COUNTS["tags"] += 1
    answers.FindAddAnswer(ANSWER)


def found(output, uri, **request):
    output.AnswerBuffer(f"{COUNTS['queries']} {COUNTS['tags']}", "text/plain")


def trivial(output, uri, **request):
    output.AnswerBuffer("ok\n", "text/plain")


orthanc.RegisterRestCallback("/bench/trivial", trivial)
orthanc.RegisterRestCallback("/bench/seen/([0-9]+)", seen)
orthanc.RegisterRestCallback("/bench/found", found)
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterFindCallback(on_find)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Worklist requests answered by a script (contract 3.9)."""

import os
import signal

import pytest

import dicom
from compare import Approved, assert_outcomes, assert_same
from conftest import PLUGINS
from server import OFFICIAL_VERSION, PID_ROUTE, wait_until

SUCCESS = 'Success'
CANCEL = 'Cancel: MatchingTerminatedDueToCancelRequest'
FAILED = 'Failed: UnableToProcess'
CONFIG = {'DicomAlwaysAllowFindWorklist': True}

SCRIPT = r'''
import io
import json
import os
import orthanc
import pydicom

SEEN = []
KEPT = []

def entry(patient):
    return orthanc.CreateDicom(json.dumps({
        'PatientID': patient, 'PatientName': 'Name of ' + patient, 'Modality': 'CT',
        'ScheduledProcedureStepSequence': [{'Modality': 'CT', 'ScheduledStationAETitle': 'TESTER'}],
        'SpecificCharacterSet': 'ISO_IR 192'}), None, orthanc.CreateDicomFlags.NONE)

def attempt(function):
    try:
        return repr(function())
    except Exception as e:
        return type(e).__name__ + str(e.args)

def on_worklist(answers, query, issuer_aet, called_aet):
    content = query.WorklistGetDicomQuery()
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    action = str(dataset.get('PatientID', ''))
    SEEN.append([type(answers).__name__, type(query).__name__, issuer_aet, called_aet,
                 type(content).__name__, str(dataset.get('PatientName', '')), action])
    if action == 'NONE':
        return
    if action == 'KEEP':
        KEPT[:] = [answers, query]
    if action == 'BAD':
        SEEN.append({
            'garbage': attempt(lambda: answers.WorklistAddAnswer(query, b'not DICOM')),
            'none': attempt(lambda: answers.WorklistAddAnswer(None, entry('x'))) if HAS_NONE else '',
            'class': attempt(lambda: answers.WorklistAddAnswer(answers, entry('x'))),
            'match': attempt(lambda: query.WorklistIsMatch(entry('BAD'))),
            'no match': attempt(lambda: query.WorklistIsMatch(entry('OTHER'))),
            'garbage match': attempt(lambda: query.WorklistIsMatch(b'not DICOM'))})
        return
    if action == 'DIE':
        os.kill(os.getpid(), 9)
    for index in range(3):
        answers.WorklistAddAnswer(query, entry('%s-%d' % (action, index)))
        if action == 'RAISE' and index == 1:
            raise KeyError('some error')
    if action == 'CANCEL':
        answers.WorklistMarkIncomplete()
    return 12

def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')

def stale(output, uri, **request):
    output.AnswerBuffer(json.dumps([
        attempt(lambda: KEPT[0].WorklistMarkIncomplete()),
        attempt(lambda: KEPT[0].WorklistAddAnswer(KEPT[1], entry('x'))),
        attempt(lambda: KEPT[1].WorklistGetDicomQuery()),
        attempt(lambda: KEPT[1].WorklistIsMatch(entry('x')))]), 'application/json')

HAS_NONE = True
orthanc.RegisterWorklistCallback(on_worklist)
orthanc.RegisterRestCallback('/seen', seen)
orthanc.RegisterRestCallback('/stale', stale)
''' + PID_ROUTE


@pytest.fixture(scope='module')
def servers(module_orthanc):
    scripts = {name: SCRIPT for name in PLUGINS}
    if OFFICIAL_VERSION >= (5, 0):      # it crashes: contract 8 row 7
        scripts['official'] = SCRIPT.replace('HAS_NONE = True', 'HAS_NONE = False')
    return {name: module_orthanc(name, script=scripts[name], dicom=True, config=CONFIG)
            for name in PLUGINS}


def find(server, patient, *keys, **kwargs):
    result = dicom.findscu(server, 'PatientID=' + patient, 'PatientName', *keys, model='-W', **kwargs)
    return dicom.find_outcome(result)


OUTCOMES = [('NONE', SUCCESS, 0), ('PLAIN', SUCCESS, 3), ('CANCEL', CANCEL, 3), ('RAISE', FAILED, 0)]


@pytest.mark.parametrize('action, status, count', OUTCOMES)
def test_what_the_peer_gets(servers, action, status, count):
    results = {name: find(server, action) for name, server in servers.items()}
    assert_same(results)
    for found in results.values():
        assert found == (status, ['%s-%d' % (action, i) for i in range(count)])


def test_an_exception_is_logged_with_its_traceback(servers):
    for server in servers.values():
        start = len(server.log())
        find(server, 'RAISE')
        server.wait_for_log(r"Error in the Python C-FIND SCP for worklist callback, traceback:\n"
                            r"<class 'KeyError'>\n'some error'", start=start)


def test_what_the_script_receives(servers):
    results = {}
    for name, server in servers.items():
        before = len(server.get('/seen').json())
        find(server, 'NONE')
        find(server, 'NONE', 'PatientName=A*', aet='SECOND')
        results[name] = server.get('/seen').json()[before:]
    assert_same(results)
    for rows in results.values():
        assert rows == [
            ['WorklistAnswers', 'WorklistQuery', 'TESTER', 'ORTHANC', 'bytes', '', 'NONE'],
            ['WorklistAnswers', 'WorklistQuery', 'SECOND', 'ORTHANC', 'bytes', 'A*', 'NONE']]


def test_bad_answers(servers):
    """The official 4.0 has texts of its own (contract 1.5)."""
    outcomes = {}
    for name, server in servers.items():
        assert find(server, 'BAD') == (SUCCESS, [])
        outcomes[name] = server.get('/seen').json()[-1]
    wrong = "TypeError('Invalid orthanc.OrthancPluginWorklistQuery object',)"
    assert_outcomes(outcomes, expected={'match': '1', 'no match': '0', 'garbage match': '0'}, approved={
        'garbage': Approved('1.5', "OrthancException(15, 'Bad file format')"),
        'none': Approved('8 row 7', wrong), 'class': Approved('1.5', wrong)})


@pytest.mark.ours
def test_objects_of_a_request_that_is_over_are_invalid(servers):
    server = servers['ours']
    assert len(find(server, 'KEEP')[1]) == 3
    assert server.get('/stale').json() == ["ValueError('Invalid object',)"] * 4


def test_ordinary_queries_stay_with_the_server(servers):
    for server in servers.values():
        result = dicom.findscu(server, 'QueryRetrieveLevel=PATIENT', 'PatientID=PLAIN')
        assert dicom.find_outcome(result)[0] in (SUCCESS, None)
        assert not [row for row in server.get('/seen').json()
                    if isinstance(row, list) and row[0] != 'WorklistAnswers']


@pytest.mark.ours
def test_a_host_that_dies_or_lacks_fails_the_request(orthanc):
    server = orthanc(script=SCRIPT, dicom=True, config=CONFIG, python={'QueueTimeout': 1})
    assert find(server, 'DIE') == (FAILED, [])
    server.wait_for_log('during the Python C-FIND SCP for worklist callback for TESTER')
    wait_until(lambda: find(server, 'PLAIN')[0] == SUCCESS, 10, 'the next host')
    os.kill(server.supervisor(), signal.SIGSTOP)
    try:
        os.kill(server.host_pid(), signal.SIGKILL)
        assert find(server, 'PLAIN') == (FAILED, [])
    finally:
        os.kill(server.supervisor(), signal.SIGCONT)

# SPDX-License-Identifier: GPL-3.0-or-later
"""C-FIND and worklist callbacks of version 2, with their connection (contract 3.8, 3.9)."""

import pytest

import dicom
from compare import assert_same
from conftest import PLUGINS
from server import ORTHANC_VERSION

pytestmark = pytest.mark.skipif(ORTHANC_VERSION < (1, 12, 10), reason=(
    'contract, appendix A: RegisterFindCallback2 and RegisterWorklistCallback2 are of 1.12.10'))

SUCCESS = 'Success'
CANCEL = 'Cancel: MatchingTerminatedDueToCancelRequest'
FAILED = 'Failed: UnableToProcess'

SCRIPT = r'''
import io
import json
import orthanc
import pydicom

SEEN = []
KEPT = []

def describe(connection):
    return [type(connection).__name__, connection.GetConnectionRemoteAet(),
            connection.GetConnectionCalledAet(), connection.GetConnectionRemoteIp()]

def answers_for(action, add):
    for index in range(0 if action == 'NONE' else 2):
        add(orthanc.CreateDicom(json.dumps({'PatientID': '%s-%d' % (action, index)}), None, 0))
    if action == 'RAISE':
        raise KeyError('some error')

def on_find(answers, query, connection):
    values = {query.GetFindQueryTagName(i): query.GetFindQueryValue(i)
              for i in range(query.GetFindQuerySize())}
    KEPT[:] = [connection]
    SEEN.append(['find', type(answers).__name__, type(query).__name__] + describe(connection))
    answers_for(values['PatientID'], answers.FindAddAnswer)
    if values['PatientID'] == 'CANCEL':
        answers.FindMarkIncomplete()

def on_worklist(answers, query, connection):
    dataset = pydicom.dcmread(io.BytesIO(query.WorklistGetDicomQuery()), force=True)
    SEEN.append(['worklist', type(answers).__name__, type(query).__name__] + describe(connection))
    answers_for(dataset.PatientID, lambda answer: answers.WorklistAddAnswer(query, answer))
    if dataset.PatientID == 'CANCEL':
        answers.WorklistMarkIncomplete()

def again(register, function):
    try:
        register(function)
        return 'registered'
    except Exception as e:
        return type(e).__name__ + str(e.args)

orthanc.RegisterFindCallback2(on_find)
orthanc.RegisterWorklistCallback2(on_worklist)
REFUSED = [again(orthanc.RegisterFindCallback2, on_find), again(orthanc.RegisterWorklistCallback2, on_worklist)]

def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')

def refused(output, uri, **request):
    output.AnswerBuffer(json.dumps(REFUSED), 'application/json')

def stale(output, uri, **request):
    output.AnswerBuffer(again(lambda _: KEPT[0].GetConnectionRemoteAet(), None), 'text/plain')

orthanc.RegisterRestCallback('/seen', seen)
orthanc.RegisterRestCallback('/refused', refused)
orthanc.RegisterRestCallback('/stale', stale)
'''


@pytest.fixture(scope='module')
def servers(module_orthanc):
    config = {'DicomAlwaysAllowFind': True, 'DicomAlwaysAllowFindWorklist': True}
    return {name: module_orthanc(name, script=SCRIPT, dicom=True, config=config) for name in PLUGINS}


def find(server, kind, patient, **kwargs):
    if kind == 'find':
        result = dicom.findscu(server, 'QueryRetrieveLevel=PATIENT', 'PatientID=' + patient, **kwargs)
    else:
        result = dicom.findscu(server, 'PatientID=' + patient, model='-W', **kwargs)
    return dicom.find_outcome(result)


@pytest.mark.parametrize('kind', ['find', 'worklist'])
@pytest.mark.parametrize('action, status, count', [
    ('NONE', SUCCESS, 0), ('PLAIN', SUCCESS, 2), ('CANCEL', CANCEL, 2), ('RAISE', FAILED, 0)])
def test_what_the_peer_gets(servers, kind, action, status, count):
    results = {name: find(server, kind, action) for name, server in servers.items()}
    assert_same(results)
    for found in results.values():
        assert found == (status, ['%s-%d' % (action, i) for i in range(count)])


@pytest.mark.parametrize('kind, classes', [
    ('find', ['FindAnswers', 'FindQuery']), ('worklist', ['WorklistAnswers', 'WorklistQuery'])])
def test_what_the_script_receives(servers, kind, classes):
    results = {}
    for name, server in servers.items():
        find(server, kind, 'NONE', aet='SECOND')
        results[name] = server.get('/seen').json()[-1]
    assert_same(results)
    for row in results.values():
        assert row == [kind] + classes + ['DicomConnection', 'SECOND', 'ORTHANC', '127.0.0.1']


@pytest.mark.parametrize('kind, text', [
    ('find', r'C-FIND SCP callback \(v2\)'), ('worklist', r'C-FIND SCP for worklist callback \(v2\)')])
def test_an_exception_is_logged_with_its_version(servers, kind, text):
    for server in servers.values():
        start = len(server.log())
        find(server, kind, 'RAISE')
        server.wait_for_log('Error in the Python %s, traceback:' % text, start=start)


def test_a_second_registration_is_refused(servers):
    results = {name: server.get('/refused').json() for name, server in servers.items()}
    assert_same(results)
    assert all(text.startswith('RuntimeError') for texts in results.values() for text in texts)


@pytest.mark.ours
def test_the_connection_is_invalid_afterwards(servers):
    find(servers['ours'], 'find', 'NONE')
    assert servers['ours'].get('/stale').text == "ValueError('Invalid object',)"

# SPDX-License-Identifier: GPL-3.0-or-later
"""A C-FIND to this very server inside a C-FIND or worklist callback: Orthanc would wait for
itself, without a DICOM timeout for ever. It is refused; queries to others are not."""

import json
import socket
import time

import pytest

import dicom
from server import PATIENCE, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival]

# The callbacks do what the test has put into TODO: (function, path, body).
SCRIPT = r'''
import json, threading
import orthanc

TODO, DONE = [], []

def attempt(function, path, body):
    try:
        DONE.append(['answered', json.loads(getattr(orthanc, function)(path, body))])
    except Exception as e:
        DONE.append([type(e).__name__, str(e)])

def work(answers):
    if TODO:
        attempt(*TODO.pop())
    if answers is not None:
        answers.FindAddAnswer(orthanc.CreateDicom(json.dumps(
            {'QueryRetrieveLevel': 'STUDY', 'PatientID': 'F', 'StudyInstanceUID': '1.2'}), None, 0))

def todo(output, uri, **request):
    TODO.append(json.loads(request['body']))
    output.AnswerBuffer('ok', 'text/plain')

def done(output, uri, **request):
    output.AnswerBuffer(json.dumps(DONE), 'application/json')

def here(output, uri, **request):
    attempt(*json.loads(request['body']))
    output.AnswerBuffer('ok', 'text/plain')

orthanc.RegisterFindCallback(lambda answers, query, issuer, called: work(answers))
orthanc.RegisterWorklistCallback(lambda answers, query, issuer, called: work(None))
orthanc.RegisterRestCallback('/todo', todo)
orthanc.RegisterRestCallback('/done', done)
orthanc.RegisterRestCallback('/here', here)
'''
OPEN_ACCESS = {'DicomAlwaysAllowFind': True, 'DicomAlwaysAllowFindWorklist': True}
QUERY = json.dumps({'Level': 'Study', 'Query': {}})
WORKLIST = json.dumps({'PatientID': ''})
POSTS = [('RestApiPost', '/modalities/%s/query', QUERY),
         ('RestApiPost', '/modalities/%s/query/', QUERY),
         ('RestApiPostAfterPlugins', '/modalities/%s/query', QUERY),
         ('RestApiPost', '/modalities/%s/find-worklist', WORKLIST),
         ('RestApiPost', '/modalities/%s/find-study', json.dumps({'PatientID': ''}))]


def make(orthanc, script=SCRIPT, timeout=0):
    server = orthanc(script=script, dicom=True, config=dict(OPEN_ACCESS, DicomScuTimeout=timeout))
    add_modality(server, 'self', '127.0.0.1')
    return server


def add_modality(server, name, host, port=None):
    assert server.put('/modalities/' + name, json=['ORTHANC', host, port or server.dicom_port]).status_code == 200


def find(server, model='-S'):
    return dicom.find_outcome(dicom.findscu(server, 'QueryRetrieveLevel=STUDY', 'PatientID', model=model))


def inside(server, function, path, body, model='-S'):
    """What the SDK call has come to that a callback makes, and how long the C-FIND took."""
    before = len(server.get('/done').json())
    assert server.post('/todo', json.dumps([function, path, body])).text == 'ok'
    start = time.monotonic()
    assert find(server, model)[0] == 'Success'
    took = time.monotonic() - start
    done = server.get('/done').json()
    assert len(done) == before + 1, done
    return done[-1], took


def own_addresses():
    """Names and addresses of this machine, as a configuration may have them."""
    found = ['127.0.0.1', 'localhost', '127.1.2.3']
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(('192.0.2.99', 9))    # sends nothing: which address would be the sender's?
            found.append(s.getsockname()[0])
        except OSError:
            pass    # there is no network
    return found


def assert_refused(outcome, name='self'):
    (kind, text), took = outcome
    assert kind == 'RuntimeError' and took < 5 * PATIENCE, outcome
    assert 'cannot ask the modality "%s" inside a C-FIND or worklist callback' % name in text
    assert 'this very server' in text


@pytest.mark.parametrize('model', ['-S', '-W'])
def test_a_query_to_itself_is_refused_and_the_server_goes_on(orthanc, model):
    """Without a DICOM timeout: it would hang for ever, and Orthanc could not stop."""
    server = make(orthanc)
    for function, path, body in POSTS:
        assert_refused(inside(server, function, path % 'self', body, model))
    for number, host in enumerate(own_addresses()):
        add_modality(server, 'own%d' % number, host)
        assert_refused(inside(server, 'RestApiPost', '/modalities/own%d/query' % number, QUERY, model),
                       'own%d' % number)
    assert find(server) == ('Success', ['F'])
    assert server.stop() == 0


def test_a_query_below_an_answer_is_refused(orthanc):
    """The first query is made outside of the callback, where the server can answer itself."""
    server = make(orthanc)
    answer = server.post('/modalities/self/query', QUERY)
    assert answer.status_code == 200
    path = '/queries/%s/answers/0/query-series' % answer.json()['ID']
    assert_refused(inside(server, 'RestApiPost', path, '{"Query": {}}'))
    assert server.post(path, '{"Query": {}}').status_code == 200
    assert server.stop() == 0


def test_what_is_no_query_to_itself_is_not_refused(orthanc):
    """Another server on this machine; other things that one can ask a modality; other callbacks."""
    other = orthanc(None, dicom=True, config=OPEN_ACCESS)
    server = make(orthanc, timeout=5)
    add_modality(server, 'other', '127.0.0.1', other.dicom_port)
    add_modality(server, 'far', '198.51.100.77')    # RFC 5737: is nobody's
    for function, path, body in (('RestApiPost', '/modalities/other/query', QUERY),
                                 ('RestApiPostAfterPlugins', '/modalities/other/query', QUERY),
                                 ('RestApiPost', '/modalities/self/echo', '')):
        (kind, _), _ = inside(server, function, path, body)
        assert kind == 'answered', (path, server.get('/done').json())
    (kind, _), _ = inside(server, 'RestApiPost', '/modalities/far/query', QUERY)
    assert kind == 'OrthancException'
    (kind, _), _ = inside(server, 'RestApiPost', '/modalities/nobody/query', QUERY)
    assert kind == 'OrthancException'
    server.post('/here', json.dumps(['RestApiPost', '/modalities/self/query', QUERY]))
    kind, value = server.get('/done').json()[-1]
    assert kind == 'answered' and value['Path'].startswith('/queries/')
    assert server.stop() == 0


def test_a_route_of_the_script_in_its_place_is_not_refused(orthanc):
    """With RestApiPostAfterPlugins it is the script that answers."""
    server = make(orthanc, SCRIPT + r'''
def instead(output, uri, **request):
    output.AnswerBuffer('{"instead": true}', 'application/json')
orthanc.RegisterRestCallback('/modalities/(.*)/query', instead)
''')
    outcome, _ = inside(server, 'RestApiPostAfterPlugins', '/modalities/self/query', QUERY)
    assert outcome == ['answered', {'instead': True}]
    assert_refused(inside(server, 'RestApiPost', '/modalities/self/query', QUERY))
    assert server.stop() == 0


THREAD = SCRIPT.replace("        attempt(*TODO.pop())", r'''
        thread = threading.Thread(target=attempt, args=TODO.pop())
        thread.start()
        thread.join()''')


def test_what_cannot_be_seen_ends_with_the_dicom_timeout(orthanc):
    """A thread that the callback waits for: whether it does, nobody can tell."""
    server = make(orthanc, THREAD, timeout=1)
    (kind, _), took = inside(server, 'RestApiPost', '/modalities/self/query', QUERY)
    assert kind == 'OrthancException' and 1 <= took < 1 * 4 + 5 * PATIENCE, (kind, took)
    assert find(server) == ('Success', ['F'])
    assert server.stop() == 0


def test_what_cannot_be_seen_ends_with_calltimeout_if_there_is_no_dicom_timeout(orthanc):
    """The lock is given back when the host is killed, and Orthanc can stop."""
    server = orthanc(script=THREAD, dicom=True, config=dict(OPEN_ACCESS, DicomScuTimeout=0),
                     python={'CallTimeout': {'Find': PATIENCE}})
    add_modality(server, 'self', '127.0.0.1')
    assert server.post('/todo', json.dumps(['RestApiPost', '/modalities/self/query', QUERY])).text == 'ok'
    assert find(server) == ('Failed: UnableToProcess', [])
    server.wait_for_log('has not returned within')
    wait_until(lambda: find(server) == ('Success', ['F']), 20, 'the next host')
    assert server.stop() == 0

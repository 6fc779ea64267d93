# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback for each received instance: keep, modify, discard (contract 3.6)."""

import os
import signal
import threading

import pytest

import dicom
from compare import assert_same
from conftest import PLUGINS
from server import PID_ROUTE, is_alive, wait_until

SCRIPT = r'''
import io, json, os, time
import orthanc
from collections import namedtuple

CHOICE = ['(KEEP, None)']
SEEN = []
Pair = namedtuple('Pair', 'action dicom')

def modified(content):
    # of the same length, so that the file stays one
    return content.replace(b'Doe^Jane', b'No^Name ')

class Own(bytes):
    def __del__(self):
        print('deleted beside', len(orthanc.RestApiGet('/system')) > 0, flush=True)

def received(content, origin):
    SEEN.append([type(content).__name__, len(content), type(origin).__name__, origin])
    return eval(CHOICE[-1], dict(globals(), content=content, origin=origin,
        KEEP=orthanc.ReceivedInstanceAction.KEEP_AS_IS,
        MODIFY=orthanc.ReceivedInstanceAction.MODIFY,
        DISCARD=orthanc.ReceivedInstanceAction.DISCARD))

def choose(output, uri, **request):
    CHOICE.append(request['body'].decode())
    output.AnswerBuffer('', 'text/plain')

def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')

orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterRestCallback('/choose', choose)
orthanc.RegisterRestCallback('/seen', seen)
'''

# (what the callback returns, HTTP status, code of the error or name that is stored)
OUTCOMES = [
    ('(KEEP, None)', 200, 'Doe^Jane'),
    ('(KEEP, b"garbage")', 200, 'Doe^Jane'),
    ('(True, None)', 200, 'Doe^Jane'),
    ('(DISCARD, None)', 200, 'FilteredOut'),
    ('(DISCARD, content)', 200, 'FilteredOut'),
    ('(MODIFY, modified(content))', 200, 'No^Name'),
    ('(MODIFY, Own(modified(content)))', 200, 'No^Name'),
    ('(77, modified(content))', 200, 'No^Name'),
    ('(-1, modified(content))', 200, 'No^Name'),
    ('(MODIFY, b"garbage")', 400, 15),
    ('(MODIFY, b"")', 500, 1),
    ('(MODIFY, None)', 500, 1),
    ('(MODIFY, "text")', 500, 1),
    ('(MODIFY, bytearray(content))', 500, 1),
    ('[DISCARD, None]', 200, 'Doe^Jane'),
    ('DISCARD', 200, 'Doe^Jane'),
    ('None', 200, 'Doe^Jane'),
    ('(DISCARD, None, 1)', 200, 'Doe^Jane'),
    ('Pair(DISCARD, None)', 200, 'FilteredOut'),
    ('("3", None)', 200, 'Doe^Jane'),
    ('(3.0, None)', 200, 'Doe^Jane'),
    ('1 / 0', 200, 'Doe^Jane'),
    ('exit(3)', 200, 'Doe^Jane'),
]


def choose(server, expression):
    assert server.post('/choose', expression.encode()).status_code == 200


def upload(server):
    """(HTTP status, what became of the instance)"""
    answer = server.post('/instances', dicom.make_dicom())
    value = answer.json()
    if answer.status_code != 200:
        return answer.status_code, value['OrthancStatus']
    if value['Status'] == 'FilteredOut':
        assert value['ID'] == ''
        return 200, 'FilteredOut'
    assert value['Status'] == 'Success'
    tags = server.get('/instances/%s/simplified-tags' % value['ID']).json()
    return 200, tags['PatientName']


def test_what_is_returned_decides_over_http(orthanc):
    logs = {}
    for name in PLUGINS:
        server = orthanc(name, script=SCRIPT)
        for expression, status, what in OUTCOMES:
            choose(server, expression)
            assert upload(server) == (status, what), (name, expression)
        assert 'deleted beside True' in server.out(), name
        logs[name] = [text for _, text in server.messages('E') if 'eceived instance' in text]
    for texts in logs.values():
        start = 'The Python received instance callback has not returned '
        assert texts.count(start + 'a tuple as expected') == 4
        assert texts.count(start + 'an int as the first element of the return tuple') == 2
        assert len([text for text in texts if text.startswith(
            "Error in the Python received instance callback, traceback:\n"
            "<class 'ZeroDivisionError'>\ndivision by zero\n")]) == 1
        assert len([text for text in texts if "<class 'SystemExit'>\n3\n" in text]) == 1


def test_a_number_that_no_c_int_holds_is_an_order_to_modify(orthanc, plugin):
    server = orthanc(plugin, script=SCRIPT)
    choose(server, '(2 ** 70, modified(content))')
    assert upload(server)[0] in (200, 500)
    if plugin == 'ours':
        assert upload(server) == (200, 'No^Name')


def test_what_the_callback_receives(orthanc, tmp_path):
    results = {}
    path = tmp_path / 'file.dcm'
    content = dicom.make_dicom()
    path.write_bytes(content)
    for name in PLUGINS:
        server = orthanc(name, script=SCRIPT, dicom=True)
        assert server.post('/instances', content).status_code == 200
        assert dicom.dimse_status(dicom.storescu(server, path)) == 'Success'
        results[name] = server.get('/seen').json()
        assert results[name][0] == ['bytes', len(content), 'int', 3]
        assert results[name][1][2:] == ['int', 2]
    assert_same(results)


def test_c_store(orthanc, tmp_path, plugin):
    server = orthanc(plugin, script=SCRIPT, dicom=True)
    for i, (expression, status, count) in enumerate([
            ('(KEEP, None)', 'Success', 1), ('(DISCARD, None)', 'Success', 1),
            ('(MODIFY, modified(content))', 'Success', 2), ('1 / 0', 'Success', 3),
            ('(MODIFY, b"")', 'Refused: OutOfResources', 3)]):
        path = tmp_path / ('%d.dcm' % i)
        path.write_bytes(dicom.make_dicom())
        choose(server, expression)
        assert dicom.dimse_status(dicom.storescu(server, path)) == status, expression
        assert server.get('/statistics').json()['CountInstances'] == count, expression


def test_the_callback_may_use_the_rest_api(orthanc, plugin):
    """Contract 6.2: on the very thread that holds the locks of the ingest, uploads included."""
    server = orthanc(plugin, script=SCRIPT)
    choose(server, '''[orthanc.RestApiGet('/statistics'),
                       orthanc.GenerateRestApiAuthorizationToken(),
                       CHOICE.append('(KEEP, None)'),
                       orthanc.RestApiPost('/instances', modified(content)),
                       (DISCARD, None)][-1]''')
    assert upload(server) == (200, 'FilteredOut')
    assert [row[3] for row in server.get('/seen').json()] == [3, 4]
    patients = [server.get('/patients/' + p).json()['MainDicomTags']['PatientName']
                for p in server.get('/patients').json()]
    assert patients == ['No^Name']


def test_a_large_instance_is_replaced_whole(orthanc, plugin):
    server = orthanc(plugin, script=SCRIPT)
    choose(server, '(MODIFY, modified(content))')
    content = dicom.make_dicom('gray16', 2000, 3000)
    identifier = server.post('/instances', content).json()['ID']
    stored = server.get('/instances/%s/file' % identifier).content
    assert stored == content.replace(b'Doe^Jane', b'No^Name ')


def test_uploads_at_the_same_time(orthanc, plugin):
    """The core runs one after the other, each complete."""
    server = orthanc(plugin, script=SCRIPT)
    choose(server, '(MODIFY, modified(content))')
    results = []
    threads = [threading.Thread(target=lambda: results.append(upload(server))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [(200, 'No^Name')] * 12


def test_a_second_registration_is_refused(orthanc, plugin):
    server = orthanc(plugin, script=r'''
import orthanc
def f(content, origin):
    return orthanc.ReceivedInstanceAction.DISCARD, None
orthanc.RegisterReceivedInstanceCallback(f)
try:
    orthanc.RegisterReceivedInstanceCallback(f)
except RuntimeError as e:
    print(e, flush=True)
try:
    orthanc.RegisterReceivedInstanceCallback(f, f)
except ValueError as e:
    print(e, flush=True)
''')
    assert server.out().splitlines() == [
        'Can only register one Python received instance callback',
        'Expected a callback function to register one Python received instance callback']
    assert upload(server) == (200, 'FilteredOut')
    server.wait_for_log('Registering one Python received instance callback')


def test_registered_while_orthanc_runs(orthanc, plugin):
    """Core notes 7.4: effective at once."""
    server = orthanc(plugin, script=r'''
import orthanc
def late(output, uri, **request):
    orthanc.RegisterReceivedInstanceCallback(
        lambda content, origin: (orthanc.ReceivedInstanceAction.DISCARD, None))
    output.AnswerBuffer('', 'text/plain')
orthanc.RegisterRestCallback('/late', late)
''')
    assert upload(server) == (200, 'Doe^Jane')
    assert server.get('/late').status_code == 200
    assert upload(server) == (200, 'FilteredOut')


@pytest.mark.ours
def test_a_script_without_the_callback_leaves_it_to_other_plugins(orthanc):
    """Core notes 1.8: there is one place for it."""
    server = orthanc(script='import orthanc\n')
    assert 'received instance' not in server.log()
    assert upload(server) == (200, 'Doe^Jane')


@pytest.mark.ours
def test_the_log_says_at_start_what_an_exception_leads_to(orthanc):
    server = orthanc(script=SCRIPT)
    assert any('is stored as it was received' in text for _, text in server.messages('W'))


@pytest.mark.ours
def test_a_host_that_dies_lets_nothing_in(orthanc, tmp_path):
    """Design 8: neither unchanged nor as success; and the next one is as usual."""
    server = orthanc(script=SCRIPT + PID_ROUTE, dicom=True)
    choose(server, 'os._exit(3)')
    assert upload(server) == (500, 1)
    assert server.get('/statistics').json()['CountInstances'] == 0
    server.wait_for_log('A received instance was refused: Python could not be asked')
    assert upload(server) == (200, 'Doe^Jane')      # a new host has the first choice
    choose(server, 'os.kill(os.getpid(), 9)')
    path = tmp_path / 'file.dcm'
    path.write_bytes(dicom.make_dicom())
    assert dicom.dimse_status(dicom.storescu(server, path)) == 'Refused: OutOfResources'
    assert server.get('/statistics').json()['CountInstances'] == 1


@pytest.mark.ours
def test_without_a_host_nothing_is_let_in(orthanc):
    server = orthanc(script=SCRIPT + PID_ROUTE + r'''
import sys, time
if os.path.exists('slow'):
    time.sleep(60)
''', python={'QueueTimeout': 1, 'StopTimeout': 1})
    with open(os.path.join(server.cwd, 'slow'), 'w', encoding='ascii'):
        pass
    pid = server.host_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), 10, 'the death of the host')
    assert upload(server) == (500, 1)
    server.wait_for_log('no host was ready within Python.QueueTimeout')
    assert server.get('/statistics').json()['CountInstances'] == 0

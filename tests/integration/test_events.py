# SPDX-License-Identifier: GPL-3.0-or-later
"""Change events and stored instances (contract 3.4, 3.5, 5.1)."""

import re
import threading

import pytest

import dicom
from compare import assert_same
from conftest import PLUGINS
from server import wait_until

CHANGES = r'''
import json, threading, time
import orthanc

EVENTS = []
NAMES = {v: n for n, v in vars(orthanc.ChangeType).items() if type(v) is int}

def on_change(change_type, level, resource):
    assert type(change_type) is int and type(level) is int and type(resource) is str
    EVENTS.append([NAMES[change_type], level, resource])
    if NAMES[change_type] == 'ORTHANC_STARTED':
        print('STARTED', level, repr(resource), flush=True)
    if NAMES[change_type] == 'ORTHANC_STOPPED':
        orthanc.RestApiGet('/system')
        print('STOPPED', level, repr(resource), flush=True)
    if NAMES[change_type] == 'NEW_PATIENT':
        raise ValueError('from the callback')

def answer(output, uri, **request):
    output.AnswerBuffer(json.dumps(EVENTS), 'application/json')

orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/events', answer)
'''

STORED = r'''
import json, threading
import orthanc

SEEN = []

def on_stored(instance, instance_id):
    row = {
        'types': [type(instance).__name__, type(instance_id).__name__],
        'known': json.loads(orthanc.RestApiGet('/instances/' + instance_id))['ID'] == instance_id,
        'origin': instance.GetInstanceOrigin(),
        'aet': instance.GetInstanceRemoteAet(),
        'size': instance.GetInstanceSize() == len(instance.GetInstanceData()),
        'syntax': instance.GetInstanceMetadata('TransferSyntax'),
        'class': instance.GetInstanceMetadata('SopClassUid'),
        'remote-ip': instance.GetInstanceMetadata('RemoteIP'),
        'unknown': instance.GetInstanceMetadata('nope'),
        'has': [instance.HasInstanceMetadata('TransferSyntax'), instance.HasInstanceMetadata('nope')],
        'uid': instance.GetInstanceTransferSyntaxUid(),
        'patient': json.loads(instance.GetInstanceSimplifiedJson())['PatientID'],
        'json': json.loads(instance.GetInstanceJson())['0010,0020']['Value'],
        'advanced': json.loads(instance.GetInstanceAdvancedJson(2, 0, 0))['0010,0020'],
        'frames': instance.GetInstanceFramesCount(),
        'pixels': instance.HasInstancePixelData(),
        'raw': len(instance.GetInstanceRawFrame(0)),
        'decoded': instance.GetInstanceDecodedFrame(0).GetImageWidth(),
        'serialized': len(instance.SerializeDicomInstance()) > 0,
        'nested': threading.get_ident() == CALLER[0] if CALLER else None,
    }
    SEEN.append(row)
    if row['patient'] == 'RAISE':
        raise ValueError('from on-stored')

CALLER = []

def upload(output, uri, **request):
    CALLER.append(threading.get_ident())
    try:
        output.AnswerBuffer(orthanc.RestApiPost('/instances', request['body']), 'application/json')
    finally:
        CALLER.clear()

def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')

orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterRestCallback('/upload', upload)
orthanc.RegisterRestCallback('/seen', seen)
'''


def events(server):
    return server.get('/events').json()


def wait_for_events(server, *names):
    """Waits until every name has been delivered; returns all events."""
    def all_there():
        found = events(server)
        return found if set(names) <= {row[0] for row in found} else None
    return wait_until(all_there, 20, 'events ' + ', '.join(names))


def test_events_of_an_instance_in_order(orthanc):
    results = {}
    content = dicom.make_dicom()
    for name in PLUGINS:
        server = orthanc(name, script=CHANGES)
        instance = server.upload(content)
        found = wait_for_events(server, 'STABLE_STUDY', 'STABLE_SERIES', 'STABLE_PATIENT')
        stable = [row for row in found if row[0].startswith('STABLE')]
        first = [row for row in found if not row[0].startswith('STABLE')]
        assert [row[0] for row in first[:9]] == [
            'ORTHANC_STARTED', 'NEW_INSTANCE', 'NEW_SERIES', 'NEW_STUDY', 'NEW_PATIENT',
            'NEW_CHILD_INSTANCE', 'NEW_CHILD_INSTANCE', 'NEW_CHILD_INSTANCE'][:len(first)]
        assert first[0] == ['ORTHANC_STARTED', 4, '']
        assert first[1] == ['NEW_INSTANCE', 3, instance]
        server.wait_for_log('Error in the Python on-change callback, traceback:')
        patient = server.get('/patients').json()[0]
        count = len(found)
        assert server.delete('/patients/' + patient).status_code == 200
        deleted = wait_until(lambda server=server, count=count: [
            row for row in events(server)[count:] if row[0] == 'DELETED'][3:4] and events(server)[count:],
            20, 'deletions')
        deleted = [row for row in deleted if row[0] == 'DELETED']
        assert [row[1] for row in deleted] == [3, 2, 1, 0]
        assert server.stop() == 0
        results[name] = (first, sorted(stable), deleted)
        assert re.search(r"^STARTED 4 ''$", server.out(), re.M)
        assert re.search(r"^STOPPED 4 ''$", server.out(), re.M)
    assert_same(results)


def test_events_of_jobs_and_settings(orthanc):
    """Jobs notify under a lock of the core: a plain event, without SDK calls in between."""
    results = {}
    for name in PLUGINS:
        server = orthanc(name, script=CHANGES)
        instance = server.upload(dicom.make_dicom())
        study = server.get('/instances/%s/study' % instance).json()['ID']
        answer = server.post('/studies/%s/anonymize' % study, '{"Synchronous": true}')
        assert answer.status_code == 200
        server.put('/peers/p', '{"Url": "http://127.0.0.1:1/"}')
        server.put('/modalities/m', '["M", "127.0.0.1", 1]')
        found = wait_for_events(server, 'JOB_SUBMITTED', 'JOB_SUCCESS', 'UPDATED_PEERS',
                                'UPDATED_MODALITIES')
        results[name] = [row[:2] for row in found if row[0].startswith(('JOB', 'UPDATED_P', 'UPDATED_MOD'))]
        for row in found:
            if row[0].startswith('JOB'):
                assert row[1] == 4 and len(row[2]) == 36
            if row[0].startswith('UPDATED_P'):
                assert row[1:] == [4, '']
    assert_same(results)


def test_events_wait_for_each_other_and_for_nothing_else(orthanc, plugin):
    """Contract 5.1: never concurrent, in order, and REST goes on meanwhile."""
    server = orthanc(plugin, script=r'''
import json, threading
import orthanc
GO = threading.Event()
INSIDE = []
ORDER = []
MAXIMUM = [0]
def on_change(change_type, level, resource):
    if change_type != orthanc.ChangeType.NEW_INSTANCE:
        return
    INSIDE.append(resource)
    MAXIMUM[0] = max(MAXIMUM[0], len(INSIDE))
    GO.wait(30)
    ORDER.append(resource)
    INSIDE.remove(resource)
def state(output, uri, **request):
    output.AnswerBuffer(json.dumps([INSIDE, ORDER, MAXIMUM]), 'application/json')
def go(output, uri, **request):
    GO.set()
    output.AnswerBuffer('go', 'text/plain')
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/state', state)
orthanc.RegisterRestCallback('/go', go)
''')
    ids = [server.upload(dicom.make_dicom()) for _ in range(5)]
    wait_until(lambda: server.get('/state').json()[0] == ids[:1], 10, 'the first event')
    assert server.get('/state').json() == [ids[:1], [], [1]]
    server.get('/go')
    wait_until(lambda: server.get('/state').json()[1] == ids, 10, 'all events')
    assert server.get('/state').json() == [[], ids, [1]]


@pytest.mark.smoke
def test_stored_instances_by_http_and_by_the_script(orthanc):
    results = {}
    content = dicom.make_dicom('gray16', PatientID='HTTP')
    second = dicom.make_dicom('gray8', PatientID='SCRIPT')
    third = dicom.make_dicom('rgb', PatientID='RAISE')
    for name in PLUGINS:
        server = orthanc(name, script=STORED)
        server.upload(content)
        answer = server.post('/upload', second)
        assert answer.json()['Status'] == 'Success'
        assert server.post('/instances', third).json()['Status'] == 'Success'
        rows = server.get('/seen').json()
        assert [row['origin'] for row in rows] == [3, 4, 3]
        assert [row['nested'] for row in rows] == [None, True, None]
        assert rows[0]['types'] == ['DicomInstance', 'str'] and rows[0]['known'] is True
        assert [row['patient'] for row in rows] == ['HTTP', 'SCRIPT', 'RAISE']
        server.wait_for_log('Error in the Python on-stored-instance callback, traceback:')
        server.wait_for_log('Error in the plugin callback while receiving an instance')
        results[name] = rows
    assert_same(results)


def test_stored_instances_by_dicom(orthanc, tmp_path):
    results = {}
    path = tmp_path / 'a.dcm'
    path.write_bytes(dicom.make_dicom('gray8', PatientID='DIMSE'))
    raising = tmp_path / 'b.dcm'
    raising.write_bytes(dicom.make_dicom('gray8', PatientID='RAISE'))
    for name in PLUGINS:
        server = orthanc(name, script=STORED, dicom=True)
        for one in (path, raising):
            result = dicom.storescu(server, one)
            assert result.returncode == 0, result.stdout
            assert dicom.dimse_status(result) == 'Success'
        rows = server.get('/seen').json()
        assert [(row['origin'], row['aet']) for row in rows] == [(2, 'TESTER')] * 2
        results[name] = rows
    assert_same(results)


def test_concurrent_uploads_are_all_delivered(orthanc, plugin):
    server = orthanc(plugin, script=STORED + CHANGES)
    contents = [dicom.make_dicom(PatientID='C%d' % i) for i in range(20)]
    statuses = []

    def upload(part):
        for content in part:
            statuses.append(server.post('/instances', content).json()['Status'])

    threads = [threading.Thread(target=upload, args=(contents[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == ['Success'] * 20
    assert sorted(row['patient'] for row in server.get('/seen').json()) == sorted(
        'C%d' % i for i in range(20))
    wait_until(lambda: len([r for r in events(server) if r[0] == 'NEW_INSTANCE']) == 20, 20, 'events')


def test_all_events_are_delivered_before_the_end(orthanc, plugin):
    """Contract 5.2: the queue is drained, ORTHANC_STOPPED comes last."""
    server = orthanc(plugin, script=r'''
import time
import orthanc
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.NEW_INSTANCE:
        time.sleep(0.1)
        print('NEW', flush=True)
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        orthanc.RestApiGet('/statistics')
        print('STOPPED', flush=True)
orthanc.RegisterOnChangeCallback(on_change)
''')
    for _ in range(10):
        server.upload(dicom.make_dicom())
    # the core drops at its end what it has not handed to the plugin yet
    server.wait_for_out('NEW')
    wait_until(lambda: server.get('/changes?last').json()['Last'] >= 10, 10, 'changes')
    wait_until(lambda: server.out().count('NEW') >= 5, 10, 'half of the events')
    assert server.stop() == 0
    lines = server.out().split()
    assert lines[-1] == 'STOPPED' and lines.count('STOPPED') == 1
    assert lines.count('NEW') >= 5

# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage area with custom data and ranges (contract 3.12), from Orthanc 1.12.8 on."""

import os

import pytest

import dicom
from compare import assert_same
from conftest import PLUGINS
from server import OFFICIAL_VERSION, ORTHANC_VERSION, wait_until

pytestmark = pytest.mark.skipif(ORTHANC_VERSION < (1, 12, 8),
                                reason='contract, appendix A: RegisterStorageArea3 is of 1.12.8')
# Contract 3.1: it came with release 7.1 of the official plugin.
HAVE_IT = [name for name in PLUGINS if name == 'ours' or OFFICIAL_VERSION >= (7, 1)]

SCRIPT = r'''
import json, os, threading
import orthanc

os.makedirs('files', exist_ok=True)
CALLS = []
DEFAULT = {'create': '(0, b"custom")', 'read': '(0, content[start:start + size])', 'remove': '0'}
CHOICE = dict(DEFAULT)

def path(uuid):
    return os.path.join('files', uuid)

def note(name, *arguments):
    CALLS.append([name] + [[type(a).__name__,
        len(a) if isinstance(a, bytes) and a != b'custom' else
        a.decode() if isinstance(a, bytes) else
        a if isinstance(a, (int, str)) else None] for a in arguments])

def size_of(instance):
    try:
        return instance.GetInstanceSize()
    except ValueError as e:
        return str(e)

def create(uuid, content_type, compression_type, content, instance):
    note('create', uuid, content_type, compression_type, content, instance)
    value = eval(CHOICE['create'], dict(globals(), instance=instance))
    with open(path(uuid), 'wb') as f:
        f.write(content)
    return value

def read_range(uuid, content_type, start, size, custom):
    note('read', uuid, content_type, start, size, custom)
    with open(path(uuid), 'rb') as f:
        return eval(CHOICE['read'], dict(globals(), content=f.read(), start=start, size=size))

def remove(uuid, content_type, custom):
    note('remove', uuid, content_type, custom)
    value = eval(CHOICE['remove'], dict(globals()))
    if os.path.exists(path(uuid)):
        os.remove(path(uuid))
    return value

def choose(output, uri, **request):
    CHOICE.update(DEFAULT)
    CHOICE.update(json.loads(request['body']))
    CALLS.clear()
    output.AnswerBuffer('', 'text/plain')

def calls(output, uri, **request):
    output.AnswerBuffer(json.dumps(CALLS), 'application/json')

orthanc.RegisterStorageArea3(create, read_range, remove)
orthanc.RegisterRestCallback('/choose', choose)
orthanc.RegisterRestCallback('/calls', calls)
'''


@pytest.fixture(params=HAVE_IT)
def area(orthanc, request):
    """A server that asks the storage area each time it needs a file."""
    return orthanc(request.param, script=SCRIPT, config={'MaximumStorageCacheSize': 0},
                   python={'AllowThreads': True})


def choose(server, **what):
    assert server.post('/choose', json=what).status_code == 200


def result(answer):
    """(HTTP status, error code or None)"""
    return answer.status_code, None if answer.status_code == 200 else answer.json()['OrthancStatus']


def upload(server):
    return result(server.post('/instances', dicom.make_dicom()))


def test_create_read_remove(orthanc):
    results = {}
    content = dicom.make_dicom('gray16', 100, 100)
    for name in HAVE_IT:
        server = orthanc(name, script=SCRIPT, config={'MaximumStorageCacheSize': 0},
                         python={'AllowThreads': True})
        identifier = server.upload(content)
        assert server.get('/instances/%s/file' % identifier).content == content
        assert server.get('/instances/%s/attachments/dicom/data' % identifier, headers={
            'Range': 'bytes=10-19'}).content == content[10:20]
        assert server.delete('/instances/' + identifier).status_code == 200
        wait_until(lambda server=server: not os.listdir(os.path.join(server.cwd, 'files')), 5,
                   'the removal')
        calls = server.get('/calls').json()
        uuids = {}
        for call in calls:
            call[1][1] = uuids.setdefault(call[1][1], 'uuid %d' % len(uuids))
        assert calls[0] == ['create', ['str', 'uuid 0'], ['int', 1], ['int', 4],
                            ['bytes', len(content)], ['DicomInstance', None]]
        assert ['read', ['str', 'uuid 0'], ['int', 1], ['int', 10], ['int', 10],
                ['bytes', 'custom']] in calls
        assert ['remove', ['str', 'uuid 0'], ['int', 1], ['bytes', 'custom']] in calls
        results[name] = calls
    assert_same(results)


def test_what_create_returns(area):
    for expression, outcome in [
            ('(0, None)', (200, None)), ('(0, b"x")', (200, None)), ('(False, None)', (200, None)),
            ('(17, None)', (404, 17)), ('(17, b"x")', (404, 17)), ('(True, None)', (500, 1)),
            ('[0, None]', (500, 1)), ('0', (500, 1)), ('("0", None)', (500, 1)),
            ('(0, bytearray(b"x"))', (500, 1)), ('(0, "x")', (500, 1)), ('1 / 0', (500, 1)),
            ('(0, b"")', (200, None) if area.plugin == 'ours' else (500, 1))]:
        choose(area, create=expression)
        assert upload(area) == outcome, expression
    start = 'The Python StorageCreate2 callback has not returned '
    area.wait_for_log(start + 'a tuple as expected')
    area.wait_for_log(start + 'an int as the first element of the return tuple')
    area.wait_for_log(start + 'a byte array as the second element of the return tuple')
    area.wait_for_log('The Python StorageCreate2 callback returned: 17')
    area.wait_for_log('Error in the Python StorageCreate2 callback, traceback:')


def test_what_read_returns(area):
    assert upload(area) == (200, None)
    where = '/instances/%s/file' % area.get('/instances').json()[0]
    for expression, outcome in [
            ('(0, content[start:start + size])', (200, None)),
            ('(0, content[start:start + size - 1])', (500, 1)),
            ('(0, content + b"x")', (500, 1)), ('(17, b"")', (404, 17)),
            ('(17, None)', (404, 17) if area.plugin == 'ours' else (500, 1)),
            ('(0, None)', (500, 1)), ('content', (500, 1)), ('1 / 0', (500, 1))]:
        choose(area, read=expression)
        assert result(area.get(where)) == outcome, expression
    area.wait_for_log('Error in the Python StorageReadRange2 callback, traceback:')


def test_what_remove_returns(area):
    for expression in ('0', 'False', '17', 'None', '1 / 0'):
        assert upload(area) == (200, None)
        choose(area, remove=expression)
        identifier = area.get('/instances').json()[0]
        assert area.delete('/instances/' + identifier).status_code == 200, expression
    area.wait_for_log('Error in the Python StorageRemove2 callback, traceback:')


def test_attachments_come_without_an_instance(area):
    choose(area, create='(0, str(size_of(instance)).encode())')
    content = dicom.make_dicom()
    identifier = area.upload(content)
    patient = area.get('/instances/%s/patient' % identifier).json()['ID']
    assert area.put('/patients/%s/attachments/1030' % patient, b'abc').status_code == 200
    assert area.get('/patients/%s/attachments/1030/data' % patient).content == b'abc'
    assert area.get('/instances/%s/file' % identifier).content == content
    custom = [call[-1] for call in area.get('/calls').json() if call[0] == 'read']
    assert custom == [['bytes', len('Invalid object')], ['bytes', len(str(len(content)))]]


@pytest.mark.ours
def test_a_host_that_dies_is_followed_by_the_next(orthanc):
    server = orthanc(script=SCRIPT + r'''
def once(what):
    if not os.path.exists(what):
        open(what, 'w').close()
        os._exit(3)
CHOICE.update(create='[once("c"), (0, None)][1]', remove='[once("d"), 0][1]',
              read='[once("r"), (0, content[start:start + size])][1]')
''', config={'MaximumStorageCacheSize': 0})
    content = dicom.make_dicom()
    identifier = server.upload(content)
    assert server.get('/instances/%s/file' % identifier).content == content
    assert server.delete('/instances/' + identifier).status_code == 200
    assert os.listdir(os.path.join(server.cwd, 'files')) == []
    assert server.log().count('is run once more, in the next host') == 3


@pytest.mark.ours
@pytest.mark.skipif(ORTHANC_VERSION < (1, 12, 11),
                    reason='contract, appendix A: RegisterStorageArea3 is of 1.12.8; core '
                           'notes 5.2: the lock of the database is recursive later')
def test_the_server_may_be_called_while_removing(orthanc):
    server = orthanc(script=SCRIPT, config={'MaximumStorageCacheSize': 0})
    assert upload(server) == (200, None)
    choose(server, remove='[orthanc.RestApiGet("/statistics"), 0][1]')
    identifier = server.get('/instances').json()[0]
    assert server.delete('/instances/' + identifier, timeout=20).status_code == 200
    assert not server.messages('E')


@pytest.mark.ours
def test_both_versions_cannot_work_at_once(orthanc):
    """Contract 3.1: Orthanc keeps the first, and the script is not told."""
    server = orthanc(script=SCRIPT + 'orthanc.RegisterStorageArea(1, 2, 3)\n')
    server.wait_for_log('Orthanc does not accept the custom storage area in Python')
    assert upload(server) == (200, None)

# SPDX-License-Identifier: GPL-3.0-or-later
"""C-GET from a server whose script has handlers: the same answers and the same files under both
plugins, and nothing that the script can see of it but the reads of its storage area."""

import os
import re
import time

import pytest

import dicom
import rows
from compare import assert_same
from conftest import PLUGINS
from rows import check
from server import wait_until

SCRIPT = rows.SCRIPT + r'''
import json, os, threading

SEEN = []
LOCK = threading.RLock()

MARK = None

def on_change(change, level, resource):
    global MARK
    if change == orthanc.ChangeType.UPDATED_METADATA:
        if level == orthanc.ResourceType.PATIENT:
            MARK = orthanc.RestApiGet('/patients/%s/metadata/4001' % resource)
        return
    with LOCK:
        SEEN.append(['change', change, level])

def on_stored(instance, instance_id):
    with LOCK:
        SEEN.append(['stored', instance.GetInstanceOrigin(), len(instance.GetInstanceData())])
        orthanc.RestApiPut('/instances/%s/metadata/4000' % instance_id, 'seen')

def cstore(instance):
    with LOCK:
        SEEN.append(['c-store', instance.GetInstanceRemoteAet()])
    return 0

def received(content, origin):
    with LOCK:
        SEEN.append(['received', len(content), origin])
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None

def on_seen(output, uri, **request):
    if MARK == request['body']:
        output.AnswerBuffer(json.dumps(SEEN), 'application/json')
    else:
        output.AnswerBuffer('null', 'application/json')

orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterIncomingCStoreInstanceFilter(cstore)
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterRestCallback('/seen', on_seen)

os.makedirs('files', exist_ok=True)
READ = []
BREAK = []

def create(uuid, content_type, data):
    with open(os.path.join('files', uuid), 'wb') as f:
        f.write(data)

def read(uuid, content_type):
    READ.append(content_type)
    if BREAK:
        raise RuntimeError('no reading now')
    with open(os.path.join('files', uuid), 'rb') as f:
        return f.read()

def remove(uuid, content_type):
    os.remove(os.path.join('files', uuid))

orthanc.RegisterStorageArea(create, read, remove)
_SPACE.update(READ=READ, BREAK=BREAK)
'''
STUDY, OTHER = '1.2.3.4.7.1', '1.2.3.4.7.2'
# No cache of the server stands before the storage area; the latter two are of 1.13.
CONFIGURATION = {'DicomAlwaysAllowGet': True, 'MaximumStorageCacheSize': 0, 'DicomParserCacheSize': 0,
                 'TranscoderCacheSize': 0, 'StableAge': 600}
LEVEL = 'QueryRetrieveLevel=%s'
REQUESTS = [
    ('-S', (LEVEL % 'STUDY', 'StudyInstanceUID=' + STUDY), 3),
    ('-S', (LEVEL % 'STUDY', 'StudyInstanceUID=%s\\%s' % (STUDY, OTHER)), 4),
    ('-S', (LEVEL % 'SERIES', 'StudyInstanceUID=' + STUDY, 'SeriesInstanceUID=%s.2' % STUDY), 1),
    ('-S', (LEVEL % 'IMAGE', 'StudyInstanceUID=' + STUDY, 'SeriesInstanceUID=%s.1' % STUDY,
            'SOPInstanceUID=%s.1.1' % STUDY), 1),
    ('-P', (LEVEL % 'PATIENT', 'PatientID=P1'), 4),
    ('-S', (LEVEL % 'STUDY', 'StudyInstanceUID=1.2.3.9'), 0),
    ('-S', (LEVEL % 'STUDY', 'StudyInstanceUID='), None),
    ('-S', (LEVEL % 'FOO', 'StudyInstanceUID=' + STUDY), None),
    ('-S', ('StudyInstanceUID=' + STUDY,), None),
]


def contents():
    """Four instances: three in two series of one study, one in another."""
    made = []
    for study, series, number, kind in ((STUDY, 1, 1, 'gray8'), (STUDY, 1, 2, 'rgb'),
                                        (STUDY, 2, 1, 'gray16'), (OTHER, 1, 1, 'gray8')):
        made.append(dicom.make_dicom(
            kind, 64, 48, StudyInstanceUID=study, SeriesInstanceUID='%s.%d' % (study, series),
            SOPInstanceUID='%s.%d.%d' % (study, series, number), InstanceNumber=number))
    return made


def outcome(server, directory, model, keys):
    """(exit code, DIMSE results and sub-operations as getscu tells them, the files)"""
    os.mkdir(directory)
    result = dicom.getscu(server, directory, *keys, model=model, options=('-td', '20'))
    told = [re.sub(r'^[IWE]: ', '', line) for line in result.stdout.splitlines() if re.search(
        r'Status|Response|Sub-?operations|Affected|Number of', line)]
    files = {}
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), 'rb') as f:
            files[name] = f.read()
    return result.returncode, told, files


def data_set(content):
    """What follows the file meta information, which the receiver writes itself."""
    dataset = dicom.read(content)
    return dataset.file_meta.TransferSyntaxUID, dataset.to_json()


@pytest.fixture(scope='module')
def servers(module_orthanc):
    """Each C-GET reads from the storage area in Python."""
    made = {}
    for name in PLUGINS:
        made[name] = module_orthanc(name, script=SCRIPT, dicom=True, config=CONFIGURATION,
                                    python={'AllowThreads': True})
        for content in contents():
            made[name].upload(content)
    return made


def all_seen(server):
    """What the script has been told of; everything that has happened before this call."""
    patient = server.get('/patients').json()[0]
    text = str(time.monotonic_ns())
    assert server.put('/patients/%s/metadata/4001' % patient, text).status_code == 200
    # events come in order: that of this metadata is the last
    return wait_until(lambda: server.post('/seen', text).json(), 10, 'the last event')


def test_what_is_got(servers, tmp_path):
    sent = {dicom.read(content).SOPInstanceUID: content for content in contents()}
    results = {}
    for name, server in servers.items():
        before = all_seen(server)
        results[name] = []
        for index, (model, keys, count) in enumerate(REQUESTS):
            found = outcome(server, str(tmp_path / ('%s-%d' % (name, index))), model, keys)
            results[name].append(found)
            if count is not None:
                assert len(found[2]) == count, (name, keys)
            for content in found[2].values():
                uid = dicom.read(content).SOPInstanceUID
                assert data_set(content) == data_set(sent[uid]), (name, keys, uid)
        assert before and all_seen(server) == before, 'C-GET changes nothing that a script is told of'
    for triple in zip(REQUESTS, *results.values()):
        assert_same(dict(zip(results, triple[1:])))
    check(servers, [
        ("import json\nl = json.loads(orthanc.RestApiGet('/instances'))\n[(json.loads(orthanc.RestApiGet("
         "'/instances/%s' % x))['MainDicomTags'].get('SOPInstanceUID'), sorted(json.loads(orthanc.RestApiGet("
         "'/instances/%s/metadata' % x))), orthanc.RestApiGet('/instances/%s/metadata/4000' % x)) "
         "for x in sorted(l)]", None),
        ("bool(READ)", 'True')])


def test_what_is_stored_over_dicom_is_got_again(servers, tmp_path):
    """C-STORE through the script's filters, C-GET, and the metadata of both."""
    results = {}
    content = dicom.make_dicom('gray8', 32, 32, PatientID='P2', StudyInstanceUID=STUDY + '.9',
                               SeriesInstanceUID=STUDY + '.9.1', SOPInstanceUID=STUDY + '.9.1.1')
    path = tmp_path / 'sent.dcm'
    path.write_bytes(content)
    for name, server in servers.items():
        stored = dicom.storescu(server, path, aet='SENDER')
        found = outcome(server, str(tmp_path / name), '-S', (
            LEVEL % 'STUDY', 'StudyInstanceUID=%s.9' % STUDY))
        assert [data_set(file) for file in found[2].values()] == [data_set(content)]
        seen = [item for item in all_seen(server)
                if item[0] == 'c-store' or item[0] == 'stored' and item[1] == 2]
        results[name] = (dicom.dimse_status(stored), found, seen)
        assert dicom.dimse_status(stored) == 'Success' and ['c-store', 'SENDER'] in seen
    assert_same(results)
    where = "import json\ni = orthanc.LookupInstance('%s.9.1.1')\n" % STUDY
    check(servers, [
        (where + "orthanc.RestApiGet('/instances/%%s/metadata/%s' %% i)" % name, None) for name in (
            'Origin', 'RemoteAET', 'CalledAET', 'TransferSyntax', 'SopClassUid', '4000', 'RemoteIP')])


def test_a_storage_area_that_fails(servers, tmp_path):
    """The sub-operations fail; nothing comes, and the next C-GET works again."""
    results = {}
    for name, server in servers.items():
        check({name: server}, [("BREAK.append(1)", 'None')])
        broken = outcome(server, str(tmp_path / (name + '-broken')), *REQUESTS[0][:2])
        check({name: server}, [("BREAK.clear()", 'None')])
        mended = outcome(server, str(tmp_path / (name + '-mended')), *REQUESTS[0][:2])
        assert broken[2] == {} and len(mended[2]) == 3
        server.wait_for_log('Error in the Python StorageRead callback, traceback:')
        results[name] = broken, mended
    assert_same(results)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the core would wait for itself over (core notes 15.6), beside the refusals that
test_storage_area.py, test_commitment.py and test_self_query.py show: nothing hangs."""

import json
import threading

import pytest

import dicom
from server import wait_until

pytestmark = pytest.mark.ours

# Registrations take locks of the core that its callbacks hold: from each callback, each kind.
REGISTER = r'''
import json, threading
import orthanc

def nothing(*args, **kwargs):
    return None
def stored(instance, identifier):
    register('stored')
def on_filter(uri, **request):
    register('filter')
    return True
def received(data, origin):
    register('received')
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None
def cstore(instance):
    register('cstore')
    return 0
def on_change(change_type, level, resource):
    register('change')
def find(answers, query, issuer, called):
    register('find')
def scp(job, transaction, classes, instances, remote, called):
    register('scp')
def lookup(classes, instances, data):
    return 0
def rest(output, uri, **request):
    register('rest')
    output.AnswerBuffer(json.dumps(sorted(SEEN)), 'application/json')

KINDS = [
    lambda: orthanc.RegisterOnChangeCallback(on_change),
    lambda: orthanc.RegisterOnStoredInstanceCallback(stored),
    lambda: orthanc.RegisterIncomingHttpRequestFilter(on_filter),
    lambda: orthanc.RegisterReceivedInstanceCallback(received),
    lambda: orthanc.RegisterIncomingCStoreInstanceFilter(cstore),
    lambda: orthanc.RegisterStorageCommitmentScpCallback(scp, lookup),
    lambda: orthanc.RegisterFindCallback(find),
    lambda: orthanc.RegisterMoveCallback(nothing),
    lambda: orthanc.RegisterWorklistCallback(nothing),
    lambda: orthanc.RegisterRestCallback('/again-.*', rest),
]
SEEN = {}
def register(where):
    """On the thread of the callback, the first time for all kinds."""
    if SEEN.setdefault(where, 0) == 0:
        SEEN[where] = 1
        for kind in KINDS:
            try:
                kind()
            except Exception:    # "can only register one", for most
                SEEN[where] += 1

orthanc.RegisterRestCallback('/rest', rest)
'''
AT_IMPORT = '''
orthanc.RegisterFindCallback(find)
'''

EVENTS = r'''
import json
import orthanc
SEEN = []
def on_change(change_type, level, resource):
    if change_type in (orthanc.ChangeType.JOB_SUBMITTED, orthanc.ChangeType.JOB_SUCCESS,
                       orthanc.ChangeType.JOB_FAILURE):
        orthanc.SetGlobalProperty(2000, resource)
        orthanc.RestApiGet('/jobs')
        SEEN.append(json.loads(orthanc.RestApiGet('/jobs/' + resource))['Type'])
def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/seen', seen)
'''


@pytest.mark.parametrize('first', ['import', 'rest'])
def test_registration_from_any_callback(orthanc, tmp_path, first):
    """first: who registers all kinds - the script while it is imported, or a route."""
    script = REGISTER + ('for kind in KINDS:\n    kind()\n' if first == 'import' else AT_IMPORT)
    server = orthanc(script=script, dicom=True, config={'DicomAlwaysAllowFind': True})
    path = tmp_path / 'a.dcm'
    path.write_bytes(dicom.make_dicom())
    done = []

    def use():
        server.get('/rest')
        for _ in range(2):
            server.upload(dicom.make_dicom())
            dicom.storescu(server, path)
            dicom.findscu(server, 'QueryRetrieveLevel=STUDY', 'PatientID')
            server.get('/rest')
        done.append(True)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == [True] * 3
    expected = {'change', 'cstore', 'filter', 'find', 'received', 'rest', 'stored'}
    wait_until(lambda: set(server.get('/rest').json()) >= expected, 20, 'each kind of callback')
    assert server.get('/system').status_code == 200
    assert server.stop() == 0


def test_sdk_calls_of_job_events(orthanc):
    """Up to 1.12.1 the core tells of jobs with their list locked; the script hears it later."""
    server = orthanc(script=EVENTS)
    study = server.get('/instances/%s/study' % server.upload(dicom.make_dicom())).json()['ID']

    def work():
        for _ in range(3):
            answer = server.post('/studies/%s/anonymize' % study, json.dumps({'Synchronous': True}))
            assert answer.status_code == 200

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    wait_until(lambda: len(server.get('/seen').json()) == 18, 20, 'the events of nine jobs')
    assert set(server.get('/seen').json()) == {'ResourceModification'}
    assert server.stop() == 0

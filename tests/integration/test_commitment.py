# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage commitment (contract 3.13): a second Orthanc asks, the script answers.

Ours only: the official plugin 4.0 does not have it, and what later ones do differs in each
case that matters (contract 8, rows 1 and 2).
"""

import os
import signal
import time

import pytest

from server import ORTHANC_VERSION, PATIENCE, PID_ROUTE, is_alive, wait_until

pytestmark = pytest.mark.ours

SCRIPT = r'''
import json, os, sys, time
import orthanc

CHOICE = {'scp': '"driver"', 'lookup': '0'}
CALLS = []

class Driver:
    def __init__(self, text):
        self.text = text
    def __repr__(self):
        return 'Driver(%s)' % self.text
    def __del__(self):
        print('gone', self.text, flush=True)

def kinds(values):
    return [[type(v).__name__, v if isinstance(v, (str, list)) else repr(v)] for v in values]

def scp(*arguments):
    CALLS.append(['scp'] + kinds(arguments))
    return eval(CHOICE['scp'], dict(globals(), arguments=arguments))

def lookup(*arguments):
    CALLS.append(['lookup'] + kinds(arguments))
    return eval(CHOICE['lookup'], dict(globals(), uid=arguments[1], driver=arguments[2]))

def choose(output, uri, **request):
    CHOICE.update(json.loads(request['body']))
    CALLS.clear()
    output.AnswerBuffer('', 'text/plain')

def calls(output, uri, **request):
    output.AnswerBuffer(json.dumps(CALLS), 'application/json')

if os.path.exists('choice.json'):
    CHOICE.update(json.load(open('choice.json')))
orthanc.RegisterStorageCommitmentScpCallback(scp, lookup)
orthanc.RegisterRestCallback('/choose', choose)
orthanc.RegisterRestCallback('/calls', calls)
''' + PID_ROUTE

INSTANCES = [{'SOPClassUID': '1.2.840.10008.5.1.4.1.1.2', 'SOPInstanceUID': '1.2.3.%d' % i}
             for i in range(3)]


class Pair:
    """The server with the script (scp), and the one that asks it (scu)."""

    def __init__(self, orthanc, script=SCRIPT, **kwargs):
        self.scp = orthanc(script=script, dicom=True, **kwargs)
        self.scu = orthanc(None, dicom=True, config={'DicomAet': 'SCU'})
        for server, name, other in ((self.scp, 'SCU', self.scu), (self.scu, 'ORTHANC', self.scp)):
            assert server.put('/modalities/peer', json=[
                name, '127.0.0.1', other.dicom_port]).status_code == 200

    def choose(self, scp='"driver"', lookup='0'):
        assert self.scp.post('/choose', json={'scp': scp, 'lookup': lookup}).status_code == 200

    def ask(self, instances=None):
        """Returns the transaction."""
        answer = self.scu.post('/modalities/peer/storage-commitment',
                               json={'DicomInstances': instances or INSTANCES})
        assert answer.status_code == 200, answer.text
        return answer.json()['ID']

    def report(self, transaction):
        return self.scu.get('/storage-commitment/' + transaction).json()

    def ended(self, transaction):
        """The report, once it has come."""
        wait_until(lambda: self.report(transaction)['Status'] != 'Pending', 20, 'the report')
        return self.report(transaction)

    def job(self):
        """The last job of the server with the script, once it has ended."""
        def last():
            jobs = [j for j in self.scp.get('/jobs?expand').json()
                    if j['Type'] == 'StorageCommitmentScp']
            jobs.sort(key=lambda j: (j['CreationTime'], j['Timestamp']))
            return jobs and all(j['State'] in ('Success', 'Failure') for j in jobs) and jobs[-1]
        return wait_until(last, 20, 'the job')

    def reasons(self, transaction):
        """{SOP instance UID: reason}, 0 for success."""
        report = self.ended(transaction)
        found = {item['SOPInstanceUID']: 0 for item in report.get('Success', [])}
        for item in report.get('Failures', []):
            found[item['SOPInstanceUID']] = item['FailureReason']
        return found


def test_what_the_functions_receive(orthanc):
    pair = Pair(orthanc)
    pair.choose('Driver("one")', '0')
    transaction = pair.ask()
    assert pair.ended(transaction)['Status'] == 'Success'
    scp, *lookups = pair.scp.get('/calls').json()
    classes = [item['SOPClassUID'] for item in INSTANCES]
    uids = [item['SOPInstanceUID'] for item in INSTANCES]
    job = pair.job()
    assert job['State'] == 'Success'
    assert scp == ['scp', ['str', job['ID']], ['str', transaction], ['list', classes],
                   ['list', uids], ['str', 'SCU'], ['str', 'ORTHANC']]
    assert lookups == [['lookup', ['str', c], ['str', u], ['Driver', 'Driver(one)']]
                       for c, u in zip(classes, uids)]


@pytest.mark.parametrize('driver', ['None', '12', '"text"'])
def test_any_object_is_a_driver(orthanc, driver):
    pair = Pair(orthanc)
    pair.choose(driver, 'int(driver != %s)' % driver)
    assert pair.ended(pair.ask())['Status'] == 'Success'


def test_reasons_are_reported(orthanc):
    pair = Pair(orthanc)
    # True is 1; the DICOM codes of the reasons, see PS3.3 C.14.1.1
    for reason, code in ((1, 0x0110), ('True', 0x0110), (2, 0x0112), (3, 0x0213), (4, 0x0122),
                         (5, 0x0119), (6, 0x0131)):
        pair.choose(lookup='%s if uid == "1.2.3.1" else False' % reason)
        transaction = pair.ask()
        report = pair.ended(transaction)
        assert report['Status'] == 'Failure'
        assert len(report['Success']) == 2 and len(report['Failures']) == 1
        assert report['Failures'][0]['SOPInstanceUID'] == '1.2.3.1'
        reasons = pair.reasons(transaction)
        assert reasons['1.2.3.1'] == code, (reason, reasons)


def test_lookup_that_raises_is_a_processing_failure(orthanc):
    """Contract 8 row 1: never as success, and the others are as they are."""
    pair = Pair(orthanc)
    pair.choose(lookup='0 if uid != "1.2.3.1" else 1 / 0')
    transaction = pair.ask()
    reasons = pair.reasons(transaction)
    assert set(reasons) == {'1.2.3.0', '1.2.3.1', '1.2.3.2'}
    assert reasons['1.2.3.0'] == reasons['1.2.3.2'] == 0
    assert reasons['1.2.3.1'] == 0x0110
    pair.scp.wait_for_log('Error in the Python storage commitment Lookup callback, traceback:\n'
                          "<class 'ZeroDivisionError'>\ndivision by zero\n")
    assert pair.job()['State'] == 'Success'


@pytest.mark.parametrize('value,code,said', [
    ('42', 3, 'has returned 42, which is no StorageCommitmentFailureReason'),
    ('-1', 3, 'has returned -1, which is no'),
    ('2 ** 70', 3, 'which is no StorageCommitmentFailureReason'),
    ('None', 1, 'The Python storage commitment Lookup callback has not returned an int as the '
     'return value'),
    ('0.0', 1, 'has not returned an int as the return value'),
    ('"0"', 1, 'has not returned an int as the return value')])
def test_lookup_that_returns_nonsense_fails_the_job(orthanc, value, code, said):
    pair = Pair(orthanc)
    pair.choose(lookup=value)
    transaction = pair.ask()
    job = pair.job()
    assert (job['State'], job['ErrorCode']) == ('Failure', code)
    assert pair.report(transaction)['Status'] == 'Pending'
    pair.scp.wait_for_log(said)


def test_scp_that_raises_fails_the_job(orthanc):
    """Contract 8 row 2: the core does not answer from its own index instead."""
    pair = Pair(orthanc)
    pair.choose(scp='1 / 0')
    transaction = pair.ask()
    job = pair.job()
    assert (job['State'], job['ErrorCode']) == ('Failure', 1)
    pair.scp.wait_for_log('Error in the Python storage commitment SCP callback, traceback:\n'
                          "<class 'ZeroDivisionError'>\ndivision by zero\n")
    time.sleep(0.5 * PATIENCE)
    assert pair.report(transaction)['Status'] == 'Pending'
    assert [call[0] for call in pair.scp.get('/calls').json()] == ['scp']


def test_drivers_live_as_long_as_the_job_is_remembered(orthanc):
    pair = Pair(orthanc, config={'JobsHistorySize': 2})
    for i in range(4):
        pair.choose('Driver("%d")' % i, '0')
        assert pair.ended(pair.ask())['Status'] == 'Success'
        pair.job()
    pair.scp.wait_for_out('gone 1')
    assert 'gone 3' not in pair.scp.out()
    assert pair.scp.stop() == 0
    assert sorted(line for line in pair.scp.out().splitlines() if line.startswith('gone')) == [
        'gone 0', 'gone 1', 'gone 2', 'gone 3']


def test_a_finaliser_that_calls_the_server_is_refused(orthanc):
    """Core notes 5.5: the core has locked its jobs there."""
    pair = Pair(orthanc, SCRIPT + r'''
class Curious:
    def __del__(self):
        try:
            orthanc.RestApiGet('/jobs')
            print('answered', flush=True)
        except RuntimeError as e:
            print('refused:', e, flush=True)
''', config={'JobsHistorySize': 1})
    pair.choose('Curious()', '0')
    for _ in range(3):
        assert pair.ended(pair.ask())['Status'] == 'Success'
        pair.job()
    pair.scp.wait_for_out('refused: RestApiGet cannot be called while Orthanc forgets a storage '
                          'commitment')
    assert pair.scp.get('/jobs').status_code == 200


@pytest.mark.survival
@pytest.mark.parametrize('way', ['hang', 'die'])
def test_a_finaliser_that_fails_ends_with_its_host(orthanc, way):
    """Orthanc has locked its jobs, and would wait with all who ask for one."""
    pair = Pair(orthanc, SCRIPT + r'''
def hang():
    while True:
        pass
def die():
    os._exit(9)
class Curious:
    def __del__(self):
        print('finalising', flush=True)
        %s()
''' % way, config={'JobsHistorySize': 1}, python={'CallTimeout': {'StorageCommitment': PATIENCE}})
    pair.choose('Curious()', '0')
    for _ in range(3):
        assert pair.ended(pair.ask())['Status'] == 'Success'
        pair.job()
        if 'finalising' in pair.scp.out():
            break
    pair.scp.wait_for_out('finalising')
    assert pair.scp.get('/jobs', timeout=10).status_code == 200
    pair.scp.wait_for_log('has not returned within' if way == 'hang' else 'ended with exit code 9')
    pair.choose()
    assert pair.ended(pair.ask())['Status'] == 'Success'
    assert pair.scp.stop() == 0


def test_the_functions_may_use_the_rest_api(orthanc):
    pair = Pair(orthanc)
    pair.choose('json.loads(orthanc.RestApiGet("/statistics"))',
                '0 if json.loads(orthanc.RestApiPost("/tools/lookup", uid)) == [] and '
                'len(json.loads(orthanc.RestApiGet("/jobs"))) == 1 else 1')
    assert pair.ended(pair.ask())['Status'] == 'Success'


def test_a_host_that_dies_in_lookup_is_a_processing_failure(orthanc):
    """Design 8; the driver is lost with it."""
    pair = Pair(orthanc)
    pair.choose(lookup='0 if uid == "1.2.3.0" else os._exit(3)')
    reasons = pair.reasons(pair.ask())
    assert reasons == {'1.2.3.0': 0, '1.2.3.1': 0x0110, '1.2.3.2': 0x0110}
    assert pair.job()['State'] == 'Success'
    pair.scp.wait_for_log('storage commitment of the instance 1.2.3.1 has failed')
    assert pair.ended(pair.ask())['Status'] == 'Success'        # by the next host


def test_a_host_that_dies_in_scp_is_a_processing_failure(orthanc):
    pair = Pair(orthanc)
    pair.choose(scp='os._exit(3)')
    assert pair.reasons(pair.ask()) == dict.fromkeys(('1.2.3.0', '1.2.3.1', '1.2.3.2'), 0x0110)
    assert pair.ended(pair.ask())['Status'] == 'Success'


def test_without_a_host_it_is_a_processing_failure(orthanc):
    pair = Pair(orthanc, SCRIPT + "if os.path.exists('slow'): time.sleep(60)\n",
                python={'QueueTimeout': 1, 'StopTimeout': 1})
    with open(os.path.join(pair.scp.cwd, 'slow'), 'w', encoding='ascii'):
        pass
    pid = pair.scp.host_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), 10, 'the death of the host')
    assert set(pair.reasons(pair.ask()).values()) == {0x0110}


def test_many_instances(orthanc):
    """Not more: for each the core writes the whole job down."""
    pair = Pair(orthanc)
    pair.choose('len(arguments[2])', '0 if driver == 500 else 2')
    instances = [{'SOPClassUID': '1.2.840.10008.5.1.4.1.1.2', 'SOPInstanceUID': '1.2.3.4.%d' % i}
                 for i in range(500)]
    report = pair.ended(pair.ask(instances))
    assert report['Status'] == 'Success' and len(report['Success']) == 500


@pytest.mark.skipif(ORTHANC_VERSION < (1, 12, 10),
                    reason='contract, appendix A: ...ScpCallback2 is of 1.12.10')
def test_version_2_gets_the_connection(orthanc):
    pair = Pair(orthanc, r'''
import orthanc
KEPT = []
def scp(job, transaction, classes, instances, connection):
    KEPT.append(connection)
    return [connection.GetConnectionRemoteAet(), connection.GetConnectionCalledAet(),
            connection.GetConnectionRemoteIp(), len(instances)]
def lookup(sop_class, sop_instance, driver):
    try:
        print(driver, KEPT[-1].GetConnectionRemoteAet(), flush=True)
    except ValueError as e:
        print(driver, e, flush=True)
    return 0
orthanc.RegisterStorageCommitmentScpCallback2(scp, lookup)
try:
    orthanc.RegisterStorageCommitmentScpCallback(1, 2)
except RuntimeError as e:
    print(e, flush=True)
''')
    assert pair.ended(pair.ask())['Status'] == 'Success'
    lines = pair.scp.out().splitlines()
    assert lines[0] == 'Can only register once for Python storage commitment SCP & Lookup callback'
    assert lines[1:] == ["['SCU', 'ORTHANC', '127.0.0.1', 3] Invalid object"] * 3


def test_a_second_registration_is_refused(orthanc):
    server = orthanc(script=r'''
import orthanc
orthanc.RegisterStorageCommitmentScpCallback(1, 2)
for args in ((1, 2), (1,)):
    try:
        orthanc.RegisterStorageCommitmentScpCallback(*args)
    except Exception as e:
        print(type(e).__name__, e, flush=True)
''')
    assert server.out().splitlines() == [
        'RuntimeError Can only register once for '
        'Python storage commitment SCP & Lookup callback',
        'ValueError Expected two callback functions to register '
        'Python storage commitment SCP & Lookup callback']
    server.wait_for_log('Registering callbacks Python storage commitment SCP & Lookup callback')


def test_registered_while_orthanc_runs(orthanc):
    """Core notes 7.4: effective at once."""
    pair = Pair(orthanc, r'''
import orthanc
def late(output, uri, **request):
    orthanc.RegisterStorageCommitmentScpCallback(lambda *a: 0, lambda *a: 4)
    output.AnswerBuffer('', 'text/plain')
orthanc.RegisterRestCallback('/late', late)
''')
    assert set(pair.reasons(pair.ask()).values()) == {0x0112}    # the core: not stored here
    assert pair.scp.get('/late').status_code == 200
    assert set(pair.reasons(pair.ask()).values()) == {0x0122}

# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter of instances that come by C-STORE (contract 3.7)."""

import json
import re

import pytest

import dicom
from compare import assert_same
from conftest import PLUGINS
from server import ORTHANC_VERSION

SCRIPT = r'''
import json, os
import orthanc

CHOICE = ['0']
SEEN = []
KEPT = []

class Index:
    def __index__(self): return 0xc123

class Int:
    def __int__(self): return 0

def accept(instance):
    KEPT.append(instance)
    return eval(CHOICE[-1], dict(globals(), instance=instance))

def look(instance):
    SEEN.append([type(instance).__name__, instance.GetInstanceOrigin(),
                 instance.GetInstanceRemoteAet(), instance.GetInstanceMetadata('RemoteIP'),
                 instance.GetInstanceMetadata('RemoteAET'), instance.GetInstanceSize(),
                 len(instance.GetInstanceData()), instance.HasInstancePixelData(),
                 instance.GetInstanceTransferSyntaxUid(),
                 json.loads(instance.GetInstanceSimplifiedJson())['PatientName']])
    return 0

def choose(output, uri, **request):
    CHOICE.append(request['body'].decode())
    output.AnswerBuffer('', 'text/plain')

def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')

def stale(output, uri, **request):
    try:
        KEPT[-1].GetInstanceSize()
        text = 'no exception'
    except ValueError as e:
        text = str(e)
    output.AnswerBuffer(text, 'text/plain')

orthanc.RegisterIncomingCStoreInstanceFilter(accept)
orthanc.RegisterRestCallback('/choose', choose)
orthanc.RegisterRestCallback('/seen', seen)
orthanc.RegisterRestCallback('/stale', stale)
'''

# (what the filter returns, DIMSE status, what the log says)
NUMBER = 'The Python incoming-cstore-instance filter has not returned an integer'
NEGATIVE = 'The Python incoming-cstore-instance filter has returned a negative value'
RANGE = 'The Python incoming-cstore-instance filter has returned an out-of-range DIMSE status: %d'
RAISED = 'Error in the Python incoming-cstore-instance callback, traceback:'
RESULTS = [
    ('0', 0, None), ('False', 0, None), ('orthanc.ErrorCode.SUCCESS', 0, None),
    ('1', 1, None), ('True', 1, None), ('0xb000', 0xb000, None), ('65535', 65535, None),
    ('Index()', 0xc123, None),
    ('65536', 0xa700, RANGE % 65536), ('-1', 0xa700, NEGATIVE), ('2 ** 70', 0xa700, NEGATIVE),
    ('0.0', 0xa700, NEGATIVE), ('0j', 0xa700, NEGATIVE), ('None', 0xa700, NUMBER),
    ('"0"', 0xa700, NUMBER), ('[]', 0xa700, NUMBER), ('(0,)', 0xa700, NUMBER),
    ('1 / 0', 0xa700, RAISED), ('exit(0)', 0xa700, RAISED),
]


def store(server, path):
    """The DIMSE status as a number."""
    output = dicom.storescu(server, path, '-d').stdout
    found = re.findall(r'DIMSE Status\s*: 0x([0-9a-f]+)', output)
    assert found, output
    return int(found[-1], 16)


def choose(server, expression):
    assert server.post('/choose', expression.encode()).status_code == 200


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'file.dcm'
    path.write_bytes(dicom.make_dicom())
    return path


def test_what_is_returned_is_the_dimse_status(orthanc, path):
    for name in PLUGINS:
        server = orthanc(name, script=SCRIPT, dicom=True)
        stored = 0
        for expression, status, said in RESULTS:
            choose(server, expression)
            path.write_bytes(dicom.make_dicom())
            start = len(server.log())
            assert store(server, path) == status, (name, expression)
            if said is not None:
                assert said in server.log()[start:], (name, expression)
            stored += status == 0
            assert server.get('/statistics').json()['CountInstances'] == stored, expression
        raised = [text for _, text in server.messages('E') if text.startswith(RAISED)]
        assert "\n<class 'ZeroDivisionError'>\ndivision by zero\n" in raised[0]
        assert "\n<class 'SystemExit'>\n0\n" in raised[1]


def test_int_alone_is_no_integer(orthanc, plugin, path):
    """As PyNumber_Check() and __index__ have it."""
    server = orthanc(plugin, script=SCRIPT, dicom=True)
    choose(server, 'Int()')
    assert store(server, path) == 0xa700
    server.wait_for_log(NEGATIVE)


@pytest.mark.ours
@pytest.mark.parametrize('number', [2 ** 32, 2 ** 40, 2 ** 32 + 1])
def test_a_number_beyond_32_bits_is_never_success(orthanc, number, path):
    """The official plugin takes the lowest 32 bits; contract 3.7 has no such exception."""
    server = orthanc('ours', script=SCRIPT, dicom=True)
    choose(server, str(number))
    assert store(server, path) == 0xa700
    server.wait_for_log(RANGE % number)
    assert server.get('/statistics').json()['CountInstances'] == 0


def test_what_the_filter_sees(orthanc, path):
    results = {}
    for name in PLUGINS:
        server = orthanc(name, script=SCRIPT, dicom=True)
        choose(server, 'look(instance)')
        assert store(server, path) == 0
        results[name] = server.get('/seen').json()
        kind, origin, aet, ip, _, size, length, _, _, patient = results[name][0]
        assert (kind, origin, aet, ip, patient) == ('DicomInstance', 2, 'TESTER', None, 'Doe^Jane')
        assert size == length
    assert_same(results)


def test_uploads_by_rest_are_not_asked_about(orthanc, plugin):
    server = orthanc(plugin, script=SCRIPT)
    choose(server, '1')
    assert server.post('/instances', dicom.make_dicom()).json()['Status'] == 'Success'


def test_the_filter_may_use_the_rest_api(orthanc, plugin, path):
    """It runs below the locks of the ingest; an upload inside is not asked about."""
    server = orthanc(plugin, script=SCRIPT, dicom=True)
    choose(server, '''[orthanc.GenerateRestApiAuthorizationToken(),
                       orthanc.RestApiPost('/instances', instance.GetInstanceData()),
                       0x0117][-1]''')
    assert store(server, path) == 0x0117
    assert server.get('/statistics').json()['CountInstances'] == 1


def test_received_first_then_the_filter(orthanc, plugin, path):
    """Core notes 5.2: the filter sees what the received-instance callback has made."""
    server = orthanc(plugin, script=SCRIPT + r'''
orthanc.RegisterReceivedInstanceCallback(lambda content, origin:
    (orthanc.ReceivedInstanceAction.MODIFY, content.replace(b'Doe^Jane', b'No^Name ')))
''', dicom=True)
    choose(server, 'look(instance)')
    assert store(server, path) == 0
    assert server.get('/seen').json()[0][-1] == 'No^Name'


def test_a_second_registration_is_refused(orthanc, plugin):
    server = orthanc(plugin, script=r'''
import orthanc
orthanc.RegisterIncomingCStoreInstanceFilter(12)
for args in ((12,), ()):
    try:
        orthanc.RegisterIncomingCStoreInstanceFilter(*args)
    except Exception as e:
        print(type(e).__name__, e, flush=True)
''')
    assert server.out().splitlines() == [
        'RuntimeError Can only register one Python incoming CStore instance filter',
        'ValueError Expected a callback function to register one '
        'Python incoming CStore instance filter']


@pytest.mark.ours
def test_the_instance_is_invalid_afterwards(orthanc, path):
    """Contract 2.6."""
    server = orthanc(script=SCRIPT, dicom=True)
    assert store(server, path) == 0
    assert server.get('/stale').text == 'Invalid object'


@pytest.mark.ours
def test_a_host_that_dies_refuses(orthanc, path):
    """Design 8: out of resources, so that the sender tries again."""
    server = orthanc(script=SCRIPT, dicom=True)
    choose(server, 'os._exit(3)')
    assert store(server, path) == 0xa700
    assert server.get('/statistics').json()['CountInstances'] == 0
    server.wait_for_log('An instance that came by C-STORE was refused: Python could not be asked')
    assert store(server, path) == 0
    assert json.loads(server.get('/statistics').text)['CountInstances'] == 1


@pytest.mark.ours
def test_registered_while_orthanc_runs(orthanc, path):
    """Effective at once, up to the release that looks for a filter only when it starts."""
    server = orthanc(dicom=True, script=r'''
import orthanc
def late(output, uri, **request):
    orthanc.RegisterIncomingCStoreInstanceFilter(lambda instance: 0xc001)
    output.AnswerBuffer('', 'text/plain')
orthanc.RegisterRestCallback('/late', late)
''')
    assert store(server, path) == 0
    assert server.get('/late').status_code == 200
    assert store(server, path) == (0xc001 if ORTHANC_VERSION < (1, 13) else 0)

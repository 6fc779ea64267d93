# SPDX-License-Identifier: GPL-3.0-or-later
"""Every directory of examples/, run with real data under both plugins."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time

import pytest
from PIL import Image

import dicom
import test_examples_further
import test_examples_parallel
from conftest import PLUGINS
from server import REPOSITORY, wait_until

NO_SCRIPTS = {'grafana', 'haproxy'}     # in test_metrics.py and test_haproxy.py
EXAMPLES = os.path.join(REPOSITORY, 'examples')


def test_every_example_is_complete_and_listed():
    """A script that its configuration names, requests, a line in the index, a test here."""
    with open(os.path.join(EXAMPLES, 'README.md'), encoding='utf-8') as f:
        index = f.read()
    tests = ''
    for path in (__file__, test_examples_further.__file__, test_examples_parallel.__file__):
        with open(path, encoding='utf-8') as f:
            tests += f.read()
    names = [name for name in sorted(os.listdir(EXAMPLES))
             if os.path.isdir(os.path.join(EXAMPLES, name))]
    assert len(names) >= 19
    for name in NO_SCRIPTS:
        assert '[%s](%s/' % (name, name) in index
        names.remove(name)
    for name in names:
        with open(os.path.join(EXAMPLES, name, 'orthanc.json'), encoding='utf-8') as f:
            script = json.load(f)['PythonScript']
        assert os.path.exists(os.path.join(EXAMPLES, name, script)), name
        assert '[%s](%s/%s)' % (name, name, script) in index
        with open(os.path.join(EXAMPLES, name, 'requests.txt'), encoding='utf-8') as f:
            requests_text = f.read()
        assert 'curl ' in requests_text and '$URL' in requests_text
        assert "'%s'" % name in tests, name


@pytest.mark.smoke
def test_rest(example, plugin):
    server = example(plugin, 'rest')
    assert server.get('/toto').text == 'ok\n'
    answer = server.post('/tata', 'body')
    assert (answer.text, answer.headers['Content-Type']) == ('ok\n', 'text/plain')
    assert server.get('/totoo').status_code == 404
    server.wait_for_out(r"^Request for /toto$")
    server.wait_for_out(r"'groups': \('to', 't'\)")
    server.wait_for_out(r"'body': b'body'")


def test_the_requests_of_the_default_example_work_as_they_are_written(example, plugin):
    server = example(plugin, 'rest')
    with open(os.path.join(EXAMPLES, 'rest', 'requests.txt'), encoding='utf-8') as f:
        lines = [line for line in f.read().splitlines() if line]
    for line in lines:
        done = subprocess.run(['sh', '-ec', line], env=dict(os.environ, URL=server.url()),
                              capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (0, b'ok\n'), line


@pytest.mark.ours
def test_several_scripts(example):
    server = example('ours', 'several_scripts')
    assert server.get('/journal').text == 'the server has started\nsizes are being noted\n'
    content = dicom.make_dicom()
    instance = server.upload(content)
    patient = server.get('/instances/%s/patient' % instance).json()['ID']
    assert server.delete('/patients/' + patient).status_code == 403
    wait_until(lambda: server.get('/journal').text.count('\n') == 5, 20, 'the events')
    assert sorted(server.get('/journal').text.splitlines()[2:]) == sorted([
        '%s has %d bytes' % (instance, len(content)), 'there is a new patient, ' + patient,
        'somebody wanted to delete /patients/' + patient])
    assert server.post('/journal', b'').status_code == 405


def test_changes(example, plugin, tmp_path):
    path = tmp_path / 'first.dcm'
    path.write_bytes(dicom.make_dicom())
    server = example(plugin, 'changes', config={'Changes': {'FirstFile': str(path)}})
    server.wait_for_out('^Started$')
    (instance,) = wait_until(lambda: server.get('/instances').json(), 10, 'the file')
    server.wait_for_out('^A new instance was uploaded: ' + instance + '$')
    assert server.stop() == 0
    assert server.out().splitlines()[-1] == 'Stopped'


def test_new_instance(example, plugin, tmp_path):
    server = example(plugin, 'new_instance', dicom=True)
    content = dicom.make_dicom('gray16', PatientID='NEW')
    instance = server.upload(content)
    server.wait_for_out('^Received instance %s: %d bytes, transfer syntax %s, SOP class %s$' % (
        instance, len(content), re.escape('1.2.840.10008.1.2.1'), re.escape(dicom.SECONDARY_CAPTURE)))
    server.wait_for_out('^It came through the REST API$')
    server.wait_for_out("'PatientID': 'NEW'")
    path = tmp_path / 'a.dcm'
    path.write_bytes(dicom.make_dicom())
    assert dicom.dimse_status(dicom.storescu(server, path)) == 'Success'
    server.wait_for_out('^It came through the DICOM protocol$')


def test_pydicom(example, plugin):
    server = example(plugin, 'pydicom')
    content = dicom.make_dicom('rgb')
    answer = server.get('/pydicom/' + server.upload(content))
    assert answer.status_code == 200
    assert answer.text == str(dicom.read(content))
    assert server.post('/pydicom/x', b'').status_code == 405
    assert server.get('/pydicom/unknown').status_code == 500


def test_autorouting(example, orthanc, plugin):
    target = orthanc(None, dicom=True)
    server = example(plugin, 'autorouting', config={'DicomModalities': {
        'sample': ['ORTHANC', '127.0.0.1', target.dicom_port]}})
    instances = [server.upload(dicom.make_dicom(StudyInstanceUID='1.2.3', SeriesInstanceUID='1.2.3.4'))
                 for _ in range(3)]
    wait_until(lambda: sorted(target.get('/instances').json()) == sorted(instances), 20, 'the study')
    study = server.get('/studies').json()[0]
    server.wait_for_out('^Stable study: ' + study + '$')


def test_autorouting_plugins(example, plugin):
    server = example(plugin, 'autorouting_plugins')
    server.upload(dicom.make_dicom())
    study = server.get('/studies').json()[0]
    server.wait_for_out('^Routed study: ' + study + '$', timeout=20)
    assert not server.messages('E')


def test_thumbnail(example, plugin):
    server = example(plugin, 'thumbnail')
    for kind, mode in (('gray8', 'L'), ('gray16', 'L'), ('rgb', 'RGB')):
        instance = server.upload(dicom.make_dicom(kind, 200, 100))
        for route in ('/pydicom/', '/thumbnail/'):
            answer = server.get(route + instance)
            assert answer.headers['Content-Type'] == 'image/jpeg'
            image = Image.open(io.BytesIO(answer.content))
            assert (image.format, image.size, image.mode) == ('JPEG', (64, 32), mode)
    assert server.put('/thumbnail/x').status_code == 405


def test_numpy_mosaic(example, plugin):
    server = example(plugin, 'numpy_mosaic')
    numbers = (4, 1, 5, 3, 2)   # as they arrive
    for number in numbers:
        instance = server.upload(dicom.make_dicom(
            'rgb', 64, 32, StudyInstanceUID='1.2.3', SeriesInstanceUID='1.2.3.4',
            InstanceNumber=str(number), PixelData=bytes([0, number * 40, 255]) * (64 * 32)))
    series = server.get('/instances/%s/series' % instance).json()['ID']
    answer = server.get('/mosaic/' + series)
    assert answer.headers['Content-Type'] == 'image/png'
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.size, image.mode) == ('PNG', (3 * 128, 2 * 128), 'RGB')
    shown = [image.getpixel((x, y)) for y in (64, 192) for x in (64, 192, 320)]
    assert shown == [(0, number * 40, 255) for number in sorted(numbers)] + [(0, 0, 0)]
    assert image.getpixel((64, 10)) == (0, 0, 0)    # the border of an image that is no square
    assert server.post('/mosaic/' + series, b'').status_code == 405
    assert not server.messages('E')

    gray = server.upload(dicom.make_dicom('gray16', 20, 20))
    answer = server.get('/mosaic/' + server.get('/instances/%s/series' % gray).json()['ID'])
    assert Image.open(io.BytesIO(answer.content)).size == (128, 128)
    empty = server.upload(dicom.make_dicom(None))
    no_image = server.get('/instances/%s/series' % empty).json()['ID']
    assert server.get('/mosaic/' + no_image).status_code == 500
    assert server.get('/mosaic/unknown').status_code == 500


def test_introspection(example):
    """The inventories differ as the versions do; what both have must read the same."""
    printed = {}
    for name in PLUGINS:
        server = example(name, 'introspection')
        server.wait_for_out(r'^Function WriteFile\(\):')
        assert server.stop() == 0
        printed[name] = server.out()
        assert 'Function RestApiGet():\n  Documentation: Generated from C function ' \
               'OrthancPluginRestApiGet()\n' in printed[name]
        assert '  - Enumeration value UNKNOWN_RESOURCE: 17\n' in printed[name]
        assert '  - Method AnswerBuffer(): Generated from C function ' \
               'OrthancPluginAnswerBuffer()\n' in printed[name]
    if len(printed) == 2:
        # "Documentation: None" of the custom functions in 4.0 became a text later (contract 1.3)
        def lines(text):
            return [line for line in text.splitlines() if 'Documentation: None' not in line
                    and 'GetFindQueryTag' not in line and 'GetInstanceData' not in line
                    and 'GetImageBuffer' not in line and 'CreateMemoryBuffer' not in line
                    and 'Documentation: (error)' not in line]
        missing = [line for line in lines(printed['official']) if line not in printed['ours']]
        assert not missing, missing


def test_scheduler(example, plugin):
    server = example(plugin, 'scheduler')
    server.wait_for_log(r'\] Starting the scheduler$')
    wait_until(lambda: server.log().count('] In hello()') >= 3, 15, 'three runs')
    start = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - start < 15
    warnings = [text for _, text in server.messages('W')]
    assert 'Stopping the scheduler' in warnings
    assert warnings.index('Stopping the scheduler') > warnings.index('In hello()')


def test_metadata(example, plugin):
    server = example(plugin, 'metadata')
    ids = {}
    for patient in ('A', 'B'):
        instance = server.upload(dicom.make_dicom(PatientID=patient))
        ids[patient] = server.get('/instances/%s/study' % instance).json()['ID']
    server.put('/studies/%s/metadata/4096' % ids['A'], b'blue')

    def find(**query):
        answer = server.post('/tools/find', json.dumps(dict({'Level': 'Study', 'Query': {}}, **query)))
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert sorted(find()) == sorted(ids.values())
    assert find(Query={'PatientID': 'A'}) == [ids['A']]
    assert find(Metadata={'4096': '^bl'}) == [ids['A']]
    assert find(Metadata={'4096': 'red'}) == []
    assert sorted(find(Metadata={'LastUpdate': r'^20\d\d'})) == sorted(ids.values())
    expanded = find(Metadata={'4096': 'blue'}, Expand=True)
    assert [(row['ID'], row['Metadata']['4096']) for row in expanded] == [(ids['A'], 'blue')]
    assert 'LastUpdate' in expanded[0]['Metadata']
    assert server.get('/tools/find').status_code == 405
    assert server.post('/tools/find', 'no JSON').status_code == 500


def test_paging(example, plugin):
    server = example(plugin, 'paging')
    for date in ('20200103', '20200101', '20200104', '20200102'):
        server.upload(dicom.make_dicom(StudyDate=date, PatientID=date))

    def dates(query=''):
        return [row['MainDicomTags']['StudyDate'][-1]
                for row in server.get('/sort-studies' + query).json()]

    assert dates() == ['1', '2', '3', '4']
    assert dates('?offset=1&limit=2') == ['2', '3']
    assert dates('?offset=3') == ['4']
    assert dates('?limit=1') == ['1']
    assert dates('?offset=9') == []
    assert server.delete('/sort-studies').status_code == 405
    assert server.get('/sort-studies?offset=x').status_code == 500


def test_excel(example, plugin):
    server = example(plugin, 'excel')
    for index in range(3):
        server.upload(dicom.make_dicom(PatientID='P%d' % index, PatientName='Name%d' % index,
                                       StudyDescription='Description %d' % index))
    answer = server.get('/report.xls')
    assert answer.headers['Content-Type'] == 'application/vnd.ms-excel'
    assert answer.content[:8] == b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1'    # an OLE2 file
    for index in range(3):
        assert b'Description %d' % index in answer.content
    assert server.post('/report.xls', b'').status_code == 405


def test_authorization(example, plugin):
    server = example(plugin, 'authorization')
    instance = server.upload(dicom.make_dicom())
    assert server.get('/system').status_code == 200
    assert server.delete('/instances/' + instance).status_code == 403
    assert server.get('/instances/' + instance).status_code == 200
    server.wait_for_out('^Access to /system$')
    server.wait_for_out("'ip': '127.0.0.1'")


@contextlib.contextmanager
def service():
    """Runs examples/authorization_remote/service.py; gives its port and what it printed."""
    process = subprocess.Popen([sys.executable, os.path.join(
        EXAMPLES, 'authorization_remote', 'service.py'), '0'], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL)
    try:
        port = int(process.stdout.readline().split()[-1])
        yield port, process
    finally:
        process.kill()
        process.communicate()


def test_authorization_by_a_web_service(example, plugin):
    with service() as (port, process):
        server = example(plugin, 'authorization_remote', config={
            'Authorization': {'Url': 'http://127.0.0.1:%d/authorize' % port}})
        assert server.get('/system').status_code == 403
        assert server.get('/system', headers={'X-Token': 'wrong'}).status_code == 403
        assert server.get('/system', headers={'X-Token': 'open'}).status_code == 200
        assert process.stdout.readline() == '/system\n'
    answer = server.get('/system', headers={'X-Token': 'open'})
    assert answer.status_code == 500    # refused: nobody can be asked


def test_create_dicom(example, plugin):
    server = example(plugin, 'create_dicom')
    server.wait_for_out('^Size of the frame: 96x64$')
    with open(os.path.join(server.cwd, 'image.dcm'), 'rb') as f:
        content = f.read()
    dataset = dicom.read(content)
    assert (dataset.PatientID, dataset.PatientName, dataset.Rows) == ('HELLO', 'WORLD', 64)
    assert list(dataset.pixel_array[0, :4]) == [0, 2, 4, 6]
    assert server.get('/instances/' + server.upload(content)).status_code == 200


def run_requests(server):
    """The lines of the example's requests.txt, as examples/run runs them: what each printed."""
    with open(os.path.join(server.cwd, 'requests.txt'), encoding='utf-8') as f:
        lines = [line for line in f.read().splitlines() if line and not line.startswith('#')]
    environment = dict(os.environ, URL=server.url(), DICOM_PORT=str(server.dicom_port))
    return [subprocess.run(['bash', '-ec', line], env=environment, capture_output=True, timeout=60,
                           check=True, text=True).stdout for line in lines]


def test_dicom_scp(example, plugin):
    server = example(plugin, 'dicom_scp', dicom=True)
    result = dicom.findscu(server, 'QueryRetrieveLevel=STUDY', 'PatientName=TEST', 'SeriesDescription')
    assert dicom.find_outcome(result)[0] == 'Success'
    assert re.search(r'\(0010,0010\) PN \[HELLO\d-TEST ?\]', result.stdout)
    assert re.search(r'\(0008,103e\) LO \[HELLO\d- ?\]', result.stdout)
    server.wait_for_out('^C-FIND request from TESTER to ORTHANC:$')
    server.wait_for_out(r'^  PatientName \(0010,0010\) = \[TEST\]$')
    moved = dicom.movescu(server, 'QueryRetrieveLevel=IMAGE', 'StudyInstanceUID=1.2.3.4', target='TARGET')
    assert dicom.move_outcome(moved) == ('Success', 0)
    server.wait_for_log(r'C-MOVE request to be handled in Python: \{\n'
                        r'    "AccessionNumber": "",\n    "Level": "INSTANCE",\n    "OriginatorAET": "TESTER"')
    answers = run_requests(server)
    assert 'HELLO' in answers[2] and '-TEST' in answers[2]
    server.wait_for_log('"TargetAET": "TARGET"')
    assert not server.messages('E')


def test_worklist(example, plugin):
    server = example(plugin, 'worklist', dicom=True)

    def find(*keys):
        return dicom.find_outcome(dicom.findscu(server, 'PatientID', *keys, model='-W'))

    step = 'ScheduledProcedureStepSequence[0].'
    assert find() == ('Success', ['1001', '1002'])
    assert find(step + 'Modality=MR') == ('Success', ['1001'])
    assert find(step + 'ScheduledStationAETitle=SCANNER2') == ('Success', ['1002'])
    assert find(step + 'ScheduledProcedureStepStartDate=20290101-20291231') == ('Success', [])
    assert find('PatientName=K*') == ('Success', ['1001'])
    _, everything, filtered = run_requests(server)
    assert [row['PatientName'] for row in json.loads(everything)] == [
        'Kowalska^Zofia', 'M\u00fcller^J\u00f6rg']
    assert [row['PatientName'] for row in json.loads(filtered)] == ['Kowalska^Zofia']
    assert not server.messages('E')
    with open(os.path.join(server.cwd, 'entries', '3.json'), 'w', encoding='utf-8') as f:
        f.write('no JSON')
    if plugin == 'ours':
        assert find() == ('Success', ['1001', '1002'])
        server.wait_for_log(r'Worklist entry \S*/3\.json: ')


def test_dicom_proxy(example, orthanc, plugin):
    target = orthanc(None, dicom=True, config={'DicomAlwaysAllowStore': True})
    pacs = orthanc(None, dicom=True, config={
        'DicomAet': 'PACS', 'DicomAlwaysAllowFind': True, 'DicomAlwaysAllowMove': True,
        'DicomModalities': {'target': ['TARGET', '127.0.0.1', target.dicom_port]}})
    server = example(plugin, 'dicom_proxy', dicom=True, config={
        'DicomModalities': {'pacs': ['PACS', '127.0.0.1', pacs.dicom_port],
                            'client': ['CLIENT', '127.0.0.1', 104]}})
    files = {name: dicom.make_dicom(PatientID=name, PatientName=name + '^X') for name in ('A', 'B')}
    stored = {name: pacs.upload(content) for name, content in files.items()}

    def find(*keys):
        status, patients = dicom.find_outcome(dicom.findscu(
            server, 'QueryRetrieveLevel=STUDY', 'StudyInstanceUID', *keys, aet='CLIENT'))
        return status, sorted(patients)

    assert find('PatientID') == ('Success', ['A', 'B'])
    assert find('PatientID', 'PatientName=B*') == ('Success', ['B'])
    assert find('PatientID=C') == ('Success', [])
    assert server.get('/queries').json() == []
    moved = dicom.movescu(
        server, 'QueryRetrieveLevel=STUDY', aet='CLIENT', target='TARGET',
        *['StudyInstanceUID=' + str(dicom.read(files['B']).StudyInstanceUID)])
    assert dicom.move_outcome(moved) == ('Success', 0)
    assert target.get('/instances').json() == [stored['B']]
    assert 'PACS' in run_requests(server)[0]
    pacs.stop()
    assert find('PatientID')[0] == 'Failed: UnableToProcess'
    server.wait_for_log('Error in the Python C-FIND SCP callback, traceback:')


def test_anonymize(example, plugin, tmp_path):
    server = example(plugin, 'anonymize', dicom=True)
    content = dicom.make_dicom(InstitutionName='Hospital', StudyInstanceUID='1.2.3')
    stored = dicom.read(server.get('/instances/%s/file' % server.upload(content)).content)
    assert stored.PatientID != 'P1' and stored.PatientName == stored.PatientID
    assert stored.InstitutionName == 'Hospital' and 'AccessionNumber' not in stored
    assert stored.StudyInstanceUID.startswith('2.25.')
    assert stored.file_meta.MediaStorageSOPInstanceUID == stored.SOPInstanceUID
    assert stored.PixelData == dicom.read(content).PixelData
    path = tmp_path / 'same-study.dcm'
    path.write_bytes(dicom.make_dicom(StudyInstanceUID='1.2.3'))
    assert dicom.dimse_status(dicom.storescu(server, path)) == 'Success'
    counts = server.get('/statistics').json()
    assert (counts['CountInstances'], counts['CountStudies'], counts['CountPatients']) == (2, 1, 1)
    broken = content.replace(b'1.2.840.10008.1.2.1', b'1.2.840.10008.9.9.9')     # no such syntax
    assert server.post('/instances', b'DICM' + broken).status_code >= 400
    assert server.post('/instances', broken[:900]).status_code >= 400
    assert server.get('/statistics').json()['CountInstances'] == 2


def test_cstore_filter(example, plugin, tmp_path):
    server = example(plugin, 'cstore_filter', dicom=True)

    def store(aet, **tags):
        path = tmp_path / 'file.dcm'
        path.write_bytes(dicom.make_dicom(**tags))
        return re.findall(r'DIMSE Status\s*: (0x[0-9a-f]+)',
                          dicom.storescu(server, path, '-d', aet=aet).stdout)[-1]

    assert store('SCANNER', Modality='CT') == '0x0000'
    assert store('SCANNER', Modality='OT') == '0xa900'
    assert store('SCANNER', Modality='MR', PatientID='') == '0xc000'
    assert store('OTHER', Modality='CT') == '0x0124'
    assert server.get('/statistics').json()['CountInstances'] == 1
    server.wait_for_log('OTHER may not send instances')


def test_storage_directory(example, plugin):
    server = example(plugin, 'storage_directory', config={'MaximumStorageCacheSize': 0})
    bucket = os.path.join(server.directory, 'db', 'bucket')

    def objects():
        return [name for _, _, names in os.walk(bucket) for name in names]

    content = dicom.make_dicom('gray16', 500, 500)
    identifier = server.upload(content)
    assert server.get('/instances/%s/file' % identifier).content == content
    assert server.get('/instances/%s/tags' % identifier).status_code == 200
    assert sorted(name.partition('.')[2] for name in objects()) == ['dcm', 'dcm.head']
    assert server.delete('/instances/' + identifier).status_code == 200
    assert objects() == []
    assert not server.messages('E')


@pytest.mark.ours
def test_storage_commitment(example):
    """A function of later releases of the official plugin."""
    server = example('ours', 'storage_commitment', dicom=True)
    content = dicom.make_dicom()
    identifier = server.upload(content)
    assert server.put('/modalities/self', json=['ORTHANC', '127.0.0.1', server.dicom_port]
                      ).status_code == 200

    def ask(sop_class, sop_instance):
        """The reason that the peer is told, or None for success."""
        answer = server.post('/modalities/self/storage-commitment', json={
            'DicomInstances': [[sop_class, sop_instance]]})
        report = '/storage-commitment/' + answer.json()['ID']
        wait_until(lambda: server.get(report).json()['Status'] != 'Pending', 20, 'the report')
        failures = server.get(report).json()['Failures']
        return failures[0]['FailureReason'] if failures else None

    sop_instance = str(dicom.read(content).SOPInstanceUID)
    assert ask(dicom.SECONDARY_CAPTURE, sop_instance) is None
    assert ask(dicom.CT, sop_instance) == 0x0119
    assert ask(dicom.CT, '1.2.3') == 0x0112
    uuid = server.get('/instances/%s/attachments/dicom/info' % identifier).json()['Uuid']
    path = os.path.join(server.directory, 'db', uuid[:2], uuid[2:4], uuid)
    with open(path, 'r+b') as f:
        f.write(b'changed')
    assert ask(dicom.SECONDARY_CAPTURE, sop_instance) == 0x0110


def test_testing(example, plugin):
    """Its own tests, by pytest: test_testing.py."""
    server = example(plugin, 'testing')
    study = server.get('/instances/%s/study' % server.upload(dicom.make_dicom(StudyDate=''))).json()['ID']
    assert server.get('/checklist/' + study).json() == ['StudyDate']
    assert server.get('/checklist/unknown').status_code == 500
    server.wait_for_out('^Study %s lacks StudyDate$' % study, timeout=20)
    assert server.get('/studies/%s/metadata/4000' % study).text == 'StudyDate'

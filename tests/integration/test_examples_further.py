# SPDX-License-Identifier: GPL-3.0-or-later
"""The other samples of contract 9 that have an example, among them those for newer servers."""

import http.server
import importlib.util
import json
import os
import re
import sys
import threading

import pytest

import dicom
from conftest import PLUGINS
from server import OFFICIAL_VERSION, ORTHANC_VERSION, free_port, wait_until


def having(release):
    """The plugins that have what came with that release of the official one."""
    found = [name for name in PLUGINS if name == 'ours' or OFFICIAL_VERSION >= release]
    reason = 'contract 1.5 and 3.1: of release %d.%d, and OPB_TEST_PLUGINS leaves ours out' % release
    return found or [pytest.param('official', marks=pytest.mark.skip(reason=reason))]


def since(*version):
    """What came with that SDK (contract, appendices A and B)."""
    return pytest.mark.skipif(ORTHANC_VERSION < version,
                              reason='contract, appendices A and B: of %d.%d.%d' % version)


@pytest.mark.parametrize('plugin', having((4, 2)))      # SendHttpStatus (contract 1.5)
def test_dictionary(example, plugin):
    server = example(plugin, 'dictionary')
    expected = {'Group': 0x10, 'Element': 0x20, 'MinMultiplicity': 1, 'MaxMultiplicity': 1,
                'Tag': '0010,0020', 'Name': 'PatientID'}
    for name in ('PatientID', '0010,0020'):
        found = server.get('/dictionary/' + name).json()
        assert {key: found[key] for key in expected} == expected
        assert set(found) == set(expected) | {'ValueRepresentation'}
    answer = server.get('/dictionary/NoSuchTag')
    assert answer.status_code == 404 and answer.text == 'Unknown DICOM tag: NoSuchTag'
    instance = server.upload(dicom.make_dicom(PatientID='here'))
    assert server.get('/value/%s/PatientID' % instance).text.strip() == 'here'
    assert server.get('/value/%s/NoSuchTag' % instance).status_code == 404
    answer = server.get('/value/00-00/PatientID')
    assert (answer.status_code, answer.text) == (404, 'Unknown resource')
    server.wait_for_log('00-00 has no PatientID: error 17')


def test_explorer_button(example, plugin):
    server = example(plugin, 'explorer_button')
    assert 'How many instances' in server.get('/plugins/explorer.js').text
    instance = server.upload(dicom.make_dicom())
    study = server.get('/instances/%s/study' % instance).json()['ID']
    assert server.get('/count/' + study).json() == {'Instances': 1}


def test_virtual_environment(example, plugin, tmp_path):
    """A module that only it has, one that wins over the system's, and a .pth file."""
    packages = tmp_path / 'lib' / ('python%d.%d' % sys.version_info[:2]) / 'site-packages'
    (tmp_path / 'elsewhere').mkdir()
    packages.mkdir(parents=True)
    (packages / 'only_here.py').write_text('__version__ = "1"\n')
    (packages / 'pydicom.py').write_text('__version__ = "of the environment"\n')
    (packages / 'more.pth').write_text(str(tmp_path / 'elsewhere') + '\n')
    (tmp_path / 'elsewhere' / 'by_pth.py').write_text('')
    server = example(plugin, 'virtual_environment', config={'VirtualEnvironment': str(tmp_path)})
    assert server.get('/module/only_here').json() == {'File': str(packages / 'only_here.py'), 'Version': '1'}
    assert server.get('/module/pydicom').json()['Version'] == 'of the environment'
    assert server.get('/module/by_pth').json()['File'] == str(tmp_path / 'elsewhere' / 'by_pth.py')
    assert '/python3' in server.get('/module/json').json()['File']


@pytest.mark.parametrize('plugin', having((4, 2)))
def test_cmove_driver(example, orthanc, plugin):
    target = orthanc(None, dicom=True)
    server = example(plugin, 'cmove_driver', dicom=True)
    assert server.put('/modalities/target', json=['TARGET', '127.0.0.1', target.dicom_port]).status_code == 200
    content = [dicom.make_dicom(StudyInstanceUID='1.2.3.4', SOPInstanceUID='1.2.3.4.%d' % i) for i in range(3)]
    known = sorted(server.upload(each) for each in content)
    server.upload(dicom.make_dicom())
    moved = dicom.movescu(server, 'QueryRetrieveLevel=STUDY', 'StudyInstanceUID=1.2.3.4', target='TARGET')
    assert dicom.move_outcome(moved) == ('Success', 2)
    assert sorted(target.get('/instances').json()) == known
    server.wait_for_out('^TESTER wants 3 instances for TARGET$')
    server.wait_for_out('^3 of 3 instances sent$')
    moved = dicom.movescu(server, 'QueryRetrieveLevel=STUDY', 'StudyInstanceUID=1.2.3.4', target='UNKNOWN')
    assert dicom.move_outcome(moved)[0] != 'Success'
    server.wait_for_log("there is no modality called UNKNOWN")


@pytest.mark.skipif(importlib.util.find_spec('pynetdicom') is None, reason=(
    'pynetdicom is not installed: no Debian release has a package of it (contract 9)'))
def test_pynetdicom_server(example, plugin, tmp_path):
    """It ends with the script: after a reload the next generation has the port."""
    port = free_port()
    where = os.path.dirname(os.path.dirname(importlib.util.find_spec('pynetdicom').origin))
    server = example(plugin, 'pynetdicom_server', env={'PYTHONPATH': where}, config={
        'PynetdicomServer': {'AET': 'PYNETDICOM', 'Address': '127.0.0.1', 'Port': port}})
    server.wait_for_out('^Listening on port %d$' % port)
    assert server.put('/modalities/script', json=['PYNETDICOM', '127.0.0.1', port]).status_code == 200
    assert server.post('/modalities/script/echo', '{}').status_code == 200
    path = tmp_path / 'sent.dcm'

    def send():
        content = dicom.make_dicom()
        path.write_bytes(content)
        result = dicom.storescu_to(port, path)
        assert dicom.dimse_status(result) == 'Success', result.stdout
        uid = str(dicom.read(content).SOPInstanceUID)
        (found,) = server.post('/tools/find', json={'Level': 'Instance', 'Query': {'SOPInstanceUID': uid}}).json()
        server.wait_for_out('^Stored %s for TESTER$' % found)

    send()
    if plugin == 'ours':
        assert server.post('/python-bridge/reload').json()['Generation'] == 2
        server.wait_for_out('^No longer listening\nListening on port %d$' % port)
        send()
    assert server.stop() == 0
    assert server.out().rstrip().endswith('No longer listening')


@since(1, 12, 10)
@pytest.mark.parametrize('plugin', having((7, 0)))
def test_find_connection(example, plugin):
    server = example(plugin, 'find_connection', dicom=True)
    for model, patient in (('-S', 'HELLO'), ('-W', 'TODO')):
        level = ['QueryRetrieveLevel=STUDY'] if model == '-S' else []
        result = dicom.findscu(server, *level, 'PatientID', 'PatientName', model=model)
        assert dicom.find_outcome(result) == ('Success', [patient])
        assert re.search(r'PN \[TESTER ?\]', result.stdout)
    server.wait_for_out('^TESTER asks ORTHANC from 127.0.0.1$')


@since(1, 12, 10)
@pytest.mark.parametrize('plugin', having((7, 0)))
def test_find_connection_of_a_stranger(example, plugin):
    server = example(plugin, 'find_connection', dicom=True, config={'FindConnection': {'Addresses': []}})
    for model in ('-S', '-W'):
        level = ['QueryRetrieveLevel=STUDY'] if model == '-S' else []
        result = dicom.findscu(server, *level, 'PatientID', model=model)
        assert dicom.find_outcome(result) == ('Success', [])


@since(1, 12, 8)
@pytest.mark.parametrize('plugin', having((7, 1)))
def test_storage_ranges(example, plugin):
    server = example(plugin, 'storage_ranges', config={'MaximumStorageCacheSize': 0})
    directory = os.path.join(server.directory, 'db', 'by-day')

    def files():
        return [os.path.join(parent, name) for parent, _, names in os.walk(directory) for name in names]

    content = dicom.make_dicom('gray16', 500, 500)
    instance = server.upload(content)
    assert any(os.path.getsize(path) == len(content) for path in files())
    assert all(re.fullmatch(r'\d{4}-\d\d-\d\d/[0-9a-f-]{36}', os.path.relpath(path, directory)) for path in files())
    assert server.get('/instances/%s/file' % instance).content == content
    part = server.get('/instances/%s/attachments/dicom/data' % instance, headers={'Range': 'bytes=100-199'})
    assert part.content in (content[100:200], content)
    assert server.get('/instances/%s/tags' % instance).status_code == 200
    assert server.delete('/instances/' + instance).status_code == 200
    assert files() == []
    assert not server.messages('E')


class Source(http.server.BaseHTTPRequestHandler):
    """Another server: /slow says its second half when it is told to."""

    go_on = threading.Event()
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self.send_response(200 if self.path != '/none' else 404)
        self.send_header('Content-Type', 'text/x-source')
        self.send_header('Content-Length', '200000')
        self.end_headers()
        self.wfile.write(b'a' * 100000)
        self.wfile.flush()
        if self.path == '/slow':
            self.go_on.wait(60)
        self.wfile.write(b'b' * 100000)

    def log_message(self, *_):
        pass


@since(1, 12, 6)
@pytest.mark.parametrize('plugin', having((5, 0)))
def test_streaming(example, plugin):
    """The first half is there before the source has said the second."""
    Source.go_on.clear()
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Source) as source:
        thread = threading.Thread(target=source.serve_forever)
        thread.start()
        try:
            server = example(plugin, 'streaming', config={
                'Streaming': {'Source': 'http://127.0.0.1:%d' % source.server_address[1]}})
            assert server.get('/stream/whole').content == b'a' * 100000 + b'b' * 100000
            with server.get('/stream/slow', stream=True) as answer:
                assert answer.headers['Content-Type'] == 'text/x-source'
                assert answer.raw.read(50000, decode_content=True) == b'a' * 50000
                Source.go_on.set()
                assert answer.raw.read(decode_content=True) == b'a' * 50000 + b'b' * 100000
            assert server.get('/stream/none').status_code == 502
            assert server.post('/stream/whole').status_code == 405
        finally:
            Source.go_on.set()
            source.shutdown()
            thread.join()


@since(1, 12, 9)
@pytest.mark.parametrize('plugin', having((6, 0)))
def test_stable_status(example, plugin):
    server = example(plugin, 'stable_status', config={'StableAge': 3600})
    tags = {'StudyInstanceUID': '1.2.3.4', 'PatientID': 'one', 'NumberOfStudyRelatedInstances': '2'}
    first = server.upload(dicom.make_dicom(SOPInstanceUID='1.2.3.4.1', **tags))
    study = server.get('/instances/%s/study' % first).json()['ID']
    assert server.get('/studies/' + study).json()['IsStable'] is False
    server.upload(dicom.make_dicom(SOPInstanceUID='1.2.3.4.2', **tags))
    server.wait_for_out('^Complete: %s$' % study)
    server.wait_for_out('^Stable: %s$' % study)
    assert server.get('/studies/' + study).json()['IsStable'] is True


@since(1, 12, 8)
@pytest.mark.parametrize('plugin', having((6, 0)))
def test_queues(example, plugin):
    server = example(plugin, 'queues')
    contents = [dicom.make_dicom() for _ in range(5)]
    expected = {server.upload(content): len(content) for content in contents}
    wait_until(lambda: server.get('/sizes').json() == {'Waiting': 0, 'Sizes': expected}, 20, 'the sizes')
    one = next(iter(expected))
    assert server.get('/sizes/' + one).text == str(expected[one])
    assert server.get('/sizes/none').status_code == 404
    assert server.stop() == 0
    server.start()                      # what was kept is there
    assert server.get('/sizes').json()['Sizes'] == expected
    assert json.loads(server.get('/sizes').text)['Waiting'] == 0

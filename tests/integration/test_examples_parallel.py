# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples that work beside Orthanc's threads: child processes, pools, threads, event loops."""

import concurrent.futures
import re
import threading
import time

import pytest

import dicom
from conftest import needs_default_pool


@pytest.mark.parametrize('name', ['multiprocessing_1', 'multiprocessing_2'])
def test_computation(example, plugin, name):
    if name == 'multiprocessing_2':
        needs_default_pool(plugin)
    server = example(plugin, name)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.get('/computation').text))
               for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 3
    for text in answers:
        assert re.fullmatch(r'computation done in \d+\.\d{3} seconds\n', text)
    assert server.stop() == 0


def test_parsing_in_another_process(example, plugin):
    needs_default_pool(plugin)
    server = example(plugin, 'multiprocessing_3')
    content = dicom.make_dicom('gray8')
    instance = server.upload(content)
    for _ in range(3):
        assert server.get('/parse/' + instance).text == str(dicom.read(content))
    assert server.stop() == 0


def test_rest_api_from_another_process(example, plugin):
    needs_default_pool(plugin)
    server = example(plugin, 'multiprocessing_4', config={
        'AuthenticationEnabled': True, 'RegisteredUsers': {'me': 'secret'}})
    assert server.get('/computation').status_code == 401
    answer = server.get('/computation', auth=('me', 'secret'))
    assert answer.json() == []
    stored = server.post('/instances', dicom.make_dicom(), auth=('me', 'secret'))
    assert server.get('/computation', auth=('me', 'secret')).json() == [stored.json()['ID']]
    assert server.stop() == 0


@pytest.mark.ours
def test_sdk_in_child_processes(example):
    server = example('ours', 'child_processes')
    study, series = dicom.generate_uid(), dicom.generate_uid()
    expected = {}
    for index in range(6):
        content = dicom.make_dicom('gray8', StudyInstanceUID=study, SeriesInstanceUID=series,
                                   InstanceNumber=index)
        expected[server.upload(content)] = float(dicom.read(content).pixel_array.mean())
    (identifier,) = server.get('/series').json()
    for _ in range(2):
        assert server.get('/brightness/' + identifier).json() == expected
    assert server.stop() == 0
    server.assert_no_leftovers()


@pytest.mark.ours
def test_computing_in_a_process_that_is_started_afresh(example):
    """Contract 8 row 17: in-process, sys.executable is Orthanc, and no such pool works."""
    server = example('ours', 'multiprocessing_spawn')
    pixels = [20000, 0] + [300] * 33
    instance = server.upload(dicom.make_dicom('gray16', 7, 5, PixelData=b''.join(
        value.to_bytes(2, 'little') for value in pixels)))
    for _ in range(2):
        assert server.get('/statistics/' + instance, timeout=60).json() == {
            'Minimum': 0, 'Maximum': 20000, 'Mean': round(sum(pixels) / 35, 3),
            'StartMethod': 'spawn'}
    assert server.get('/statistics/unknown').status_code == 500
    assert server.get('/statistics/' + instance).status_code == 200
    assert server.stop() == 0


def at_once(count, work):
    """What work(index) returned, each in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(count) as executor:
        return list(executor.map(work, range(count), timeout=60))


def test_python_logging(example, plugin):
    server = example(plugin, 'python_logging')
    assert server.get('/divide/84/2').text == '42\n'
    assert server.get('/divide/85/2').text == '42\n'
    answer = server.get('/divide/84/0')
    assert answer.status_code == 400
    server.wait_for_log(r'^E.*\] \[.+\] divide: The request /divide/84/0 cannot be answered$')
    server.wait_for_log(r'^ZeroDivisionError: ')
    server.wait_for_log(r'^W.*\] \[.+\] divide: 85 is no multiple of 2$')
    server.wait_for_log(r'^I.*\[.+\] divide: 84 divided by 2$')


def test_thread_pool(example, plugin):
    """Under the official plugin too, where the threads of the pool call one after the other: it
    keeps Python's lock in a call, but none of these calls needs Python to be answered."""
    server = example(plugin, 'thread_pool')
    names = {}
    for index in range(12):
        identifier = server.upload(dicom.make_dicom(
            StudyInstanceUID='1.2.3', SeriesInstanceUID='1.2.3.4', PatientName='Name%d' % index))
        names[identifier] = 'Name%d' % index
    series = server.get('/series').json()[0]
    for answer in at_once(6, lambda _: server.get('/series-tags/' + series)):
        assert answer.headers['Content-Type'] == 'application/json'
        found = answer.json()
        assert {key: tags['PatientName'] for key, tags in found.items()} == names
        assert list(found) == server.get('/series/' + series).json()['Instances']
    assert server.put('/series-tags/' + series).status_code == 405
    assert not server.messages('E')
    assert server.get('/series-tags/unknown').status_code == 500
    assert server.stop() == 0


def test_asyncio_loop(example, plugin):
    server = example(plugin, 'asyncio_loop')
    for _ in range(3):
        instance = server.upload(dicom.make_dicom(
            StudyInstanceUID='1.2.3', PatientName='Ada', StudyDescription='Loops'))
    study = server.get('/instances/%s/study' % instance).json()['ID']
    for answer in at_once(6, lambda _: server.get('/overview/' + study)):
        assert answer.headers['Content-Type'] == 'application/json'
        found = answer.json()
        assert re.fullmatch(r'\d{8}T\d{6}', found.pop('LastUpdate'))
        assert found == {'Patient': 'Ada', 'Description': 'Loops', 'Instances': 3}
    assert server.delete('/overview/' + study).status_code == 405
    assert not server.messages('E')
    assert server.get('/overview/unknown').status_code == 500
    assert server.get('/overview/' + study).status_code == 200
    start = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - start < 15
    warnings = [text for _, text in server.messages('W')]
    assert warnings.index('The event loop has started') < warnings.index('The event loop has ended')

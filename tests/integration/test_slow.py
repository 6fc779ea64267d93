# SPDX-License-Identifier: GPL-3.0-or-later
"""Python.SlowCall: which callback takes long, and where it is (docs/configuration.md)."""

import json
import re
import threading

import pytest

import dicom

pytestmark = pytest.mark.ours

SCRIPT = r'''
import ctypes, threading
import orthanc

GO = threading.Event()

def wait_for_somebody():
    GO.wait(60)

def rest(output, uri, **request):
    kind = request['groups'][0]
    if kind == 'wait':
        wait_for_somebody()
    elif kind == 'go':
        GO.set()
    elif kind == 'keep-the-gil':
        ctypes.PyDLL(None).usleep(700000)
    output.AnswerBuffer(kind, 'text/plain')

def stored(instance, instance_id):
    wait_for_somebody()

orthanc.RegisterRestCallback('/f/(.*)', rest)
orthanc.RegisterOnStoredInstanceCallback(stored)
'''
RUNNING = r'The Rest callback GET /f/wait has been running for (\d+) ms \(Python.SlowCall is 300 ms\)'
TOOK = r'The Rest callback GET /f/wait took (\d+) ms'


def in_background(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_a_slow_callback_is_named_with_its_stack_and_then_its_time(orthanc):
    server = orthanc(script=SCRIPT, python={'SlowCall': 0.3})
    request = in_background(lambda: server.get('/f/wait', timeout=60))
    server.wait_for_log(RUNNING)
    server.wait_for_log('in wait_for_somebody')
    assert server.get('/f/go').text == 'go'
    request.join(60)
    server.wait_for_log(TOOK)
    log = server.log()
    assert int(re.search(RUNNING, log).group(1)) >= 300
    assert int(re.search(TOOK, log).group(1)) >= int(re.search(RUNNING, log).group(1))
    assert len(re.findall(RUNNING, log)) == 1, 'one line for one call'
    assert 'callback GET /f/go' not in log, 'a quick callback is not worth a line'
    assert server.stop() == 0


def test_other_callbacks_are_named_by_their_kind(orthanc):
    server = orthanc(script=SCRIPT, python={'SlowCall': 0.3})
    upload = in_background(lambda: server.post('/instances', dicom.make_dicom(), timeout=60))
    server.wait_for_log(r'The StoredInstance callback has been running for \d+ ms')
    server.get('/f/go')
    upload.join(60)
    server.wait_for_log(r'The StoredInstance callback took \d+ ms')


def test_a_callback_that_keeps_the_gil_is_told_when_it_has_returned(orthanc):
    server = orthanc(script=SCRIPT, python={'SlowCall': 0.3})
    assert server.get('/f/keep-the-gil').text == 'keep-the-gil'
    server.wait_for_log(r'The Rest callback GET /f/keep-the-gil took \d+ ms')
    assert server.get('/f/go').text == 'go'


def test_without_the_key_nothing_is_slow(orthanc):
    server = orthanc(script=SCRIPT)
    assert server.get('/f/keep-the-gil').text == 'keep-the-gil'
    assert server.stop() == 0
    assert 'callback GET' not in server.log()


@pytest.mark.parametrize('value', [-1, 86401, 'soon'])
def test_a_value_that_is_no_time_is_refused_at_start(orthanc, value):
    server = orthanc.make(script=SCRIPT, python={'SlowCall': value})
    assert server.expect_refusal() == 255
    assert ('The configuration option "Python.SlowCall" is %s, and must be a number of seconds from 0 to 86400'
            % json.dumps(value)) in server.log()

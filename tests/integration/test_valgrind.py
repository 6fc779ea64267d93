# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker under valgrind, from its start through calls and a reload to the stop of Orthanc. Without
zygotes: what one forks would share its report.

The supervisor frees all that it allocated. A host ends without giving back what lives as long
as the process: it must lose nothing, and access nothing that is not its own.
"""

import os
import re
import signal

import pytest

import dicom
import sanitizer
from server import children, command_line, ours_worker, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival,
              pytest.mark.skipif(sanitizer.NAME is not None, reason='an instrumented program has a memory of its own')]

HERE = os.path.dirname(os.path.abspath(__file__))
WORKER = r'''#!/bin/sh
exec valgrind --trace-children=yes --trace-children-skip='*/bin/python*' --child-silent-after-fork=yes \
    --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --num-callers=30 \
    --suppressions='%(here)s/valgrind.supp' --log-file='%(directory)s/valgrind.%%p' '%(worker)s' "$@" --without-zygotes
'''
SCRIPT = r'''
import os, subprocess, sys, threading
import orthanc

def echo(output, uri, **request):
    output.AnswerBuffer(request['body'][::-1], 'application/octet-stream')

def nested(output, uri, **request):
    output.AnswerBuffer(orthanc.RestApiGet('/statistics'), 'application/json')

def stream(output, uri, **request):
    output.StartMultipartAnswer('related', 'text/plain')
    for _ in range(3):
        output.SendMultipartItem(b'part')

def fail(output, uri, **request):
    orthanc.RestApiGet('/nowhere')

def objects(output, uri, **request):
    images = [orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, 16, 16) for _ in range(10)]
    output.CompressAndAnswerPngImage(orthanc.PixelFormat.GRAYSCALE8, 4, 4, 4, bytes(16))

def thread(output, uri, **request):
    threads = [threading.Thread(target=orthanc.RestApiGet, args=('/system',)) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    output.AnswerBuffer('joined', 'text/plain')

def child(output, uri, **request):
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    subprocess.run([sys.executable, '-c', 'pass'], check=True)
    output.AnswerBuffer(str(code), 'text/plain')

def on_change(change, level, resource):
    orthanc.LogWarning('change %s' % change)

def received(data, origin):
    return orthanc.ReceivedInstanceAction.MODIFY, data

def find(answers, query, issuer, called):
    answers.FindAddAnswer(orthanc.CreateDicom('{"PatientID": "F", "QueryRetrieveLevel": "STUDY"}', None, 0))

for function in (echo, nested, stream, fail, objects, thread, child):
    orthanc.RegisterRestCallback('/' + function.__name__, function)
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterOnStoredInstanceCallback(lambda instance, instance_id: instance.GetInstanceJson())
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterIncomingCStoreInstanceFilter(lambda instance: 0)
orthanc.RegisterIncomingHttpRequestFilter(lambda uri, **request: True)
orthanc.RegisterFindCallback(find)
'''


def make_calls(server, number):
    """Something of each kind; valgrind makes it slow."""
    body = os.urandom(200000)
    assert server.post('/echo', body).content == body[::-1]
    assert server.get('/nested').json()['CountInstances'] >= 0
    assert server.get('/stream').content.count(b'part') == 3
    assert server.get('/fail').status_code == 500
    assert server.get('/objects').content.startswith(b'\x89PNG')
    assert server.get('/thread').text == 'joined'
    assert server.get('/child').text == '7'
    server.upload(dicom.make_dicom(None, PatientID='P%d' % number))
    path = os.path.join(server.directory, 'sent.dcm')
    with open(path, 'wb') as f:
        f.write(dicom.make_dicom(None, PatientID='S%d' % number))
    assert dicom.dimse_status(dicom.storescu(server, path)) == 'Success'
    assert dicom.find_outcome(dicom.findscu(server, 'QueryRetrieveLevel=STUDY', 'PatientID')) == ('Success', ['F'])


def reports(directory):
    """{program: [report]} of all processes that valgrind has watched."""
    found = {}
    for name in os.listdir(directory):
        if name.startswith('valgrind.'):
            with open(os.path.join(directory, name), encoding='utf-8', errors='replace') as f:
                text = f.read()
            program = re.search(r'Command: (\S+)', text).group(1)
            found.setdefault(os.path.basename(program), []).append(text)
    return found


@pytest.mark.timeout(600)
def test_the_worker_loses_no_memory_and_accesses_none_that_is_not_its_own(orthanc, tmp_path):
    worker = tmp_path / 'worker'
    worker.write_text(WORKER % {'here': HERE, 'directory': tmp_path, 'worker': ours_worker()})
    worker.chmod(0o755)
    server = orthanc(script=SCRIPT, dicom=True, config={'DicomAlwaysAllowFind': True},
                     env={'PYTHONMALLOC': 'malloc'}, python={'Worker': str(worker)})
    make_calls(server, 1)
    daemon = [pid for pid in children(server.pid) if ours_worker() in command_line(pid)]
    assert len(daemon) == 1, [command_line(pid) for pid in children(server.pid)]
    os.kill(daemon[0], signal.SIGHUP)
    server.wait_for_log('Generation 2 is running', 60)
    make_calls(server, 2)
    wait_until(lambda: len(children(daemon[0])) == 1, 60, 'the host of generation 1 to end')
    assert server.stop(timeout=60) == 0
    found = reports(tmp_path)
    assert {program: len(texts) for program, texts in found.items()} == {
        'orthanc-python-worker': 1, 'orthanc-python-host': 2}
    for text in found['orthanc-python-worker'] + found['orthanc-python-host']:
        assert 'ERROR SUMMARY: 0 errors' in text, text[-20000:]
    assert 'All heap blocks were freed' in found['orthanc-python-worker'][0], found['orthanc-python-worker'][0]

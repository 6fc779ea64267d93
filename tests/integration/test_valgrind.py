# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker under valgrind, from its start through calls and a reload to the stop of Orthanc: with
hosts that a zygote has forked, and with those that have a Python of their own from the start.

The supervisor frees all that it allocated. A host ends without giving back what lives as long
as the process: it must lose nothing, and access nothing that is not its own. So must a zygote, up to
the signal that ends it.
"""

import os
import re
import signal
import sys

import pytest

import dicom
import sanitizer
from server import children, command_line, is_alive, ours_worker, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival,
              pytest.mark.skipif(sanitizer.NAME is not None, reason='an instrumented program has a memory of its own')]

HERE = os.path.dirname(os.path.abspath(__file__))
INTERNED = "--suppressions='%s/valgrind-interned.supp'" % HERE if sys.version_info >= (3, 13) else ''
WORKER = r'''#!/bin/sh
exec valgrind --trace-children=yes --trace-children-skip='*/bin/python*' %(options)s \
    --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --num-callers=30 --read-inline-info=no \
    --suppressions='%(here)s/valgrind.supp' %(interned)s --log-file='%(directory)s/valgrind.%%p' '%(worker)s' "$@" %(arguments)s
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


class Report:
    """What valgrind has said of one process."""

    def __init__(self, text):
        self.text = text
        self.program = os.path.basename(re.search(r'Command: (\S+)', text).group(1))
        self.parent = int(re.search(r'Parent PID: (\d+)', text).group(1))

    def check(self):
        """To its end, nothing lost and no wrong access."""
        assert 'ERROR SUMMARY: 0 errors' in self.text, self.text[-20000:]

    def check_accesses(self):
        """What a child of a script has lost with its parent's threads is no business of ours."""
        found = re.findall(r'^==\d+== (Invalid .*|Conditional jump.*|Use of uninit.*|Syscall param.*)$',
                           self.text, re.MULTILINE)
        assert not found, self.text[-20000:]


def reports(directory):
    """{pid: Report} of all processes that valgrind has watched."""
    found = {}
    for name in os.listdir(directory):
        if name.startswith('valgrind.'):
            with open(os.path.join(directory, name), encoding='utf-8', errors='replace') as f:
                found[int(name.split('.')[1])] = Report(f.read())
    return found


def started_hosts(server):
    return [int(pid) for pid in re.findall(r'Host \d+ has started \(pid (\d+)\)', server.log())]


def run_under_valgrind(orthanc, directory, options='', arguments='', python=None):
    """A server that has been through calls and a reload, and its supervisor's process id."""
    worker = directory / 'worker'
    worker.write_text(WORKER % {'here': HERE, 'directory': directory, 'worker': ours_worker(),
                                'options': options, 'arguments': arguments, 'interned': INTERNED})
    worker.chmod(0o755)
    server = orthanc(script=SCRIPT, dicom=True, config={'DicomAlwaysAllowFind': True},
                     env={'PYTHONMALLOC': 'malloc'}, python=dict(python or {}, Worker=str(worker)))
    make_calls(server, 1)
    daemon, = [pid for pid in children(server.pid) if ours_worker() in command_line(pid)]
    os.kill(daemon, signal.SIGHUP)
    server.wait_for_log('Generation 2 is running', 60)
    make_calls(server, 2)
    wait_until(lambda: not is_alive(started_hosts(server)[0]), 60, 'the host of generation 1 to end')
    return server, daemon


@pytest.mark.timeout(600)
def test_the_worker_loses_no_memory_and_accesses_none_that_is_not_its_own(orthanc, tmp_path):
    server, daemon = run_under_valgrind(orthanc, tmp_path, '--child-silent-after-fork=yes', '--without-zygotes')
    assert server.stop(timeout=60) == 0
    found = reports(tmp_path)
    assert sorted(found) == sorted([daemon] + started_hosts(server))
    assert sorted(report.program for report in found.values()) == [
        'orthanc-python-host', 'orthanc-python-host', 'orthanc-python-worker']
    for report in found.values():
        report.check()
    assert 'All heap blocks were freed' in found[daemon].text, found[daemon].text


@pytest.mark.timeout(600)
def test_a_zygote_and_its_hosts_lose_no_memory_and_access_none_that_is_not_their_own(orthanc, tmp_path):
    """Each process that is forked has a report of its own, from the fork on."""
    server, daemon = run_under_valgrind(
        orthanc, tmp_path, "--suppressions='%s/valgrind-fork.supp'" % HERE, python={'Preload': ['json', 'decimal']})
    hosts = started_hosts(server)
    zygote, = [pid for pid in children(daemon) if pid not in hosts]
    os.kill(zygote, signal.SIGUSR1)    # the pool uses SIGKILL, after which valgrind says nothing
    wait_until(lambda: not is_alive(zygote), 60, 'the zygote to end')
    assert server.stop(timeout=60) == 0
    found = reports(tmp_path)
    assert len(hosts) == 2 and 'starting it without' not in server.log()
    between = [found[host].parent for host in hosts]    # they end at once
    assert [found[pid].parent for pid in between] == [zygote, zygote], re.findall('.*zygote.*', server.log())
    assert found[zygote].parent == daemon and '--zygote-fd' in found[zygote].text
    for pid in [daemon, zygote] + between + hosts:
        found[pid].check()
    assert 'All heap blocks were freed' in found[daemon].text, found[daemon].text
    for report in found.values():
        report.check_accesses()

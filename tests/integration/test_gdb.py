# SPDX-License-Identifier: GPL-3.0-or-later
"""gdb, attached to a host in the middle of a callback: the commands of docs/debugging.md."""

import os
import re
import subprocess
import sys
import threading

import pytest

import sanitizer
from server import PATIENCE, PID_ROUTE, REPOSITORY

pytestmark = [pytest.mark.ours,
              pytest.mark.skipif(sanitizer.NAME is not None, reason='what a sanitizer needs of a process is not what a debugger leaves')]

SCRIPT = r'''
import threading
import orthanc

entered, let_go = threading.Event(), threading.Event()

def deep(patient):
    entered.set()
    let_go.wait()
    return patient

def wait(output, uri, **request):
    output.AnswerBuffer(deep('Ada'), 'text/plain')

def when_entered(output, uri, **request):
    entered.wait()
    output.AnswerBuffer('ok', 'text/plain')

def go(output, uri, **request):
    let_go.set()
    output.AnswerBuffer('ok', 'text/plain')

orthanc.RegisterRestCallback('/wait', wait)
orthanc.RegisterRestCallback('/when-entered', when_entered)
orthanc.RegisterRestCallback('/go', go)
''' + PID_ROUTE


@pytest.fixture
def server(orthanc):
    """A callback of its host is in deep(), until the test is over."""
    server = orthanc(script=SCRIPT)
    answers = []
    request = threading.Thread(target=lambda: answers.append(server.get('/wait', timeout=120 * PATIENCE).text))
    request.start()
    assert server.get('/when-entered', timeout=60).text == 'ok'
    host = server.host_pid()
    yield server
    assert server.get('/go', timeout=60).text == 'ok'
    request.join(60 * PATIENCE)
    assert answers == ['Ada']
    assert server.host_pid() == host    # which has survived the debugger
    assert server.stop() == 0


def gdb(pid, command):
    """The command of the page, with a number; what it prints."""
    with open(os.path.join(REPOSITORY, 'docs', 'debugging.md'), encoding='utf-8') as f:
        (line,) = re.findall(r"^gdb --batch --pid PID -ex '%s'$" % re.escape(command), f.read(), re.M)
    done = subprocess.run(['bash', '-c', line.replace('PID', str(pid))], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors='replace', timeout=120 * PATIENCE, check=False)
    if re.search(r'ptrace: (Operation not permitted|Inappropriate)|Could not attach', done.stdout):
        pytest.skip('gdb may not attach to a process here: ' + done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout
    return done.stdout


def stacks(output):
    """[(name of a thread, what gdb prints of it)]"""
    return re.findall(r'^Thread \d+ \(.*?"([^"]+)"\):\n(.*?)(?=^Thread |^\[Inferior|\Z)', output, re.M | re.S)


def library_of(server):
    """The file with Python in it, as the host has mapped it."""
    with open('/proc/%d/maps' % server.host_pid(), encoding='utf-8') as f:
        return next(iter(re.findall(r'(/\S*/libpython3\S*)', f.read())), None)


def reads_python():
    """Whether this gdb finds the stack of a Python alone: that of Debian 13 does not."""
    with subprocess.Popen([sys.executable, '-c', 'print(1, flush=True); input()'], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as python:
        python.stdout.readline()
        output = gdb(python.pid, 'thread apply all py-bt')
        python.communicate(b'\n')
    return 'File "<string>", line 1, in <module>' in output


def test_the_threads_of_a_host(server):
    found = stacks(gdb(server.host_pid(), 'thread apply all bt'))
    names = [name for name, _ in found]
    assert 'control' in names and any(re.fullmatch(r'lane-\d+', name) for name in names), names
    assert all('#0 ' in stack for _, stack in found)


def test_the_stacks_of_python(server):
    library = library_of(server)
    helper = '/usr/share/gdb/auto-load%s-gdb.py' % library
    if library is None or not os.path.exists(os.path.realpath(helper)):
        pytest.skip('gdb knows no Python here: %s is missing (Debian: python3-dbg)' % helper)
    output = gdb(server.host_pid(), 'thread apply all py-bt')
    if 'unable to read python frame information' in output and not reads_python():
        pytest.skip('gdb cannot read the frames of this Python, nor those of python3 alone')
    (found,) = [stack for name, stack in stacks(output) if name.startswith('lane-') and ' in deep' in stack]
    with open(server.script_path, encoding='utf-8') as f:
        lines = [line.strip() for line in f]
    shown = re.findall(r'File "%s", line (\d+), in (\w+)\n *(.*)' % re.escape(server.script_path), found)
    assert [(name, text) for _, name, text in shown] == [('deep', 'let_go.wait()'), ('wait', "output.AnswerBuffer(deep('Ada'), 'text/plain')")]
    assert [lines[int(number) - 1] for number, _, _ in shown] == [text for _, _, text in shown]

# SPDX-License-Identifier: GPL-3.0-or-later
"""py-spy, which watches a host from outside: the commands of docs/debugging.md.

No Debian release has it: it is taken from PATH. Without it the tests are skipped, and the verdict of
tests/run names what was not checked.
"""

import glob
import os
import re
import shutil
import subprocess
import threading

import pytest

import test_machine
from server import PATIENCE, PID_ROUTE, REPOSITORY
from terminal import Terminal
from test_machine import machine    # pylint: disable=unused-import

pytestmark = [pytest.mark.ours,
              pytest.mark.skipif(shutil.which('py-spy') is None, reason='py-spy is not in PATH, and in no Debian: its recipe in '
                                 'docs/debugging.md was not run')]

# One callback waits, another one computes, until the test is over.
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

def count():
    total = 0
    while not let_go.is_set():
        for i in range(10000):
            total += i * i
    return total

def compute(output, uri, **request):
    output.AnswerBuffer(str(count()), 'text/plain')

def when_entered(output, uri, **request):
    entered.wait()
    output.AnswerBuffer('ok', 'text/plain')

def go(output, uri, **request):
    let_go.set()
    output.AnswerBuffer('ok', 'text/plain')

orthanc.RegisterRestCallback('/wait', wait)
orthanc.RegisterRestCallback('/compute', compute)
orthanc.RegisterRestCallback('/when-entered', when_entered)
orthanc.RegisterRestCallback('/go', go)
'''
# A thread of the script that waits in a function with a name of its own.
WATCHED = '''
def stand_by():
    threading.Event().wait()

threading.Thread(target=stand_by, daemon=True).start()
'''


@pytest.fixture
def server(orthanc):
    """deep() and count() run in its host, until the test is over."""
    server = orthanc(script=SCRIPT + PID_ROUTE)
    answers = {}

    def ask(route):
        answers[route] = server.get(route, timeout=120 * PATIENCE).text
    requests = [threading.Thread(target=ask, args=(route,)) for route in ('/wait', '/compute')]
    for request in requests:
        request.start()
    assert server.get('/when-entered', timeout=60).text == 'ok'
    host = server.host_pid()
    yield server
    assert server.get('/go', timeout=60).text == 'ok'
    for request in requests:
        request.join(60 * PATIENCE)
    assert answers['/wait'] == 'Ada' and int(answers['/compute']) > 0
    assert server.host_pid() == host    # which was not harmed
    assert server.stop() == 0


def recipe(command, pid):
    """The command of the page, with a number."""
    with open(os.path.join(REPOSITORY, 'docs', 'debugging.md'), encoding='utf-8') as f:
        (line,) = re.findall(r'^py-spy %s .*--pid PID$' % command, f.read(), re.M)
    return line.replace('PID', str(pid))


def run(command, **kwargs):
    done = subprocess.run(['bash', '-c', command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors='replace', timeout=120 * PATIENCE, check=False, **kwargs)
    if 'Permission Denied' in done.stdout:
        pytest.skip('py-spy may not look at a process here: ' + done.stdout.strip())
    assert done.returncode == 0, done.stdout
    return done.stdout


def threads(output):
    """[(idle, active or active+gil; what py-spy prints of the thread)]"""
    return re.findall(r'^Thread \d+ \((\S+)\).*\n((?: .*\n)*)', output, re.M)


def line_of(text):
    return 1 + next(i for i, line in enumerate(SCRIPT.splitlines()) if text in line)


def test_the_stacks_of_a_moment(server):
    found = threads(run(recipe('dump', server.host_pid())))
    ((state, stack),) = [each for each in found if ' deep ' in each[1]]
    assert state == 'idle'
    assert stack.endswith('    deep (script.py:%d)\n    wait (script.py:%d)\n' % (line_of('let_go.wait()'), line_of("deep('Ada')")))
    ((state, stack),) = [each for each in found if ' count ' in each[1]]
    assert state.startswith('active')
    assert stack.endswith('    compute (script.py:%d)\n' % line_of('str(count())'))


def test_functions_of_c_and_variables(server):
    command = recipe('dump', server.host_pid())
    stacks = [stack for _, stack in threads(run(command + ' --locals'))]
    assert any(re.search(r'deep \(.*\n +Arguments:\n +patient: "Ada"\n', stack) for stack in stacks), stacks
    if '--native' not in run('py-spy dump --help'):
        pytest.skip('this py-spy was built without --native')
    stacks = [stack for _, stack in threads(run(command + ' --native'))]
    (stack,) = [each for each in stacks if ' deep ' in each]
    assert re.search(r'\(libc\.so\.6\)\n(.*\n)*    deep \(script\.py', stack), stack


def test_a_flame_graph_of_what_takes_the_time(server, tmp_path):
    said = run(recipe('record', server.host_pid()), cwd=tmp_path)
    assert "Wrote flamegraph data to 'profile.svg'" in said, said
    samples = {name: int(number.replace(',', '')) for name, number in
               re.findall(r'<title>(\w+)[^<]* \(([\d,]+) samples', (tmp_path / 'profile.svg').read_text(encoding='utf-8'))}
    assert samples['compute'] > 0.9 * samples['all'] > 0, samples
    assert 'deep' not in samples    # it waits


def test_a_table_that_lives(server):
    with Terminal(['bash', '-c', 'exec ' + recipe('top', server.host_pid())], {**os.environ, 'TERM': 'xterm'}) as terminal:
        seen = terminal.expect(rb's +count \(script\.py\)')
        assert b'Collecting samples from' in seen and b'orthanc-python-host' in seen
        terminal.type(b'\x03')     # Control-C, as its last line says
        terminal.wait()


def number_outside(number):
    """The process of the machine with that number there, as it is called here."""
    for path in glob.glob('/proc/[0-9]*/status'):
        try:
            with open(path, encoding='utf-8', errors='replace') as f:
                text = f.read()
        except OSError:
            continue
        found = re.search(r'^NSpid:\t(\d+)\t%d$' % number, text, re.M)
        if found and 'orthanc-python-' in text.split('\n')[0]:
            return int(found.group(1))
    raise AssertionError('no process with the number %d in namespaces' % number)


def test_the_sandbox_of_systemd_is_open_to_root_and_to_the_pools_user(machine):   # pylint: disable=redefined-outer-name
    test_machine.begin_as_debian(machine, test_machine.SCRIPT + WATCHED)
    test_machine.switch_to_a_pool(machine)
    status = machine.run(test_machine.prefix() + '/bin/orthanc-python status')
    pid = int(re.search(r'^host +pid (\d+)', status, re.M).group(1))
    command = recipe('dump', pid)

    assert 'stand_by (script.py' in machine.run(command)
    become = 'setpriv --reuid %s --regid %s --clear-groups '
    assert 'stand_by (script.py' in machine.run(become % ('orthanc-python', 'orthanc-python') + command)
    refused = machine.run(become % ('nobody', 'nogroup') + command, check=False)
    assert 'Permission Denied' in refused and 'stand_by' not in refused
    # As of a container: from outside, with the number that the process has there.
    assert 'stand_by (script.py' in run(recipe('dump', number_outside(pid)))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes of scripts: multiprocessing, fork, subprocess (contract 6.4, 10)."""

import pytest

from conftest import needs_default_pool
from server import wait_until

FUNCTIONS = '''
import os

def square(n):
    return n * n

def identity(_):
    return os.getpid()
'''

POOL = r'''
import json, multiprocessing
import orthanc
import functions

if __name__ != '__mp_main__':
    CONTEXT = %s
    POOL = CONTEXT.Pool(2)
    def rest(output, uri, **request):
        pids = set(POOL.map(functions.identity, range(20), 1))
        output.AnswerBuffer(json.dumps([POOL.map(functions.square, range(10)), len(pids),
                                        CONTEXT.get_start_method()]), 'application/json')
    orthanc.RegisterRestCallback('/pool', rest)

    def on_change(change_type, level, resource):
        if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
            POOL.terminate()
            POOL.join()
    orthanc.RegisterOnChangeCallback(on_change)
'''


@pytest.mark.parametrize('context', ['multiprocessing', "multiprocessing.get_context('fork')"])
def test_a_pool_by_fork(orthanc, plugin, context):
    """The default start method is fork (contract 10)."""
    if context == 'multiprocessing':
        needs_default_pool(plugin)
    server = orthanc(plugin, script=POOL % context, files={'functions.py': FUNCTIONS})
    values, pids, method = server.get('/pool').json()
    assert values == [n * n for n in range(10)] and pids in (1, 2) and method == 'fork'
    assert server.stop() == 0


@pytest.mark.ours
@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_a_pool_by_spawn(orthanc, method):
    """Contract 8 row 17: needs a real sys.executable."""
    server = orthanc(script=POOL % ("multiprocessing.get_context('%s')" % method),
                     files={'functions.py': FUNCTIONS})
    values, pids, found = server.get('/pool', timeout=60).json()
    assert values == [n * n for n in range(10)] and pids in (1, 2) and found == method
    assert server.stop() == 0


@pytest.mark.ours
def test_a_pool_by_spawn_of_functions_in_the_script(orthanc):
    """The child imports the script again: registrations in it are accepted and ignored."""
    server = orthanc(script=r'''
import json, multiprocessing
import orthanc

def double(n):
    return 2 * n, orthanc.ErrorCode.UNKNOWN_RESOURCE

def rest(output, uri, **request):
    with multiprocessing.get_context('spawn').Pool(2) as pool:
        output.AnswerBuffer(json.dumps(pool.map(double, range(4))), 'application/json')

orthanc.RegisterRestCallback('/spawn', rest)
orthanc.RegisterOnStoredInstanceCallback(lambda instance, i: None)
''')
    assert server.get('/spawn', timeout=60).json() == [[2 * n, 17] for n in range(4)]
    assert server.get('/spawn', timeout=60).status_code == 200


@pytest.mark.ours
def test_subprocesses(orthanc):
    server = orthanc(script=r'''
import json, subprocess, sys
import orthanc
def rest(output, uri, **request):
    python = subprocess.run([sys.executable, '-c', 'import sys; print(6 * 7); sys.exit(3)'],
                            capture_output=True, text=True)
    shell = subprocess.run('echo $((6*7)); kill -9 $$', shell=True, capture_output=True, text=True)
    many = [subprocess.Popen(['sleep', '0.1']) for _ in range(5)]
    output.AnswerBuffer(json.dumps([python.stdout, python.returncode, shell.stdout,
                                    shell.returncode, [p.wait() for p in many]]), 'application/json')
orthanc.RegisterRestCallback('/run', rest)
''')
    for _ in range(3):
        assert server.get('/run').json() == ['42\n', 3, '42\n', -9, [0] * 5]
    assert not server.zombies()


def test_a_forked_child_computes_and_leaves_the_parent_alone(orthanc, plugin):
    server = orthanc(plugin, script=r'''
import json, os
import orthanc
def rest(output, uri, **request):
    codes = []
    for n in range(3):
        pid = os.fork()
        if pid == 0:
            os._exit(40 + n)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    output.AnswerBuffer(json.dumps([codes, json.loads(orthanc.RestApiGet('/system'))['Name']]),
                        'application/json')
orthanc.RegisterRestCallback('/fork', rest)
''')
    for _ in range(3):
        assert server.get('/fork').json() == [[40, 41, 42], 'test']


@pytest.mark.ours
def test_the_sdk_in_a_forked_child_never_disturbs_the_parent(orthanc):
    """Either it works by a connection of its own, or RuntimeError; never our socket, never
    a hang (contract 6.4, design 3)."""
    server = orthanc(script=r'''
import json, os, sys
import orthanc
def rest(output, uri, **request):
    answers = []
    for _ in range(3):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                text = json.loads(orthanc.RestApiGet('/system'))['Name']
            except BaseException as e:
                text = type(e).__name__
            try:
                output.AnswerBuffer('from the child', 'text/plain')
            except BaseException:
                pass
            os.write(w, text.encode())
            os._exit(0)
        os.close(w)
        answers.append(os.read(r, 100).decode())
        os.close(r)
        os.waitpid(pid, 0)
    answers.append(json.loads(orthanc.RestApiGet('/system'))['Name'])
    output.AnswerBuffer(json.dumps(answers), 'application/json')
orthanc.RegisterRestCallback('/fork', rest)
''')
    for _ in range(2):
        *child, parent = server.get('/fork', timeout=30).json()
        assert parent == 'test'
        assert set(child) in ({'test'}, {'RuntimeError'}), child


@pytest.mark.ours
def test_a_forked_child_that_exits_as_python_does(orthanc):
    """Its atexit and destructors run in the child and end nothing of the parent's."""
    server = orthanc(script=r'''
import multiprocessing, orthanc
IMAGE = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, 8, 8)
def child(queue):
    global IMAGE
    del IMAGE
    queue.put('done')
def rest(output, uri, **request):
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=child, args=(queue,))
    process.start()
    text = queue.get(timeout=20)
    process.join(20)
    output.AnswerBuffer('%s %s %d' % (text, process.exitcode, IMAGE.GetImageWidth()), 'text/plain')
orthanc.RegisterRestCallback('/x', rest)
''')
    for _ in range(3):
        assert server.get('/x').text == 'done 0 8'


@pytest.mark.ours
def test_children_of_the_script_end_with_the_server(orthanc):
    """A pool that nobody ends: killed with the host's process group at the latest."""
    server = orthanc(script=r'''
import multiprocessing, time, orthanc
def forever():
    time.sleep(100000)
PROCESSES = [multiprocessing.Process(target=forever, daemon=True) for _ in range(2)]
for p in PROCESSES:
    p.start()
''', python={'StopTimeout': 3})
    assert server.stop() == 0
    server.assert_no_leftovers()


@pytest.mark.ours
def test_children_of_the_script_end_with_a_killed_server(orthanc):
    server = orthanc(script=r'''
import multiprocessing, time, orthanc
def forever():
    time.sleep(100000)
if __name__ == 'script':
    PROCESSES = [multiprocessing.Process(target=forever) for _ in range(2)]
    for p in PROCESSES:
        p.start()
    print('up', flush=True)
''')
    server.wait_for_out('^up$')
    server.kill()
    wait_until(lambda: not server.leftovers(), 10, 'the children to end')

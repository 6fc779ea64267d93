# SPDX-License-Identifier: GPL-3.0-or-later
"""The SDK in child processes of a script: multiprocessing, executors, subprocess, fork.

Here:      what a child can call, and whose objects and callbacks there are; ends.
Elsewhere: that children can be made at all (test_processes.py).
"""

import os
import signal
import threading

import pytest

from dicom import make_dicom
from server import PID_ROUTE, wait_until

pytestmark = pytest.mark.ours

METHODS = ['fork', 'spawn', 'forkserver']

# 'calls' is a module, so that every start method finds the functions.
CALLS = r'''
import json, os, sys, threading
import orthanc

def name(_=None):
    return json.loads(orthanc.RestApiGet('/system'))['Name'], os.getpid()

def image(size):
    image = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, size, size)
    try:
        orthanc.RestApiGet('/nonsense')
    except orthanc.OrthancException as error:
        return image.GetImageWidth(), error.args[0]

def store(path):
    with open(path, 'rb') as f:
        return json.loads(orthanc.RestApiPost('/instances', f.read()))['ID'], os.getpid()
'''

START = r'''
import json, multiprocessing, os, threading
import concurrent.futures
import orthanc
import calls
'''


def said_about_lanes(server):
    return [text for _, text in server.messages('WEI')
            if 'service lane' in text or 'child process' in text]


@pytest.mark.parametrize('method', METHODS)
def test_children_of_multiprocessing_call_the_sdk(orthanc, method):
    server = orthanc(files={'calls.py': CALLS}, script=START + r'''
def rest(output, uri, **request):
    with multiprocessing.get_context('%s').Pool(2) as pool:
        answer = [pool.map(calls.name, range(10), 1), pool.map(calls.image, range(1, 5), 1),
                  os.getpid()]
    output.AnswerBuffer(json.dumps(answer), 'application/json')
orthanc.RegisterRestCallback('/pool', rest)
''' % method)
    for _ in range(2):
        names, images, host = server.get('/pool', timeout=60).json()
        assert {name for name, _ in names} == {'test'}
        assert host not in {pid for _, pid in names}
        assert images == [[size, 17] for size in range(1, 5)]    # 17: unknown resource
    assert said_about_lanes(server) == []
    assert server.stop() == 0
    server.assert_no_leftovers()


@pytest.mark.parametrize('method', METHODS)
def test_a_process_pool_executor_calls_the_sdk(orthanc, method):
    """One that lives as long as the script, used by several callbacks at once."""
    server = orthanc(files={'calls.py': CALLS}, script=START + r'''
if __name__ != '__mp_main__':
    POOL = concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context('%s'))
    def rest(output, uri, **request):
        output.AnswerBuffer(json.dumps(list(POOL.map(calls.name, range(4)))), 'application/json')
    orthanc.RegisterRestCallback('/pool', rest)
    def on_change(change, level, resource):
        if change == orthanc.ChangeType.ORTHANC_STOPPED:
            POOL.shutdown()
    orthanc.RegisterOnChangeCallback(on_change)
''' % method)
    for _ in range(3):
        assert {name for name, _ in server.get('/pool', timeout=60).json()} == {'test'}
    assert server.stop() == 0
    server.assert_no_leftovers()


def test_a_python_that_the_script_runs_calls_the_sdk(orthanc):
    """subprocess: nothing is inherited but the environment."""
    server = orthanc(script=r'''
import json, os, subprocess, sys
import orthanc
def rest(output, uri, **request):
    code = ("import orthanc, json; print(json.loads(orthanc.RestApiGet('/system'))['Name'], "
            "orthanc.RegisterRestCallback('/child', print))")
    done = [subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                           env=env, start_new_session=env is None)
            for env in (None, dict(os.environ, A='B'))]
    nested = subprocess.run([sys.executable, '-c', 'import subprocess, sys; subprocess.run('
                             '[sys.executable, "-c", sys.argv[1]])', code],
                            capture_output=True, text=True)
    output.AnswerBuffer(json.dumps([[d.stdout, d.stderr] for d in done + [nested]]), 'application/json')
orthanc.RegisterRestCallback('/run', rest)
''')
    assert server.get('/run').json() == [['test None\n', '']] * 3
    assert server.get('/child').status_code == 404
    assert said_about_lanes(server) == []


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_a_child_calls_the_sdk_while_the_script_is_imported(orthanc, method):
    """Orthanc waits for the import, and serves its children meanwhile."""
    server = orthanc(files={'work.py': r'''
import json, orthanc
def read(queue):
    queue.put(json.loads(orthanc.GetConfiguration())['Name'])
'''}, script=r'''
import multiprocessing
import orthanc
import work
if __name__ != '__mp_main__':
    context = multiprocessing.get_context('%s')
    queue = context.Queue()
    process = context.Process(target=work.read, args=(queue,))
    process.start()
    NAME = queue.get(timeout=20)
    process.join(20)
    def rest(output, uri, **request):
        output.AnswerBuffer(NAME, 'text/plain')
    orthanc.RegisterRestCallback('/name', rest)
''' % method)
    assert server.get('/name').text == 'test'


def test_a_python_without_the_environment_says_what_it_lacks(orthanc):
    server = orthanc(script=r'''
import json, os, subprocess, sys
import orthanc
VARIABLE = 'ORTHANC_PYTHON_BRIDGE_CREDENTIALS'
def rest(output, uri, **request):
    answers = []
    for value in (None, '/proc/1/fd/0', '/dev/zero', sys.executable, '/nowhere'):
        environment = dict(os.environ)
        del environment[VARIABLE]
        if value is not None:
            environment[VARIABLE] = value
        code = "import orthanc\ntry: orthanc.GetOrthancPath()\nexcept RuntimeError as e: print(e)"
        answers.append(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                                      env=environment, timeout=20).stdout)
    output.AnswerBuffer(json.dumps(answers), 'application/json')
orthanc.RegisterRestCallback('/run', rest)
''')
    without, *others = server.get('/run').json()
    assert 'without its environment (ORTHANC_PYTHON_BRIDGE_CREDENTIALS)' in without, without
    for text in others:
        assert 'is not connected to an Orthanc server in this process: ' in text, others
        assert 'the host whose child it is has ended' in text or 'cannot be used' in text, others


def test_the_secret_is_in_no_environment_and_no_file_of_others(orthanc):
    server = orthanc(script=r'''
import json, os, stat
import orthanc
def rest(output, uri, **request):
    path = os.environ['ORTHANC_PYTHON_BRIDGE_CREDENTIALS']
    with open(path, 'rb') as f:
        size = len(f.read())
    try:
        writer = open(path, 'r+b', buffering=0)
        writer.write(b'x')
        written = True
    except PermissionError:
        written = False
    output.AnswerBuffer(json.dumps([path, stat.S_IMODE(os.stat(path).st_mode), size, written]),
                        'application/json')
orthanc.RegisterRestCallback('/file', rest)
''' + PID_ROUTE)
    path, mode, size, written = server.get('/file').json()
    assert path.startswith('/proc/%d/fd/' % server.host_pid())
    assert mode == 0o600 and 1000 < size < 100000 and not written


@pytest.mark.parametrize('method', METHODS)
def test_what_a_child_stores_is_told_to_the_script_in_its_host(orthanc, tmp_path, method):
    """The callback that Orthanc fires within the child's SDK call cannot run there. The script
    waits for the child in a callback meanwhile."""
    server = orthanc(files={'calls.py': CALLS}, script=START + r'''
STORED = []
if __name__ != '__mp_main__':
    def on_stored(instance, identifier):
        STORED.append([identifier, os.getpid(), instance.GetInstanceData()[128:132].decode()])
    orthanc.RegisterOnStoredInstanceCallback(on_stored)
    def received(data, origin):
        STORED.append([len(data), os.getpid(), 'received'])
        return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None
    orthanc.RegisterReceivedInstanceCallback(received)
    def rest(output, uri, **request):
        with multiprocessing.get_context('%s').Pool(1) as pool:
            identifier, pid = pool.apply(calls.store, [request['get']['path']])
        output.AnswerBuffer(json.dumps([identifier, pid, os.getpid(), STORED]), 'application/json')
    orthanc.RegisterRestCallback('/store', rest)
''' % method + PID_ROUTE)
    path = tmp_path / 'one.dcm'
    path.write_bytes(make_dicom())
    identifier, child, host, stored = server.get('/store?path=%s' % path, timeout=60).json()
    assert child != host == server.host_pid()
    assert stored == [[path.stat().st_size, host, 'received'], [identifier, host, 'DICM']]


def test_a_child_calls_a_route_of_the_script(orthanc):
    server = orthanc(script=r'''
import json, multiprocessing, os
import orthanc
def inner(output, uri, **request):
    output.AnswerBuffer(str(os.getpid()), 'text/plain')
orthanc.RegisterRestCallback('/inner', inner)
def ask(_):
    return int(orthanc.RestApiGetAfterPlugins('/inner'))
def outer(output, uri, **request):
    with multiprocessing.Pool(4) as pool:
        output.AnswerBuffer(json.dumps(pool.map(ask, range(20), 1)), 'application/json')
orthanc.RegisterRestCallback('/outer', outer)
''' + PID_ROUTE)
    assert set(server.get('/outer').json()) == {server.host_pid()}


def test_objects_belong_to_their_process(orthanc):
    server = orthanc(script=r'''
import json, multiprocessing, os
import orthanc
IMAGE = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, 8, 8)

def attempt(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return '%s: %s' % (type(error).__name__, error)

def work(queue, output):
    global IMAGE
    own = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, 3, 3)
    answers = [attempt(output.AnswerBuffer, 'no', 'text/plain'), attempt(IMAGE.GetImageWidth),
               attempt(orthanc.CreateDicom, '{}', IMAGE, 0), attempt(own.GetImageWidth)]
    del IMAGE
    queue.put(answers)

def rest(output, uri, **request):
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=work, args=(queue, output))
    process.start()
    answers = queue.get(timeout=20)
    process.join(20)
    output.AnswerBuffer(json.dumps(answers + [IMAGE.GetImageWidth(), process.exitcode]),
                        'application/json')
orthanc.RegisterRestCallback('/x', rest)
''')
    invalid = 'ValueError: Invalid object'
    for _ in range(3):
        assert server.get('/x').json() == [invalid, invalid, invalid, 3, 8, 0]


def test_a_child_ends_well_though_its_thread_was_looked_at(orthanc):
    """threading has a stand-in for the thread of the callback then, which is no main thread for a child."""
    server = orthanc(script=r'''
import multiprocessing, threading
import orthanc
def look(output, uri, **request):
    output.AnswerBuffer(type(threading.current_thread()).__name__, 'text/plain')
def rest(output, uri, **request):
    process = multiprocessing.get_context('fork').Process(target=orthanc.GenerateUuid)
    process.start()
    process.join(20)
    output.AnswerBuffer('%s %s' % (process.exitcode, type(threading.current_thread()).__name__), 'text/plain')
orthanc.RegisterRestCallback('/look', look)
orthanc.RegisterRestCallback('/x', rest)
''')
    for _ in range(3):
        assert server.get('/look').text == '_DummyThread'
        assert server.get('/x').text == '0 _DummyThread'
    assert server.get('/x').text == '0 _DummyThread'


def test_a_registration_in_a_forked_child_is_ignored_and_said_once(orthanc):
    server = orthanc(script=r'''
import multiprocessing
import orthanc
def work():
    for n in range(3):
        orthanc.RegisterRestCallback('/child%d' % n, work)
def rest(output, uri, **request):
    process = multiprocessing.Process(target=work)
    process.start()
    process.join(20)
    output.AnswerBuffer(str(process.exitcode), 'text/plain')
orthanc.RegisterRestCallback('/x', rest)
''')
    assert server.get('/x').text == '0'
    assert server.get('/child1').status_code == 404
    server.wait_for_log('does nothing in a child process')
    lines = [text for _, text in server.messages() if 'does nothing in a child process' in text]
    assert len(lines) == 1 and 'RegisterRestCallback()' in lines[0], server.messages()


def test_twenty_children_at_once(orthanc):
    server = orthanc(script=r'''
import json, multiprocessing
import orthanc
def work(barrier, queue):
    barrier.wait(60)
    queue.put([json.loads(orthanc.RestApiGet('/system'))['Name'] for _ in range(10)])
def rest(output, uri, **request):
    barrier = multiprocessing.Barrier(20)
    queue = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=work, args=(barrier, queue)) for _ in range(20)]
    for process in processes:
        process.start()
    answers = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(20)
    output.AnswerBuffer(json.dumps(answers), 'application/json')
orthanc.RegisterRestCallback('/many', rest)
''')
    assert server.get('/many', timeout=100).json() == [['test'] * 10] * 20
    assert server.get('/many', timeout=100).json() == [['test'] * 10] * 20


def test_more_children_than_the_limit_are_told_so(orthanc):
    """Each keeps its connection until all have called; later ones find it free again."""
    server = orthanc(script=r'''
import json, os
import orthanc
def child(number):
    ask_r, ask_w = os.pipe()
    answer_r, answer_w = os.pipe()
    if os.fork() == 0:
        os.close(ask_w)
        try:
            text = json.loads(orthanc.RestApiGet('/system'))['Name']
        except RuntimeError as error:
            text = str(error)
        os.write(answer_w, text.encode())
        os.read(ask_r, 1)       # the parent closes it
        os._exit(0)
    os.close(ask_r)
    os.close(answer_w)
    text = os.read(answer_r, 10000).decode()
    os.close(answer_r)
    return text, ask_w
def rest(output, uri, **request):
    children = [child(n) for n in range(130)]
    for _, pipe in children:
        os.close(pipe)
    for _ in children:
        os.wait()
    output.AnswerBuffer(json.dumps([text for text, _ in children]), 'application/json')
orthanc.RegisterRestCallback('/many', rest)
''')
    *first, last, second = server.get('/many', timeout=200).json()
    assert first == ['test'] * 128
    for text in (last, second):
        assert 'the child processes of the script have 128 connections to Orthanc' in text
    wait_until(lambda: server.get('/many', timeout=200).json()[0] == 'test', 60, 'a free connection')


def test_forks_while_threads_are_inside_sdk_calls(orthanc):
    server = orthanc(script=r'''
import json, multiprocessing, threading
import orthanc
STOP = threading.Event()
FAILED = []
def busy():
    while not STOP.is_set():
        try:
            orthanc.RestApiGet('/system')
            orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, 2, 2).GetImageWidth()
        except Exception as error:
            FAILED.append(repr(error))
def work(n):
    return json.loads(orthanc.RestApiGet('/system'))['Name']
def rest(output, uri, **request):
    STOP.clear()
    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    answers = []
    for _ in range(10):
        with multiprocessing.Pool(2) as pool:
            answers += pool.map(work, range(4))
    STOP.set()
    for thread in threads:
        thread.join()
    output.AnswerBuffer(json.dumps([answers, FAILED]), 'application/json')
orthanc.RegisterRestCallback('/x', rest)
''')
    answers, failed = server.get('/x', timeout=100).json()
    assert answers == ['test'] * 40 and failed == []


def test_a_child_goes_on_while_the_generation_of_its_host_drains(orthanc, tmp_path):
    """A reload fails no request, nor what its child processes ask for."""
    server = orthanc(script=r'''
import multiprocessing, os
import orthanc
STARTED = %r
def work(queue, path):
    orthanc.GetOrthancPath()
    open(STARTED, 'w').close()
    while not os.path.exists(path):     # until the next generation serves
        orthanc.RestApiGet('/system')
    queue.put([orthanc.RestApiGet('/system')[:1] == b'{' for _ in range(5)])
def rest(output, uri, **request):
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=work, args=(queue, request['get']['path']))
    process.start()
    answer = queue.get(timeout=60)
    process.join(20)
    output.AnswerBuffer(str(all(answer)), 'text/plain')
orthanc.RegisterRestCallback('/work', rest)
''' % os.path.join(str(tmp_path), 'started') + PID_ROUTE)
    before = server.host_pid()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(
        server.get('/work?path=%s' % (tmp_path / 'go'), timeout=90).text))
    thread.start()
    wait_until(lambda: (tmp_path / 'started').exists(), 20, 'the child')
    assert server.post('/python-bridge/reload', '{}').status_code == 200
    assert server.host_pid() != before
    (tmp_path / 'go').touch()
    thread.join(60)
    assert answers == ['True']


ORPHAN = r'''
import json, os, sys, time
import orthanc
log = open(sys.argv[1], 'w', buffering=1)
while True:
    try:
        json.loads(orthanc.RestApiGet('/system'))
    except RuntimeError as error:
        print(error, file=log)
        try:
            orthanc.RestApiGet('/system')
        except RuntimeError as error:
            print(error, file=log)
        break
    print('called', file=log)
    time.sleep(0.02)
'''


def start_orphan(orthanc, tmp_path):
    """A child in a session of its own, which calls the SDK until it cannot."""
    log = tmp_path / 'log'
    server = orthanc(files={'orphan.py': ORPHAN}, script=r'''
import os, subprocess, sys
import orthanc
def rest(output, uri, **request):
    here = os.path.dirname(os.path.abspath(__file__))
    child = subprocess.Popen([sys.executable, os.path.join(here, 'orphan.py'), '%s'],
                             start_new_session=True)
    output.AnswerBuffer(str(child.pid), 'text/plain')
orthanc.RegisterRestCallback('/start', rest)
''' % log + PID_ROUTE)
    pid = int(server.get('/start').text)
    wait_until(lambda: log.exists() and 'called' in log.read_text(), 20, 'the child to call')
    return server, pid, log


def is_running(pid):
    try:
        with open('/proc/%d/stat' % pid, encoding='ascii') as f:
            return f.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def test_a_child_ends_with_a_killed_host(orthanc, tmp_path):
    server, pid, _ = start_orphan(orthanc, tmp_path)
    os.kill(server.host_pid(), signal.SIGKILL)
    wait_until(lambda: not is_running(pid), 20, 'the child to end')
    wait_until(lambda: server.get('/start').status_code == 200, 20, 'the next host')


def test_a_child_that_outlives_its_host_loses_its_access(orthanc, tmp_path):
    """Without its supervisor nobody ends it."""
    server, pid, log = start_orphan(orthanc, tmp_path)
    try:
        os.kill(server.supervisor(), signal.SIGKILL)
        wait_until(lambda: not is_running(pid), 20, 'the child to lose its access')
        first, second = log.read_text().splitlines()[-2:]
        assert 'the connection to Orthanc failed' in first, log.read_text()
        assert 'The host that started this process has ended' in second or \
            'the host that started this process' in second, log.read_text()
        wait_until(lambda: server.get('/start').status_code == 200, 20, 'the next host')
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict nesting, the private stack, the shim, and callbacks on other threads.

What the official plugin survives is asked of both; the rest, of ours.
"""

import io
import json
import os
import signal
import threading
import zipfile

import pytest
import requests

import dicom
import probe
from server import BUILD

NESTED = r'''
import json, threading
import orthanc

LOCK = threading.RLock()
LOCAL = threading.local()
SEEN = []

def on_stored(instance, instance_id):
    # blocks for ever if this is another thread than the one that holds the lock
    taken = LOCK.acquire(timeout=10)
    SEEN.append([taken, getattr(LOCAL, 'mark', None), threading.get_native_id()])
    if taken:
        LOCK.release()
    if getattr(LOCAL, 'again', None):
        content = LOCAL.again.pop()
        orthanc.RestApiPost('/instances', content)

def upload(output, uri, **request):
    with LOCK:
        LOCAL.mark = 'mine'
        LOCAL.again = []
        orthanc.RestApiPost('/instances', request['body'])
        output.AnswerBuffer(json.dumps([SEEN, threading.get_native_id()]), 'application/json')
        LOCAL.mark = None

def depth(output, uri, **request):
    n = int(request['groups'][0])
    with LOCK:
        if n == 0:
            output.AnswerBuffer('%d' % threading.get_native_id(), 'text/plain')
        else:
            inner = orthanc.RestApiGetAfterPlugins('/depth/%d' % (n - 1))
            assert inner.decode().split()[0] == str(threading.get_native_id())
            output.AnswerBuffer(inner.decode() + ' %d' % n, 'text/plain')

def archive(output, uri, **request):
    output.AnswerBuffer(orthanc.RestApiGet('/studies/%s/archive' % request['groups'][0]),
                        'application/zip')

def core(output, uri, **request):
    output.AnswerBuffer(orthanc.RestApiPost(request['headers']['x-path'], request['body']),
                        'application/json')

orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterRestCallback('/upload', upload)
orthanc.RegisterRestCallback('/depth/(\\d+)', depth)
orthanc.RegisterRestCallback('/my-archive/(.*)', archive)
orthanc.RegisterRestCallback('/core', core)
'''


def test_a_recursive_lock_across_a_nested_callback(orthanc, plugin):
    """Contract 6.2: the nested callback runs on the very thread that waits."""
    server = orthanc(plugin, script=NESTED)
    for turn in range(3):
        seen, thread = server.post('/upload', dicom.make_dicom()).json()
        assert seen[turn] == [True, 'mine', thread]


def test_own_routes_nested_in_each_other(orthanc, plugin):
    """Every level on the same thread, below the same recursive lock."""
    server = orthanc(plugin, script=NESTED)
    count = 3 if plugin == 'official' else 12    # the stack of the core's thread is 100 KiB
    words = server.get('/depth/%d' % count).text.split()
    assert words[1:] == [str(n) for n in range(1, count + 1)]


@pytest.mark.ours
@pytest.mark.smoke
def test_a_nested_archive_fits_on_the_stack(orthanc):
    """An archive needs more stack than an HTTP thread of the core has left."""
    server = orthanc(script=NESTED)
    content = dicom.make_dicom('rgb', 64, 64)
    instance = server.upload(content)
    study = server.get('/instances/%s/study' % instance).json()['ID']
    for _ in range(3):
        answer = server.get('/my-archive/' + study)
        assert answer.status_code == 200
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert [archive.read(name) for name in archive.namelist()] == [content]
    assert server.poll() is None


def naked(orthanc):
    """A server with a plugin that has neither a private stack nor the shim."""
    path = os.path.join(BUILD, 'tests', 'integration', 'plain', 'libnaked.so')
    return orthanc(None, config={'Plugins': [path]})


def ask_to_death(server, path):
    """The signal that ends the server when it gets this request."""
    with pytest.raises(requests.exceptions.ConnectionError):
        server.get(path)
    return -server.wait(30)


@pytest.mark.ours
def test_without_a_private_stack_a_nested_archive_ends_the_server(orthanc):
    server = naked(orthanc)
    instance = server.upload(dicom.make_dicom('rgb', 64, 64))
    study = server.get('/instances/%s/study' % instance).json()['ID']
    assert ask_to_death(server, '/naked/archive/' + study) == signal.SIGSEGV


@pytest.mark.ours
def test_without_the_shim_an_exception_of_jsoncpp_ends_the_server(orthanc):
    server = naked(orthanc)
    assert ask_to_death(server, '/naked/find') == signal.SIGABRT


@pytest.mark.ours
@pytest.mark.smoke
def test_foreign_exceptions_of_the_core_become_python_exceptions(orthanc):
    """JsonCpp and Boost throw through the C interface."""
    server = orthanc(script=probe.SCRIPT)
    outcomes = probe.run(server, {
        'find': "orthanc.RestApiPost('/tools/find', '[1, 2]')",
        'find query': "orthanc.RestApiPost('/tools/find', '{\"Level\": \"Study\", \"Query\": [1]}')",
        'level': "orthanc.RestApiPost('/tools/find', '{\"Level\": 12, \"Query\": {}}')",
        'modify': "orthanc.RestApiPost('/tools/create-dicom', '[]')",
        'create': "orthanc.CreateDicom('[1]', None, 0)",
        'create text': "orthanc.CreateDicom('\"x\"', None, 0)",
    })
    for label, outcome in outcomes.items():
        assert outcome.startswith('raise OrthancException('), (label, outcome)
    for _ in range(50):
        assert probe.run(server, {'x': "orthanc.RestApiPost('/tools/find', '[]')"})['x'].startswith(
            'raise OrthancException(')
    assert server.get('/system').status_code == 200
    assert server.stop() == 0


@pytest.mark.ours
def test_foreign_exceptions_on_a_background_thread(orthanc):
    """There no thread of the core stands below to catch them."""
    server = orthanc(script=probe.SCRIPT)
    code = r'''
import threading
R = []
def f():
    try:
        orthanc.RestApiPost('/tools/find', '[1]')
    except orthanc.OrthancException as e:
        R.append(type(e.args[0]).__name__)
t = threading.Thread(target=f)
t.start()
t.join()
R'''
    assert probe.run(server, {'x': code})['x'] == "['int']"
    assert server.get('/system').status_code == 200


@pytest.mark.ours
def test_calling_oneself_over_http(orthanc):
    """Contract 6.3: served by another thread of the core while the first call waits."""
    server = orthanc(script=r'''
import orthanc
def outer(output, uri, **request):
    url = 'http://127.0.0.1:%s/inner' % request['groups'][0]
    output.AnswerBuffer(b'outer ' + orthanc.HttpGet(url, '', ''), 'text/plain')
def inner(output, uri, **request):
    orthanc.RestApiGet('/system')
    output.AnswerBuffer('inner', 'text/plain')
orthanc.RegisterRestCallback('/outer/(.*)', outer)
orthanc.RegisterRestCallback('/inner', inner)
''')
    for _ in range(3):
        assert server.get('/outer/%d' % server.http_port, timeout=10).text == 'outer inner'


@pytest.mark.ours
def test_callbacks_of_a_job_while_the_caller_waits(orthanc):
    """A synchronous modification stores on a thread of the job; the caller holds no lock
    that the nested callback needs."""
    server = orthanc(script=NESTED + r'''
def modify(output, uri, **request):
    r = orthanc.RestApiPost('/studies/%s/modify' % request['groups'][0], json.dumps(
        {'Replace': {'StudyDescription': 'New'}, 'Synchronous': True}))
    output.AnswerBuffer(json.dumps([json.loads(r)['Type'], len(SEEN), threading.get_native_id()
                                    in [x[2] for x in SEEN[-1:]]]), 'application/json')
orthanc.RegisterRestCallback('/modify/(.*)', modify)
''')
    instance = server.upload(dicom.make_dicom())
    study = server.get('/instances/%s/study' % instance).json()['ID']
    kind, count, _ = server.post('/modify/' + study, timeout=20).json()
    assert (kind, count) == ('Study', 2)


@pytest.mark.ours
def test_a_dicom_loop_to_oneself(orthanc):
    """C-STORE to this very server: stored on a DICOM thread while the route waits."""
    server = orthanc(script=NESTED + r'''
def send(output, uri, **request):
    orthanc.RestApiPost('/modalities/self/store', request['groups'][0])
    output.AnswerBuffer(json.dumps(len(SEEN)), 'application/json')
orthanc.RegisterRestCallback('/send/(.*)', send)
''', dicom=True, config={'OverwriteInstances': True})
    instance = server.upload(dicom.make_dicom())
    assert server.put('/modalities/self', json.dumps(
        ['ORTHANC', '127.0.0.1', server.dicom_port])).status_code == 200
    assert server.post('/send/' + instance, timeout=20).json() == 2


BACKGROUND = r'''
import asyncio, concurrent.futures, json, threading
import orthanc

def work(n):
    name = json.loads(orthanc.RestApiGet('/system'))['Name']
    orthanc.LogInfo('work %d' % n)
    image = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, 8, n % 8 + 1)
    try:
        orthanc.RestApiGet('/nope')
    except orthanc.OrthancException as e:
        assert e.args[0] == 17
    return name, image.GetImageHeight()

def pool(output, uri, **request):
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        rows = list(executor.map(work, range(64)))
    output.AnswerBuffer(json.dumps(rows), 'application/json')

def loop(output, uri, **request):
    async def main():
        return await asyncio.gather(*[asyncio.to_thread(work, n) for n in range(16)])
    output.AnswerBuffer(json.dumps(asyncio.run(main())), 'application/json')

STARTED = []
def at_import():
    try:
        orthanc.RestApiGet('/system')
        STARTED.append('answered')
    except orthanc.OrthancException as e:
        STARTED.append(e.args[0])
t = threading.Thread(target=at_import)
t.start()
t.join()

def started(output, uri, **request):
    output.AnswerBuffer(json.dumps(STARTED), 'application/json')

TIMED = threading.Event()
def timed():
    orthanc.RestApiGet('/system')
    orthanc.LogWarning('timed')
    TIMED.set()

def timer(output, uri, **request):
    threading.Timer(0.05, timed).start()
    output.AnswerBuffer('ok' if TIMED.wait(20) else 'late', 'text/plain')

orthanc.RegisterRestCallback('/pool', pool)
orthanc.RegisterRestCallback('/loop', loop)
orthanc.RegisterRestCallback('/started', started)
orthanc.RegisterRestCallback('/timer', timer)
'''


@pytest.mark.ours
def test_sdk_calls_of_background_threads(orthanc):
    """The callers wait inside a callback: with the official plugin's default this blocks."""
    server = orthanc(script=BACKGROUND)
    assert server.get('/pool').json() == [['test', n % 8 + 1] for n in range(64)]
    assert server.get('/loop').json() == [['test', n % 8 + 1] for n in range(16)]
    assert server.get('/started').json() == [2038]
    assert server.get('/timer').text == 'ok'
    server.wait_for_log(r'^W.*\] timed$')
    assert server.stop() == 0


@pytest.mark.ours
def test_a_store_from_a_background_thread_nests_on_that_thread(orthanc):
    server = orthanc(script=NESTED + r'''
def background(output, uri, **request):
    result = []
    def f():
        with LOCK:
            LOCAL.mark = 'thread'
            orthanc.RestApiPost('/instances', request['body'])
            result.append(threading.get_native_id())
    t = threading.Thread(target=f)
    t.start()
    t.join(20)
    output.AnswerBuffer(json.dumps([SEEN[-1], result]), 'application/json')
orthanc.RegisterRestCallback('/background', background)
''')
    seen, result = server.post('/background', dicom.make_dicom()).json()
    assert seen == [True, 'thread', result[0]]


@pytest.mark.ours
def test_many_callers_at_once(orthanc):
    """More concurrent callbacks than any small fixed pool, each with nested calls."""
    server = orthanc(script=NESTED.replace('with LOCK:', 'if True:'), config={'HttpThreadsCount': 50})
    answers = []

    def ask():
        for _ in range(5):
            answers.append(server.get('/depth/2', timeout=60).status_code)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert answers == [200] * 200

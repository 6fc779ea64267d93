# SPDX-License-Identifier: GPL-3.0-or-later
"""REST callbacks (contract 3.2, 2.4 on RestOutput, 4.5): the same requests to both plugins."""

import json
import re
import socket
import threading
import time

import pytest

from compare import assert_same, response
from conftest import PLUGINS
from server import ORTHANC_VERSION, wait_until

SCRIPT = r'''
import json
import threading
import orthanc

def record(output, uri, **request):
    keys = list(request)
    if 'body' in request:
        request['body'] = [type(request['body']).__name__, request['body'].decode('latin-1')]
    request['groups'] = [type(request['groups']).__name__] + list(request['groups'])
    for name in ('host', 'user-agent', 'accept', 'accept-encoding', 'connection'):
        request['headers'].pop(name, None)
    output.AnswerBuffer(json.dumps([type(output).__name__, type(uri).__name__, uri, keys, request]),
                        'application/json')

def explicit(output, uri, method, groups, get={}, headers={}, body=None):
    output.AnswerBuffer('%s %s %s %s' % (method, groups, get, body), 'text/plain')

orthanc.RegisterRestCallback('/record(/.*)?', record)
orthanc.RegisterRestCallback('/explicit', explicit)
orthanc.RegisterRestCallback('/groups/(a)?(b)(?:c)(?<named>d)', record)
orthanc.RegisterRestCallback('/(?i)case', record)
orthanc.RegisterRestCallback('no-slash', record)
orthanc.RegisterRestCallback('/trailing/', record)
orthanc.RegisterRestCallback('/alt/(x|y)+[0-9]{2}', record)

def first(output, uri, **request):
    output.AnswerBuffer('first', 'text/plain')
def second(output, uri, **request):
    output.AnswerBuffer('second', 'text/plain')
orthanc.RegisterRestCallback('/same', first)
orthanc.RegisterRestCallback('/same', second)
orthanc.RegisterRestCallback('/sa.*', second)
orthanc.RegisterRestCallback('/statistics', first)     # overrides the core

class Bound:
    def method(self, output, uri, **request):
        output.AnswerBuffer('bound', 'text/plain')
BOUND = Bound()
orthanc.RegisterRestCallback('/bound', BOUND.method)
orthanc.RegisterRestCallback('/not-callable', 12)
def few(output):
    pass
orthanc.RegisterRestCallback('/few', few)

class Own(Exception):
    pass

def raising(output, uri, **request):
    kind = request['groups'][0]
    if kind == 'value':
        raise ValueError('wrong \xe9')
    if kind == 'exit':
        raise SystemExit(3)
    if kind == 'interrupt':
        raise KeyboardInterrupt()
    if kind == 'orthanc':
        raise orthanc.OrthancException(17, 'mine')
    if kind == 'own':
        try:
            raise KeyError('cause')
        except KeyError as e:
            raise Own('outer') from e
    if kind == 'details':
        output.SetHttpErrorDetails('these details', 0)
        raise ValueError('x')
    if kind == 'after':
        output.AnswerBuffer('answered', 'text/plain')
        raise ValueError('after the answer')
    if kind == 'multipart':
        output.StartMultipartAnswer('mixed', 'text/plain')
        raise ValueError('in multipart')
    if kind == 'deep':
        def inner(n):
            return 1 // n
        inner(0)
orthanc.RegisterRestCallback('/raise/(.*)', raising)

def answer(output, uri, **request):
    kind = request['groups'][0]
    if kind == 'str':
        output.AnswerBuffer('\xe9\0x', 'text/plain')
    elif kind == 'bytes':
        output.AnswerBuffer(b'\xff\0', 'application/octet-stream')
    elif kind == 'empty':
        output.AnswerBuffer('', 'text/plain')
    elif kind == 'bytearray':
        output.AnswerBuffer(bytearray(b'ab'), 'text/plain')
    elif kind == 'memoryview':
        output.AnswerBuffer(memoryview(b'cd'), 'text/plain')
    elif kind == 'twice':
        output.AnswerBuffer('one', 'text/plain')
        output.AnswerBuffer('two', 'text/plain')
        output.SetHttpHeader('X-Late', 'x')
    elif kind == 'none':
        pass
    elif kind == 'return':
        output.AnswerBuffer('r', 'text/plain')
        return 'ignored'
    elif kind == 'redirect':
        output.Redirect('/system')
    elif kind == 'not-allowed':
        output.SendMethodNotAllowed('GET,POST')
    elif kind == 'unauthorized':
        output.SendUnauthorized('realm')
    elif kind.startswith('code-'):
        output.SendHttpStatusCode(int(kind[5:]))
    elif kind == 'headers':
        output.SetHttpHeader('X-One', '1')
        output.SetHttpHeader('X-One', '2')
        output.SetCookie('a', 'b')
        output.SetCookie('c', 'd')
        output.AnswerBuffer('h', 'text/plain')
    elif kind == 'content-type':
        output.SetHttpHeader('Content-Type', 'x/y')
        output.AnswerBuffer('h', 'text/plain')
    elif kind == 'multipart':
        output.StartMultipartAnswer('related', 'application/dicom')
        output.SendMultipartItem(b'one')
        output.SendMultipartItem('two')
    elif kind == 'item-without-start':
        try:
            output.SendMultipartItem(b'x')
        except orthanc.OrthancException as e:
            output.AnswerBuffer(str(e), 'text/plain')
    elif kind == 'png':
        output.CompressAndAnswerPngImage(orthanc.PixelFormat.GRAYSCALE8, 2, 2, 2, b'abcd')
    elif kind == 'jpeg':
        output.CompressAndAnswerJpegImage(orthanc.PixelFormat.GRAYSCALE8, 2, 2, 2, b'abcd', 90)
    elif kind == 'large':
        output.AnswerBuffer(b'0123456789' * 2000000, 'application/octet-stream')
    elif kind == 'from-thread':
        t = threading.Thread(target=lambda: output.AnswerBuffer('t', 'text/plain'))
        t.start()
        t.join()
    elif kind == 'echo':
        output.AnswerBuffer(request['body'], 'application/octet-stream')
orthanc.RegisterRestCallback('/answer/(.*)', answer)

# 1.5: three arguments in 4.0, two from 4.2 on; ours takes both
def status(output, uri, **request):
    body = 'status body'
    try:
        output.SendHttpStatus(int(request['groups'][0]), body)
    except TypeError:
        output.SendHttpStatus(int(request['groups'][0]), body, len(body))
orthanc.RegisterRestCallback('/status/(.*)', status)
'''

# (method, path, body, headers); path and headers as sent
REQUESTS = [
    ('GET', '/record', None, {}),
    ('GET', '/record/', None, {}),
    ('GET', '/record/a/b?x=1&x=2&y&z=%20+', None, {}),
    ('GET', '/record/a%20b%2Fc', None, {}),
    ('GET', '/record//a/../b', None, {}),
    ('GET', '/record/%C3%A9', None, {}),
    ('GET', '/record/%ff', None, {}),
    ('GET', '/record', None, {'X-Mixed-Case': 'v', 'x-b': '2'}),
    ('GET', '/record', None, {'X-Bad': b'\xff\xfe'.decode('latin-1')}),
    ('GET', '/record?a=%ff', None, {}),
    ('POST', '/record?a=b', b'body\0\xff', {}),
    ('POST', '/record', b'', {}),
    ('PUT', '/record', b'put', {}),
    ('DELETE', '/record?a=b', None, {}),
    ('HEAD', '/record', None, {}),
    ('OPTIONS', '/record', None, {}),
    ('PATCH', '/record', b'x', {}),
    ('POST', '/record', b'x', {'X-HTTP-Method-Override': 'PUT'}),
    ('POST', '/record', b'x', {'X-HTTP-Method-Override': 'DELETE'}),
    ('GET', '/explicit?a=b', None, {}),
    ('POST', '/explicit', b'abc', {}),
    ('GET', '/groups/bcd', None, {}),
    ('GET', '/groups/abcd', None, {}),
    ('GET', '/groups/abcde', None, {}),
    ('GET', '/CASE', None, {}),
    ('GET', '/Record', None, {}),
    ('GET', '/no-slash', None, {}),
    ('GET', '/trailing', None, {}),
    ('GET', '/alt/xyx12', None, {}),
    ('GET', '/same', None, {}),
    ('GET', '/sandwich', None, {}),
    ('GET', '/statistics', None, {}),
    ('GET', '/bound', None, {}),
    ('GET', '/not-callable', None, {}),
    ('GET', '/few', None, {}),
] + [('GET', '/raise/' + kind, None, {}) for kind in (
    'value', 'exit', 'interrupt', 'orthanc', 'own', 'details', 'after', 'multipart', 'deep')
] + [('GET', '/answer/' + kind, None, {}) for kind in (
    'str', 'bytes', 'empty', 'bytearray', 'memoryview', 'twice', 'return', 'redirect',
    'not-allowed', 'unauthorized', 'code-200', 'code-204', 'code-404', 'code-500', 'headers',
    'content-type', 'item-without-start', 'png', 'jpeg', 'from-thread')
] + [('GET', '/status/%d' % code, None, {}) for code in (200, 201, 400, 404, 500, 503)]

# What the contract states in so many words: path -> (status, body or None)
STATED = {
    '/same': (200, b'first'), '/sandwich': (200, b'second'), '/statistics': (200, b'first'),
    '/bound': (200, b'bound'), '/no-slash': (404, None), '/trailing': (404, None),
    '/Record': (404, None), '/raise/after': (200, b'answered'), '/answer/twice': (200, b'one'),
    '/answer/redirect': (301 if ORTHANC_VERSION < (1, 12) else 307, None), '/answer/str': (200, '\xe9\0x'.encode()),
    '/answer/item-without-start': (200, b"(6, 'Bad sequence of calls')"),
    '/answer/not-allowed': (405, None), '/answer/unauthorized': (401, None),
}


def exchange(server, method, path, body, headers):
    """One request as raw bytes, so that nothing is corrected on the way."""
    head = '%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n' % (method, path)
    for name, value in headers.items():
        head += '%s: %s\r\n' % (name, value)
    if body is not None:
        head += 'Content-Length: %d\r\n' % len(body)
    raw = server.raw(head.encode('latin-1') + b'\r\n' + (body or b''))
    if not raw:
        return None, [], b''
    top, _, content = raw.partition(b'\r\n\r\n')
    lines = top.decode('latin-1').split('\r\n')
    kept = sorted(line for line in lines[1:] if line.lower().startswith(
        ('content-', 'set-cookie', 'location', 'allow', 'www-auth', 'x-', 'transfer')))
    return int(lines[0].split()[1]), kept, content


@pytest.fixture(scope='module')
def servers(module_orthanc):
    return {name: module_orthanc(name, script=SCRIPT) for name in PLUGINS}


@pytest.mark.smoke
@pytest.mark.parametrize('request_', REQUESTS, ids=lambda r: ' '.join((r[0], r[1], *r[3])))
def test_request(servers, request_):
    results = {name: exchange(server, *request_) for name, server in servers.items()}
    for status, _, content in results.values():
        if request_[0] == 'GET' and request_[1] in STATED:
            assert (status, STATED[request_[1]][1] or content) == (STATED[request_[1]][0], content)
    assert_same(results)


def test_what_a_callback_receives(servers):
    """Types, order and content of the arguments, in the words of the contract."""
    for server in servers.values():
        kind, uri_type, uri, keys, request = server.get('/record/x?a=1&a=2&b', headers={
            'X-Two': 'two'}).json()
        assert (kind, uri_type, uri) == ('RestOutput', 'str', '/record/x')
        assert keys == ['method', 'groups', 'get', 'headers']
        assert request == {'method': 'GET', 'groups': ['tuple', '/x'],
                           'get': {'a': '2', 'b': ''}, 'headers': {'x-two': 'two'}}
        keys, request = server.post('/record', b'a\0').json()[3:]
        assert keys == ['method', 'groups', 'headers', 'body']
        assert request['body'] == ['bytes', 'a\0']
        keys, request = server.put('/record', b'').json()[3:]
        assert request['body'] == ['bytes', '']
        keys, request = server.delete('/record').json()[3:]
        assert keys == ['method', 'groups', 'headers']


def test_a_callback_that_raises(servers):
    for server in servers.values():
        start = len(server.log())
        answer = server.get('/raise/value')
        assert answer.status_code == 500
        assert answer.json()['OrthancStatus'] == 1
        assert answer.json()['Message'] == 'Error encountered within the plugin engine'
        server.wait_for_log(r'Error in the REST callback, traceback:', start=start)
        details = server.get('/raise/details').json()
        assert details['Details'] == 'these details'


def test_not_utf8_is_500_without_a_call(servers):
    for server in servers.values():
        status, _, body = exchange(server, 'GET', '/record/%ff', None, {})
        assert status == 500
        assert json.loads(body)['OrthancStatus'] == -1
        server.wait_for_log('Cannot create a Python string, check that the string is properly '
                            'encoded using UTF-8')


def test_no_answer_closes_the_connection(servers):
    for server in servers.values():
        assert server.raw(b'GET /answer/none HTTP/1.1\r\nHost: x\r\n\r\n') == b''
        assert server.get('/answer/str').status_code == 200


def test_status_codes_out_of_range_give_no_answer(servers):
    for server in servers.values():
        for code in ('999', '70000', '-1'):
            start = len(server.log())
            raw = server.raw(b'GET /answer/code-%s HTTP/1.1\r\nHost: x\r\n\r\n' % code.encode())
            assert raw == b'', code
            server.wait_for_log('Parameter out of range', start=start)


def test_multipart_answer(servers):
    def parts(server):
        answer = server.get('/answer/multipart')
        boundary = re.search(r'boundary="?([^";]+)', answer.headers['Content-Type']).group(1)
        kind = answer.headers['Content-Type'].replace(boundary, 'BOUNDARY')
        return answer.status_code, kind, answer.content.replace(boundary.encode(), b'BOUNDARY')
    results = {name: parts(server) for name, server in servers.items()}
    for status, kind, body in results.values():
        assert status == 200 and kind.startswith('multipart/related')
        assert b'one' in body and b'two' in body
    assert_same(results)


@pytest.mark.smoke
def test_large_bodies(servers):
    content = bytes(range(256)) * 80000
    for server in servers.values():
        assert server.get('/answer/large').content == b'0123456789' * 2000000
        answer = server.post('/answer/echo', content)
        assert answer.content == content


def test_chunked_upload_is_reassembled(servers):
    def chunks():
        yield b'one '
        yield b'two '
        yield b'\0three'
    results = {name: response(server.post('/answer/echo', chunks()))
               for name, server in servers.items()}
    for status, _, body in results.values():
        assert (status, body) == (200, b'one two \0three')
    assert_same(results)


def tracebacks(server):
    """Logged errors of callbacks, with the directory of the script replaced."""
    return [text.replace(server.directory, 'DIRECTORY').strip()
            for level, text in server.messages('E') if 'traceback:' in text]


def test_logged_tracebacks_have_one_format(orthanc):
    """Contract 4.5, and that the cause of an exception is not printed."""
    found = {}
    for name in PLUGINS:
        server = orthanc(name, script=SCRIPT)
        for kind in ('value', 'own', 'deep', 'exit', 'interrupt', 'orthanc'):
            assert server.get('/raise/' + kind).status_code == 500
        assert server.get('/few').status_code == 500
        assert server.get('/not-callable').status_code == 500
        server.stop()
        found[name] = tracebacks(server)
        assert len(found[name]) == 8
        lines = found[name][0].split('\n')
        assert lines[0] == 'Error in the REST callback, traceback:'
        assert lines[1] == "<class 'ValueError'>"
        assert lines[2] == 'wrong \xe9'
        assert lines[3] == ''
        assert re.fullmatch(r'  File "DIRECTORY/script.py", line \d+, in raising', lines[4])
        assert lines[5] == "    raise ValueError('wrong \\xe9')"
        assert 'KeyError' not in found[name][1].split('\n')[1] and 'cause' not in '\n'.join(
            line for line in found[name][1].split('\n') if 'raise' not in line and 'File' not in line)
    assert_same(found)


def test_two_callbacks_run_at_the_same_time(orthanc, plugin):
    """Contract 3.2, 6.1: proven by a barrier that one callback alone cannot pass."""
    server = orthanc(plugin, script=r'''
import orthanc, threading
barrier = threading.Barrier(4)
def meet(output, uri, **request):
    barrier.wait(20)
    output.AnswerBuffer('met', 'text/plain')
orthanc.RegisterRestCallback('/meet', meet)
''')
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.get('/meet').text))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == ['met'] * 4


def test_sleeping_callbacks_finish_together(orthanc, plugin):
    server = orthanc(plugin, script=r'''
import orthanc, time
def slow(output, uri, **request):
    time.sleep(1.5)
    output.AnswerBuffer('slow', 'text/plain')
orthanc.RegisterRestCallback('/slow', slow)
''')
    start = time.monotonic()
    threads = [threading.Thread(target=server.get, args=('/slow',)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 1.4 < time.monotonic() - start < 2.8


def test_a_client_that_hangs_up_does_no_harm(orthanc, plugin):
    server = orthanc(plugin, script=r'''
import orthanc, threading
gone = threading.Event()
def slow(output, uri, **request):
    print('entered', flush=True)
    gone.wait(20)
    output.AnswerBuffer(b'x' * 1000000, 'text/plain')
    print('left', flush=True)
def go(output, uri, **request):
    gone.set()
    output.AnswerBuffer('go', 'text/plain')
orthanc.RegisterRestCallback('/slow', slow)
orthanc.RegisterRestCallback('/go', go)
''')
    client = socket.create_connection(('127.0.0.1', server.http_port))
    client.sendall(b'GET /slow HTTP/1.1\r\nHost: x\r\n\r\n')
    server.wait_for_out('entered')
    client.close()
    assert server.get('/go').text == 'go'
    server.wait_for_out('left')
    assert server.get('/go').text == 'go'


LONG_POLL = r'''
import threading
import orthanc

WAITING = {}

def wait(output, uri, **request):
    """Somebody else answers in its place."""
    done = threading.Event()
    WAITING[request['groups'][0]] = (output, done)
    done.wait(30)

def answer(output, uri, **request):
    other, done = WAITING.pop(request['groups'][0], (None, None))
    if other is None:
        output.SendHttpStatusCode(404)
        return
    def run():
        other.SetHttpHeader('X-By', request['groups'][1])
        other.AnswerBuffer('answered', 'text/plain')
        done.set()
    if request['groups'][1] == 'thread':
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    output.AnswerBuffer('ok', 'text/plain')

orthanc.RegisterRestCallback('/wait/(.*)', wait)
orthanc.RegisterRestCallback('/answer/(.*)/(.*)', answer)
'''


@pytest.mark.parametrize('by', ['callback', 'thread'])
def test_a_request_answered_by_another_thread(orthanc, plugin, by):
    """What a thread did to an output before it woke the callback has happened when that
    callback returns: effects keep the order that the script gave them (contract 2.4)."""
    server = orthanc(plugin, script=LONG_POLL)
    for turn in range(40):
        answers = []
        thread = threading.Thread(target=lambda turn=turn, answers=answers: answers.append(
            server.get('/wait/%d' % turn)))
        thread.start()
        wait_until(lambda turn=turn: server.get('/answer/%d/%s' % (turn, by)).status_code == 200,
                   10, 'the waiting request')
        thread.join(30)
        assert (answers[0].text, answers[0].headers['X-By']) == ('answered', by), turn

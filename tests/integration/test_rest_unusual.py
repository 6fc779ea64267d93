# SPDX-License-Identifier: GPL-3.0-or-later
"""What few scripts do in REST callbacks, and some do: unusual bodies, headers, codes and orders of
answers, routes whose patterns use all of Boost's language, callbacks that are no plain functions
(contract 2.2, 2.4, 3.2). The same requests to both plugins, the same answers from both."""

import http.client
import re

import pytest

from compare import assert_same
from conftest import PLUGINS

SCRIPT = r'''
import array, ctypes, decimal, enum, functools, http, io, mmap, sys, threading, types
import numpy    # not in a callback: the official plugin on Python 3.14 has no stack for that there
import orthanc

class S(str): pass
class B(bytes): pass
class Bytes:
    def __bytes__(self): return b'x'

def run(output, uri, **request):
    exec(request['body'].decode(), dict(globals(), output=output))
orthanc.RegisterRestCallback('/run', run)

def echo(output, uri, **request):
    request['headers'].pop('host')
    output.AnswerBuffer(repr((uri, list(request.items()))), 'text/plain')
for pattern in PATTERNS:
    orthanc.RegisterRestCallback(pattern, echo)

class C:
    def __init__(self, *arguments, **keywords):
        if arguments:
            arguments[0].AnswerBuffer('made %s' % sorted(keywords), 'a/b')
    def __call__(self, output, uri, **request): output.AnswerBuffer('called', 'a/b')
    def bound(self, output, uri, **request): output.AnswerBuffer('bound', 'a/b')
    @staticmethod
    def static(output, uri, **request): output.AnswerBuffer('static', 'a/b')
    @classmethod
    def of_class(cls, output, uri, **request): output.AnswerBuffer('class', 'a/b')
async def coroutine(output, uri, **request): output.AnswerBuffer('never', 'a/b')
def generator(output, uri, **request):
    output.AnswerBuffer('never', 'a/b')
    yield 1
def keywords(output, uri, *, method, groups, headers, **rest):
    output.AnswerBuffer(repr((method, groups, sorted(rest))), 'a/b')
def positional(output, uri, /, **request): output.AnswerBuffer('positional', 'a/b')
def star(*arguments, **request): arguments[0].AnswerBuffer(repr((len(arguments), list(request))), 'a/b')
def without(output, uri): output.AnswerBuffer('never', 'a/b')
def decorated(output, uri, **request): output.AnswerBuffer('decorated', 'a/b')
def decorate(f):
    return functools.wraps(f)(lambda *arguments, **keywords: f(*arguments, **keywords))
OBJECT = C()
CALLABLES = {'object': OBJECT, 'bound': OBJECT.bound, 'static': C.static, 'class': C.of_class,
    'unbound': C.bound, 'type': C, 'coroutine': coroutine, 'generator': generator,
    'keywords': keywords, 'positional': positional, 'star': star, 'without': without,
    'decorated': decorate(decorated), 'cached': functools.lru_cache(decorated),
    'partial': functools.partial(star), 'partial-clash': functools.partial(keywords, method='mine'),
    'method-type': types.MethodType(lambda self, output, uri, **r: output.AnswerBuffer(self, 'a/b'), 'self'),
    'method': orthanc.RestOutput.AnswerBuffer, 'builtin': len, 'exception': ValueError, 'none': None,
    'number': 3, 'text': 'abc', 'module': sys, 'dispatch': functools.singledispatch(decorated)}
for name, value in CALLABLES.items():
    orthanc.RegisterRestCallback('/callable/' + name, value)
'''

CALLABLES = [
    'object', 'bound', 'static', 'class', 'unbound', 'type', 'coroutine', 'generator', 'keywords',
    'positional', 'star', 'without', 'decorated', 'cached', 'partial', 'partial-clash',
    'method-type', 'method', 'builtin', 'exception', 'none', 'number', 'text', 'module', 'dispatch']

# Whole bodies of a callback
BODIES = [
    "output.AnswerBuffer(memoryview(b'abc')[1:], 'a/b')",
    "output.AnswerBuffer(memoryview(b'abcdef')[::2], 'a/b')",
    "output.AnswerBuffer(memoryview(b'aabb').cast('B', (2, 2)), 'a/b')",
    "output.AnswerBuffer(array.array('H', [1, 2, 3]), 'a/b')",
    "output.AnswerBuffer(mmap.mmap(-1, 10), 'a/b')",
    "output.AnswerBuffer((ctypes.c_char * 4)(b'a', b'b'), 'a/b')",
    "output.AnswerBuffer(io.BytesIO(b'abc').getbuffer(), 'a/b')",
    "import numpy\noutput.AnswerBuffer(numpy.arange(6, dtype='u1').reshape(2, 3), 'a/b')",
    "import numpy\noutput.AnswerBuffer(numpy.asfortranarray(numpy.ones((2, 3), 'u1')), 'a/b')",
    "import numpy\noutput.AnswerBuffer(numpy.bytes_(b'xx'), numpy.str_('a/b'))",
    "output.AnswerBuffer(B(b'x'), 'a/b')",
    "output.AnswerBuffer(S('x'), S('a/b'))",
    "output.AnswerBuffer(Bytes(), 'a/b')",
    "m = memoryview(b'abc')\nm.release()\noutput.AnswerBuffer(m, 'a/b')",
    "b = bytearray(b'abc')\noutput.AnswerBuffer(b, 'a/b')\nb.extend(b'def')\nb[0] = 65",
    "output.AnswerBuffer('abc', '')", "output.AnswerBuffer('', '')",
    "output.AnswerBuffer('abc', 'a/b\\0c')", "output.AnswerBuffer('abc', 'a/\\xe9')",
    "output.AnswerBuffer('abc', 'a/b\\r\\nX-Injected: y')",
    "output.AnswerBuffer('\\ud800', 'a/b')",
]
HEADERS = [
    "output.SetHttpHeader('', 'x')", "output.SetHttpHeader('X-A', '')",
    "output.SetHttpHeader('X A', 'a')", "output.SetHttpHeader('X-\\xe9', '\\xe9')",
    "output.SetHttpHeader('X-A', 'a\\r\\nX-B: c')",
    "output.SetHttpHeader('x-a', '1')\noutput.SetHttpHeader('X-A', '2')",
    "output.SetHttpHeader('CONTENT-TYPE', 'q/r')", "output.SetHttpHeader('content-type', 'q/r')",
    "output.SetCookie('a', 'b; Path=/; HttpOnly')\noutput.SetCookie('a', 'c')",
    "output.SetCookie('', 'x')", "output.SetCookie('a b=', 'x\\n')",
]
ANSWERS = ["output.AnswerBuffer('x', 'a/b')", "output.SendHttpStatusCode(404)", "raise ValueError('x')",
           "output.Redirect('http://x/\\xfc?a=b#c')", "output.SendUnauthorized('re\"alm')",
           "output.SendMethodNotAllowed('')", "output.SendHttpStatusCode(204)",
           "output.CompressAndAnswerPngImage(1, 1, 1, 1, b'a')"]
CODES = [100, 206, 299, 301, 304, 401, 405, 418, 429, 499, True, 65536 + 404, "'404'", 404.0,
         'http.HTTPStatus.NOT_FOUND', "__import__('numpy').int64(404)"]
MULTIPART = [
    "", "output.SendMultipartItem('')", "output.SendMultipartItem('x')\noutput.AnswerBuffer('y', 'a/b')",
    "output.StartMultipartAnswer('mixed', 'a/b')\noutput.SendMultipartItem('x')",
    "output.SetHttpHeader('X-A', '1')\noutput.SendMultipartItem('x')",
    "output.SendMultipartItem(bytearray(b'x'))\noutput.SendMultipartItem(12)",
    "output.SendMultipartItem('x')\noutput.SendHttpStatusCode(404)",
    "output.SendMultipartItem('x')\noutput.Redirect('x')",
]
OTHERS = [
    "output.SetHttpErrorDetails('\\xe9\\n\"q\"', 1)\nraise ValueError()",
    "output.SetHttpErrorDetails('a', 0)\noutput.SetHttpErrorDetails('b', 1)\nraise ValueError()",
    "output.SetHttpErrorDetails('a', 0)\noutput.SendHttpStatusCode(404)",
    "output.SetHttpErrorDetails('', 0)\nraise ValueError()",
    "output.SendHttpStatusCode(9999)\noutput.AnswerBuffer('x', 'a/b')",
    "output.SendHttpStatusCode(9999)\nraise ValueError()",
    "output.Redirect('')", "output.Redirect('../x y')", "output.Redirect('a\\r\\nX: y')",
    "output.StartMultipartAnswer('weird', 'a/b')\noutput.SendMultipartItem('x')",
    "output.StartMultipartAnswer('related', '')\noutput.SendMultipartItem('x')",
    "output.CompressAndAnswerPngImage(4, 2, 1, 6, b'abcdef')",
    "output.CompressAndAnswerPngImage(9, 1, 1, 4, b'abcd')",
    "output.CompressAndAnswerPngImage(1, 0, 0, 0, b'')",
    "output.CompressAndAnswerPngImage(1, 2, 1, 1, b'abc')",
    "output.CompressAndAnswerPngImage(99, 1, 1, 2, b'ab')",
    "output.CompressAndAnswerJpegImage(1, 2, 1, 2, b'ab', 0)",
    "output.CompressAndAnswerJpegImage(1, 2, 1, 2, b'ab', 101)",
    "output.CompressAndAnswerJpegImage(5, 1, 1, 4, b'abcd', 100)",
    "output.attribute = 1", "del output.AnswerBuffer", "output()",
    "orthanc.RestOutput.AnswerBuffer(output, 'x', 'a/b')",
    "functools.partial(output.AnswerBuffer, 'x')('a/b')",
    "t = threading.Thread(target=output.AnswerBuffer, args=('x', 'a/b'))\nt.start()\nt.join()",
    "import asyncio\nasync def f():\n  output.AnswerBuffer('x', 'a/b')\nasyncio.run(f())",
    "exit()", "quit(2)", "sys.exit('message')", "def f(): f()\nf()",
    "import pickle\npickle.dumps(output)", "import weakref\nweakref.ref(output)",
]
ALL = (BODIES + [header + '\n' + answer for header in HEADERS for answer in ANSWERS] +
       [first + '\n' + second for first in ANSWERS for second in ANSWERS] +
       ['output.SendHttpStatusCode(%s)' % code for code in CODES] +
       ["output.StartMultipartAnswer('mixed', 'a/b')\n" + rest for rest in MULTIPART] + OTHERS)

PATTERNS = [
    '/a/([^/]*)/x', '/b(/(.*))?', '/c/(a|b)*', '/d/((x)(y)?)+', '/studies/([^/]*)/viewer', '/instances',
    '/tools/find', '/e/(.*)/(.*)', '/app/explorer.html', '/$', '/f/(?=x)(.+)', r'/g/(\d+)\.(?:dcm|json)',
    r'/h/(\w+)/\1', '/i/.*?', r'/j\.x', '/\xe9/(.*)', '/k/([[:alpha:]]+)', r'/l/\bfoo\b', '^/m$',
    '/n/(a)|(b)', '/o/(?<!a)b', '/p/(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)', '/.*zz']
PATHS = [
    '/a/a%2Fb/x', '/a/a%252Fb/x', '/a/a;b=c/x', '/a/%E2%82%AC/x', '/a/a+b/x', '/a/%00/x', '/a/a%0Ab/x', '/a//x',
    '/a/./x', '/a/.../x', '/a/%2E%2E/x', '/b', '/b/', '/b/a/', '/c/', '/c/ab', '/d/xyx', '/d/xxy',
    '/studies/1/viewer', '/instances', '/tools/find', '/e/a/b/c', '/app/explorer.html', '/', '/f/xy', '/g/12.dcm',
    '/g/12.jsn', '/h/ab/ab', '/h/ab/ac', '/i/', '/i/x', '/j.x', '/jax', '/%C3%A9/x', '/k/abc', '/l/foo', '/m',
    '/n/a', '/o/b', '/p/abcdefghijkl', '/aa/bb/zz', '/B', '/b/a\\b', '/b/"<>', '/b/' + 'x' * 4000,
    '/b?a=1&a=2&b[]=3&b[]=4', '/b?a=%C3%A9', '/b?a=b=c', '/b?=c', '/b?&&', '/b??a', '/b?a=%', '/b?a=%zz',
    '/b?a=+%2B', '/b?A=1&a=2', '/b?%61=1', '/b?a=1;b=2', '/b?a%00=1', '/b?a="x"',
    '/b?' + '&'.join('a%d=%d' % (i, i) for i in range(500))]
SENT = [
    {'Cookie': 'a=b; c=d'}, {'Authorization': 'Basic YTpi'}, {'X-A': ''}, {'X-A': '  space  '}, {'x_a': '1'},
    {'Range': 'bytes=0-2'}, {'If-None-Match': '"x"'}, {'Accept-Encoding': 'gzip, deflate'}, {'Origin': 'http://a'},
    {'X-HTTP-Method-Override': 'get'}, {'Content-Type': 'application/x-www-form-urlencoded'},
    {'Content-Type': 'multipart/form-data; boundary=X'}, {'Content-Encoding': 'gzip'}, {'X-A': 'y' * 5000}]


def ask(connection, method, path, body=None, headers=None):
    """Status, headers and body of an answer, or that there was none."""
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader('Content-Length', str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
    except (http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionResetError) as e:
        connection.close()
        return type(e).__name__
    found = [(name, value) for name, value in answer.getheaders() if name != 'Date']
    if answer.will_close:
        connection.close()
    return re.sub(r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{9,12}', 'UUID',
                  repr((answer.status, found, content)))


def compare(servers, requests):
    """requests: [(label, method, path, body, headers)], each sent to each server."""
    outcomes = {}
    for name, server in servers.items():
        connection = server.connection()
        outcomes[name] = [(label, ask(connection, *request)) for label, *request in requests]
        connection.close()
    for pair in zip(*outcomes.values()):
        assert_same(dict(zip(outcomes, pair)))


@pytest.fixture(scope='module')
def servers(module_orthanc):
    # Answers without a length end with the connection.
    return {name: module_orthanc(name, script='PATTERNS = %r\n' % PATTERNS + SCRIPT,
                                 config={'KeepAlive': False}) for name in PLUGINS}


def test_unusual_answers(servers):
    compare(servers, [(code, 'POST', '/run', code.encode(), {}) for code in ALL])


def test_unusual_patterns_and_paths(servers):
    compare(servers, [((method, path), method, path, body, {}) for path in PATHS
                      for method, body in (('GET', None), ('DELETE', None), ('POST', b'x'))])


def test_unusual_headers_of_requests(servers):
    compare(servers, [((method, headers), method, '/b/h', body, headers) for headers in SENT
                      for method, body in (('GET', None), ('POST', b'x'), ('PUT', b''), ('DELETE', None))])


def test_callbacks_that_are_no_plain_functions(servers):
    compare(servers, [((method, name), method, '/callable/' + name, b'', {}) for name in CALLABLES
                      for method in ('GET', 'POST', 'DELETE')])

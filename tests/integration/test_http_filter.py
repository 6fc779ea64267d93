# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter of incoming HTTP requests (contract 3.3)."""

import json

import pytest

from compare import assert_same
from conftest import PLUGINS
from server import ORTHANC_VERSION

SCRIPT = r'''
import json
import orthanc

SEEN = []

class Truthy:
    pass

def decide(uri, **request):
    if uri == '/seen':
        return True
    for name in ('host', 'user-agent', 'accept', 'accept-encoding', 'connection', 'content-length'):
        request['headers'].pop(name, None)
    SEEN.append([type(uri).__name__, uri, list(request), request, type(request['method']).__name__])
    answer = request['headers'].get('x-answer', 'True')
    if answer == 'raise':
        raise ValueError('filter')
    if answer == 'own':
        return Truthy()
    return eval(answer)

def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), 'application/json')

def nested(output, uri, **request):
    orthanc.RestApiGet('/system')
    orthanc.RestApiGetAfterPlugins('/plain')
    output.AnswerBuffer('nested', 'text/plain')

orthanc.RegisterIncomingHttpRequestFilter(decide)
orthanc.RegisterRestCallback('/seen', seen)
orthanc.RegisterRestCallback('/nested', nested)
orthanc.RegisterRestCallback('/plain', lambda output, uri, **r: output.AnswerBuffer('p', 'text/plain'))
'''

# (value the filter returns, HTTP status)
RESULTS = [('True', 200), ('False', 403), ('0', 500), ('1', 500), ('None', 500), ("''", 500),
           ('[True]', 500), ('own', 500), ('raise', 500)]


@pytest.fixture
def servers(orthanc):
    return {name: orthanc(name, script=SCRIPT) for name in PLUGINS}


def test_what_the_filter_answers_decides(servers):
    for value, status in RESULTS:
        results = {}
        for name, server in servers.items():
            answer = server.get('/plain', headers={'X-Answer': value})
            assert answer.status_code == status, (value, answer.text)
            if status == 500:
                assert answer.json()['OrthancStatus'] == 1
            if status == 403:
                assert answer.content == b''
            results[name] = answer.content
        assert_same(results)
    for server in servers.values():
        errors = [text for _, text in server.messages('E')]
        wrong = 'The Python incoming-http-request filter has not returned a Boolean'
        assert errors.count(wrong) == len([r for r in RESULTS if r[1] == 500]) - 1
        raised = [text for text in errors
                  if text.startswith('Error in the Python incoming-http-request filter, traceback:')]
        assert len(raised) == 1 and "<class 'ValueError'>\nfilter\n" in raised[0]


def test_what_the_filter_receives(servers):
    results = {}
    for name, server in servers.items():
        server.get('/plain?a=1&b=%20', headers={'X-Some': 'v'})
        server.post('/plain', b'body')
        server.put('/plain', b'body')
        server.delete('/plain')
        server.get('/app/explorer.html')
        server.get('/no/such/path')
        server.get('/system')
        results[name] = server.get('/seen').json()
        uri_type, uri, keys, request, method_type = results[name][0]
        assert (uri_type, uri, method_type) == ('str', '/plain', 'int')
        assert keys == ['method', 'ip', 'headers', 'get']
        assert request == {'method': 1, 'ip': '127.0.0.1', 'headers': {'x-some': 'v'},
                           'get': {'a': '1', 'b': '%20' if ORTHANC_VERSION < (1, 13) else ' '}}
        assert [row[3]['method'] for row in results[name]] == [1, 2, 3, 4, 1, 1, 1]
    assert_same(results)


def test_internal_calls_are_not_filtered(servers):
    for server in servers.values():
        assert server.get('/nested').text == 'nested'
        assert [row[1] for row in server.get('/seen').json()] == ['/nested']


def test_not_utf8_is_refused(servers):
    for server in servers.values():
        raw = server.raw(b'GET /%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
        assert raw.startswith(b'HTTP/1.1 500')
        assert json.loads(raw.partition(b'\r\n\r\n')[2])['HttpStatus'] == 500
        server.wait_for_log('Exception in the Python incoming-http-request filter: Internal error')

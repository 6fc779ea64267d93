# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that a script streams (contract 2.4 and 3.2)."""

import socket

import pytest

from compare import assert_same, response
from conftest import PLUGINS
from server import ORTHANC_VERSION, wait_until

pytestmark = pytest.mark.skipif(ORTHANC_VERSION < (1, 12, 6), reason=(
    'contract, appendix C: StartStreamAnswer and SendStreamChunk are of 1.12.6'))

SCRIPT = r'''
import json
import orthanc

OUTCOMES = []

def attempt(function, *arguments):
    try:
        return repr(function(*arguments))
    except Exception as e:
        return type(e).__name__ + str(e.args)

def plain(output, uri, **request):
    output.StartStreamAnswer('text/plain')
    for chunk in (b'one,', 'two,', b'', bytearray(b'three\0'), b'x' * 3000000):
        output.SendStreamChunk(chunk)

def empty(output, uri, **request):
    output.StartStreamAnswer('text/plain')

def headers(output, uri, **request):
    output.SetHttpHeader('X-Mine', 'yes')
    output.StartStreamAnswer('application/octet-stream')
    output.SendStreamChunk(b'a')

def wrong(output, uri, **request):
    OUTCOMES[:] = [attempt(output.SendStreamChunk, b'too early')]
    output.StartStreamAnswer('text/plain')
    OUTCOMES.append(attempt(output.SendStreamChunk, 12))
    OUTCOMES.append(attempt(output.SendStreamChunk))
    OUTCOMES.append(attempt(output.StartStreamAnswer, 12))
    output.SendStreamChunk(b'end')

def breaks(output, uri, **request):
    output.StartStreamAnswer('text/plain')
    output.SendStreamChunk(b'begun')
    raise ValueError('in the middle')

def endless(output, uri, **request):
    output.StartStreamAnswer('text/plain')
    OUTCOMES.clear()
    for _ in range(100000):
        outcome = attempt(output.SendStreamChunk, b'x' * 65536)
        if outcome != 'None':
            OUTCOMES.append(outcome)
            return

def nested(output, uri, **request):
    body = orthanc.RestApiGetAfterPlugins('/plain')
    output.AnswerBuffer('%d %s' % (len(body), body[:8]), 'text/plain')

def outcomes(output, uri, **request):
    output.AnswerBuffer(json.dumps(OUTCOMES), 'application/json')

for function in (plain, empty, headers, wrong, breaks, endless, nested, outcomes):
    orthanc.RegisterRestCallback('/' + function.__name__, function)
'''


@pytest.fixture(scope='module')
def servers(module_orthanc):
    return {name: module_orthanc(name, script=SCRIPT) for name in PLUGINS}


@pytest.mark.parametrize('path', ['/plain', '/empty', '/headers', '/nested'])
def test_what_the_client_gets(servers, path):
    results = {name: response(server.get(path)) for name, server in servers.items()}
    assert_same(results)
    for status, headers, content in results.values():
        assert status == 200
        if path == '/plain':
            assert content == b'one,two,three\0' + b'x' * 3000000
            assert headers == [('content-type', 'text/plain')], 'the end of the connection ends it'


def test_wrong_use_raises_at_the_call(servers):
    results = {}
    for name, server in servers.items():
        server.get('/wrong')
        results[name] = server.get('/outcomes').json()
    assert_same(results)
    assert all(len(found) == 4 and 'None' not in found for found in results.values())


def test_an_exception_in_the_middle_ends_the_answer(servers):
    """What has been sent stands: a client sees no difference to an answer that is complete."""
    results = {}
    for name, server in servers.items():
        start = len(server.log())
        results[name] = server.raw(b'GET /breaks HTTP/1.1\r\nHost: localhost\r\n\r\n')
        assert results[name].startswith(b'HTTP/1.1 200') and results[name].endswith(b'\r\n\r\nbegun')
        server.wait_for_log('Error in the REST callback, traceback:', start=start)
    assert_same(results)


def test_a_client_that_hangs_up_is_told_to_the_script(servers):
    results = {}
    for name, server in servers.items():
        with socket.create_connection(('127.0.0.1', server.http_port), 30) as client:
            client.sendall(b'GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n')
            assert client.recv(1000).startswith(b'HTTP/1.1 200')
        results[name] = wait_until(lambda: server.get('/outcomes').json(), 20, 'the error')
    assert_same(results)
    for found in results.values():
        assert found == ["OrthancException(9, 'Error in the network protocol')"]

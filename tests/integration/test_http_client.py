# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP client of the SDK against a real server, peers against a second Orthanc
(contract 2.4)."""

import base64
import http.server
import threading

import pytest

import dicom
import rows
from compare import assert_same
from conftest import PLUGINS
from rows import bad, check, name_values, oe


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers what the path says, and notes what came."""

    protocol_version = 'HTTP/1.1'

    def _body(self):
        if self.headers.get('Transfer-Encoding') == 'chunked':
            body = b''
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return body
        return self.rfile.read(int(self.headers.get('Content-Length') or 0))

    def _answer(self):
        body = self._body()
        headers = {name.lower(): value for name, value in self.headers.items()
                   if name.lower() not in ('host', 'user-agent')}
        self.server.seen.append((self.command, self.path, sorted(headers.items()), len(body),
                                 body[:100]))
        status, extra, content = 200, {}, b''
        kind, _, rest = self.path[1:].partition('/')
        if kind == 'status':
            status, content = int(rest), b'' if rest in ('204', '304') else b'status ' + rest.encode()
        elif kind == 'echo':
            content = body
        elif kind == 'bytes':
            content = bytes(x % 256 for x in range(int(rest)))
        elif kind == 'secret':
            expected = 'Basic ' + base64.b64encode(b'alice:p:w \xc3\xa9').decode()
            status = 200 if self.headers.get('Authorization') == expected else 401
            extra = {} if status == 200 else {'WWW-Authenticate': 'Basic realm="r"'}
            content = b'the secret' if status == 200 else b'denied'
        elif kind == 'redirect':
            status, extra = int(rest), {'Location': '/echo'}
        elif kind == 'close':
            self.close_connection = True
            return
        elif kind == 'short':
            extra, content = {'Content-Length': '100'}, b'short'
            self.close_connection = True
        elif kind == 'chunked':
            extra = {'Transfer-Encoding': 'chunked'}
            content = b'3\r\na\0b\r\n2\r\ncd\r\n0\r\n\r\n'
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        if not {'Content-Length', 'Transfer-Encoding'} & set(extra) and status not in (204, 304):
            self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *arguments):    # pylint: disable=arguments-differ
        """Nothing: what came is noted."""


@pytest.fixture
def web():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


METHODS = ("HttpGet(U + '%s', '', '')", "HttpPost(U + '%s', b'sent\\0\\xff', '', '')",
           "HttpPut(U + '%s', b'sent\\0\\xff', '', '')", "HttpDelete(U + '%s', '', '')")


def test_requests_and_answers(orthanc, web):
    """What the other server sees and what the script gets back, under both plugins."""
    table = []
    for call in METHODS:
        table += [('orthanc.' + call % path, None) for path in (
            '/echo', '/bytes/300', '/bytes/0', '/chunked', '/short', '/close', '/secret',
            '/a%20b?c=d&e=%26#f', '/\\xe9')]
        table += [('orthanc.' + call % ('/status/%d' % status), None) for status in (
            200, 201, 204, 304, 400, 401, 403, 404, 409, 500, 503)]
        table += [('orthanc.' + call % ('/redirect/%d' % status), None) for status in (
            301, 302, 303, 307, 308)]
    table += [
        ("orthanc.HttpGet(U + '/secret', 'alice', 'p:w \\xe9')", None),
        ("orthanc.HttpGet(U + '/secret', 'alice', 'wrong')", None),
        ("orthanc.HttpGet(U + '/secret', 'alice', '')", None),
        ("orthanc.HttpGet(U + '/secret', '', 'p')", None),
        ("orthanc.HttpPost(U + '/secret', b'x', 'alice', 'p:w \\xe9')", None),
        ("orthanc.HttpPut(U + '/secret', b'x', 'alice', 'p:w \\xe9')", None),
        ("orthanc.HttpDelete(U + '/secret', 'alice', 'p:w \\xe9')", None),
        ("orthanc.HttpDelete(U + '/secret', 'alice', 'wrong')", None),
        ("orthanc.HttpPost(U + '/echo', '', '', '')", None),
        ("orthanc.HttpPut(U + '/echo', b'', '', '')", None),
        ("orthanc.HttpPost(U + '/echo', 'text \\xe9\\0', '', '').decode()", None),
        ("orthanc.HttpPut(U + '/echo', bytearray(b'array'), '', '')", None),
        ("orthanc.HttpPost(U + '/echo', memoryview(b'view'), '', '')", None),
        ("b = bytes(range(256)) * 40000\northanc.HttpPost(U + '/echo', b, '', '') == b", 'True'),
        ("orthanc.HttpPut(U + '/echo', b, '', '') == b", 'True'),
        ("len(orthanc.HttpGet(U + '/bytes/3000000', '', ''))", '3000000'),
        ("orthanc.HttpGet(U + '/echo', b'a', '')", bad(3)),
        ("orthanc.HttpGet('', '', '')", None),
        ("orthanc.HttpGet('nonsense', '', '')", None),
        ("orthanc.HttpGet('ftp://127.0.0.1:1/', '', '')", None),
        ("orthanc.HttpGet(U.replace('http:', 'https:') + '/echo', '', '')", None),
        ("orthanc.HttpGet('http://127.0.0.1:1/', '', '')", oe(9, 'Error in the network protocol')),
    ]
    servers, seen = {}, {}
    for name in PLUGINS:
        servers[name] = orthanc(name, script=rows.SCRIPT, config={'HttpTimeout': 10})
        name_values(servers[name], U='http://127.0.0.1:%d' % web.server_address[1])

    def after(name):
        seen[name] = web.seen[:]
        web.seen.clear()
    check(servers, table, after)
    assert len({len(requests) for requests in seen.values()}) == 1
    for pair in zip(*seen.values()):
        assert_same(dict(zip(seen, pair)))
    assert {request[0] for request in seen['ours' if 'ours' in seen else 'official']} == {
        'GET', 'POST', 'PUT', 'DELETE'}


@pytest.mark.ours
def test_many_requests_at_once(orthanc, web):
    """Threads of the script, each with its own requests, all at the same time."""
    server = orthanc(script=rows.SCRIPT)
    name_values(server, U='http://127.0.0.1:%d' % web.server_address[1])
    check({'ours': server}, [(r'''
from concurrent.futures import ThreadPoolExecutor
def turn(n):
    body = bytes([n]) * (n * 1000 + 1)
    return orthanc.HttpPost(U + '/echo', body, '', '') == body
with ThreadPoolExecutor(8) as pool:
    done = list(pool.map(turn, range(40)))
all(done), len(done)''', '(True, 40)')])
    assert len(web.seen) == 40


def test_peers_at_a_second_server(orthanc):
    """The list of peers as the server knows it now, and instances on their way to one."""
    content = dicom.make_dicom('gray8', SOPInstanceUID='1.2.3.4.99')
    servers, other = {}, orthanc(None)
    peers = {'other': [other.url('/')], 'gone': {
        'Url': 'http://127.0.0.1:1/', 'Username': 'u', 'Password': 'p', 'Color': 'red', 'Empty': ''}}
    for name in PLUGINS:
        servers[name] = orthanc(name, script=rows.SCRIPT, config={
            'OrthancPeers': peers, 'HttpTimeout': 10})
        name_values(servers[name], OTHER=other.url('/'), INSTANCE=servers[name].upload(content))
    table = [
        ("p = orthanc.GetPeers()\n[p.GetPeerName(i) for i in range(p.GetPeersCount() + 1)]", None),
        ("[p.GetPeerUrl(i).replace(OTHER, 'OTHER') for i in range(p.GetPeersCount())]", None),
        ("[[p.GetPeerUserProperty(i, x) for x in ('Color', 'Empty', 'Url', 'Username', '', 'nope')] "
         "for i in range(p.GetPeersCount() + 1)]", None),
        ("(p.GetPeerName(2**32), p.GetPeerName(-1))", None),
        ("orthanc.RestApiPut('/peers/new', '{\"Url\": \"http://127.0.0.1:2/\", \"Flavour\": \"x\"}')", None),
        ("p.GetPeersCount()", None),
        ("q = orthanc.GetPeers()\n[(q.GetPeerName(i), q.GetPeerUserProperty(i, 'Flavour')) "
         "for i in range(q.GetPeersCount())]", None),
        ("orthanc.RestApiDelete('/peers/new')\n(q.GetPeersCount(), orthanc.GetPeers().GetPeersCount())",
         None),
        ("import json\nsorted(json.loads(orthanc.RestApiGet('/peers')))", None),
        ("json.loads(orthanc.RestApiGet('/peers/other/system'))['Name']", None),
        ("json.loads(orthanc.RestApiPost('/peers/other/store', INSTANCE))['InstancesCount']", None),
        ("json.loads(orthanc.RestApiGet('/peers/other/system')).get('DicomAet')", None),
        ("orthanc.RestApiPost('/peers/gone/store', INSTANCE)", None),
        ("orthanc.RestApiPost('/peers/nope/store', INSTANCE)", None),
        ("orthanc.RestApiGet('/peers/gone/system')", None),
        ("j = json.loads(orthanc.RestApiPost('/peers/other/store', json.dumps("
         "{'Resources': [INSTANCE], 'Synchronous': False})))\nsorted(j)", None),
        ("import time\nwhile json.loads(orthanc.RestApiGet(j['Path']))['State'] in ('Pending', 'Running'):\n"
         "    time.sleep(0.05)\nk = json.loads(orthanc.RestApiGet(j['Path']))\n"
         "(k['State'], k['Type'], k['ErrorCode'], k['Content']['InstancesCount'])", None),
        ("orthanc.HttpGet(OTHER + 'instances/' + INSTANCE + '/file', '', '') == "
         "orthanc.GetDicomForInstance(INSTANCE)", 'True'),
        ("orthanc.HttpDelete(OTHER + 'instances/' + INSTANCE, '', '')", 'None'),
        ("orthanc.HttpGet(OTHER + 'instances', '', '')", None),
        ("del p, q\northanc.GetPeers().GetPeersCount()", '2'),
    ]
    check(servers, table)
    assert other.get('/instances').json() == []

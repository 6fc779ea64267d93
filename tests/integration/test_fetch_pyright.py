# SPDX-License-Identifier: GPL-3.0-or-later
"""How pyright comes here: from a registry that answers well, badly, wrongly, or not at all."""

import base64
import concurrent.futures
import hashlib
import http.server
import io
import pathlib
import socket
import tarfile
import threading

import pytest

import fetch_pyright
from server import PATIENCE

pytestmark = [pytest.mark.ours, pytest.mark.types]

FILES = {'package/index.js': b'// starts', 'package/dist/typeshed/os.pyi': b'name: str'}


def pack(files, links=()):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode='w:gz') as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return content.getvalue()


class Registry:
    """Its answers, each (status, content, promised length); the last one again and again."""

    def __init__(self, *answers, together=1):
        self.answers = list(answers)
        self.asked = 0
        self.meeting = threading.Barrier(together)
        self.lock = threading.Lock()

    def answer(self, handler):
        with self.lock:
            self.asked += 1
            status, content, length = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.meeting.wait(30 * PATIENCE)
        handler.send_response(status)
        handler.send_header('Content-Length', str(length))
        handler.end_headers()
        handler.wfile.write(content)


@pytest.fixture
def registry(monkeypatch):
    """registry(content, before=(answers...), together=N): asked instead of npm's, and trusted."""
    servers = []

    def make(content, before=(), together=1):
        made = Registry(*before, (200, content, len(content)), together=together)
        handler = type('Handler', (http.server.BaseHTTPRequestHandler,), {
            'do_GET': lambda self: made.answer(self), 'log_message': lambda *_: None})
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setattr(fetch_pyright, 'URL', 'http://127.0.0.1:%d/pyright.tgz' % server.server_port)
        monkeypatch.setattr(fetch_pyright, 'INTEGRITY', integrity(content))
        return made

    monkeypatch.setattr(fetch_pyright, 'PAUSES_S', (0, 0))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def integrity(content):
    return 'sha512-' + base64.b64encode(hashlib.sha512(content).digest()).decode()


def everything_below(folder):
    return {str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob('*') if path.is_file()}


def test_it_is_fetched_once_and_unpacked_below_its_version(registry, tmp_path):
    asked = registry(pack(FILES))
    script = fetch_pyright.fetch(tmp_path)
    assert script == tmp_path / fetch_pyright.VERSION / 'index.js' and script.read_bytes() == b'// starts'
    assert fetch_pyright.fetch(tmp_path) == script and asked.asked == 1
    assert everything_below(tmp_path) == {name.replace('package', fetch_pyright.VERSION) for name in FILES}


def test_a_wrong_checksum_is_an_error_and_nothing_is_unpacked(registry, tmp_path, monkeypatch, capsys):
    asked = registry(pack(FILES))
    monkeypatch.setattr(fetch_pyright, 'INTEGRITY', integrity(b'another one'))
    with pytest.raises(fetch_pyright.Wrong, match='wrong checksum'):
        fetch_pyright.fetch(tmp_path)
    assert asked.asked == 1 and list(tmp_path.iterdir()) == []
    assert fetch_pyright.main([str(tmp_path)]) == 1
    assert 'wrong checksum' in capsys.readouterr().err


def test_the_pinned_checksum_is_one():
    algorithm, _, text = fetch_pyright.INTEGRITY.partition('-')
    assert algorithm == 'sha512' and len(base64.b64decode(text, validate=True)) == 64


@pytest.mark.parametrize('bad', [(503, b'later', 5), (200, pack(FILES)[:-9], len(pack(FILES)))], ids=['busy', 'cut'])
def test_a_bad_answer_is_asked_for_again(registry, tmp_path, bad):
    asked = registry(pack(FILES), before=[bad])
    assert fetch_pyright.fetch(tmp_path).exists() and asked.asked == 2


def test_a_registry_that_stays_busy_is_asked_three_times(registry, tmp_path, capsys):
    asked = registry(pack(FILES), before=[(503, b'', 0)] * 9)
    with pytest.raises(fetch_pyright.NotFetched, match='Service Unavailable'):
        fetch_pyright.fetch(tmp_path)
    assert asked.asked == 3
    assert fetch_pyright.main([str(tmp_path)]) == 3
    assert 'cannot be fetched' in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_without_a_network_it_is_not_fetched(registry, tmp_path, monkeypatch):
    registry(pack(FILES))
    with socket.socket() as unused:     # bound, and nobody listens
        unused.bind(('127.0.0.1', 0))
        monkeypatch.setattr(fetch_pyright, 'URL', 'http://127.0.0.1:%d/' % unused.getsockname()[1])
        with pytest.raises(fetch_pyright.NotFetched, match='refused'):
            fetch_pyright.fetch(tmp_path)


def test_attempts_end_with_the_time_for_all_of_them(registry, tmp_path, monkeypatch):
    asked = registry(pack(FILES))
    monkeypatch.setattr(fetch_pyright, 'TOTAL_S', -1)
    with pytest.raises(fetch_pyright.NotFetched, match='not complete within'):
        fetch_pyright.fetch(tmp_path)
    assert asked.asked == 1


def test_a_version_that_the_registry_does_not_have_is_an_error(registry, tmp_path):
    asked = registry(pack(FILES), before=[(404, b'', 0)])
    with pytest.raises(fetch_pyright.Wrong, match='Not Found'):
        fetch_pyright.fetch(tmp_path)
    assert asked.asked == 1


def test_an_answer_without_an_end_is_refused(registry, tmp_path, monkeypatch):
    registry(pack(FILES))
    monkeypatch.setattr(fetch_pyright, 'MAX_BYTES', 10)
    with pytest.raises(fetch_pyright.Wrong, match='longer than 10 bytes'):
        fetch_pyright.fetch(tmp_path)


@pytest.mark.parametrize('content', [
    pack({**FILES, 'package/../../outside': b'x'}), pack({**FILES, '/outside': b'x'}), pack({**FILES, 'outside': b'x'}),
    pack(FILES, links=[('package/link', '/etc/passwd')])], ids=['above', 'absolute', 'beside', 'link'])
def test_an_archive_that_leaves_its_folder_is_refused(registry, tmp_path, content):
    registry(content)
    with pytest.raises(fetch_pyright.Wrong, match='no file below package/'):
        fetch_pyright.fetch(tmp_path / 'in' / 'folder')
    assert everything_below(tmp_path) == set()


def test_two_that_fetch_at_the_same_time_do_not_meet(registry, tmp_path):
    registry(pack(FILES), together=2)       # each is answered when both have asked
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        scripts = [job.result(60 * PATIENCE) for job in [pool.submit(fetch_pyright.fetch, tmp_path) for _ in range(2)]]
    assert scripts[0] == scripts[1] and scripts[0].read_bytes() == b'// starts'
    assert [path.name for path in tmp_path.iterdir()] == [fetch_pyright.VERSION]

# SPDX-License-Identifier: GPL-3.0-or-later
"""An Orthanc with the Python bridge and one script: its own ports, storage and configuration.

Nothing here needs pytest. Every wait has a limit, and ends at once when Orthanc has ended.
"""

from __future__ import annotations

import contextlib
import http.client
import json as json_module
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

ORTHANC_VARIABLE = 'ORTHANC_PYTHON_TESTING_ORTHANC'
BRIDGE_VARIABLE = 'ORTHANC_PYTHON_TESTING_BRIDGE'
PATIENCE_VARIABLE = 'ORTHANC_PYTHON_TESTING_PATIENCE'
PLUGIN = 'libOrthancPythonBridge.so'
INSTALLED = 'share/orthanc/plugins/' + PLUGIN
START_SECONDS = 60.0
STOP_SECONDS = 90.0     # longer than Python.StoppedTimeout and StopTimeout by default
REFRESH_SECONDS = 0.05
LONGEST_PLACE = 40      # bytes, of the directory for temporary files
PORT_IS_TAKEN = r'port.*(already|in use|privileged)|\(code 200[34]\)'
START_TRIALS = 5

T = TypeVar('T')
HIDE = True     # from pytest, which then shows the line of the test that has failed


class Failure(AssertionError):
    """What was expected of the server did not happen. It says what the log says."""


class Answer:
    """The answer to an HTTP request, whatever its status."""

    def __init__(self, status_code: int, headers: http.client.HTTPMessage, content: bytes) -> None:
        self.status_code = status_code
        self.headers = headers
        self.content = content

    @property
    def text(self) -> str:
        """The body, decoded as UTF-8."""
        return self.content.decode('utf-8', 'replace')

    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json_module.loads(self.content)

    def __repr__(self) -> str:
        return '<Answer %d: %s>' % (self.status_code, self.text[:200])


class _News:
    """That something was written: a number that grows."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def tell(self) -> None:
        """There is something new."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def count(self) -> int:
        """What to give to wait()."""
        with self._changed:
            return self._count

    def wait(self, seen: int, seconds: float) -> None:
        """Until there is more than was seen."""
        with self._changed:
            self._changed.wait_for(lambda: self._count != seen, seconds)


class _Stream:
    """What a process writes to a pipe, read by a thread of its own."""

    def __init__(self, pipe: IO[bytes], news: _News) -> None:
        self._parts: list[bytes] = []
        self._pipe = pipe
        self._news = news
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe:
            while part := self._pipe.read1(65536):  # type: ignore[attr-defined]
                self._parts.append(part)
                self._news.tell()
        self._news.tell()

    def text(self) -> str:
        """All of it so far."""
        return b''.join(self._parts).decode('utf-8', 'replace')

    def join(self) -> None:
        """Until the last process that has the pipe has ended, but not for long: children of
        a script may outlive it."""
        self._thread.join(5)


def _patience() -> float:
    return float(os.environ.get(PATIENCE_VARIABLE, '1'))


def _free_port() -> int:
    """One that was free a moment ago: start() tries again if it is taken."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return int(s.getsockname()[1])


def find_orthanc(named: str | None = None) -> str:
    """The path of the server's program: as named, by the environment, or in its usual place."""
    named = named or os.environ.get(ORTHANC_VARIABLE)
    path = named or shutil.which('Orthanc') or '/usr/sbin/Orthanc'
    if not os.access(path, os.X_OK):
        raise Failure('There is no program %s: install Orthanc (on Debian: apt install orthanc), or name it with '
                      '--orthanc or in $%s' % (path, ORTHANC_VARIABLE))
    return path


def find_bridge(named: str | None = None) -> str:
    """The path of the plugin: as named (itself, or a build directory), by the environment, or
    where it is installed beside this package, or by a package of the system."""
    named = named or os.environ.get(BRIDGE_VARIABLE)
    if named:
        places = [Path(named)] if os.path.isfile(named) else [Path(named, 'plugin', PLUGIN), Path(named, INSTALLED)]
    else:
        places = [parent / INSTALLED for parent in (*Path(__file__).resolve().parents[2:], Path('/usr/local'), Path('/usr'))]
    for path in places:
        if path.is_file():
            return str(path.absolute())
    raise Failure('The plugin %s is in none of these places: %s. Install it, or name it or its build directory with '
                  '--orthanc-bridge or in $%s' % (PLUGIN, ', '.join(map(str, dict.fromkeys(places))), BRIDGE_VARIABLE))


def _handles_sigterm(pid: int) -> bool:
    with contextlib.suppress(OSError):
        status = Path('/proc/%d/status' % pid).read_text(encoding='ascii', errors='replace')
        caught = re.search(r'SigCgt:\s+([0-9a-f]+)', status)
        return caught is not None and bool(int(caught.group(1), 16) >> (signal.SIGTERM - 1) & 1)
    return False


class Orthanc:
    """A throw-away server: start() and stop(), or `with Orthanc('script.py') as orthanc:`.

    script    path of the script
    config    keys of Orthanc's configuration, which win over those made here
    python    keys of its section "Python"
    dicom     True: the DICOM server listens, on dicom_port
    env       variables for Orthanc, and so for the script; None removes one
    verbose   True: Orthanc's log with level info
    program, bridge   paths, as find_orthanc() and find_bridge() look for them
    """

    # pylint: disable=too-many-instance-attributes,too-many-arguments
    def __init__(self, script: str | os.PathLike[str], *, config: Mapping[str, Any] | None = None,
                 python: Mapping[str, Any] | None = None, dicom: bool = False,
                 env: Mapping[str, str | None] | None = None, verbose: bool = False,
                 program: str | None = None, bridge: str | None = None) -> None:
        self.script = Path(script).absolute()
        self.config = dict(config or {})
        self.python = dict(python or {})
        self.dicom = dicom
        self.env = dict(env or {})
        self.verbose = verbose
        self.program = find_orthanc(program)
        self.bridge = find_bridge(bridge)
        if not self.script.is_file():
            raise Failure('There is no script %s' % self.script)
        self.directory: Path | None = None      # of its files, from start to close()
        self.http_port = self.dicom_port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._news = _News()
        self._out: _Stream | None = None
        self._log: _Stream | None = None
        self._is_ended_by_us = False

    # -- start and end ------------------------------------------------------------------

    def configuration(self) -> dict[str, Any]:
        """What Orthanc is started with."""
        assert self.directory is not None
        storage = str(self.directory / 'storage')
        own = {'RuntimeDirectory': str(self.directory)} if os.path.basename(self.bridge) == PLUGIN else {}
        python = {**own, **self.config.get('Python', {}), **self.python}
        return {
            'Name': 'Test', 'StorageDirectory': storage, 'IndexDirectory': storage,
            'HttpPort': self.http_port, 'RemoteAccessAllowed': False, 'AuthenticationEnabled': False,
            'DicomServerEnabled': self.dicom, 'DicomPort': self.dicom_port, 'DicomCheckCalledAet': False,
            'SaveJobs': False, 'StableAge': 1, 'WebDavEnabled': False,
            'Plugins': [self.bridge], 'PythonScript': str(self.script), **self.config, 'Python': python}

    def start(self) -> Orthanc:
        """Starts the server, and returns when it serves; a script that does not load is a Failure."""
        __tracebackhide__ = HIDE
        if self.directory is None:
            # Not one of pytest's: their paths are too long for the sockets of the bridge.
            place = tempfile.gettempdir()
            self.directory = Path(tempfile.mkdtemp(prefix='orthanc-test-', dir=place if len(place) <= LONGEST_PLACE
                                                   else '/tmp'))
        for _ in range(START_TRIALS):
            self._spawn()
            if self._wait_started():
                return self
            if not re.search(PORT_IS_TAKEN, self.log()):
                break
        code = self.stop()
        raise Failure('Orthanc ended at its start, with code %d. Its log ends with:\n%s' % (code, self.log()[-4000:]))

    def _spawn(self) -> None:
        assert self.directory is not None
        self.http_port = self.config.get('HttpPort') or _free_port()
        self.dicom_port = self.config.get('DicomPort') or _free_port()
        path = self.directory / 'orthanc.json'
        path.write_text(json_module.dumps(self.configuration(), indent=2), encoding='utf-8')
        environment = {key: value for key, value in os.environ.items() if not key.startswith('PYTEST_')}
        environment.update({key: value for key, value in self.env.items() if value is not None})
        for key in [key for key, value in self.env.items() if value is None]:
            environment.pop(key, None)
        self._is_ended_by_us = False
        # A session of its own: Ctrl-C reaches pytest, which then ends the server in order.
        self.process = subprocess.Popen(    # pylint: disable=consider-using-with
            [self.program, *(['--verbose'] if self.verbose else []), str(path)], cwd=self.directory,
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True)
        assert self.process.stdout is not None and self.process.stderr is not None
        self._out = _Stream(self.process.stdout, self._news)
        self._log = _Stream(self.process.stderr, self._news)

    def _wait_started(self) -> bool:
        __tracebackhide__ = HIDE
        assert self.process is not None
        process = self.process
        try:
            # It handles signals only after it has said that it has started.
            self.wait_until(lambda: process.poll() is not None or (
                'Orthanc has started' in self.log() and _handles_sigterm(process.pid)), START_SECONDS, 'its start')
        except Failure:
            self.kill()
            raise
        return process.poll() is None

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """Ends the server as an operator does, if it has not ended; returns its exit code."""
        __tracebackhide__ = HIDE
        if self.process is None:
            raise Failure('Orthanc was not started')
        self._is_ended_by_us = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout * _patience())
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure('Orthanc has not ended %.0f s after it was asked to. Its log ends with:\n%s' % (
                timeout * _patience(), self.log()[-4000:])) from None
        self._join()
        return code

    def kill(self) -> None:
        """Ends the server by SIGKILL, as a crash would."""
        if self.process is not None:
            self._is_ended_by_us = True
            self.process.kill()
            self.process.wait()
            self._join()

    def _join(self) -> None:
        for stream in (self._out, self._log):
            if stream is not None:
                stream.join()

    def close(self) -> None:
        """The end of a test: stops the server, removes its files. If it ended by itself, or not
        in order, that is a Failure. The log remains."""
        __tracebackhide__ = HIDE
        try:
            if self.process is not None and not self._is_ended_by_us:
                was_running = self.process.poll() is None
                code = self.stop()
                if code != 0 or not was_running:
                    raise Failure('Orthanc ended by itself or not in order, with code %d. Its log ends with:\n%s' % (
                        code, self.log()[-4000:]))
        finally:
            if self.directory is not None:
                shutil.rmtree(self.directory, ignore_errors=True)
                self.directory = None

    def __enter__(self) -> Orthanc:
        __tracebackhide__ = HIDE
        try:
            return self.start()
        except BaseException:   # such as Ctrl-C; there will be no __exit__
            self.kill()
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None,
                 _trace: TracebackType | None) -> None:
        try:
            self.close()
        except Failure:
            if kind is None:    # else the test has failed already, and says why
                raise

    # -- requests ---------------------------------------------------------------------------

    def url(self, path: str = '') -> str:
        """The address of a route, for HTTP libraries of your choice."""
        return 'http://127.0.0.1:%d%s' % (self.http_port, path)

    # pylint: disable-next=too-many-arguments
    def request(self, method: str, path: str, data: bytes | str | None = None, json: Any = None,
                headers: Mapping[str, str] | None = None, timeout: float = 30) -> Answer:
        """Any request to the REST API, the script's routes among them. Redirects are not followed."""
        __tracebackhide__ = HIDE
        sent = dict(headers or {})
        if json is not None:
            data = json_module.dumps(json)
            sent.setdefault('Content-Type', 'application/json')
        body = data.encode('utf-8') if isinstance(data, str) else data
        connection = http.client.HTTPConnection('127.0.0.1', self.http_port, timeout=timeout * _patience())
        with contextlib.closing(connection):
            try:
                connection.request(method, path, body, sent)
                answer = connection.getresponse()
                return Answer(answer.status, answer.headers, answer.read())
            except (OSError, http.client.HTTPException) as e:
                raise Failure('%s %s was not answered: %r. The log ends with:\n%s' % (
                    method, path, e, self.log()[-4000:])) from e

    def get(self, path: str, **arguments: Any) -> Answer:
        """GET; the arguments are those of request()."""
        __tracebackhide__ = HIDE
        return self.request('GET', path, **arguments)

    def post(self, path: str, data: bytes | str = b'', **arguments: Any) -> Answer:
        """POST"""
        __tracebackhide__ = HIDE
        return self.request('POST', path, data, **arguments)

    def put(self, path: str, data: bytes | str = b'', **arguments: Any) -> Answer:
        """PUT"""
        __tracebackhide__ = HIDE
        return self.request('PUT', path, data, **arguments)

    def delete(self, path: str, **arguments: Any) -> Answer:
        """DELETE"""
        __tracebackhide__ = HIDE
        return self.request('DELETE', path, **arguments)

    def upload(self, file: bytes | str | os.PathLike[str]) -> str:
        """Stores a DICOM file, by its path or content; returns Orthanc's ID of the instance."""
        __tracebackhide__ = HIDE
        content = file if isinstance(file, bytes) else Path(file).read_bytes()
        answer = self.post('/instances', content)
        if answer.status_code != 200 or not answer.json().get('ID'):
            raise Failure('The file was not stored: %r' % answer)
        return str(answer.json()['ID'])

    # -- what the script says -----------------------------------------------------------------

    def output(self) -> str:
        """What the script has printed on stdout."""
        return self._out.text() if self._out is not None else ''

    def log(self) -> str:
        """Orthanc's log, with the tracebacks of the script, and what that has written to stderr."""
        return self._log.text() if self._log is not None else ''

    def errors(self) -> list[str]:
        """The lines of the log that are errors."""
        return [line for line in self.log().splitlines() if re.match(r'E\d{4} ', line)]

    def wait_until(self, condition: Callable[[], T], timeout: float = 10, what: str = 'the condition') -> T:
        """Waits until condition() is true, and returns it. It is asked anew whenever the server
        or the script has written something, and from time to time."""
        __tracebackhide__ = HIDE
        deadline = time.monotonic() + timeout * _patience()
        while True:
            seen = self._news.count()   # what is written during the question is not missed
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise Failure('Waited %g s for %s. The log ends with:\n%s' % (
                    timeout * _patience(), what, self.log()[-4000:]))
            self._news.wait(seen, REFRESH_SECONDS)

    def _wait_for(self, pattern: str, read: Callable[[], str], timeout: float, start: int) -> re.Match[str]:
        __tracebackhide__ = HIDE
        compiled = re.compile(pattern, re.MULTILINE)
        found = self.wait_until(lambda: compiled.search(read(), start), timeout, repr(pattern))
        assert found is not None
        return found

    def wait_for_log(self, pattern: str, timeout: float = 10, start: int = 0) -> re.Match[str]:
        """Waits for a regular expression in the log, from the position `start` on."""
        __tracebackhide__ = HIDE
        return self._wait_for(pattern, self.log, timeout, start)

    def wait_for_output(self, pattern: str, timeout: float = 10, start: int = 0) -> re.Match[str]:
        """Waits for a regular expression in what the script prints."""
        __tracebackhide__ = HIDE
        return self._wait_for(pattern, self.output, timeout, start)

    # -- the bridge ---------------------------------------------------------------------------

    def _admin(self, route: str) -> str:
        return str({**self.config.get('Python', {}), **self.python}.get('AdminPath', '/python-bridge')) + route

    def reload(self) -> None:
        """Loads the script again, and returns when the new one serves."""
        __tracebackhide__ = HIDE
        answer = self.post(self._admin('/reload'), timeout=90)
        if answer.status_code != 200:
            raise Failure('The script was not loaded again: %s' % answer.text)

    def status(self) -> dict[str, Any]:
        """What the bridge says of itself."""
        __tracebackhide__ = HIDE
        answer = self.get(self._admin('/status'))
        if answer.status_code != 200:
            raise Failure('There is no status: %r' % answer)
        status: dict[str, Any] = answer.json()
        return status

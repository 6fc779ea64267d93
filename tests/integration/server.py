# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Orthanc for a test: configuration, start, requests, logs, processes, end.

Every process that comes from a server carries a marker in its environment, so that
a process that outlives its server is found wherever it was reparented to.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid

import requests

import sanitizer
import tally

ORTHANC = '/usr/sbin/Orthanc'
OFFICIAL = '/usr/share/orthanc/plugins/libOrthancPython.so'
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get('OPB_TEST_BUILD', os.path.join(REPOSITORY, 'build', sanitizer.PRESET))
MARKER = 'OPB_TEST_SERVER'
# A loaded machine, sanitizers and valgrind make everything slower.
PATIENCE = float(os.environ.get('OPB_TEST_PATIENCE', '1'))


def ours_plugin():
    return os.path.join(BUILD, 'plugin', 'libOrthancPythonBridge.so')


def ours_worker():
    """The daemon; OPB_TEST_WORKER names another one, for instance an instrumented one."""
    return os.environ.get('OPB_TEST_WORKER') or os.path.join(
        BUILD, 'worker', 'supervisor', 'orthanc-python-worker')


class Timeout(AssertionError):
    """A condition did not come true in time."""


def _version(command):
    """The first version number that a command prints, as a tuple."""
    try:
        text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              timeout=60, check=False, text=True).stdout
    except OSError:
        text = ''
    found = re.search(r'\d+(\.\d+)+', text)
    return tuple(int(part) for part in found.group().split('.')) if found else (0, 0)


# What the contract says depends on these two, for instance (1, 12, 7) and (5, 0).
ORTHANC_VERSION = _version([ORTHANC, '--version'])
OFFICIAL_VERSION = _version(['dpkg-query', '-W', '-f', '${Version}', 'orthanc-python'])


def wait_until(condition, timeout, what, interval=0.02):
    """Returns the first true value of condition(); fails after timeout seconds."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout('waited %.1f s for %s' % (timeout * PATIENCE, what))
        time.sleep(interval)


def write(server, text):
    """Another text for the server's script, as editors do it: nobody sees half a file."""
    path = server.script_path + '.new'
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)
    os.replace(path, server.script_path)


def status(server):
    """What GET /python-bridge/status answers."""
    answer = server.get('/python-bridge/status')
    assert answer.status_code == 200 and answer.headers['Content-Type'] == 'application/json'
    return answer.json()


def reload(server, expected=200, timeout=60):
    """Asks for another generation; what the answer says."""
    answer = server.post('/python-bridge/reload', timeout=timeout)
    assert answer.status_code == expected, answer.text
    return answer.json()


def free_port():
    """A port that was free a moment ago. Who uses it must retry when it is taken."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def _stat(pid):
    """(command, state, parent) of a process, or None."""
    try:
        with open('/proc/%d/stat' % pid) as f:
            text = f.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    command = text[text.index('(') + 1:text.rindex(')')]
    fields = text[text.rindex(')') + 2:].split()
    return command, fields[0], int(fields[1])


def all_pids():
    return [int(name) for name in os.listdir('/proc') if name.isdigit()]


def is_alive(pid):
    """False too for a zombie, unless other threads of it are still ending."""
    stat = _stat(pid)
    if stat is None or stat[1] == 'X':
        return False
    if stat[1] != 'Z':
        return True
    try:
        return len(os.listdir('/proc/%d/task' % pid)) > 1
    except OSError:
        return False


def catches(pid, number):
    """True if the process has a handler for the signal."""
    try:
        with open('/proc/%d/status' % pid, encoding='ascii', errors='replace') as f:
            mask = re.search(r'SigCgt:\s+([0-9a-f]+)', f.read())
    except OSError:
        return False
    return mask is not None and bool(int(mask.group(1), 16) >> (number - 1) & 1)


def children(pid):
    """Direct children as {pid: (command, state)}, zombies included."""
    found = {}
    for other in all_pids():
        stat = _stat(other)
        if stat is not None and stat[2] == pid:
            found[other] = stat[:2]
    return found


def descendants(pid):
    found = {}
    for child, value in children(pid).items():
        found[child] = value
        found.update(descendants(child))
    return found


def command_line(pid):
    try:
        with open('/proc/%d/cmdline' % pid, 'rb') as f:
            return [os.fsdecode(x) for x in f.read().split(b'\0')[:-1]]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_zygote(pid):
    return os.path.basename((command_line(pid) or [''])[0]) == 'orthanc-python-zygote'


def zygotes_of(supervisor):
    """The processes that fork hosts."""
    return [pid for pid in children(supervisor) if is_alive(pid) and is_zygote(pid)]


def hosts_of(supervisor):
    """Hosts of the pool, and what they have left behind."""
    return [pid for pid in children(supervisor) if is_alive(pid) and not is_zygote(pid)]


def marked_processes(mark):
    """Living processes whose environment holds the mark."""
    wanted = ('%s=%s' % (MARKER, mark)).encode()
    found = {}
    for pid in all_pids():
        try:
            with open('/proc/%d/environ' % pid, 'rb') as f:
                environment = f.read().split(b'\0')
        except OSError:
            continue
        if wanted in environment and is_alive(pid):
            found[pid] = ' '.join(command_line(pid)) or '?'
    return found


def supervisor_of(pid):
    """The process of the worker daemon below a server, by its command."""
    for child in children(pid):
        if os.path.basename((command_line(child) or [''])[0]) == 'orthanc-python-worker':
            return child
    return None


class OrthancServer:
    """One server, started by start(), ended by stop() or kill().

    plugin: 'official', 'ours' or None. script: Python text, or the path of a file
    (then script_path is given, or what else "PythonScript" may be), or None. python: the "Python" section.
    """

    # pylint: disable=too-many-instance-attributes,too-many-arguments
    def __init__(self, directory, plugin='ours', script=None, name='script.py',
                 script_path=None, config=None, python=None, env=None, dicom=False,
                 cwd=None, files=None, verbose=True, own_group=False, user=None,
                 wrapper=()):
        self.directory = str(directory)
        os.makedirs(self.directory, exist_ok=True)
        self.plugin = plugin
        self.mark = uuid.uuid4().hex
        self.stdout_path = os.path.join(self.directory, 'stdout')
        self.stderr_path = os.path.join(self.directory, 'stderr')
        # Socket paths are limited to about 100 characters, pytest's directories are not.
        self.short = tempfile.mkdtemp(prefix='opbt-')
        self.runtime = os.path.join(self.short, 'run')
        self.temporary = os.path.join(self.short, 'tmp')
        os.mkdir(self.runtime, 0o700)
        os.mkdir(self.temporary, 0o700)
        self.reports = os.path.join(self.directory, 'reports') # of a sanitizer
        self.cwd = cwd or self.directory
        self.extra_config = dict(config or {})
        self.python = dict(python) if isinstance(python, dict) else python
        self.extra_env = dict(env or {})
        self.dicom = dicom
        self.verbose = verbose
        self.own_group = own_group
        self.user = user    # (user, group, [further groups]) as numbers; for root only
        self.wrapper = list(wrapper)    # a command in front, which becomes the user itself
        self.process = None
        self.returncode = None
        self.http_port = self.dicom_port = None
        self.script_path = script_path
        for relative, content in (files or {}).items():
            path = os.path.join(self.directory, relative)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'wb') as f:
                f.write(content if isinstance(content, bytes) else content.encode())
        if script is not None:
            self.script_path = os.path.join(self.directory, name)
            with open(self.script_path, 'w', encoding='utf-8') as f:
                f.write(script)

    # -- configuration and start -------------------------------------------------

    def plugin_path(self):
        return {'official': OFFICIAL, 'ours': ours_plugin(), None: None}[self.plugin]

    def configuration(self):
        value = {
            'Name': 'test', 'StorageDirectory': os.path.join(self.directory, 'db'),
            'IndexDirectory': os.path.join(self.directory, 'db'),
            'HttpPort': self.http_port, 'DicomPort': self.dicom_port,
            'DicomServerEnabled': self.dicom, 'HttpServerEnabled': True,
            'RemoteAccessAllowed': False, 'AuthenticationEnabled': False,
            'DicomAet': 'ORTHANC', 'DicomCheckCalledAet': False,
            'WebDavEnabled': False, 'SaveJobs': False, 'StableAge': 1,
            'HttpThreadsCount': 20, 'Plugins': [],
        }
        if self.plugin is not None:
            value['Plugins'] = [self.plugin_path()]
        if self.script_path is not None:
            value['PythonScript'] = self.script_path
        python = self.python
        if self.plugin == 'ours' and (python is None or isinstance(python, dict)):
            python = dict(python or {})
            python.setdefault('Worker', ours_worker())
            python.setdefault('RuntimeDirectory', self.runtime)
            if os.environ.get('OPB_TEST_LANES') == 'socket':
                python.setdefault('SharedMemory', False)
            python = {key: item for key, item in python.items() if item is not None}
        if python is not None:
            value['Python'] = python
        if self.plugin == 'ours':
            value.update(sanitizer.configuration())
        value.update(self.extra_config)
        return {key: item for key, item in value.items() if item is not None}

    def environment(self):
        value = {key: item for key, item in os.environ.items()
                 if not key.startswith(('PYTHON', 'PYTEST', 'LC_'))}
        value.update({MARKER: self.mark, 'TMPDIR': self.temporary, 'LANG': 'C.UTF-8',
                      'PYTHONDONTWRITEBYTECODE': '1'})
        value.pop('XDG_RUNTIME_DIR', None)
        value.pop('VIRTUAL_ENV', None)
        if self.plugin == 'ours':
            value.update(sanitizer.environment(BUILD, self.reports))
        value.update(self.extra_env)
        return {key: item for key, item in value.items() if item is not None}

    def spawn(self):
        """Starts the process and does not wait for anything."""
        path = self.plugin_path()
        if path is not None and not os.path.exists(path):
            raise AssertionError('%s does not exist: build it, or set OPB_TEST_BUILD' % path)
        if self.plugin == 'ours' and isinstance(self.script_path, str) and os.path.isfile(self.script_path):
            tally.script(self._read(self.script_path))
        self.http_port = self.extra_config.get('HttpPort') or free_port()
        self.dicom_port = free_port()
        configuration = os.path.join(self.directory, 'orthanc.json')
        with open(configuration, 'w', encoding='utf-8') as f:
            json.dump(self.configuration(), f, indent=2)
        command = self.wrapper + [ORTHANC] + (['--verbose'] if self.verbose else []) + [configuration]
        identity = {}
        if self.user is not None:
            if not self.wrapper:
                identity = {'user': self.user[0], 'group': self.user[1], 'extra_groups': self.user[2]}
            for path in (self.directory, self.short, self.runtime, self.temporary):
                os.chown(path, self.user[0], self.user[1])
                os.chmod(path, 0o755)
        with open(self.stdout_path, 'wb') as out, open(self.stderr_path, 'wb') as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.cwd,
                env=self.environment(), start_new_session=self.own_group, **identity)
        self.returncode = None
        return self

    def start(self, timeout=60):
        """Starts and waits until the server serves. A taken port is tried again."""
        for _ in range(5):
            self.spawn()
            if self._wait_started(timeout):
                self.wait_ready()
                return self
            if not re.search(r'port.*(already|in use|privileged)|\(code 200[34]\)', self.log()):
                break
        raise AssertionError('Orthanc ended with code %s at start:\n%s' % (
            self.returncode, self.log()[-4000:]))

    def _wait_started(self, timeout):
        def started():
            if self.poll() is not None:
                return 'ended'
            return 'Orthanc has started' in self.log() and self._connects()

        try:
            return wait_until(started, timeout, 'Orthanc to start') != 'ended'
        except Timeout as e:
            self.kill()
            raise Timeout('%s; its log ends:\n%s' % (e, self.log()[-3000:])) from None

    def _connects(self):
        with contextlib.suppress(OSError):
            with socket.create_connection(('127.0.0.1', self.http_port), 1):
                return True
        return False

    def wait_ready(self, timeout=30):
        """Waits until signals end the server in order: the core installs its handlers only
        after it has told everybody that it has started, at a reset anew."""
        wait_until(lambda: self.poll() is not None or catches(self.pid, signal.SIGTERM),
                   timeout, 'Orthanc to handle signals')

    def expect_refusal(self, timeout=60):
        """Starts a server that must not come up; returns its exit code."""
        for _ in range(5):
            self.spawn()
            if self._wait_started(timeout):
                self.stop()
                raise AssertionError('Orthanc came up, but should have refused:\n' + self.log())
            if '(code 2003)' not in self.log() and '(code 2004)' not in self.log():
                break
        return self.returncode

    # -- end ----------------------------------------------------------------------

    @property
    def pid(self):
        return self.process.pid

    def poll(self):
        self.returncode = self.process.poll()
        return self.returncode

    def wait(self, timeout=30):
        try:
            self.returncode = self.process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Timeout('Orthanc has not ended after %.0f s; log ends:\n%s' % (
                timeout * PATIENCE, self.log()[-3000:])) from None
        return self.returncode

    def stop(self, number=signal.SIGTERM, timeout=30):
        """Ends the server as an operator does; returns its exit code.

        The official plugin crashes at the very end from 5.0 on, when only the registration
        holds a callback (contract 8 row 10): that counts as 0."""
        if self.poll() is None:
            self.wait_ready()
            os.kill(self.pid, number)
        code = self.wait(timeout)
        if self.plugin == 'official' and OFFICIAL_VERSION >= (5, 0):
            return 0 if code in (-signal.SIGSEGV, -signal.SIGABRT) else code
        return code

    def kill(self):
        if self.poll() is None:
            self.process.kill()
        return self.wait(10)

    def leftovers(self):
        """Processes that came from this server and still live, and files left behind."""
        text = ['process %d: %s' % item for item in marked_processes(self.mark).items()]
        for parent, directories, files in os.walk(self.runtime):
            text += ['file ' + os.path.join(parent, name) for name in directories + files]
        return text

    def assert_no_leftovers(self, timeout=10):
        """After the end: no process, no socket, no directory of the bridge remains."""
        try:
            wait_until(lambda: not self.leftovers(), timeout, 'leftovers to vanish')
        except Timeout:
            raise AssertionError('left behind: ' + '; '.join(self.leftovers())) from None

    def zombies(self):
        return {pid: value for pid, value in descendants(self.pid).items() if value[1] == 'Z'}

    def close(self):
        """The end of every test, whatever happened in it."""
        problem = None
        if self.process is not None and self.poll() is None:
            try:
                if self.zombies():
                    wait_until(lambda: not self.zombies(), 3, 'zombies to be reaped')
                self.stop()
            except AssertionError as e:
                problem = e
                self.kill()
        try:
            if self.process is not None:
                self.assert_no_leftovers()
        finally:
            for pid in marked_processes(self.mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.short, ignore_errors=True)
        if problem is not None:
            raise problem
        found = sanitizer.reports(self.reports, self.log())
        if found:
            raise AssertionError('%d processes were reported by a sanitizer:\n%s' % (
                len(found), '\n\n'.join(found)[:20000]))

    # -- logs -----------------------------------------------------------------------

    @staticmethod
    def _read(path):
        try:
            with open(path, encoding='utf-8', errors='surrogateescape') as f:
                return f.read()
        except FileNotFoundError:
            return ''

    def log(self):
        return self._read(self.stderr_path)

    def out(self):
        return self._read(self.stdout_path)

    def wait_for_log(self, pattern, timeout=10, start=0, stream='log'):
        """Waits for a regular expression in the log ('out': on stdout); returns the match."""
        compiled = re.compile(pattern, re.MULTILINE)
        read = self.log if stream == 'log' else self.out
        try:
            return wait_until(lambda: compiled.search(read(), start), timeout, pattern)
        except Timeout as e:
            raise Timeout('%s in the %s, which ends:\n%s' % (e, stream, read()[-3000:])) from None

    def wait_for_out(self, pattern, timeout=10):
        return self.wait_for_log(pattern, timeout, stream='out')

    def messages(self, levels='WE'):
        """Log messages as (level, text), without time and source; continuation lines joined.

        What the processes of the bridge say on stderr themselves is left out."""
        found = []
        for line in self.log().splitlines():
            match = re.match(r'([EWIT])\d{4} \d\d:\d\d:\d\d\.\d+ +(?:\S+ +)?\S+:\S+\] (.*)$', line)
            if match:
                found.append([match.group(1), match.group(2)])
            elif found and not line.startswith('orthanc-python-'):
                found[-1][1] += '\n' + line
        return [(level, text) for level, text in found if level in levels]

    # -- requests ---------------------------------------------------------------------

    def url(self, path=''):
        return 'http://127.0.0.1:%d%s' % (self.http_port, path)

    def request(self, method, path, timeout=30, **kwargs):
        return requests.request(method, self.url(path), timeout=timeout * PATIENCE,
                                allow_redirects=False, **kwargs)

    def get(self, path, **kwargs):
        return self.request('GET', path, **kwargs)

    def post(self, path, data=b'', **kwargs):
        return self.request('POST', path, data=data, **kwargs)

    def put(self, path, data=b'', **kwargs):
        return self.request('PUT', path, data=data, **kwargs)

    def delete(self, path, **kwargs):
        return self.request('DELETE', path, **kwargs)

    def upload(self, dicom):
        """Stores a DICOM file; returns its Orthanc ID."""
        answer = self.post('/instances', dicom)
        assert answer.status_code == 200, answer.text
        return answer.json()['ID']

    def raw(self, request, timeout=30):
        """Sends bytes as they are, reads to the end; for what HTTP libraries refuse to send."""
        with socket.create_connection(('127.0.0.1', self.http_port), timeout * PATIENCE) as s:
            s.sendall(request)
            data = b''
            with contextlib.suppress(ConnectionResetError):
                while True:
                    part = s.recv(65536)
                    if not part:
                        break
                    data += part
        return data

    def connection(self, timeout=30):
        return http.client.HTTPConnection('127.0.0.1', self.http_port, timeout=timeout * PATIENCE)

    # -- the processes of the bridge -----------------------------------------------------

    def supervisor(self):
        pid = supervisor_of(self.pid)
        assert pid is not None, 'no worker daemon below Orthanc: %s' % children(self.pid)
        return pid

    def host_pid(self):
        """The host, told by the script's route /_pid (see PID_ROUTE)."""
        return int(self.get('/_pid').text)


# Appended to a script that a test must find the process of.
PID_ROUTE = '''
def _answer_pid(output, uri, **request):
    import os
    output.AnswerBuffer(str(os.getpid()), 'text/plain')
import orthanc as _orthanc
_orthanc.RegisterRestCallback('/_pid', _answer_pid)
'''

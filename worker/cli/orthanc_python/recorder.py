# SPDX-License-Identifier: GPL-3.0-or-later
"""A node without an Orthanc: it loads a script in a real host, and writes down what it asks.

Here:      starting the host, Load, SDK calls and their made-up answers, the end.
Elsewhere: the bytes (wire.py), what is made of the record (check.py).

It answers as an Orthanc that starts does: what needs the database or the REST API fails with
Orthanc's own error. Nothing is sent or written anywhere for the script.
"""

import array
import hashlib
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid

from orthanc_python import FAILED, Problem, wire

MAIN, SERVICE, CHILD = 2, 4, 5
STACKS = b'\x53'
FAULT_ORTHANC, FAULT_RAISED = 0, 6
NODE = 'check'
HOST = 1
END_SECONDS = 10
FINISH_SECONDS = 2
STACKS_SECONDS = 2
# What _Register is told, and the function of the module behind it.
REGISTRATIONS = {
    'Rest': 'RegisterRestCallback', 'Change': 'RegisterOnChangeCallback',
    'StoredInstance': 'RegisterOnStoredInstanceCallback', 'HttpFilter': 'RegisterIncomingHttpRequestFilter',
    'Find': 'RegisterFindCallback', 'Find2': 'RegisterFindCallback2', 'Move': 'RegisterMoveCallback',
    'Move2': 'RegisterMoveCallback2', 'Move3': 'RegisterMoveCallback3', 'Worklist': 'RegisterWorklistCallback',
    'Worklist2': 'RegisterWorklistCallback2', 'StorageArea': 'RegisterStorageArea',
    'StorageArea3': 'RegisterStorageArea3', 'CStoreFilter': 'RegisterIncomingCStoreInstanceFilter',
    'ReceivedInstance': 'RegisterReceivedInstanceCallback',
    'StorageCommitment': 'RegisterStorageCommitmentScpCallback',
    'StorageCommitment2': 'RegisterStorageCommitmentScpCallback2'}
LEVELS = {'LogError': 'E', 'LogWarning': 'W', 'LogInfo': 'I'}
DATABASE = (2038, 'Plugin trying to call the database during its initialization')
INTERNAL = (-1, 'Internal error')
NETWORK = (9, 'Error in the network protocol')
FILE = (2006, 'The specified path does not point to a regular file')


class Orthanc:
    """The answers. A method has the name of its function; others are made from the signature."""

    def __init__(self, version, configuration, scripts):
        self.version, self.configuration, self.scripts = version, configuration, scripts
        self.last_handle = 0

    def make(self, function):
        """An answer, or a fault as a tuple, of a function that has no method here."""
        result = function['signature'].rpartition(':')[2]
        if function['needs_server']:
            return DATABASE if result in ('E', 'b') else INTERNAL
        if function['name'].startswith('Http'):
            return NETWORK
        if result.startswith('O'):
            self.last_handle += 1
            return self.last_handle
        return {'b': b'', 's': '', 'i': 0, 'B': False}.get(result)

    def CheckVersion(self):
        return 1

    def CheckVersionAdvanced(self, *wanted):
        return int(self.version >= tuple(wanted))

    def GetConfiguration(self):
        return self.configuration

    def GetConfigurationPath(self):
        return ''

    def GetOrthancDirectory(self):
        return '/usr/sbin'

    def GetOrthancPath(self):
        return '/usr/sbin/Orthanc'

    def GenerateUuid(self):
        return str(uuid.uuid4())

    def GenerateRestApiAuthorizationToken(self):
        return 'Bearer ' + str(uuid.uuid4())

    def ComputeMd5(self, data):
        return hashlib.md5(data).hexdigest()

    def ComputeSha1(self, data):
        digest = hashlib.sha1(data).hexdigest()
        return '-'.join(digest[at:at + 8] for at in range(0, 40, 8))

    def ReadFile(self, path):
        try:
            with open(path, 'rb') as file:
                return file.read()
        except OSError:
            return FILE

    def LookupDictionary(self, _name):
        return [0x10, 0x10, 16, 1, 1]

    def RegisterErrorCode(self, *_details):
        return 1000000


class Record:
    """What the script has done."""

    def __init__(self):
        self.registrations = []     # (function, pattern or None)
        self.calls = {}             # function: how often
        self.log = []               # (level, text)
        self.seconds = 0.0          # of the import
        self.failure = None         # why it has not loaded
        self.files = []             # the script, and what it imports from its directory


def make_directory():
    """A private one, whose path is short enough for a socket in it."""
    parent = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix='orthanc-python-', dir=parent if len(os.fsencode(parent)) < 60 else '/tmp')


class Node:
    """One load of one script, or of several together."""

    def __init__(self, host_program, functions, orthanc, environment=None):
        self.program, self.orthanc, self.environment = str(host_program), orthanc, environment
        self.functions = functions      # of the chosen version, from sdk.json
        self.record = Record()
        self.lock = threading.Lock()
        self.secret = secrets.token_bytes(32)
        self.directory = make_directory()
        self.socket_path = os.path.join(self.directory, 'node.sock')
        self.process = None
        self.control = None
        self.protocol = None    # the version of it that the host speaks
        self.listener = None

    def load_parameters(self):
        functions = [[each['node_name'], each['signature']] for each in self.functions]
        return {
            'version': '.'.join(map(str, self.orthanc.version)) if self.orthanc.version[0] < 99 else 'mainline',
            'functions': functions + [['_Register', 'x'], ['_Release', 'x'], ['_Fence', 'x']],
            'calls': ['Load', 'Finalize', *REGISTRATIONS], 'scripts': self.orthanc.scripts, 'verbose': False,
            'memory_usage': False, 'node_socket': self.socket_path, 'node': NODE, 'host': HOST, 'secret': self.secret,
            'orthanc': self.orthanc.GetOrthancPath(), 'worker_index': 0, 'workers_count': 1,
            'slow_call_ms': 0}

    def perform(self, method, parameters):
        """Writes down one SDK call. Gives its answer; a tuple is a fault of Orthanc."""
        if method == len(self.functions):
            call, pattern, _index = parameters
            with self.lock:
                self.record.registrations.append((REGISTRATIONS.get(call, call), pattern))
            return None
        if method > len(self.functions):
            return None
        function = self.functions[method]
        name = function['name']
        with self.lock:
            self.record.calls[name] = self.record.calls.get(name, 0) + 1
            if name in LEVELS:
                self.record.log.append((LEVELS[name], parameters[0]))
            own = getattr(self.orthanc, name, None)
            return own(*parameters) if own else self.orthanc.make(function)

    def serve(self, lane, until=None):
        """Runs what arrives on a lane; with until, to the response of that number, which it gives."""
        while True:
            kind, *rest = wire.receive(lane)
            if kind == wire.NOTIFICATION:
                self.perform(*rest)
            elif kind == wire.RESPONSE and rest[0] == until:
                return rest[1:]
            elif kind == wire.REQUEST:
                msgid, method, parameters = rest
                result = self.perform(method, parameters)
                if isinstance(result, tuple):
                    wire.answer_fault(lane, msgid, FAULT_ORTHANC, *result)
                else:
                    wire.answer(lane, msgid, result)
            else:
                raise wire.Closed('the host has sent something that is not expected')

    def serve_service_lane(self, lane):
        with lane:
            try:
                _, msgid, _, (_, version, kind, _, _, secret) = wire.receive(lane)
                if version == self.protocol and kind in (SERVICE, CHILD) and secrets.compare_digest(secret, self.secret):
                    wire.answer(lane, msgid, [self.protocol])
                    self.serve(lane)
            except (wire.Closed, ValueError):
                pass    # a thread or a child process of the script has ended

    def accept(self, listener):
        with listener:
            while True:
                try:
                    lane, _ = listener.accept()
                except OSError:
                    return      # shut down
                threading.Thread(target=self.serve_service_lane, args=(lane,), daemon=True).start()

    def start(self):
        """Starts the host. Gives its main lane."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket_path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # What the script prints is not the result of a check.
            words = [self.program, '--control-fd', str(theirs.fileno())]
            words += ['--venv', self.environment] if self.environment else []
            self.process = subprocess.Popen(words, stdout=2, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                                            start_new_session=True)
        lane, far_end = socket.socketpair()
        with far_end:
            self.pass_descriptor(bytes([MAIN]), far_end.fileno())
        lane.settimeout(END_SECONDS)
        _, _, fault, welcome = wire.receive(lane)
        if fault is not None:
            raise wire.Closed('the host has not welcomed its main lane')
        self.protocol = welcome[0]
        return lane

    def pass_descriptor(self, message, descriptor):
        self.control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [descriptor]))])

    def stacks(self):
        """The Python stacks of the host's threads, or ''."""
        ours, theirs = os.pipe()
        text, deadline = b'', time.monotonic() + STACKS_SECONDS
        try:
            self.pass_descriptor(STACKS, theirs)
            while not text.endswith(b'\0') and select.select([ours], [], [], deadline - time.monotonic())[0]:
                text += os.read(ours, 65536)
        except (OSError, ValueError):
            pass        # it has ended, or the time is over
        finally:
            os.close(ours)
            os.close(theirs)
        return text.rstrip(b'\0').decode('utf-8', 'replace')

    def run(self, seconds):
        """Loads the script. Gives the record; its failure says why it has not loaded."""
        watchdog = threading.Timer(seconds, self.give_up, [seconds])
        try:
            with self.start() as lane:
                began = time.monotonic()
                watchdog.start()
                lane.settimeout(None)   # the watchdog ends the host, and with it the lane
                wire.send(lane, [wire.REQUEST, 1, 0, [self.load_parameters()]])
                fault, files = self.serve(lane, until=1)
                watchdog.cancel()
                self.record.seconds = time.monotonic() - began
                if fault is not None:
                    self.record.failure = fault[2] or 'The script has raised an exception'
                    if fault[0] == FAULT_RAISED:
                        self.forget_last_error()    # which is the same text, for Orthanc's log
                else:
                    self.record.files = files or self.orthanc.scripts
                self.finish(lane)
        except (wire.Closed, TimeoutError) as error:
            self.record.failure = self.record.failure or 'The host has ended: %s' % self.describe_end(error)
        except OSError as error:
            raise Problem(FAILED, '%s cannot be run: %s' % (self.program, error)) from None
        finally:
            watchdog.cancel()
            self.close()
        return self.record

    def forget_last_error(self):
        with self.lock:
            if self.record.log and self.record.log[-1][0] == 'E':
                self.record.log.pop()
                self.record.calls['LogError'] -= 1
                if self.record.calls['LogError'] == 0:
                    del self.record.calls['LogError']

    def give_up(self, seconds):
        stacks = self.stacks()
        self.record.failure = 'The script has not been imported within %g s%s' % (
            seconds, ':\n' + stacks.rstrip() if stacks.strip() else '')
        self.kill()

    def describe_end(self, error):
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return str(error)
        return 'signal %d (%s)' % (-code, signal.strsignal(-code)) if code < 0 else 'exit code %d' % code

    def finish(self, lane):
        """Lets threads and atexit functions of the script end, within limits."""
        lane.settimeout(FINISH_SECONDS)
        try:
            wire.send(lane, [wire.REQUEST, 2, 1, []])
            self.serve(lane, until=2)
            self.process.wait(FINISH_SECONDS)
        except (wire.Closed, TimeoutError, subprocess.TimeoutExpired):
            pass    # a thread that waits for the end of Orthanc, which will not come

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def close(self):
        if self.process is not None:
            self.kill()
            self.process.wait()
        if self.control is not None:
            self.control.close()
        if self.listener is not None:
            self.listener.shutdown(socket.SHUT_RDWR)    # wakes the thread that accepts
        shutil.rmtree(self.directory, ignore_errors=True)

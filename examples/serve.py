# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts Orthanc with an example, shows its requests, and serves until Ctrl-C.

Called by examples/run. An example is a folder with its script, orthanc.json (the part of the
configuration that is its own) and requests.txt: a line is a comment, or a command for the
shell in which $URL is the address of the server, $DICOM_PORT its DICOM port. A file that mentions $INSTANCE, $SERIES,
$STUDY, $PATIENT or $FILE gets one made-up instance: its identifiers in Orthanc, and a DICOM
file. A service.py in the folder runs beside Orthanc, on port 8000 (or, if that is taken, on
another one, which then replaces it in the configuration).
"""

import argparse
import base64
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib

SERVICE_PORT = 8000
START_SECONDS = 60
STOP_SECONDS = 40
REQUEST_SECONDS = 120
MOST_LINES = 30
# curl as a person would type it, but with a limit, and the status code at the end.
SHELL_START = '''
curl() { command curl --silent --show-error --max-time 60 --write-out '\\n[%{http_code}]\\n' "$@"; }
'''


class Failure(Exception):
    """What the verdict says."""


def is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(('0.0.0.0', port))  # Orthanc binds all addresses, and filters by peer
        except OSError:
            return False
        return True


def png(width, height):
    """A grey gradient as the bytes of a PNG file."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))

    rows = b''.join(b'\0' + bytes((x + y) * 255 // (width + height) for x in range(width))
                    for y in range(height))
    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
            + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def choose_port(wanted):
    if is_free(wanted):
        return wanted
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def orthanc_program():
    return shutil.which('Orthanc') or '/usr/sbin/Orthanc'


def orthanc_version():
    """"Orthanc 1.10.1"."""
    text = subprocess.run([orthanc_program(), '--version'], stdout=subprocess.PIPE,
                          timeout=START_SECONDS, check=True).stdout.decode()
    return os.path.basename(text.split('\n', 1)[0].strip())


class Server:
    """An Orthanc with its files in a temporary directory."""

    def __init__(self, example, build, directory):
        self.folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), example)
        self.directory = directory
        self.port = choose_port(8042)
        self.url = 'http://127.0.0.1:%d' % self.port
        self.out_path = os.path.join(directory, 'stdout')
        self.log_path = os.path.join(directory, 'log')
        self.shown = {self.out_path: 0, self.log_path: 0}
        self.dicom_port = choose_port(4242)
        self.process = None
        self.service = None
        self.service_port = None
        self.build = os.path.abspath(build)

    def configuration(self):
        with open(os.path.join(self.folder, 'orthanc.json'), encoding='utf-8') as f:
            text = f.read()
        if self.service is not None:
            text = text.replace('localhost:%d' % SERVICE_PORT, 'localhost:%d' % self.service_port)
        value = json.loads(text)
        script = value.get('PythonScript')
        if isinstance(script, list):
            value['PythonScript'] = [os.path.join(self.folder, each) for each in script]
        elif script is not None:
            value['PythonScript'] = os.path.join(self.folder, script)
        value.setdefault('Name', 'Example')
        value.setdefault('DicomServerEnabled', False)
        self.dicom_port = value.setdefault('DicomPort', self.dicom_port)
        value.update({
            'HttpPort': self.port, 'RemoteAccessAllowed': False,
            'AuthenticationEnabled': False,
            'StorageDirectory': os.path.join(self.directory, 'storage'),
            'IndexDirectory': os.path.join(self.directory, 'storage'),
            'Plugins': [os.path.join(self.build, 'plugin', 'libOrthancPythonBridge.so')],
        })
        return value

    def start_service(self):
        program = os.path.join(self.folder, 'service.py')
        if not os.path.exists(program):
            return
        self.service_port = choose_port(SERVICE_PORT)
        self.service = subprocess.Popen([sys.executable, program, str(self.service_port)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(('127.0.0.1', self.service_port), 5).close()
                break
            except OSError:
                pass
            if self.service.poll() is not None or time.monotonic() > deadline:
                raise Failure('%s does not serve' % program)
            time.sleep(0.05)
        print('== %s serves on port %d' % (os.path.relpath(program), self.service_port))

    def start(self):
        self.start_service()
        path = os.path.join(self.directory, 'orthanc.json')
        with open(path, 'w', encoding='utf-8') as f:
            json.dump(self.configuration(), f, indent=2)
        with open(self.out_path, 'wb') as out, open(self.log_path, 'wb') as log:
            # A session of its own: Ctrl-C reaches us alone, and we end it in order.
            self.process = subprocess.Popen([orthanc_program(), path], cwd=self.folder,
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                                            start_new_session=True)

    def wait(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise Failure('Orthanc ended at its start, with code %d' % self.process.returncode)
            try:
                urllib.request.urlopen(self.url + '/system', timeout=5).close()
                return
            except urllib.error.HTTPError:  # a filter of the script may refuse us
                return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise Failure('Orthanc did not answer within %d s' % START_SECONDS)
            time.sleep(0.1)

    def stop(self):
        """Ends the server. False if it had to be killed or ended badly."""
        if self.service is not None:
            self.service.kill()
            self.service.wait()
        if self.process is None:
            return True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False

    def new_text(self, path):
        """What has been written to a file since the last time."""
        with open(path, 'rb') as f:
            f.seek(self.shown[path])
            data = f.read()
        self.shown[path] += len(data)
        return data.decode('utf-8', 'replace')

    def tail(self):
        for path in (self.out_path, self.log_path):
            with open(path, encoding='utf-8', errors='replace') as f:
                for line in f.readlines()[-MOST_LINES:]:
                    print('    ' + line.rstrip())

    def post(self, uri, body):
        request = urllib.request.Request(self.url + uri, json.dumps(body).encode(), method='POST')
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def make_instance(self):
        """Stores one instance. Returns the variables that name it."""
        made = self.post('/tools/create-dicom', {
            'Tags': {'PatientID': 'EXAMPLE', 'PatientName': 'Example^Ada', 'Modality': 'OT',
                     'StudyDescription': 'An example', 'SeriesDescription': 'Made up',
                     'SOPClassUID': '1.2.840.10008.5.1.4.1.1.7'},
            'Content': 'data:image/png;base64,' + base64.b64encode(png(128, 96)).decode(),
        })
        path = os.path.join(self.directory, 'example.dcm')
        uri = '/instances/%s' % made['ID']
        with urllib.request.urlopen(self.url + uri + '/file', timeout=60) as answer:
            with open(path, 'wb') as f:
                shutil.copyfileobj(answer, f)
        return {'INSTANCE': made['ID'], 'SERIES': made['ParentSeries'],
                'STUDY': made['ParentStudy'], 'PATIENT': made['ParentPatient'], 'FILE': path}


def show_answer(data):
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError:
        text = '(%d bytes that are no text)\n%s' % (
            len(data), data[data.rstrip().rfind(b'\n') + 1:].decode('utf-8', 'replace'))
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES - 2:-1] = ['... (%d lines)' % len(lines)]
    for line in lines:
        print('    ' + (line if len(line) <= 300 else line[:300] + '...'))


def run_requests(server):
    """Runs the commands of requests.txt. Returns how many there were."""
    path = os.path.join(server.folder, 'requests.txt')
    if not os.path.exists(path):
        return 0
    with open(path, encoding='utf-8') as f:
        lines = [line.strip() for line in f]
    variables = {'URL': server.url, 'DICOM_PORT': str(server.dicom_port)}
    if re.search(r'\$\{?(INSTANCE|SERIES|STUDY|PATIENT|FILE)\b', '\n'.join(lines)):
        variables.update(server.make_instance())
    count = 0
    for line in lines:
        if not line:
            continue
        if line.startswith('#'):
            print(line)
            continue
        shown = re.sub(r'\$\{?(\w+)\}?', lambda m: variables.get(m.group(1), m.group(0)), line)
        print('$ ' + shown)
        try:
            done = subprocess.run(['bash', '-c', SHELL_START + line], cwd=server.directory,
                                  env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=REQUEST_SECONDS, check=False)
        except subprocess.TimeoutExpired as e:
            raise Failure('no answer within %d s to: %s' % (REQUEST_SECONDS, shown)) from e
        show_answer(done.stdout)
        if done.returncode != 0:
            raise Failure('the command ended with code %d: %s' % (done.returncode, shown))
        codes = re.findall(rb'^\[(\d{3})\]$', done.stdout, re.MULTILINE)
        if any(code[:1] not in b'1234' for code in codes):
            raise Failure('status %s: %s' % (codes[-1].decode(), shown))
        count += 1
    return count


def serve(server):
    """Until Ctrl-C or SIGTERM, showing what the script prints and Orthanc logs."""
    while server.process.poll() is None:
        for path in server.shown:
            sys.stdout.write(server.new_text(path))
        sys.stdout.flush()
        time.sleep(0.3)
    raise Failure('Orthanc ended by itself, with code %d' % server.process.returncode)


def interrupt(_number, _frame):
    raise KeyboardInterrupt


def show(server, once):
    server.start()
    server.wait()
    print('== %s answers at %s (process %d)' % (
        orthanc_version(), server.url, server.process.pid))
    count = run_requests(server)
    printed = server.new_text(server.out_path)
    if printed:
        print('== Printed by the script')
        show_answer(printed.encode())
    if not once:
        print('== Verdict: it works (%d requests answered); serving at %s until Ctrl-C'
              % (count, server.url), flush=True)
        try:
            serve(server)
        except KeyboardInterrupt:
            print('\n== Stopping', flush=True)
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('--once', action='store_true')
    parser.add_argument('--build', required=True)
    parser.add_argument('example')
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    directory = tempfile.mkdtemp(prefix='orthanc-example-')
    server = Server(arguments.example, arguments.build, directory)
    print('== Starting Orthanc with examples/%s' % arguments.example, flush=True)
    failure = None
    count = 0
    try:
        count = show(server, arguments.once)
    except KeyboardInterrupt:
        failure = 'interrupted'
    except (Failure, OSError, KeyError, ValueError, subprocess.SubprocessError) as e:
        failure = str(e) or repr(e)
    if not server.stop() and failure is None:
        failure = 'Orthanc did not end in order'
    if failure is not None and server.process is not None:
        print('== The end of the output and log of Orthanc')
        server.tail()
    shutil.rmtree(directory, ignore_errors=True)
    if failure is not None:
        print('== Verdict: FAILED: %s' % failure)
        return 1
    print('== Verdict: it works: example %s, %d requests answered, Orthanc ended in order'
          % (arguments.example, count))
    return 0


if __name__ == '__main__':
    sys.exit(main())

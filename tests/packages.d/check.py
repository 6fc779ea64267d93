# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a bare root, on the packages that are installed there: check.py serves|sample|absent

Orthanc runs as Debian's service runs it: its user, /etc/orthanc, port 8042.
"""

import json
import pathlib
import subprocess
import sys
import threading
import urllib.error
import urllib.request

SCRIPT = '''import orthanc

def hello(output, uri, **request):
    output.AnswerBuffer('%s', 'text/plain')

orthanc.RegisterRestCallback('/hello', hello)
'''
SCRIPT_PATH = pathlib.Path('/etc/orthanc/sample.py')
BOUND = 60


class Orthanc:
    """Debian's server, from its start to its end."""

    def __init__(self):
        self.started = threading.Event()
        self.lines = []
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            ['setpriv', '--reuid=orthanc', '--regid=orthanc', '--init-groups', '/usr/sbin/Orthanc', '/etc/orthanc'],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if 'Orthanc has started' in line:
                self.started.set()
        self.started.set()

    def __enter__(self):
        if not self.started.wait(BOUND) or self.process.poll() is not None:
            self.process.kill()
            raise AssertionError('Orthanc does not start:\n' + ''.join(self.lines))
        return self

    def __exit__(self, *error):
        self.process.terminate()
        status = self.process.wait(BOUND)
        self.reader.join(BOUND)
        if error[0] is not None or status != 0:
            print(''.join(self.lines))
        assert status == 0, 'Orthanc ended with %d' % status


def get(path):
    with urllib.request.urlopen('http://127.0.0.1:8042' + path, timeout=BOUND) as answer:
        return answer.read().decode()


def command(*words):
    return subprocess.run(['orthanc-python', *words], check=True, timeout=BOUND, stdout=subprocess.PIPE,
                          text=True).stdout


def serves():
    SCRIPT_PATH.write_text(SCRIPT % 'first', encoding='utf-8')
    pathlib.Path('/etc/orthanc/python.json').write_text(json.dumps({'PythonScript': str(SCRIPT_PATH)}),
                                                        encoding='utf-8')
    assert 'registers     RegisterRestCallback  /hello\n' in command('check', str(SCRIPT_PATH))
    with Orthanc():
        assert 'python' in json.loads(get('/plugins'))
        assert get('/hello') == 'first'
        SCRIPT_PATH.write_text(SCRIPT % 'second', encoding='utf-8')
        subprocess.run(['orthanc-python', 'reload'], check=True, timeout=BOUND)
        assert get('/hello') == 'second'
        code = 'import os; print(os.getuid() > 0, orthanc.RestApiGet("/system")[:1])'
        assert command('console', '-c', code) == "True b'{'\n"
    subprocess.run(['orthanc-python-worker', '--config', '/etc/orthanc-python/pool.json', '--socket',
                    '/run/orthanc-python/pool.sock', '--check'], check=True, timeout=BOUND)
    for name in ('orthanc-stubs/py.typed', 'orthanc_python_testing/server.py'):
        assert pathlib.Path('/usr/lib/python3/dist-packages', name).exists()


def sample():
    """The configuration and the script that Debian's orthanc-python has left."""
    with Orthanc() as orthanc:
        assert 'python' in json.loads(get('/plugins'))
        assert any('Hello world from Python!' in line for line in orthanc.lines)


def absent():
    with Orthanc():
        assert 'python' not in json.loads(get('/plugins'))
        try:
            raise AssertionError(get('/hello'))
        except urllib.error.HTTPError as error:
            assert error.code == 404


{'serves': serves, 'sample': sample, 'absent': absent}[sys.argv[1]]()

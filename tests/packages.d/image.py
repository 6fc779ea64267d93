# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a container of the image, as its user: the command of the image serves its script."""

import base64
import subprocess
import threading
import urllib.error
import urllib.request

BOUND = 60
USER = base64.b64encode(b'orthanc:orthanc').decode()


def get(path, **headers):
    request = urllib.request.Request('http://127.0.0.1:8042' + path, headers=headers)
    with urllib.request.urlopen(request, timeout=BOUND) as answer:
        return answer.read().decode()


def main():
    lines = []
    started = threading.Event()
    # pylint: disable-next=consider-using-with
    server = subprocess.Popen(['/usr/sbin/Orthanc', '/etc/orthanc'], stderr=subprocess.PIPE, text=True)

    def read():
        for line in server.stderr:
            lines.append(line)
            if 'Orthanc has started' in line:
                started.set()
        started.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(BOUND)
    try:
        assert get('/hello', Authorization='Basic ' + USER).startswith('Hello from Python 3.'), lines
        try:
            raise AssertionError(get('/hello'))
        except urllib.error.HTTPError as error:
            assert error.code == 401
    finally:
        server.terminate()
        status = server.wait(BOUND)
        reader.join(BOUND)
        print(''.join(lines[-5:]))
    assert status == 0


main()

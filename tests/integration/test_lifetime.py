# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that outlive what they stand for (contract 2.6)."""

import os
import re
import signal
import threading

import pytest

import dicom
import probe
from server import PID_ROUTE, is_alive, wait_until

pytestmark = pytest.mark.ours

INVALID = "raise ValueError('Invalid object',)"


def test_a_rest_output_after_its_callback(orthanc):
    server = orthanc(script=probe.SCRIPT + r'''
def keep(output, uri, **request):
    _SPACE['kept'] = output
    output.AnswerBuffer('kept', 'text/plain')
orthanc.RegisterRestCallback('/keep', keep)
''')
    assert server.get('/keep').text == 'kept'
    calls = ["kept.AnswerBuffer('x', 'text/plain')", "kept.SetHttpHeader('a', 'b')",
             "kept.Redirect('/')", "kept.SendHttpStatusCode(200)", "kept.SendHttpStatus(200, 'x')",
             "kept.StartMultipartAnswer('a', 'b')", "kept.SendMultipartItem(b'x')",
             "kept.SetCookie('a', 'b')", "kept.SendUnauthorized('r')",
             "kept.SetHttpErrorDetails('a', 0)", "kept.SendMethodNotAllowed('GET')",
             "kept.CompressAndAnswerPngImage(1, 1, 1, 1, b'a')"]
    outcomes = probe.run(server, {call: call for call in calls})
    assert outcomes == {call: INVALID for call in calls}
    in_thread = r'''
import threading
R = []
def f():
    try:
        kept.AnswerBuffer('x', 'y')
    except ValueError as e:
        R.append(str(e))
t = threading.Thread(target=f)
t.start()
t.join()
R'''
    assert probe.run(server, {'t': in_thread})['t'] == "['Invalid object']"
    assert server.get('/keep').text == 'kept'


def test_a_dicom_instance_after_its_callback(orthanc):
    server = orthanc(script=probe.SCRIPT + r'''
def keep(instance, instance_id):
    _SPACE['kept'] = instance
orthanc.RegisterOnStoredInstanceCallback(keep)
''')
    server.upload(dicom.make_dicom())
    calls = ['kept.%s' % call for call in (
        'GetInstanceSize()', 'GetInstanceData()', 'GetInstanceJson()', 'GetInstanceSimplifiedJson()',
        "GetInstanceMetadata('TransferSyntax')", "HasInstanceMetadata('x')", 'GetInstanceOrigin()',
        'GetInstanceRemoteAet()', 'GetInstanceTransferSyntaxUid()', 'GetInstanceFramesCount()',
        'HasInstancePixelData()', 'GetInstanceRawFrame(0)', 'GetInstanceDecodedFrame(0)',
        'SerializeDicomInstance()', 'GetInstanceAdvancedJson(1, 0, 0)')]
    assert probe.run(server, {call: call for call in calls}) == {call: INVALID for call in calls}
    assert server.get('/system').status_code == 200


def memory_kib(pid):
    with open('/proc/%d/status' % pid, encoding='ascii') as f:
        return int(re.search(r'VmRSS:\s+(\d+)', f.read()).group(1))


def test_owned_objects_are_released_in_the_core(orthanc):
    """A thousand images of 4 MB: only possible if each is freed with its Python object."""
    server = orthanc(script=probe.SCRIPT)
    code = ("for i in range(%d):\n    image = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE8, "
            "2000, 2000)\n    image.ConvertPixelFormat(orthanc.PixelFormat.RGB24)\ndel image\n1")
    probe.run(server, {'warm': code % 5})
    before = memory_kib(server.pid)
    for _ in range(4):
        assert probe.run(server, {'x': code % 50})['x'] == '1'
    assert memory_kib(server.pid) < before + 150000


def test_owned_objects_are_released_when_the_host_dies(orthanc):
    server = orthanc(script=probe.SCRIPT + r'''
KEPT = []
_SPACE['KEPT'] = KEPT
def die(output, uri, **request):
    import os
    os._exit(1)
orthanc.RegisterRestCallback('/die', die)
''')
    before = memory_kib(server.pid)
    code = ("for i in range(50):\n    image = orthanc.CreateImage(orthanc.PixelFormat.RGB24, 1000, "
            "1000)\n    KEPT.append((image, image.GetImageBuffer()[:1]))\nlen(KEPT)")
    for _ in range(4):
        assert probe.run(server, {'x': code})['x'] == '50'
        assert server.get('/die').status_code >= 500
        wait_until(lambda: server.get('/_probe').status_code != 503, 20, 'the next host')
    assert memory_kib(server.pid) < before + 4 * 50 * 3000 * 0.6


def test_references_of_python_objects_do_not_leak(orthanc):
    """Contract 8 row 20: nothing of a failed callback stays alive."""
    server = orthanc(script=probe.SCRIPT + r'''
import weakref
class Driver:
    pass
REFERENCES = []
_SPACE['REFERENCES'] = REFERENCES
def failing(output, uri, **request):
    driver = Driver()
    REFERENCES.append(weakref.ref(driver))
    raise ValueError('x')
orthanc.RegisterRestCallback('/failing', failing)
''')
    for _ in range(20):
        assert server.get('/failing').status_code == 500
    assert probe.run(server, {'x': "import gc\ngc.collect()\n"
                              "[r() for r in REFERENCES] == [None] * 20"})['x'] == 'True'


def descriptors(pid):
    return len(os.listdir('/proc/%d/fd' % pid))


def test_descriptors_and_threads_do_not_pile_up(orthanc):
    """Neither with many requests, nor with background threads, nor with hosts that die."""
    server = orthanc(script=probe.SCRIPT + PID_ROUTE)
    background = ("import threading\nts = [threading.Thread(target=orthanc.RestApiGet, args=('/system',)) "
                  "for _ in range(8)]\n[t.start() for t in ts]\n[t.join() for t in ts]\n1")

    def load():
        threads = [threading.Thread(target=probe.run, args=(server, {'x': background}))
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    load()
    host = server.host_pid()
    load()
    before = descriptors(server.pid), descriptors(host)
    for _ in range(8):
        load()
    assert server.host_pid() == host
    # Lanes are kept for reuse: at most one for each of the 64 threads and 8 requests at a time. A lane
    # that is lost each time would be eight times as many.
    most = 64 + 8
    assert descriptors(server.pid) < before[0] + most
    assert descriptors(host) < before[1] + most
    for _ in range(5):
        pid = server.host_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not is_alive(pid), 10, 'the death of the host')
        load()
    wait_until(lambda: descriptors(server.pid) < before[0] + most, 10, 'descriptors to be closed')

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the C library's allocator of a host keeps: few arenas, however many threads there are, and what objects leave."""

import concurrent.futures

import pytest

pytestmark = pytest.mark.ours

CALLS = 12
SCRIPT = r'''
import ctypes, os, resource, threading
import orthanc

ALL_ARE_HERE = threading.Barrier(%d)

def meet(output, uri, **request):
    """As many threads as calls, each with memory of its own."""
    ALL_ARE_HERE.wait(30)
    output.AnswerBuffer(request['body'], 'application/octet-stream')

def arenas(output, uri, **request):
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.fopen(b'malloc-info', b'w'))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    with open('malloc-info') as f:
        output.AnswerBuffer(str(f.read().count('<heap nr=')), 'text/plain')

def faults(output, uri, **request):
    """Page faults of a hundred images, when as many have been there before."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        images = [b'x' * 520000 for _ in range(100)]
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        del images
    output.AnswerBuffer(str(after - before), 'text/plain')

orthanc.RegisterRestCallback('/faults', faults)
orthanc.RegisterRestCallback('/meet', meet)
orthanc.RegisterRestCallback('/arenas', arenas)
''' % CALLS


@pytest.mark.parametrize('variable, most', [(None, 2), ('5', 5)])
def test_threads_of_a_host_share_few_arenas_of_the_allocator(orthanc, variable, most):
    """glibc would make one for each thread, up to eight for each core; its own variable wins."""
    server = orthanc(script=SCRIPT, env={'MALLOC_ARENA_MAX': variable} if variable else {})
    body = bytes(50000)
    with concurrent.futures.ThreadPoolExecutor(CALLS) as executor:
        answers = list(executor.map(lambda _: server.post('/meet', body).content, range(CALLS)))
    assert answers == [body] * CALLS
    assert int(server.get('/arenas').text) == most


@pytest.mark.parametrize('variable', [None, '131072'])
def test_memory_that_images_have_left_is_there_for_the_next_ones(orthanc, variable):
    """Else each of 128 pages of each image would be cleared again; the allocator's own variable wins."""
    server = orthanc(script=SCRIPT, env={'MALLOC_TRIM_THRESHOLD_': variable} if variable else {})
    faults = int(server.get('/faults').text)
    assert faults > 10000 if variable else faults < 1000

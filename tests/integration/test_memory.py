# SPDX-License-Identifier: GPL-3.0-or-later
"""What the C library's allocator of a host keeps: it has few arenas, however many threads there are."""

import concurrent.futures

import pytest

pytestmark = pytest.mark.ours

CALLS = 12
SCRIPT = r'''
import ctypes, os, threading
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

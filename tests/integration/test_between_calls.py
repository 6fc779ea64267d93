# SPDX-License-Identifier: GPL-3.0-or-later
"""What a callback leaves on its Python thread (threading.local, context variables, decimal's
precision, asyncio's loop): gone when it returns, and seen by callbacks nested in it.

A request must not find what another one, perhaps of somebody else, has left on the thread.
"""

import pytest

from compare import assert_same
from conftest import PLUGINS
from server import wait_until

SCRIPT = r'''
import asyncio, contextvars, ctypes, decimal, sys, threading, time
import orthanc

LOCAL = threading.local()
VARIABLE = contextvars.ContextVar('variable', default='unset')
EVENTS = []

def look():
    try:
        asyncio.get_event_loop()
        loop = True
    except RuntimeError:
        loop = False
    return (getattr(LOCAL, 'user', 'unset'), VARIABLE.get(), decimal.getcontext().prec, loop)

def leave(user):
    LOCAL.user = user
    VARIABLE.set(user)
    decimal.getcontext().prec = 3
    asyncio.set_event_loop(LOOP)

LOOP = asyncio.new_event_loop()

def visit(output, uri, **request):
    found = look()
    leave('somebody')
    output.AnswerBuffer(repr(found), 'text/plain')
orthanc.RegisterRestCallback('/visit', visit)

def leave_one(output, uri, **request):
    """What is looked at is made, too: so it looks at nothing."""
    kind = request['get']['kind']
    if kind == 'local':
        LOCAL.user = 'somebody'
    elif kind == 'context':
        VARIABLE.set('somebody')
    elif kind == 'precision':
        decimal.getcontext().prec = 3
    else:
        asyncio.set_event_loop(LOOP)
    output.AnswerBuffer('left', 'text/plain')
orthanc.RegisterRestCallback('/leave', leave_one)
orthanc.RegisterRestCallback('/look', lambda output, uri, **request: output.AnswerBuffer(
    repr(look()), 'text/plain'))

def outer(output, uri, **request):
    leave('outer')
    nested = orthanc.RestApiGetAfterPlugins('/visit').decode()
    output.AnswerBuffer(repr((nested, look()[0])), 'text/plain')
orthanc.RegisterRestCallback('/outer', outer)

def profile(output, uri, **request):
    found = sys.getprofile()
    sys.setprofile(lambda *_: None)
    output.AnswerBuffer(str(found), 'text/plain')
orthanc.RegisterRestCallback('/profile', profile)

def event(kind, level, resource):
    EVENTS.append(look())
    leave('an event')
orthanc.RegisterOnChangeCallback(event)
orthanc.RegisterRestCallback('/events', lambda output, uri, **request: output.AnswerBuffer(
    '\n'.join(map(repr, EVENTS)), 'text/plain'))

class Left:
    def __init__(self, name):
        self.name = name
    def __del__(self):
        print('%s: %s' % (self.name, orthanc.RestApiGetAfterPlugins('/nested').decode()), flush=True)
def nested(output, uri, **request):
    output.AnswerBuffer('nested %s' % getattr(LOCAL, 'nothing', 'call'), 'text/plain')
orthanc.RegisterRestCallback('/nested', nested)
def left(output, uri, **request):
    LOCAL.left = Left('left')
    output.AnswerBuffer('answered', 'text/plain')
orthanc.RegisterRestCallback('/left', left)

def state(output, uri, **request):
    """The number of the thread's Python state."""
    repr([1, {2: 3}])
    api = ctypes.pythonapi
    api.PyThreadState_Get.restype = ctypes.c_void_p
    api.PyThreadState_GetID.restype = ctypes.c_uint64
    number = api.PyThreadState_GetID(ctypes.c_void_p(api.PyThreadState_Get()))
    output.AnswerBuffer(str(number), 'text/plain')
orthanc.RegisterRestCallback('/state', state)

def interrupt(output, uri, **request):
    """A watchdog that is late: it raises in this thread when the callback has returned."""
    thread = threading.get_ident()
    def watch():
        while thread in sys._current_frames():
            time.sleep(0.005)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeoutError))
        print('too late', flush=True)
    threading.Thread(target=watch).start()
    output.AnswerBuffer('in time', 'text/plain')
orthanc.RegisterRestCallback('/interrupt', interrupt)
'''

FRESH = "('unset', 'unset', 28, False)"


@pytest.fixture(scope='module')
def servers(module_orthanc):
    return {name: module_orthanc(name, script=SCRIPT) for name in PLUGINS}


def test_a_request_does_not_find_what_another_has_left_on_its_thread(servers):
    for server in servers.values():
        connection = server.connection()    # one thread of the server serves it all
        for _ in range(5):
            connection.request('GET', '/visit')
            assert connection.getresponse().read().decode() == FRESH
        connection.close()


@pytest.mark.parametrize('kind', ['local', 'context', 'precision', 'loop'])
def test_nor_does_it_find_one_thing_alone(servers, kind):
    for server in servers.values():
        connection = server.connection()
        for _ in range(3):
            connection.request('GET', '/leave?kind=' + kind)
            assert connection.getresponse().read() == b'left'
            connection.request('GET', '/look')
            assert connection.getresponse().read().decode() == FRESH
        connection.close()


def test_a_profiler_ends_with_its_callback(servers):
    for server in servers.values():
        connection = server.connection()
        for _ in range(3):
            connection.request('GET', '/profile')
            assert connection.getresponse().read() == b'None'
        connection.close()


def test_a_nested_callback_shares_its_thread_with_the_outer_one(servers):
    assert_same({name: server.get('/outer').text for name, server in servers.items()})
    for server in servers.values():
        assert server.get('/outer').text == repr(
            ("('outer', 'outer', 3, True)", 'somebody'))
        assert server.get('/visit').text == FRESH


def test_an_event_does_not_find_what_another_has_left(servers):
    for server in servers.values():
        for name in ('one', 'two', 'three'):
            assert server.put('/modalities/' + name, '["A", "127.0.0.1", 104]').status_code == 200
        # ORTHANC_STARTED and the three
        events = wait_until(lambda s=server: len(s.get('/events').text.splitlines()) >= 4 and
                            s.get('/events').text.splitlines(), 10, 'all events')
        assert set(events) == {FRESH}


def test_an_exception_that_is_raised_in_a_thread_too_late_hits_no_other_call(servers):
    for server in servers.values():
        assert server.get('/interrupt').text == 'in time'
        server.wait_for_out('too late')
        assert server.get('/events').status_code == 200


@pytest.mark.ours
def test_what_is_left_is_finalised_before_the_call_ends(servers):
    """The finaliser calls Orthanc, which calls back on the same thread."""
    server = servers['ours']
    for count in (1, 2, 3):
        assert server.get('/left').text == 'answered'
        server.wait_for_out('(?s)' + 'left: nested call\n.*' * count)
        assert server.get('/visit').text == FRESH


@pytest.mark.ours
def test_callbacks_that_leave_nothing_share_the_state_of_their_thread(servers):
    """A new one costs more than a small callback. What repr() of a list leaves is nothing."""
    connection = servers['ours'].connection()
    states = set()
    for _ in range(5):
        connection.request('GET', '/state')
        states.add(connection.getresponse().read())
    assert len(states) == 1
    connection.request('GET', '/visit')
    connection.getresponse().read()
    connection.request('GET', '/state')
    assert connection.getresponse().read() not in states
    connection.close()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Exceptions of every kind that leave callbacks: what the client gets, and what the log says
(contract 3.2, 3.3, 4.5), under both plugins."""

import re

import pytest

from compare import Approved, assert_outcomes
from conftest import PLUGINS

SCRIPT = r'''
import threading
import orthanc

class BadStr(Exception):
    def __str__(self): raise ValueError('in str')
class NoText(Exception):
    def __str__(self): return 12
class BadRepr(Exception):
    def __repr__(self): raise ValueError('in repr')
class Meta(type):
    def __repr__(cls): return 'a class of its own'
class WithMeta(Exception, metaclass=Meta): pass
class BadMeta(type):
    def __repr__(cls): raise ValueError('in repr of the class')
class WithBadMeta(Exception, metaclass=BadMeta): pass
class Base(BaseException): pass
class Sub(orthanc.OrthancException): pass
class TwoArguments(Exception):
    def __init__(self, a, b): self.a = a
class NoTraceback(Exception):
    @property
    def __traceback__(self): raise RuntimeError('traceback')

def raising(value):
    raise value

def cause():
    try: 1 / 0
    except ZeroDivisionError as e: raise KeyError('k') from e
def context():
    try: 1 / 0
    except ZeroDivisionError: raise KeyError('k')
def of_orthanc(): orthanc.RestApiGet('/nope')
def of_orthanc_again():
    try: of_orthanc()
    except orthanc.OrthancException: raise
def of_orthanc_wrapped():
    try: of_orthanc()
    except orthanc.OrthancException as e: raise RuntimeError('wrapped') from e
def no_frame():
    try: raise ValueError('original')
    except ValueError as e: raise e.with_traceback(None)
def noted():
    e = ValueError('with a note')
    if hasattr(e, 'add_note'): e.add_note('the note')
    raise e
def at_exit_of_with():
    class C:
        def __enter__(self): return self
        def __exit__(self, *_): raise RuntimeError('exit')
    with C(): raise ValueError('inside')
def deep(n):
    if n == 0: raise ValueError('deep')
    deep(n - 1)
def endless(): return endless()
def finalised():
    class D:
        def __del__(self): raise ValueError('in a finaliser')
    D()
    raise TypeError('after it')
def in_pool():
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(1) as pool: pool.submit(lambda: 1 / 0).result()
def in_coroutine():
    import asyncio
    async def f(): raise ValueError('in a coroutine')
    asyncio.run(f())
def in_lines():
    return dict(a=1,
                b=2)['c']
def several():
    raise getattr(__builtins__, 'ExceptionGroup', lambda text, _: ValueError(text))('g', [ValueError(1)])

CASES = {
    'bad str': lambda: raising(BadStr('x')), 'no text': lambda: raising(NoText('x')),
    'bad repr': lambda: raising(BadRepr('x')), 'meta': lambda: raising(WithMeta('x')),
    'bad meta': lambda: raising(WithBadMeta('x')), 'base': lambda: raising(Base('x')),
    'sub': lambda: raising(Sub(17, 'x')), 'orthanc 0': lambda: raising(orthanc.OrthancException()),
    'orthanc 1': lambda: raising(orthanc.OrthancException(404)),
    'orthanc text': lambda: raising(orthanc.OrthancException('text')),
    'too few': lambda: raising(TwoArguments(1)), 'two': lambda: raising(TwoArguments(1, 2)),
    'no traceback': lambda: raising(NoTraceback('x')), 'class': lambda: raising(ValueError),
    'several arguments': lambda: raising(ValueError('a', 1, None)), 'empty': lambda: raising(ValueError('')),
    'not one': lambda: raising('text'), 'lone': lambda: raising(ValueError('\ud800')),
    'nul': lambda: raising(ValueError('a\0b')), 'long': lambda: raising(ValueError('x' * 100000)),
    'lines': lambda: raising(ValueError('a\nb\r\nc\td')), 'key': lambda: raising(KeyError('\xe9')),
    'unicode': lambda: raising(ValueError('\xe9\u20ac\U0001F600')), 'memory': lambda: raising(MemoryError),
    'interrupt': lambda: raising(KeyboardInterrupt('text')), 'exit': lambda: raising(SystemExit),
    'exit text': lambda: raising(SystemExit('\xe9')), 'exit dict': lambda: raising(SystemExit({'a': 1})),
    'stop': lambda: next(iter([])), 'stop async': lambda: raising(StopAsyncIteration),
    'generator exit': lambda: raising(GeneratorExit), 'file': lambda: open('/nope/\xe9'),
    'decode': lambda: b'\xff'.decode(), 'encode': lambda: '\xe9'.encode('ascii'),
    'syntax': lambda: exec('a b c'), 'syntax file': lambda: compile('def f(:\n pass', 'file.py', 'exec'),
    'compiled': lambda: exec(compile('x = 1\ny = 0\nx / y', '<mine>', 'exec')),
    'import': lambda: __import__('nope'), 'attribute': lambda: orthanc.Nope,
    'attribute of enumeration': lambda: orthanc.ErrorCode.NOPE, 'deep': lambda: deep(30),
    'less deep': lambda: deep(2)}
for function in (cause, context, of_orthanc, of_orthanc_again, of_orthanc_wrapped, no_frame, noted,
                 at_exit_of_with, endless, finalised, in_pool, in_coroutine, in_lines, several):
    CASES[function.__name__] = function

def case(output, uri, **request):
    CASES[request['get']['case']]()
orthanc.RegisterRestCallback('/case', case)
orthanc.RegisterRestCallback('/cases', lambda output, uri, **request: output.AnswerBuffer(
    '\n'.join(CASES), 'text/plain'))
def filtered(uri, **request):
    if uri == '/filtered':
        CASES[request['get']['case']]()
    return True
orthanc.RegisterIncomingHttpRequestFilter(filtered)
'''

FAILED = r"(?s)\(500, .*'OrthancStatus': %d,.*"
# The official plugin says code 6 and no traceback.
UNPRINTABLE = {
    name: Approved('3.2', re.compile(FAILED % 1 + r"Error in the REST callback, traceback:.*%s.*" % text))
    for name, text in (('bad str', 'BadStr'), ('no text', 'NoText'), ('bad meta', 'raising'))}


def outcome(server, path, name):
    """Status, body and messages of a request; without what differs between any two runs."""
    start = len(server.messages('E'))
    answer = server.get(path, params={'case': name.replace(' ', '_')})
    messages = [text for _, text in server.messages('E')[start:]]
    text = repr((answer.status_code, answer.json(), messages)).replace(server.directory, 'DIRECTORY')
    return re.sub('0x[0-9a-f]{6,}', '0xADDRESS', text)


@pytest.fixture(scope='module')
def servers(module_orthanc):
    return {name: module_orthanc(name, script=SCRIPT.replace(
        "['get']['case']", "['get']['case'].replace('_', ' ')").replace(
        'CASES[function.__name__]', "CASES[function.__name__.replace('_', ' ')]")) for name in PLUGINS}


@pytest.mark.parametrize('path', ['/case', '/filtered'])
def test_exceptions_of_every_kind(servers, path):
    outcomes = {}
    for plugin, server in servers.items():
        names = server.get('/cases').text.split('\n')
        outcomes[plugin] = {name: outcome(server, path, name) for name in names}
    approved = {'nul': Approved('4.5', re.compile(r'(?s).*traceback:.*a\?b\\n.*'))}
    if path == '/case':
        approved.update(UNPRINTABLE)
    else:
        approved.update({name: Approved('3.3', re.compile(FAILED % 1 + 'filter, traceback:.*'))
                         for name in UNPRINTABLE})
    assert_outcomes(outcomes, approved=approved)
    if 'official' in outcomes:
        for name in approved:
            assert outcomes['official'][name] != outcomes['ours'][name]

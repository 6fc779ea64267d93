# SPDX-License-Identifier: GPL-3.0-or-later
"""Registrations: texts, exclusions, times (contract 3.1)."""

import re
import threading

import pytest

import probe
from compare import assert_outcomes
from conftest import PLUGINS

ONE = {
    'RegisterOnChangeCallback': 'Python on-changes callback',
    'RegisterOnStoredInstanceCallback': 'Python on-stored-instance callback',
    'RegisterIncomingHttpRequestFilter': 'Python incoming-http-request filter',
}


def rows():
    found = [
        ("orthanc.RegisterRestCallback('/a')",
         "raise ValueError('Expected a string (URI) and a callback function',)"),
        ("orthanc.RegisterRestCallback(12, print)",
         "raise ValueError('Expected a string (URI) and a callback function',)"),
        ("orthanc.RegisterRestCallback()",
         "raise ValueError('Expected a string (URI) and a callback function',)"),
        ("orthanc.RegisterRestCallback(pathRegularExpression='/a', callback=print)",
         "raise TypeError('RegisterRestCallback() takes no keyword arguments',)"),
        ("orthanc.RegisterRestCallback('/a', 12)", 'None'),
        ("orthanc.RegisterRestCallback('/a', print)", 'None'),
        ("orthanc.RegisterRestCallback('/a', print)", 'None'),
    ]
    for name, text in ONE.items():
        wrong = "raise ValueError('Expected a callback function to register one %s',)" % text
        found += [
            ('orthanc.%s()' % name, wrong),
            ('orthanc.%s(print, print)' % name, wrong),
            ('orthanc.%s(callback=print)' % name,
             "raise TypeError('%s() takes no keyword arguments',)" % name),
            ('orthanc.%s(lambda *a, **k: True)' % name, 'None'),
            ('orthanc.%s(lambda *a, **k: True)' % name,
             "raise RuntimeError('Can only register one %s',)" % text),
        ]
    return found


def test_registration_texts(orthanc):
    outcomes = {}
    table = {'%d %s' % (i, row[0]): row[0] for i, row in enumerate(rows())}
    for name in PLUGINS:
        server = orthanc(name, script=probe.at_import(table))
        outcomes[name] = probe.import_outcomes(server)
        if name == 'ours':
            server.wait_for_log('Registering a Python REST callback on URI: /a')
            for text in ONE.values():
                server.wait_for_log('Registering one ' + re.escape(text))
    assert_outcomes(outcomes, {'%d %s' % (i, row[0]): row[1] for i, row in enumerate(rows())})


def test_an_invalid_pattern(orthanc, plugin):
    """Contract 8 row 8: the official plugin takes the server down; ours raises ValueError."""
    patterns = ['/(', '/[', '/a{2', '/*(?<', '/(?z)']
    script = probe.at_import({p: 'orthanc.RegisterRestCallback(%r, print)' % p for p in patterns})
    if plugin == 'official':
        server = orthanc.make(plugin, script=script)
        assert server.expect_refusal() == 255
        assert any('Uncaught exception, stopping now' in text for _, text in server.messages('E'))
    else:
        server = orthanc(plugin, script=script)
        outcomes = probe.import_outcomes(server)
        for pattern in ('/(', '/['):
            assert outcomes[pattern].startswith('raise ValueError('), outcomes
        assert all(o == 'None' or o.startswith('raise ValueError(') for o in outcomes.values())
        assert server.get('/system').status_code == 200


def test_patterns_of_the_server_engine_work(orthanc, plugin):
    server = orthanc(plugin, script=r'''
import orthanc
def show(output, uri, **request):
    output.AnswerBuffer('|'.join(request['groups']) + '.', 'text/plain')
for pattern in (r'/p1/(\d+)', r'/p2/([[:alpha:]]+)', r'/p3/(?!no)(.*)', r'/p4/(a|b)\1',
                r'/p5/((x)(y)?)+', r'/p6/[^/]+/(.*?)z', r'/p7/\Qa.b\E', r'/p8/(?<n>q)'):
    orthanc.RegisterRestCallback(pattern, show)
''')
    answers = {path: server.get(path) for path in (
        '/p1/12', '/p1/x', '/p2/abc', '/p2/1', '/p3/yes', '/p3/no', '/p4/aa', '/p4/ab', '/p5/xyx',
        '/p6/u/vz', '/p7/a.b', '/p7/axb', '/p8/q')}
    assert {path: (a.status_code, a.text if a.status_code == 200 else '')
            for path, a in answers.items()} == {
        '/p1/12': (200, '12.'), '/p1/x': (404, ''), '/p2/abc': (200, 'abc.'), '/p2/1': (404, ''),
        '/p3/yes': (200, 'yes.'), '/p3/no': (404, ''), '/p4/aa': (200, 'a.'), '/p4/ab': (404, ''),
        '/p5/xyx': (200, 'x|x|y.'), '/p6/u/vz': (200, 'v.'), '/p7/a.b': (200, '.'),
        '/p7/axb': (404, ''), '/p8/q': (200, 'q.')}


def test_many_routes(orthanc, plugin):
    """Each route has its own entry point in ours: more than any sensible fixed number."""
    server = orthanc(plugin, script=r'''
import orthanc
def make(i):
    def f(output, uri, **request):
        output.AnswerBuffer(str(i), 'text/plain')
    return f
KEPT = []
for i in range(300):
    KEPT.append(make(i))
    orthanc.RegisterRestCallback('/many/%d' % i, KEPT[-1])
''')
    for i in (0, 1, 63, 64, 127, 128, 255, 256, 299):
        assert server.get('/many/%d' % i).text == str(i)
    assert server.get('/many/300').status_code == 404


def test_registration_at_orthanc_started(orthanc, plugin):
    """Contract 3.1: routes become active at once; ours waits for no request in progress."""
    server = orthanc(plugin, script=r'''
import orthanc
def late(output, uri, **request):
    output.AnswerBuffer('late', 'text/plain')
def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        orthanc.RegisterRestCallback('/late', late)
        print('registered', flush=True)
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/early', late)
''')
    server.wait_for_out('^registered$')
    assert server.get('/early').text == 'late'
    if plugin == 'official':
        assert server.get('/late').text == 'late'
    else:
        answer = server.get('/late')
        # design.md 6: by itself only when it is safe, else the log names the route
        assert answer.text == 'late' or (
            answer.status_code == 404 and re.search(r'/late', '\n'.join(
                text for _, text in server.messages('WE')))), server.log()[-2000:]


@pytest.mark.ours
def test_registration_inside_a_rest_callback_never_deadlocks(orthanc):
    """Contract 8 row 9."""
    server = orthanc(script=r'''
import orthanc
def late(output, uri, **request):
    output.AnswerBuffer('late', 'text/plain')
def register(output, uri, **request):
    r = orthanc.RegisterRestCallback('/late', late)
    output.AnswerBuffer(repr(r), 'text/plain')
orthanc.RegisterRestCallback('/register', register)
''')
    threads = [threading.Thread(target=server.get, args=('/register',)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert server.get('/register').text == 'None'
    assert server.stop() == 0

# SPDX-License-Identifier: GPL-3.0-or-later
"""C-MOVE requests answered by drivers, versions 2 and 3, under both plugins (contract 3.10).

Left out of the comparison: a size that is no number, for the official plugin then never
answers (test_move.py has ours).
"""

import pytest

from compare import assert_same
from conftest import PLUGINS
from server import OFFICIAL_VERSION, ORTHANC_VERSION, wait_until
from test_move import CONFIG, FAILED, SECOND, SUCCESS, WARNING, move

VERSION_3 = (SECOND.replace('def create(**request):', 'def create(connection, **request):')
             .replace("EVENTS.append(['create', list(request)])",
                      "EVENTS.append(['create', list(request), type(connection).__name__,\n"
                      "                   connection.GetConnectionRemoteAet(),\n"
                      "                   connection.GetConnectionCalledAet(),\n"
                      "                   connection.GetConnectionRemoteIp()])")
             .replace('RegisterMoveCallback2(', 'RegisterMoveCallback3('))

KEYWORDS = ['Level', 'PatientID', 'AccessionNumber', 'StudyInstanceUID', 'SeriesInstanceUID',
            'SOPInstanceUID', 'OriginatorAET', 'SourceAET', 'TargetAET', 'OriginatorID']

OUTCOMES = [
    ('PLAIN^3', (SUCCESS, 2), ['create', 'size', 'apply', 'apply', 'apply', 'free']),
    ('PLAIN^1', (SUCCESS, 0), ['create', 'size', 'apply', 'free']),
    ('PLAIN^0', (SUCCESS, 0), ['create', 'size', 'free']),
    ('NONE', (SUCCESS, 0), ['create', 'size', 'apply', 'free']),
    ('SIZE-TRUE', (SUCCESS, 0), ['create', 'size', 'apply', 'free']),
    ('RAISE', (FAILED, 0), ['create']),
    ('APPLY-RAISE^3', (WARNING, 1), ['create', 'size', 'apply', 'apply', 'free']),
    ('FREE-RAISE^1', (SUCCESS, 0), ['create', 'size', 'apply', 'free'])]


@pytest.fixture(scope='module', params=[2, 3])
def driven(request, module_orthanc):
    """(version, {plugin: server})."""
    version = request.param
    if version == 3 and ORTHANC_VERSION < (1, 12, 10):
        pytest.skip('contract, appendix A: RegisterMoveCallback3 is of 1.12.10')
    # The official plugin has drivers since 4.1 (contract 3.1).
    names = [name for name in PLUGINS if name == 'ours' or OFFICIAL_VERSION >= (5, 0)]
    script = SECOND if version == 2 else VERSION_3
    return version, {name: module_orthanc(name, script=script, dicom=True, config=CONFIG)
                     for name in names}


def events_of(server):
    return server.get('/events').json()[0]


@pytest.mark.parametrize('patient, outcome, calls', OUTCOMES)
def test_what_the_peer_gets_and_what_is_called(driven, patient, outcome, calls):
    _, servers = driven
    results = {}
    for name, server in servers.items():
        before = len(events_of(server))
        found = move(server, patient)
        wait_until(lambda: len(events_of(server)) >= before + len(calls), 5, 'all calls')
        results[name] = found, [event[0] for event in events_of(server)[before:]]
    assert_same(results)
    assert set(map(repr, results.values())) == {repr((outcome, calls))}


def test_what_create_receives(driven):
    version, servers = driven
    results = {}
    for name, server in servers.items():
        move(server, 'PLAIN^0')
        results[name] = [event for event in events_of(server) if event[0] == 'create'][-1]
    assert_same(results)
    for event in results.values():
        if version == 2:
            assert event == ['create', KEYWORDS]
        else:
            assert event == ['create', [key for key in KEYWORDS if key not in ('OriginatorAET', 'SourceAET')],
                             'DicomConnection', 'TESTER', 'ORTHANC', '127.0.0.1']


def test_a_request_without_a_level_is_refused(driven):
    _, servers = driven
    results = {name: move(server, 'PLAIN^1', level=None) for name, server in servers.items()}
    assert_same(results)
    assert set(results.values()) == {(FAILED, 0)}


def test_errors_are_logged_with_their_version(driven):
    version, servers = driven
    for name, server in servers.items():
        start = len(server.log())
        move(server, 'RAISE')
        create = 'Create' if name == 'official' and OFFICIAL_VERSION < (6, 0) else 'Create v%d' % version
        server.wait_for_log(r'Python C-MOVE SCP callback \(%s\), traceback:' % create, start=start)

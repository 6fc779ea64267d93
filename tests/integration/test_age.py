# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of another age than the SDK of the build: what it lacks is named, the rest works.

What is asserted follows from the two versions, so that the same tests serve every pairing
(tests/matrix pairs the oldest server with the newest header, and the reverse).
"""

import json
import os

import pytest

import probe
from server import BUILD, ORTHANC_VERSION, REPOSITORY

pytestmark = [pytest.mark.ours, pytest.mark.age]

with open(os.path.join(BUILD, 'generated', 'model.json'), encoding='utf-8') as model_file:
    MODEL = json.load(model_file)


def version(text):
    return tuple(int(part) for part in text.split('.')) if text else ()


SDK_VERSION = version(MODEL['sdk'])


def text_of(numbers):
    return '.'.join(str(number) for number in numbers)


def names(newer):
    """The functions of the build's header that this server has, or those that it has not yet."""
    return [f for f in MODEL['functions'] if (version(f['since']) > ORTHANC_VERSION) == newer]


@pytest.fixture(scope='module')
def server(module_orthanc):
    return module_orthanc('ours', script=probe.SCRIPT)


@pytest.mark.smoke
def test_the_names_are_those_that_both_have(server):
    functions = [f['name'] for f in MODEL['functions'] if '.' not in f['name']]
    methods = [f['name'] for f in MODEL['functions'] if '.' in f['name']]
    code = {'functions': '[n for n in %r if hasattr(orthanc, n)]' % functions,
            'methods': "[n for n in %r if hasattr(getattr(orthanc, n.partition('.')[0], None), "
                       "n.partition('.')[2])]" % methods}
    found = probe.run(server, code)
    there = [f['name'] for f in names(newer=False)]
    assert found['functions'] == repr([name for name in there if '.' not in name])
    assert found['methods'] == repr([name for name in there if '.' in name])


@pytest.mark.smoke
def test_a_name_that_the_server_lacks_says_which_one_has_it(server):
    """Functions, and with them the registrations of callback kinds."""
    missing = {f['name']: f['since'] for f in names(newer=True) if '.' not in f['name']}
    outcomes = probe.run(server, {name: 'orthanc.%s()' % name for name in missing})
    for name, since in missing.items():
        assert outcomes[name] == (
            'raise AttributeError("module \'orthanc\' has no attribute \'%s\': it needs Orthanc %s, '
            'and this server is %s",)' % (name, since, text_of(ORTHANC_VERSION)))
    if SDK_VERSION >= (1, 12, 10) and ORTHANC_VERSION < (1, 12):
        assert 'RegisterFindCallback2' in missing and 'StoreKeyValue' in missing


@pytest.mark.smoke
def test_a_name_that_the_build_lacks_says_which_sdk_has_it(server):
    """The header of the build is older than the server."""
    path = os.path.join(REPOSITORY, 'tests', 'golden', 'inventory.txt')
    with open(path, encoding='utf-8') as f:
        rows = [line.split() for line in f if not line.startswith('#')]
    missing = {row[2]: row[0] for row in rows
               if row[1] == 'function' and row[0] not in '-?' and version(row[0]) > SDK_VERSION}
    outcomes = probe.run(server, {name: 'orthanc.' + name for name in missing})
    for name, since in missing.items():
        assert outcomes[name].startswith(
            'raise AttributeError("module \'orthanc\' has no attribute \'%s\': it needs Orthanc %s, and a '
            'bridge that was built with the SDK of that version' % (name, since)), outcomes[name]


def test_a_missing_method_says_which_server_has_it(server):
    outcome = probe.run(server, {'x': 'output.SendStreamChunk'})['x']
    if min(SDK_VERSION, ORTHANC_VERSION) >= (1, 12, 6):
        assert outcome.startswith("<built-in method SendStreamChunk of orthanc.RestOutput")
    else:
        assert "'orthanc.RestOutput' object has no attribute 'SendStreamChunk': it needs Orthanc 1.12.6" \
            in outcome


def test_the_plain_ones_work_whatever_the_pairing(server):
    outcomes = probe.run(server, {
        'version': "__import__('json').loads(orthanc.RestApiGet('/system'))['Version']",
        'image': "orthanc.CreateImage(orthanc.PixelFormat.RGB24, 4, 5).GetImageHeight()",
        'dicom': "orthanc.CreateDicom('{}', None, orthanc.CreateDicomFlags.GENERATE_IDENTIFIERS)[128:132]",
        'error': "orthanc.RestApiGet('/nope')"})
    assert outcomes == {'version': repr(text_of(ORTHANC_VERSION)), 'image': '5',
                        'dicom': "b'DICM'", 'error': "raise OrthancException(17, 'Unknown resource')"}

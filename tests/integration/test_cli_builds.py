# SPDX-License-Identifier: GPL-3.0-or-later
"""The command orthanc-python out of the source, where nothing is installed: which build it takes."""

import json
import os
import shutil
import subprocess

import pytest

from server import BUILD, PATIENCE, REPOSITORY

pytestmark = pytest.mark.ours

EXAMPLE = os.path.join(REPOSITORY, 'examples', 'rest', 'rest.py')


@pytest.fixture
def tree(tmp_path):
    """A source tree with nothing but the command."""
    shutil.copytree(os.path.join(REPOSITORY, 'worker', 'cli'), tmp_path / 'tree' / 'worker' / 'cli')
    (tmp_path / 'tree' / 'build').mkdir()
    return tmp_path / 'tree'


def run(tree, *words, **variables):
    """(exit code, stdout, stderr) of the command of the tree."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith('ORTHANC_PYTHON')}
    done = subprocess.run(['/usr/bin/python3', tree / 'worker' / 'cli' / 'orthanc-python', *words],
                          env=dict(environment, **variables), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=90 * PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr


def pretend_build(folder, age):
    """What the command looks at in a build, of which the host was linked so many seconds ago."""
    for name, text in (('worker/host/orthanc-python-host', ''),
                       ('worker/cli/bridge.json', json.dumps({'Version': '1.0', 'Python': '/usr/bin/python3'}))):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding='ascii')
        os.utime(path, (1e9 - age, 1e9 - age))


@pytest.mark.parametrize('name', ['release', 'debug'])
def test_the_build_of_a_preset_beside_the_source_is_found(tree, name):
    (tree / 'build' / name).symlink_to(BUILD)
    code, out, err = run(tree, 'check', EXAMPLE)
    assert code == 0 and 'RegisterRestCallback  /tata' in out, out + err
    code, out, err = run(tree, '--version')
    assert (code, err) == (0, '') and out.endswith(' (build: %s)\n' % (tree / 'build' / name))


def test_of_two_builds_the_newer_one_is_taken_and_a_variable_decides_before(tree):
    builds = tree / 'build' / 'release', tree / 'build' / 'debug'
    for newer, older in (builds, builds[::-1]):
        for build in builds:
            shutil.rmtree(build, ignore_errors=True)
        pretend_build(newer, 10)
        pretend_build(older, 20)
        assert run(tree, '--version') == (0, 'orthanc-python 1.0 (build: %s)\n' % newer, '')
        assert run(tree, '--version', ORTHANC_PYTHON_BRIDGE_BUILD=str(older)) == (
            0, 'orthanc-python 1.0 (build: %s)\n' % older, '')
    (older / 'worker' / 'host' / 'orthanc-python-host').unlink()
    (newer / 'worker' / 'host' / 'orthanc-python-host').unlink()
    assert run(tree, '--version')[0] == 2, 'configured only'


def test_without_a_build_the_message_names_the_variable(tree):
    for words in (('check', EXAMPLE), ('--version',)):
        code, out, err = run(tree, *words)
        assert (code, out) == (2, '')
        assert err == ('orthanc-python: There is no build of the bridge in %s: build it, or name the directory of a build '
                       'in ORTHANC_PYTHON_BRIDGE_BUILD\n' % (tree / 'build'))
    code, _, err = run(tree, 'check', EXAMPLE, ORTHANC_PYTHON_BRIDGE_BUILD=str(tree))
    assert code == 2 and 'ORTHANC_PYTHON_BRIDGE_BUILD has to name the directory of a complete build' in err
    pretend_build(tree / 'build' / 'debug', 0)
    code, _, err = run(tree, 'check', EXAMPLE)
    assert code == 2 and 'build the bridge completely' in err and 'ORTHANC_PYTHON_BRIDGE_BUILD' in err


def test_a_console_takes_the_build_of_its_host(tree, orthanc):
    """Whatever is beside the command."""
    server = orthanc(script='import orthanc\n')
    assert run(tree, 'console', '--url', server.url(), '-c', 'len(orthanc.RestApiGet("/system")) > 10') == (0, 'True\n', '')

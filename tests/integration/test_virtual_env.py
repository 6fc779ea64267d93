# SPDX-License-Identifier: GPL-3.0-or-later
"""Python.VirtualEnv: the script lives in an environment of its own (docs/scripts.md)."""

import json
import pathlib
import subprocess
import sys

import pytest

from server import zygotes_of
from test_zygote import without_zygotes

pytestmark = pytest.mark.ours

SCRIPT = r'''
import json, multiprocessing, subprocess, sys
import only_here
import orthanc

def look(_):
    return [sys.prefix, __import__('only_here').ANSWER]

def rest(output, uri, **request):
    child = subprocess.run([sys.executable, '-c', 'import only_here, sys; print(only_here.ANSWER, sys.prefix)'],
                           check=True, capture_output=True, text=True)
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        output.AnswerBuffer(json.dumps({
            'prefix': sys.prefix, 'executable': sys.executable, 'answer': only_here.ANSWER,
            'subprocess': child.stdout.split(), 'multiprocessing': pool.map(look, [0])}), 'application/json')

orthanc.RegisterRestCallback('/look', rest)
'''
VERSION = '%d.%d' % sys.version_info[:2]


@pytest.fixture
def environment(tmp_path):
    path = tmp_path / 'environment'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', path], check=True)
    packages = path / 'lib' / ('python' + VERSION) / 'site-packages'
    (packages / 'only_here.py').write_text('ANSWER = 42\n')
    return path


def refusal(orthanc, value):
    server = orthanc.make(script='import orthanc\n', python={'VirtualEnv': str(value)})
    assert server.expect_refusal() == 255
    return server.log()


@pytest.mark.parametrize('python', [{}, {'Preload': ['only_here']}], ids=['plain', 'preloaded'])
def test_the_script_and_its_children_have_the_packages_of_the_environment(orthanc, environment, python):
    server = orthanc(script=SCRIPT, python=dict(python, VirtualEnv=str(environment)))
    assert zygotes_of(server.supervisor())
    prefix = str(environment)
    assert server.get('/look', timeout=60).json() == {
        'prefix': prefix, 'executable': prefix + '/bin/python', 'answer': 42,
        'subprocess': ['42', prefix], 'multiprocessing': [[prefix, 42]]}
    assert server.stop() == 0


def test_it_is_the_same_without_a_zygote(orthanc, environment, tmp_path):
    server = orthanc(script=SCRIPT, python={'VirtualEnv': str(environment), 'Worker': without_zygotes(tmp_path)})
    assert server.get('/look', timeout=60).json()['prefix'] == str(environment)


def test_an_environment_of_another_python_is_refused_naming_both(orthanc, environment):
    config = environment / 'pyvenv.cfg'
    config.write_text(config.read_text().replace('version = ' + VERSION, 'version = 3.7'))
    log = refusal(orthanc, environment)
    assert 'Python.VirtualEnv is %s, an environment of Python 3.7, but this worker runs Python %s' % (
        environment, VERSION) in log
    assert 'name it by Python.Worker' in log


def test_a_folder_that_is_no_environment_is_refused(orthanc, tmp_path):
    log = refusal(orthanc, tmp_path)
    assert 'Python.VirtualEnv is %s, but %s/pyvenv.cfg cannot be read' % (tmp_path, tmp_path) in log
    assert '-m venv DIRECTORY' in log


def test_an_environment_without_its_program_is_refused(orthanc, environment):
    pathlib.Path(environment, 'bin', 'python').unlink()
    assert 'its program %s/bin/python cannot be run' % environment in refusal(orthanc, environment)


@pytest.mark.parametrize('text', ['', 'home = /usr/bin\n', 'version = new\n'])
def test_an_environment_that_names_no_version_is_refused(orthanc, environment, text):
    (environment / 'pyvenv.cfg').write_text(text)
    assert 'names no version of Python' in refusal(orthanc, environment)


@pytest.mark.parametrize('value', ['environment', './x', '', 12])
def test_a_value_that_is_no_absolute_path_is_refused(orthanc, value):
    server = orthanc.make(script='import orthanc\n', python={'VirtualEnv': value})
    assert server.expect_refusal() == 255
    assert 'The configuration option "Python.VirtualEnv" is %s, and must be a' % json.dumps(value) in server.log()

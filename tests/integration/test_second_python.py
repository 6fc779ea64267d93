# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers of two versions of Python side by side, under one plugin (docs/scripts.md).

The second Python is OPB_TEST_PYTHON, or is looked for: python3.N of PATH, then those of pyenv. It
needs headers and a shared library. For it the worker is built, and nothing else.
"""

import fcntl
import glob
import json
import os
import re
import subprocess
import sys

import pytest

import sanitizer
from server import BUILD, REPOSITORY, ours_worker, status

pytestmark = [pytest.mark.ours,
              pytest.mark.skipif(sanitizer.NAME is not None, reason='the second worker is built without a sanitizer')]

OLDEST = (3, 11)
ABOUT = r'''
import json, os, sys, sysconfig
folder = sysconfig.get_config_var('LIBDIR') or ''
print(json.dumps({
    'version': sys.version, 'short': '%d.%d' % sys.version_info[:2], 'program': os.path.realpath(sys.executable),
    'headers': os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')),
    'library': os.path.exists(os.path.join(folder, sysconfig.get_config_var('LDLIBRARY') or '-')) or
               os.path.exists(os.path.join(folder, sysconfig.get_config_var('MULTIARCH') or '-',
                                           sysconfig.get_config_var('LDLIBRARY') or '-'))}))
'''
SCRIPT = r'''
import json, multiprocessing, subprocess, sys
import orthanc

def rest(output, uri, **request):
    child = subprocess.run([sys.executable, '-c', 'import sys; print(sys.version)'], check=True,
                           capture_output=True, text=True)
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        output.AnswerBuffer(json.dumps({'version': sys.version, 'subprocess': child.stdout[:-1],
                                        'pool': pool.apply(look, (orthanc.ErrorCode.UNKNOWN_RESOURCE,))}), 'application/json')

def look(code):
    return [sys.version, int(code), code == orthanc.ErrorCode.UNKNOWN_RESOURCE]

orthanc.RegisterRestCallback('/version', rest)
'''


def about(program):
    """What a Python says of itself; None if it is none."""
    try:
        done = subprocess.run([program, '-c', ABOUT], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return json.loads(done.stdout) if done.returncode == 0 else None


def cached(name):
    """A value of the build that is tested."""
    with open(os.path.join(BUILD, 'CMakeCache.txt'), encoding='utf-8') as f:
        found = re.search(r'^%s:\w+=(.*)$' % name, f.read(), re.M)
    return found.group(1) if found else ''


def find_second(first):
    """The Python to build with, or why there is none."""
    named = os.environ.get('OPB_TEST_PYTHON')
    pyenv = os.environ.get('PYENV_ROOT') or os.path.expanduser('~/.pyenv')
    candidates = [named] if named else [
        program for folder in os.environ.get('PATH', '').split(':') for program in glob.glob(folder + '/python3.[0-9][0-9]')
    ] + sorted(glob.glob(pyenv + '/versions/3.[0-9]*/bin/python3'), reverse=True)
    seen = []
    for program in candidates:
        found = about(program)
        if found is None:
            seen.append('%s does not run' % program)
        elif found['short'] == first['short'] or tuple(map(int, found['short'].split('.'))) < OLDEST:
            seen.append('%s is Python %s' % (program, found['short']))
        elif not found['headers'] or not found['library']:
            seen.append('%s has no headers or no shared library' % program)
        else:
            return found, None
    return None, 'no second Python to build a worker with: ' + ('; '.join(sorted(set(seen))) or 'none found')


@pytest.fixture(scope='module')
def first():
    """The Python of the worker that is tested."""
    return about(cached('Python3_EXECUTABLE') or cached('_Python3_EXECUTABLE') or sys.executable)


@pytest.fixture(scope='module')
def second(first):
    """Another one."""
    found, reason = find_second(first)
    if found is None:
        assert not os.environ.get('OPB_TEST_PYTHON'), reason
        pytest.skip(reason)
    return found


@pytest.fixture(scope='module')
def second_worker(second):
    """A worker for it, from the same tree as the plugin."""
    tree = os.path.join(BUILD, 'tests', 'python' + second['short'])
    os.makedirs(tree, exist_ok=True)
    with open(tree + '.lock', 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)    # tests run side by side
        for command in (['cmake', '-S', REPOSITORY, '-B', tree, '-G', 'Ninja', '-DCMAKE_BUILD_TYPE=Debug', '-DOPB_TESTS=OFF',
                         '-DORTHANC_SDK_INCLUDE_DIR=' + cached('ORTHANC_SDK_INCLUDE_DIR'),
                         '-DPython3_EXECUTABLE=' + second['program']],
                        ['cmake', '--build', tree, '-j', '2', '--target', 'orthanc-python-worker', 'orthanc-python-host',
                         'opb_module_extension']):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            assert done.returncode == 0, done.stdout
    return os.path.join(tree, 'worker', 'supervisor', 'orthanc-python-worker')


def environment_of(python, path):
    subprocess.run([python['program'], '-m', 'venv', '--without-pip', path], check=True)
    return str(path)


def test_two_servers_with_one_plugin_run_two_versions_of_python(orthanc, first, second, second_worker):
    """Each with its children, at the same time."""
    servers = [(first, orthanc(script=SCRIPT, python={'Worker': ours_worker()})),
               (second, orthanc(script=SCRIPT, python={'Worker': second_worker}))]
    assert first['short'] != second['short']
    for python, server in servers:
        version = python['version']
        assert server.get('/version', timeout=60).json() == {
            'version': version, 'subprocess': version, 'pool': [version, 17, True]}
        assert len(status(server)['Hosts']) == 1
    for _, server in servers:
        assert not server.messages('E')
        assert server.stop() == 0


def test_each_takes_environments_of_its_own_version(orthanc, tmp_path, first, second, second_worker):
    for python, worker in ((first, ours_worker()), (second, second_worker)):
        path = environment_of(python, tmp_path / python['short'])
        server = orthanc(script=SCRIPT, python={'Worker': worker, 'VirtualEnv': path})
        assert server.get('/version', timeout=60).json()['subprocess'] == python['version']
        assert server.stop() == 0


def test_each_refuses_environments_of_the_other_version_naming_both(orthanc, tmp_path, first, second, second_worker):
    for python, worker, other in ((first, ours_worker(), second), (second, second_worker, first)):
        path = environment_of(other, tmp_path / other['short'])
        server = orthanc.make(script=SCRIPT, python={'Worker': worker, 'VirtualEnv': path})
        assert server.expect_refusal() == 255
        assert 'Python.VirtualEnv is %s, an environment of Python %s, but this worker runs Python %s: make one with "%s -m venv' % (
            path, other['short'], python['short'], python['program']) in server.log()

# SPDX-License-Identifier: GPL-3.0-or-later
"""orthanc_python_testing: pytest for those who write scripts, as they run it."""

import os
import re
import shutil
import subprocess

import pytest

import sanitizer
from server import BUILD, OFFICIAL, PATIENCE, REPOSITORY, is_alive

pytestmark = pytest.mark.ours

EXAMPLE = os.path.join(REPOSITORY, 'examples', 'testing')
PACKAGE = os.path.join(REPOSITORY, 'python-testing')
SCRIPT = r'''
import os, signal
import orthanc

def hello(output, uri, **request):
    print('asked for', uri)
    output.AnswerBuffer('hello', 'text/plain')

def kill(output, uri, **request):
    os.kill(int(os.environ['ORTHANC_PID']), signal.SIGKILL)
    output.AnswerBuffer('', 'text/plain')

orthanc.RegisterRestCallback('/hello', hello)
orthanc.RegisterRestCallback('/kill', kill)
'''
HEAD = "pytest_plugins = ['orthanc_python_testing']\n"


def run_pytest(directory, *options, package=PACKAGE, **variables):
    """(exit code, output) of pytest in the directory."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(('PYTEST', 'ORTHANC_'))}
    environment.update({'PYTHONPATH': str(package), 'PYTHONDONTWRITEBYTECODE': '1', 'TMPDIR': str(directory),
                        'ORTHANC_PYTHON_TESTING_BRIDGE': BUILD, 'ORTHANC_PYTHON_TESTING_PATIENCE': str(PATIENCE)})
    environment.update(variables)
    environment = {key: value for key, value in environment.items() if value is not None}
    done = subprocess.run(['/usr/bin/python3', '-m', 'pytest', '-v', '-p', 'no:cacheprovider', '--rootdir',
                           str(directory), *options], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120 * PATIENCE,
                          check=False)
    left = [name for name in os.listdir(directory) if name.startswith('orthanc-test-')]
    assert left == [], 'files were left behind'
    return done.returncode, done.stdout


@pytest.fixture
def short():
    """A directory for tests of the user; pytest's own are too long for sockets below them."""
    directory = os.path.join('/tmp', 'opbu-%d' % os.getpid())
    os.mkdir(directory)
    yield directory
    shutil.rmtree(directory)


def write(directory, test, script=SCRIPT):
    for name, text in (('script.py', script), ('test_script.py', HEAD + test)):
        with open(os.path.join(directory, name), 'w', encoding='utf-8') as f:
            f.write(text)


@pytest.fixture
def example(short):
    shutil.copytree(EXAMPLE, short, dirs_exist_ok=True, ignore=shutil.ignore_patterns('__pycache__'))
    return short


@pytest.mark.smoke
@pytest.mark.skipif(sanitizer.NAME is not None, reason='the Orthanc of a script\'s tests is not one that preloads a sanitizer')
def test_the_example_passes_from_a_build_tree(example):
    code, output = run_pytest(example)
    assert (code, re.findall(r'=+ (5 passed) in', output)) == (0, ['5 passed']), output


def test_the_example_passes_from_an_installation_without_being_told_where(example, tmp_path):
    done = subprocess.run(['cmake', '--install', BUILD, '--prefix', '/opt/prefix'], capture_output=True, text=True,
                          env=dict(os.environ, DESTDIR=str(tmp_path)), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (package,) = (tmp_path / 'opt' / 'prefix' / 'lib').rglob('orthanc_python_testing')
    code, output = run_pytest(example, package=package.parent, ORTHANC_PYTHON_TESTING_BRIDGE=None)
    assert (code, ' 5 passed in' in output) == (0, True), output


@pytest.mark.skipif(not os.path.exists(OFFICIAL), reason='Debian\'s package orthanc-python is not installed')
def test_the_example_but_for_the_reload_passes_under_the_official_plugin(example):
    code, output = run_pytest(example, '-k', 'not loaded_again', ORTHANC_PYTHON_TESTING_BRIDGE=OFFICIAL)
    assert (code, ' 4 passed' in output) == (0, True), output


def test_the_build_can_be_an_option(short):
    with open(os.path.join(short, 'conftest.py'), 'w', encoding='utf-8') as f:
        f.write(HEAD)
    write(short, '''
def test_hello(start_orthanc):
    assert start_orthanc('script.py').get('/hello').text == 'hello'
''')
    code, output = run_pytest(short, '--orthanc-bridge=' + BUILD, ORTHANC_PYTHON_TESTING_BRIDGE='/nowhere')
    assert (code, ' 1 passed' in output) == (0, True), output


def test_a_failed_test_shows_the_log_and_what_the_script_printed(short):
    write(short, '''
def test_hello(start_orthanc):
    orthanc = start_orthanc('script.py')
    assert orthanc.get('/hello').text == 'bye'
''')
    code, output = run_pytest(short)
    assert code == 1
    assert re.search(r'^-+ log of Orthanc -+\n(?s:.*)Orthanc has started', output, re.M), output
    assert re.search(r'^-+ output of the script -+\nasked for /hello$', output, re.M), output


def test_a_script_that_does_not_load_fails_its_test_with_the_traceback(short):
    write(short, '''
def test_hello(start_orthanc):
    start_orthanc('script.py')
''', script='import no_such_module\n')
    code, output = run_pytest(short)
    assert code == 1
    assert 'Failure: Orthanc ended at its start' in output
    assert "No module named 'no_such_module'" in output


def test_an_orthanc_that_ends_by_itself_is_an_error(short):
    write(short, '''
def test_kill(start_orthanc):
    try:
        start_orthanc('script.py').get('/kill')
    except AssertionError:
        pass
''')
    code, output = run_pytest(short)
    assert (code, ' 1 passed, 1 error' in output) == (1, True), output
    assert re.search(r'^Orthanc ended by itself or not in order, with code -9', output, re.M), output


def test_waiting_ends_with_the_pattern_and_the_log(short):
    write(short, '''
def test_wait(start_orthanc):
    start_orthanc('script.py').wait_for_output('nothing like this', timeout=0.3)
''')
    code, output = run_pytest(short)
    assert code == 1
    assert re.search(r"Failure: Waited [\d.]+ s for 'nothing like this'. The log ends with:", output), output
    assert re.search(r'^test_script.py:\d+: Failure$', output, re.M), 'not a line of ours'


def test_each_test_has_a_server_of_its_own_and_none_is_left(short):
    write(short, '''
import pytest

@pytest.mark.parametrize('number', [1, 2])
def test_count(start_orthanc, number):
    first, second = start_orthanc('script.py'), start_orthanc('script.py', python={'Workers': 2})
    print('pids', first.process.pid, second.process.pid, *[host['Pid'] for host in second.status()['Hosts']])
    assert first.http_port != second.http_port
    assert first.get('/patients').json() == second.get('/patients').json() == []
    first.post('/tools/create-dicom', json={'Tags': {'PatientName': 'X'}})
    assert (len(first.get('/patients').json()), second.get('/patients').json()) == (1, [])
''')
    code, output = run_pytest(short, '-s')
    assert (code, ' 2 passed' in output) == (0, True), output
    pids = [int(pid) for line in re.findall(r'pids (.*)', output) for pid in line.split()]
    assert len(set(pids)) == 8
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize('variables, message', [
    ({'ORTHANC_PYTHON_TESTING_BRIDGE': '/nowhere'},
     r'libOrthancPythonBridge.so is in none of these places: /nowhere/plugin/\S+, .*--orthanc-bridge'),
    ({'ORTHANC_PYTHON_TESTING_ORTHANC': '/nowhere/Orthanc'},
     r'There is no program /nowhere/Orthanc: install Orthanc \(on Debian: apt install orthanc\)')])
def test_what_is_missing_is_named_with_the_remedy(short, variables, message):
    write(short, '''
def test_hello(start_orthanc):
    start_orthanc('script.py')
''')
    code, output = run_pytest(short, **variables)
    assert code == 1
    assert re.search(message, output), output


WITH = '''
import os, signal, sys
from orthanc_python_testing import Orthanc

if sys.argv[1] == 'interrupted':
    Orthanc.wait_until = lambda self, *_: os.kill(os.getpid(), signal.SIGINT)     # Ctrl-C during the start
orthanc = Orthanc('script.py')
try:
    with orthanc:
        print('entered')
except BaseException as error:
    print(type(error).__name__, 'ended' if orthanc.process.poll() is not None else 'runs', str(error))
finally:
    orthanc.kill()
'''


@pytest.mark.parametrize('how, script, error', [('broken', 'import no_such_module\n', 'Failure'),
                                                ('interrupted', SCRIPT, 'KeyboardInterrupt')])
def test_a_with_that_is_not_entered_leaves_nothing(short, how, script, error):
    write(short, '', script)
    environment = dict(os.environ, PYTHONPATH=PACKAGE, TMPDIR=short, ORTHANC_PYTHON_TESTING_BRIDGE=BUILD,
                       ORTHANC_PYTHON_TESTING_PATIENCE=str(PATIENCE))
    done = subprocess.run(['/usr/bin/python3', '-c', WITH, how], cwd=short, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120 * PATIENCE, check=False)
    assert done.stdout.startswith(error + ' ended'), done.stdout + done.stderr
    assert ("No module named 'no_such_module'" in done.stdout) == (how == 'broken'), done.stdout
    assert [name for name in os.listdir(short) if name.startswith('orthanc-test-')] == []

# SPDX-License-Identifier: GPL-3.0-or-later
"""orthanc-python check: what it says of scripts, and that this is what Orthanc would say."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import pytest

from server import BUILD, PATIENCE, REPOSITORY

pytestmark = pytest.mark.ours

CLI = os.path.join(REPOSITORY, 'worker', 'cli')
COMMAND = os.path.join(CLI, 'orthanc-python')
NOBODY = 65534
EXAMPLES = sorted(pathlib.Path(REPOSITORY, 'examples').glob('*/orthanc.json'))
TRACEBACK = re.compile(r"ZeroDivisionError'>\n +\S+ division.*\n(.*\n)* +File \"\S+script\.py\", line 2, in f\n", re.M)


@pytest.fixture
def temporary():
    """A folder with a path that is short enough for sockets, which must be empty at the end."""
    path = tempfile.mkdtemp(prefix='opb-')
    yield path
    os.rmdir(path)


@pytest.fixture
def check(tmp_path, temporary):
    """check(text, options...): exit code, report or None, stderr."""
    def run(text, *options, name='script.py'):
        path = tmp_path / name
        if text is not None:
            path.write_text(text, encoding='utf-8')
        done = subprocess.run(['/usr/bin/python3', COMMAND, 'check', '--json', *options, str(path)],
                              env=dict(os.environ, ORTHANC_PYTHON_BRIDGE_BUILD=BUILD, TMPDIR=temporary),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90 * PATIENCE,
                              check=False)
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr
    return run


def concerns(report):
    return [(item['Kind'], item['Line'], item['Name']) for item in report['Concerns']]


@pytest.mark.smoke
def test_it_says_what_a_script_registers_and_calls(check):
    code, report, _ = check('''
import orthanc
print('hello')
orthanc.LogWarning('first\\nsecond')
orthanc.RegisterRestCallback('/a/(.*)', print)
orthanc.RegisterOnChangeCallback(print)
orthanc.RegisterMoveCallback2(print, print, print, print)
assert orthanc.ComputeMd5(b'') == 'd41d8cd98f00b204e9800998ecf8427e'
''')
    assert code == 0 and report['Failure'] is None and report['Concerns'] == []
    assert report['Registrations'] == [{'Function': 'RegisterRestCallback', 'Pattern': '/a/(.*)'},
                                       {'Function': 'RegisterOnChangeCallback', 'Pattern': None},
                                       {'Function': 'RegisterMoveCallback2', 'Pattern': None}]
    assert report['Calls'] == {'LogWarning': 1, 'ComputeMd5': 1}
    assert report['Log'] == [{'Level': 'W', 'Text': 'first\nsecond'}]
    assert 0 < report['ImportSeconds'] < 60


def test_the_words_for_people_have_all_of_it(tmp_path):
    path = tmp_path / 'script.py'
    path.write_text("import orthanc\nprint('from the script')\northanc.RegisterRestCallback('/a', print)\n"
                    "orthanc.NoSuchFunction\n", encoding='utf-8')
    done = subprocess.run(['/usr/bin/python3', COMMAND, 'check', str(path)], capture_output=True, text=True, check=False,
                          env=dict(os.environ, ORTHANC_PYTHON_BRIDGE_BUILD=BUILD), timeout=90 * PATIENCE)
    assert done.returncode == 1 and 'from the script\n' in done.stderr
    assert re.search(r'^script +%s$' % path, done.stdout, re.M)
    assert re.search(r'^import +failed, \d\.\d\d s$', done.stdout, re.M)
    assert re.search(r'^registers +RegisterRestCallback  /a$', done.stdout, re.M)
    assert re.search(r'^error +%s:4: NoSuchFunction does not exist$' % path, done.stdout, re.M)
    assert re.search(r"^failure +<class 'AttributeError'>$", done.stdout, re.M)


@pytest.mark.parametrize('example', EXAMPLES, ids=[path.parent.name for path in EXAMPLES])
def test_every_example_passes(check, example):
    for script in sorted(set(example.parent.glob('*.py')) - set(example.parent.glob('test_*.py'))):
        code, report, errors = check(None, '--config', str(example), name=str(script))
        if "No module named 'pynetdicom'" in (report['Failure'] or ''):
            pytest.skip('pynetdicom is not installed: no Debian release has a package of it (contract 9)')
        if 'missing' in [kind for kind, _, _ in concerns(report)]:
            assert code in (1, 6)       # it is for a newer SDK than that of this build
            continue
        assert code == 0 and {kind for kind, _, _ in concerns(report)} <= {'deprecated', 'guarded'}, (report, errors)
        assert (report['Registrations'] != []) == (script.name not in ('introspection.py', 'service.py'))


def test_an_exception_of_the_import_is_shown_with_its_traceback(check):
    code, report, _ = check('def f():\n    1 // 0\nf()\n')
    assert code == 1 and re.search(r'ZeroDivisionError.*script\.py", line 2, in f', report['Failure'], re.S)
    assert report['Log'] == [] and report['Calls'] == {}
    code, report, _ = check('def f(:\n')
    assert code == 1 and 'SyntaxError' in report['Failure']
    code, report, _ = check('import os\nos._exit(3)\n', '--timeout', '3600')      # nor does it wait that long
    assert code == 1 and report['Failure'] == 'The host has ended: exit code 3'
    code, report, _ = check('import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n')
    assert code == 1 and 'signal 11 (Segmentation fault)' in report['Failure']


def test_an_import_that_does_not_end_is_ended_and_shown(check):
    code, report, _ = check('import threading\ndef sleeper():\n    threading.Event().wait()\nsleeper()\n',
                            '--timeout', '1')
    assert code == 1 and report['Failure'].startswith('The script has not been imported within 1 s')
    assert re.search(r'script\.py", line 3 in sleeper', report['Failure']), report['Failure']


def test_what_a_server_lacks_is_an_error_unless_it_is_asked_for(check):
    """LogMessage and LogCategory came with 1.12.4, StoreKeyValue later, whatever the SDK of this build."""
    code, report, _ = check('''
import orthanc as o
from orthanc import ChangeType, ErrorCode as Code
def f(instance):
    o.LogMessage('a', 'b', 'c', 1, 2, 3)
    instance.GetInstanceSize()
    print(ChangeType.NO_SUCH_CHANGE, Code.SUCCESS, o.Nothing)
''', '--orthanc', '1.10.1')
    assert code == 6 and report['Failure'] is None
    assert concerns(report) == [('missing', 5, 'LogMessage'), ('missing', 7, 'ChangeType.NO_SUCH_CHANGE'),
                                ('missing', 7, 'Nothing')]
    assert 'needs Orthanc 1.12.4' in report['Concerns'][0]['Text']
    code, report, _ = check('def f(output):\n    output.StartStreamAnswer("text/plain")\n', '--orthanc', '1.10.1')
    assert code == 6 and concerns(report) == [('missing', 2, 'StartStreamAnswer')]
    assert 'needs Orthanc 1.12.6' in report['Concerns'][0]['Text']
    code, report, _ = check('''
import orthanc
if hasattr(orthanc, 'LogMessage'):
    orthanc.LogMessage('a', 'b', 'c', 1, orthanc.LogCategory.GENERIC, 3)
    orthanc.StoreKeyValue('a', 'b', 'c')
''', '--orthanc', '1.10.1')
    assert code == 6 and concerns(report) == [('guarded', 4, 'LogCategory'), ('guarded', 4, 'LogMessage'),
                                              ('missing', 5, 'StoreKeyValue')]


def test_a_script_sees_the_names_of_the_chosen_server(check):
    sdk = json.loads(pathlib.Path(BUILD, 'generated', 'model.json').read_text(encoding='utf-8'))['sdk']
    newer = tuple(map(int, sdk.split('.'))) > (1, 12, 3)
    text = "import orthanc\nassert hasattr(orthanc, 'LogMessage') == %s\n"
    assert check(text % False, '--orthanc', '1.12.3')[0] == 0
    assert check(text % newer, '--orthanc', 'mainline')[0] == 0


def test_deprecated_functions_are_noted(check):
    code, report, _ = check('import orthanc\northanc.SetDescription("text")\n')
    if [item for item in json.loads(pathlib.Path(BUILD, 'generated', 'model.json').read_text(encoding='utf-8'))[
            'functions'] if item['name'] == 'SetDescription'][0]['deprecated']:
        assert concerns(report) == [('deprecated', 2, 'SetDescription')]
    code, report, _ = check('import orthanc\northanc.GetFontsCount()\n')
    assert code == 0 and report['Calls'] == {'GetFontsCount': 1}


def test_modules_beside_the_script_are_looked_at_too(check, tmp_path):
    (tmp_path / 'helpers.py').write_text('import orthanc\ndef f():\n    orthanc.NoSuchThing()\n', encoding='utf-8')
    code, report, _ = check('import helpers\n')
    assert code == 6 and report['Concerns'][0]['File'] == str(tmp_path / 'helpers.py')


def test_a_route_that_matches_nothing_is_an_error(check):
    text = 'import orthanc\nfor pattern in %r:\n    orthanc.RegisterRestCallback(pattern, print)\n'
    code, report, _ = check(text % (['a', '/a/'],))
    assert code == 6 and [item['Kind'] for item in report['Concerns']] == ['route', 'route']
    code, report, _ = check(text % (['/(a|b)/c', '.*', '/', r'\/a', '[/]a', '(/a)', 'a|/b', '/a/?'],))
    assert (code, report['Concerns']) == (0, [])


def test_threads_and_child_processes_of_the_import_reach_it(check):
    code, report, _ = check('''
import subprocess, sys, threading, orthanc
thread = threading.Thread(target=orthanc.GenerateUuid)
thread.start()
thread.join()
uuid = subprocess.run([sys.executable, '-c', 'import orthanc; print(orthanc.GenerateUuid())'],
                      capture_output=True, text=True, check=True).stdout
assert len(uuid) == 37
orthanc.RegisterRestCallback('/a', print)
''')
    assert code == 0, report['Failure']
    assert report['Calls'] == {'GenerateUuid': 2}


def test_the_configuration_is_what_the_script_sees(check, tmp_path):
    (tmp_path / 'conf').mkdir()
    (tmp_path / 'conf' / 'a.json').write_text('{ "One": 1, // "two"\n /* { */ "Url": "http://a" }', encoding='utf-8')
    (tmp_path / 'conf' / 'b.json').write_text('{ "Two": "/* */" }', encoding='utf-8')
    code, report, _ = check('''
import json, orthanc
found = json.loads(orthanc.GetConfiguration())
assert found == {'One': 1, 'Url': 'http://a', 'Two': '/* */', 'PythonScript': __file__}, found
''', '--config', str(tmp_path / 'conf'))
    assert code == 0, report['Failure']


def test_a_configuration_is_read_as_orthanc_reads_it(check, tmp_path, monkeypatch):
    """With a mark of the byte order, variables of the environment, comments, and commas after the last value."""
    monkeypatch.setenv('OPB_NAME', 'Ada')
    monkeypatch.delenv('OPB_NOTHING', raising=False)
    (tmp_path / 'conf').mkdir()
    (tmp_path / 'conf' / 'A.JSON').write_text(
        '{ "Name": "${OPB_NAME}|${OPB_NOTHING}|${OPB_NOTHING:-none}|${OPB_NAME:-none}",\n'
        '  "List": [1, "]", /* , */ ], "Text": ",]",\n}', encoding='utf-8-sig')
    code, report, err = check('''
import json, orthanc
found = json.loads(orthanc.GetConfiguration())
assert found == {'Name': 'Ada||none|Ada', 'List': [1, ']'], 'Text': ',]', 'PythonScript': __file__}, found
''', '--config', str(tmp_path / 'conf'))
    assert code == 0, (report, err)


@pytest.mark.parametrize('text', ['{"a": 1,,}', '{,}', '{"a": [,]}', '{"a": [1,,2]}', '[]', '{"a":,}'])
def test_other_commas_are_errors_as_in_orthanc(check, tmp_path, text):
    (tmp_path / 'orthanc.json').write_text(text, encoding='utf-8')
    code, _, err = check('', '--config', str(tmp_path / 'orthanc.json'))
    assert code == 2 and re.fullmatch('orthanc-python: .* is no configuration of Orthanc: .*\n', err), err


def test_a_folder_that_orthanc_could_not_use_is_refused(check, tmp_path):
    folder = tmp_path / 'conf'
    folder.mkdir()
    code, _, err = check('', '--config', str(folder))
    assert code == 2 and '%s is no configuration of Orthanc: it has no files *.json in it' % folder in err
    for name in ('a.json', 'b.json'):
        (folder / name).write_text('{ "Same": 1, "%s": 2 }' % name, encoding='utf-8')
    code, _, err = check('', '--config', str(folder))
    assert code == 2 and err == ('orthanc-python: The configuration section "Same" is defined in 2 different configuration '
                                 'files, %s and %s\n' % (folder / 'a.json', folder / 'b.json'))


@pytest.mark.parametrize('words', [(), ('--config',)])
def test_a_path_that_cannot_be_looked_at_is_said_to_be_so(check, words):
    said = 'The configuration' if words else 'The script'
    code, _, err = check(None if not words else '', *words, *(['x' * 300] if words else []),
                         name='script.py' if words else 'x' * 300 + '.py')
    assert code == 2 and re.fullmatch('orthanc-python: %s cannot be read: .*File name too long.*\n' % said, err), err


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root, to be another user')
def test_folders_of_others_are_said_to_be_so(tmp_path):
    """What cannot be searched, and what cannot be listed."""
    with tempfile.TemporaryDirectory(prefix='opb-') as folder:
        hidden, script = pathlib.Path(folder, 'hidden'), pathlib.Path(folder, 'script.py')
        hidden.mkdir()
        script.touch()
        for path, mode in ((folder, 0o755), (hidden, 0o700)):
            os.chmod(path, mode)
        for words, said in (([hidden / 'a.py'], 'The script'), ([hidden], 'The script'),
                            (['--config', hidden / 'a.json', script], 'The configuration'),
                            (['--config', hidden, script], 'The configuration')):
            done = subprocess.run(['/usr/bin/python3', COMMAND, 'check', *map(str, words)], capture_output=True, text=True,
                                  env=dict(os.environ, ORTHANC_PYTHON_BRIDGE_BUILD=BUILD), timeout=90 * PATIENCE,
                                  check=False, user=NOBODY, group=NOBODY, extra_groups=[], cwd='/')
            assert done.returncode == 2 and re.fullmatch(
                'orthanc-python: %s cannot be read: .*Permission denied.*\n' % said, done.stderr), (words, done)


def test_whatever_a_script_is_called_and_logs_can_be_shown(tmp_path):
    """Bytes that are no UTF-8, and characters that the output has not."""
    path = os.fsencode(tmp_path) + b'/caf\xe9.py'
    with open(path, 'w', encoding='utf-8') as file:
        file.write("import orthanc\northanc.LogWarning('to \u2192')\n")
    for encoding in ('utf-8', 'latin-1'):
        done = subprocess.run(['/usr/bin/python3', COMMAND, 'check', path], capture_output=True, check=False,
                              env=dict(os.environ, ORTHANC_PYTHON_BRIDGE_BUILD=BUILD, PYTHONIOENCODING=encoding),
                              timeout=90 * PATIENCE)
        assert done.returncode == 0 and rb'caf\udce9.py' in done.stdout, done
        assert ('to \u2192' if encoding == 'utf-8' else r'to \u2192').encode() in done.stdout


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_check_that_is_ended_by_a_signal_leaves_nothing(tmp_path, temporary, number):
    script = tmp_path / 'script.py'
    script.write_text("import os, threading\nprint('pid', os.getpid(), flush=True)\nthreading.Event().wait()\n")
    with subprocess.Popen(['/usr/bin/python3', COMMAND, 'check', script], stderr=subprocess.PIPE, text=True,
                          env=dict(os.environ, ORTHANC_PYTHON_BRIDGE_BUILD=BUILD, TMPDIR=temporary)) as process:
        host = int(re.fullmatch(r'pid (\d+)\n', process.stderr.readline()).group(1))
        process.send_signal(number)
        _, err = process.communicate(timeout=60 * PATIENCE)
    assert (process.returncode, err) == (128 + number, '')
    assert not os.path.exists('/proc/%d' % host) and os.listdir(temporary) == []


def test_a_virtual_environment_that_is_no_text_is_refused(check, tmp_path):
    (tmp_path / 'orthanc.json').write_text('{ "Python": { "VirtualEnv": 5 } }', encoding='utf-8')
    code, _, err = check('', '--config', str(tmp_path / 'orthanc.json'))
    assert (code, err) == (2, 'orthanc-python: Python.VirtualEnv of the configuration is 5, and must be a text\n')


def test_a_virtual_environment_is_that_of_the_option_or_of_the_configuration(check, tmp_path):
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'venv'], check=True)
    packages = tmp_path / 'venv' / 'lib' / ('python%d.%d' % sys.version_info[:2]) / 'site-packages'
    (packages / 'only_here.py').write_text('', encoding='utf-8')
    (tmp_path / 'orthanc.json').write_text(json.dumps({'Python': {'VirtualEnv': str(tmp_path / 'venv')}}))
    text = 'import sys, only_here\nassert sys.prefix == %r\n' % str(tmp_path / 'venv')
    assert check(text)[0] == 1
    assert check(text, '--venv', str(tmp_path / 'venv'))[0] == 0
    assert check(text, '--config', str(tmp_path / 'orthanc.json'))[0] == 0
    code, report, _ = check(text, '--venv', str(tmp_path))
    assert code == 1 and 'pyvenv.cfg cannot be read' in report['Failure']


def test_wrong_usage_says_what_is_wrong(check, tmp_path):
    code, report, err = check(None, name='missing.py')
    assert (code, report) == (2, None) and 'missing.py' in err
    (tmp_path / 'bad.json').write_text('{', encoding='utf-8')
    code, _, err = check('', '--config', str(tmp_path / 'bad.json'))
    assert code == 2 and 'bad.json' in err and 'Traceback' not in err
    code, _, err = check('', '--orthanc', '1.9.0')
    assert code == 2 and '1.10.1' in err
    for text in ('9', '1.12', '1.12.6.1', '1.x.y', 'mainlin', '1.12.6 ', '-1.2.3'):
        code, report, err = check('', '--orthanc=' + text)
        assert (code, report) == (2, None)
        assert err == ('orthanc-python: "%s" is no version of Orthanc: it has to be three numbers, as 1.12.6, or mainline\n'
                       % text)


def test_a_server_that_is_newer_than_the_sdk_is_said_to_be(check, tmp_path):
    """Names that came since then are not known."""
    code, report, _ = check('', '--orthanc', '9.0.0')
    assert code == 0 and report['Orthanc'] == '9.0.0'
    for version, is_newer in (('9.0.0', True), ('mainline', True), (report['Sdk'] if report['Sdk'][0].isdigit() else '1.10.1', False)):
        done = subprocess.run(['/usr/bin/python3', COMMAND, 'check', '--orthanc', version, tmp_path / 'script.py'],
                              env=dict(os.environ, ORTHANC_PYTHON_BRIDGE_BUILD=BUILD), capture_output=True, text=True,
                              timeout=90 * PATIENCE, check=True)
        assert ('newer than the SDK of this bridge, %s:' % report['Sdk'] in done.stdout) == is_newer, done.stdout


ERRORS = r'''
import json, orthanc
def attempt(function, *arguments):
    try:
        result = function(*arguments)
    except Exception as error:
        result = [type(error).__name__, str(error)]
    return result if isinstance(result, (list, int, type(None))) else type(result).__name__
print('SEEN' + json.dumps([
    attempt(orthanc.RestApiGet, '/system'), attempt(orthanc.RestApiPost, '/tools/find', '{}'),
    attempt(orthanc.GetDicomForInstance, 'a'), attempt(orthanc.LookupPatient, 'a'),
    attempt(orthanc.SetGlobalProperty, 2000, 'a'), attempt(orthanc.GetConfiguration),
    attempt(orthanc.GenerateUuid), attempt(orthanc.ComputeSha1, b'a'), attempt(orthanc.GetPeers),
    attempt(orthanc.CheckVersionAdvanced, 1, 10, 1), attempt(orthanc.CheckVersionAdvanced, 99, 0, 0),
    attempt(orthanc.ReadFile, '/no/such/file'), attempt(orthanc.GetGlobalProperty, 2000, 'a')]), flush=True)
orthanc.RegisterRestCallback('/a', print)
'''


def test_an_import_sees_the_errors_that_a_real_server_gives(orthanc, check):
    server = orthanc(script=ERRORS)
    real = re.search(r'SEEN(.*)', server.out()).group(1)
    code, _, errors = check(ERRORS)
    assert code == 0, errors
    assert json.loads(re.search(r'SEEN(.*)', errors).group(1)) == json.loads(real)


def test_it_knows_every_registration_of_the_module():
    sys.path.insert(0, CLI)
    try:
        from orthanc_python.recorder import REGISTRATIONS
    finally:
        sys.path.remove(CLI)
    source = pathlib.Path(REPOSITORY, 'worker', 'module', 'register.c').read_text(encoding='utf-8')
    pairs = re.findall(r'(?:ONE|SEVERAL|STORAGE)\(\s*"(\w+)",\s*"(\w+)"', source)
    assert len(pairs) == 16
    assert {call: function for function, call in pairs} | {'Rest': 'RegisterRestCallback'} == REGISTRATIONS


def test_several_scripts_are_loaded_together(tmp_path, temporary):
    """A directory as Orthanc takes it: sorted, without what begins with _ or a dot."""
    folder = tmp_path / 'scripts'
    folder.mkdir()
    for name, route in (('b.py', '/b'), ('a.py', '/a'), ('_c.py', '/c'), ('.d.py', '/d')):
        (folder / name).write_text("import orthanc\northanc.RegisterRestCallback('%s', print)\n" % route)
    other = tmp_path / 'other.py'
    other.write_text('import orthanc\northanc.RegisterFindCallback(print)\n')

    def run(*paths):
        done = subprocess.run(['/usr/bin/python3', COMMAND, 'check', '--json', *map(str, paths)],
                              env=dict(os.environ, ORTHANC_PYTHON_BRIDGE_BUILD=BUILD, TMPDIR=temporary),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90 * PATIENCE,
                              check=False)
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr

    code, report, _ = run(folder, other)
    assert code == 0
    assert report['Scripts'] == [str(folder / 'a.py'), str(folder / 'b.py'), str(other)]
    assert [(item['Function'], item['Pattern']) for item in report['Registrations']] == [
        ('RegisterRestCallback', '/a'), ('RegisterRestCallback', '/b'), ('RegisterFindCallback', None)]

    (folder / 'b.py').write_text('import orthanc\northanc.RegisterFindCallback(print)\n')
    code, report, _ = run(folder, other)
    assert code == 1
    assert str(folder / 'b.py') in report['Failure'] and str(other) in report['Failure']

    assert run(folder, tmp_path / 'scripts' / 'a.py')[0] == 2, 'twice the same'
    for path in folder.iterdir():
        path.unlink()
    code, _, text = run(folder)
    assert code == 2 and '%s has no Python scripts in it' % folder in text

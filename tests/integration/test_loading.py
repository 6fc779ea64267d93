# SPDX-License-Identifier: GPL-3.0-or-later
"""How a script is found, loaded and refused, and what it finds (contract 4)."""

import os
import re
import sys

import pytest

import probe
from compare import Approved, assert_outcomes, assert_same
from conftest import PLUGINS
from server import OFFICIAL_VERSION

CORE = [r'Error while initializing plugin .* \(code -1\)',
        r'Uncaught exception, stopping now: \[Error while using a shared library \(plugin\)\] \(code 25\)']
INSTALLATION = 'Error during the installation of the Python script, traceback:'
HELLO = "import orthanc\nprint('loaded', flush=True)\n"

# name: (arguments of the server, log message of the contract; DIRECTORY is its directory)
REFUSED = {
    'missing file': (dict(script_path='DIRECTORY/nope.py'),
                     'Inexistent directory for the Python script: DIRECTORY/nope.py'),
    'directory named .py': (dict(script_path='DIRECTORY/d.py', files={'d.py/x': ''}),
                            'Inexistent directory for the Python script: DIRECTORY/d.py'),
    'wrong extension': (dict(script=HELLO, name='script.txt'),
                        'Python script must have the ".py" file extension: DIRECTORY/script.txt'),
    'no extension': (dict(script=HELLO, name='script'),
                     'Python script must have the ".py" file extension: DIRECTORY/script'),
    # ours takes directories with scripts
    'directory': (dict(script_path='DIRECTORY/sub', files={'sub/x': ''}), {
        'official': 'Python script must have the ".py" file extension: DIRECTORY/sub',
        'ours': 'The configuration option "PythonScript" names "DIRECTORY/sub", a directory without scripts: it must '
                'hold at least one file whose name ends with ".py", and begins with neither "_" nor "."'}),
    'empty string': (dict(script_path=''),
                     'Python script must have the ".py" file extension: '),
    'not a string': (dict(script_path=12), None),
    'verbose not a Boolean': (dict(script=HELLO, config={'PythonVerbose': 'yes'}), None),
    'upper case extension': (dict(script=HELLO, name='script.PY'), INSTALLATION),
    'inner dot': (dict(script=HELLO, name='my.script.py'), INSTALLATION),
}

MARKER = '    ~^^\n' if sys.version_info >= (3, 13) else ''    # below a source line, contract 4.5
# what the module body does: text in the log after the headline
RAISES = {
    'raise': ("raise ValueError('at import')",
              "<class 'ValueError'>\nat import\n\n  File \"DIRECTORY/script.py\", line 1, in <module>\n"
              "    raise ValueError('at import')"),
    'nested': ("def f():\n    return {}['key']\nf()",
               "<class 'KeyError'>\n'key'\n\n  File \"DIRECTORY/script.py\", line 3, in <module>\n"
               "    f()\n" + MARKER + "\n  File \"DIRECTORY/script.py\", line 2, in f\n"
               "    return {}['key']"),
    'syntax error': ("def f(:\n    pass\n", "<class 'SyntaxError'>\ninvalid syntax (script.py, line 1)"),
    'exit 0': ("raise SystemExit(0)", "<class 'SystemExit'>\n0\n"),
    'exit text': ("import sys\nsys.exit('bye')", "<class 'SystemExit'>\nbye\n"),
    'interrupt': ("raise KeyboardInterrupt()", "<class 'KeyboardInterrupt'>\n\n"),
    'module': ("import nothing_of_this_name",
               "<class 'ModuleNotFoundError'>\nNo module named 'nothing_of_this_name'"),
    'after registration': ("import orthanc\northanc.RegisterRestCallback('/a', print)\n1/0",
                           "<class 'ZeroDivisionError'>\ndivision by zero\n"),
    'sdk': ("import orthanc\northanc.RestApiGet('/system')",
            "<class 'orthanc.OrthancException'>\n(2038, 'Plugin trying to call the database during "
            "its initialization')"),
}


def refusal(orthanc, plugin, arguments):
    """Starts what must fail; returns (server, exit code)."""
    directory = os.path.join(str(orthanc.base), '%s-%d' % (plugin, len(orthanc.servers)))
    arguments = {key: value.replace('DIRECTORY', directory) if isinstance(value, str) else value
                 for key, value in arguments.items()}
    server = orthanc.make(plugin, **arguments)
    return server, server.expect_refusal()


def errors(server):
    return [text.replace(server.directory, 'DIRECTORY') for _, text in server.messages('E')]


@pytest.mark.parametrize('case', REFUSED)
def test_a_wrong_configuration_stops_the_start(orthanc, plugin, case):
    arguments, message = REFUSED[case]
    message = message[plugin] if isinstance(message, dict) else message
    server, code = refusal(orthanc, plugin, arguments)
    assert code == 255
    logged = errors(server)
    for pattern in CORE:
        assert any(re.search(pattern, text) for text in logged), logged
    if message is None:
        assert 'Exception while starting the Python plugin: Bad file format' in logged
    elif message == INSTALLATION:
        assert any(text.startswith(INSTALLATION + "\n<class 'ModuleNotFoundError'>\n")
                   for text in logged), logged
    else:
        assert message in logged, logged
    assert 'loaded' not in server.out()


@pytest.mark.parametrize('case', RAISES)
def test_an_exception_at_import_stops_the_start(orthanc, case):
    text, logged = RAISES[case]
    results = {}
    for name in PLUGINS:
        server, code = refusal(orthanc, name, dict(script=text))
        assert code == 255
        found = [x for x in errors(server) if x.startswith(INSTALLATION)]
        assert len(found) == 1, errors(server)
        assert found[0].startswith(INSTALLATION + '\n' + logged), found[0]
        results[name] = found[0].strip()
        server.assert_no_leftovers()
    assert_same(results)


def test_os_exit_at_import(orthanc, plugin):
    """Contract 4.4: its code cannot be carried through by ours."""
    server, code = refusal(orthanc, plugin, dict(script='import os\nos._exit(7)\n'))
    assert code == (7 if plugin == 'official' else 255)
    if plugin == 'ours':
        assert any('7' in text and 'exit' in text for text in errors(server)), errors(server)


def test_no_script_leaves_the_plugin_idle(orthanc, plugin):
    server = orthanc(plugin)
    ours = r'Options "PythonScript" and "Python\.Path" are not provided: Python scripting is disabled'
    old = r'The option "PythonScript" is not provided: '    # contract 4.1
    expected = {'official': old if OFFICIAL_VERSION < (4, 1) else ours, 'ours': ours}
    assert any(re.match(expected[plugin], text) for _, text in server.messages('W'))
    assert server.get('/system').status_code == 200
    assert server.get('/plugins/python').json()['ID'] == 'python'
    assert server.stop() == 0


def test_start_and_stop_are_logged(orthanc, plugin):
    server = orthanc(plugin, script=HELLO)
    assert server.stop() == 0
    warnings = [text.replace(server.directory, 'DIRECTORY') for _, text in server.messages('W')]
    for message in ('Python plugin is initializing',
                    'Using Python script "script.py" from directory: DIRECTORY',
                    'Program name: /usr/sbin/Orthanc', 'Python plugin is finalizing'):
        assert message in warnings, warnings
    assert not server.messages('E')
    if plugin == 'ours':
        assert any(text.startswith('Version of the Orthanc SDK in use by the Python plugin: ')
                   for text in warnings)


def test_identity(orthanc, plugin):
    """Contract 4.6, 10."""
    server = orthanc(plugin, script=HELLO)
    identity = server.get('/plugins/python').json()
    assert identity['ID'] == 'python'
    assert identity['Description'] == 'Run Python scripts as Orthanc plugins'
    assert 'python' in server.get('/plugins').json()


# -- what the script finds --------------------------------------------------------------

ENVIRONMENT = {
    'sys.argv': "__import__('sys').argv",
    'name': "SCRIPT['__name__']",
    'package': "SCRIPT['__package__']",
    'in modules': "__import__('sys').modules[SCRIPT['__name__']].__dict__ is SCRIPT",
    'file absolute': "__import__('os').path.isabs(SCRIPT['__file__'])",
    'path 0': "__import__('sys').path[0] == __import__('os').path.dirname(SCRIPT['__file__'])",
    'main': "sorted(n for n in vars(__import__('__main__')) if not n.startswith('__'))",
    'main was run': "'MAIN_WAS_RUN' in SCRIPT",
    'sibling': "__import__('sibling').VALUE",
    'cwd': "__import__('os').getcwd() == CWD",
    'exit': "callable(exit) and callable(quit)",
    'main thread': "(IMPORT_THREAD.name, type(IMPORT_THREAD).__name__)",
    'thread here': "type(__import__('threading').current_thread()).__name__",
    'not main here': "__import__('threading').current_thread() is not "
                     "__import__('threading').main_thread()",
    'encoding': "(__import__('sys').stdout.encoding.lower(), "
                "__import__('sys').getfilesystemencoding())",
    'flags': "(__import__('sys').flags.isolated, __import__('sys').flags.ignore_environment, "
             "__import__('sys').flags.no_user_site, __import__('sys').flags.inspect)",
    'prefix': "(__import__('sys').prefix, __import__('sys').base_prefix)",
    'user site': "__import__('site').ENABLE_USER_SITE",
    'pythonpath': "__import__('from_pythonpath').VALUE",
    'version': "__import__('sys').version_info[:2]",
    'stdin': "input()",
    'site packages': "__import__('pydicom').__name__",
    'excepthook': "__import__('sys').excepthook is __import__('sys').__excepthook__",
}
ENVIRONMENT_EXPECTED = {
    'sys.argv': "['']", 'name': "'my-script'", 'package': "''", 'in modules': 'True',
    'file absolute': 'True', 'path 0': 'True', 'main was run': 'False', 'sibling': '12',
    'cwd': 'True', 'exit': 'True', 'main thread': "('MainThread', '_MainThread')",
    'thread here': "'_DummyThread'", 'not main here': 'True', 'encoding': "('utf-8', 'utf-8')",
    'pythonpath': "'yes'", 'stdin': "raise EOFError('EOF when reading a line',)", 'main': '[]',
}


@pytest.mark.smoke
def test_the_environment_of_the_script(orthanc):
    outcomes = {}
    for name in PLUGINS:
        directory = os.path.join(str(orthanc.base), 'path')
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, 'from_pythonpath.py'), 'w', encoding='utf-8') as f:
            f.write("VALUE = 'yes'\n")
        server = orthanc(name, name='my-script.py', files={'sibling.py': 'VALUE = 12\n'},
                         env={'PYTHONPATH': directory}, script=probe.SCRIPT + r'''
import os as _os, sys as _sys, threading as _threading
_SPACE.update(SCRIPT=globals(), CWD=_os.getcwd(), IMPORT_THREAD=_threading.current_thread())
if __name__ == '__main__':
    MAIN_WAS_RUN = True
''')
        outcomes[name] = probe.run(server, ENVIRONMENT)
    # Under the official plugin, the import happens on a small stack of an HTTP thread, which
    # Python 3.14 finds too small.
    assert_outcomes(outcomes, ENVIRONMENT_EXPECTED,
                    {'site packages': Approved('4.3', "'pydicom'")})


@pytest.mark.ours
def test_ours_has_a_real_interpreter(orthanc):
    """Contract 4.3, 8 row 17: sys.executable runs Python, the prefix is its own."""
    server = orthanc(script=probe.SCRIPT)
    outcome = probe.run(server, {
        'run': "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import sys; "
               "print(sys.version_info[:2] == %r)' % (sys.version_info[:2],)], capture_output=True, "
               "text=True).stdout.strip()",
        'name': "import os\nos.path.basename(sys.executable).startswith('python')",
        'pid': "os.getppid() != 0 and os.getpid() != %d" % server.pid,
    })
    assert outcome == {'run': "'True'", 'name': 'True', 'pid': 'True'}


def test_relative_path_is_relative_to_the_working_directory(orthanc, plugin, tmp_path):
    (tmp_path / 'here').mkdir()
    (tmp_path / 'here' / 'rel.py').write_text(HELLO + "print(__file__)\n")
    server = orthanc(plugin, script_path='here/rel.py', cwd=str(tmp_path))
    server.wait_for_out('^loaded')
    server.wait_for_out('^' + re.escape(str(tmp_path / 'here' / 'rel.py')) + '$')


@pytest.mark.parametrize('name', ['with-dash.py', 'with space.py', 'json.py'])
def test_names_that_work(orthanc, plugin, name):
    server = orthanc(plugin, script=HELLO, name=name)
    server.wait_for_out('^loaded$')


@pytest.mark.parametrize('name', ['os.py', 'orthanc.py'])
def test_names_of_loaded_modules(orthanc, plugin, name):
    """Contract 8 row 19: silently ignored by the official plugin, refused by ours."""
    server = orthanc.make(plugin, script=HELLO, name=name)
    if plugin == 'official':
        server.start()
        assert 'loaded' not in server.out()
    else:
        assert server.expect_refusal() == 255
        assert any(os.path.splitext(name)[0] in text and 'Orthanc has started' not in text
                   for _, text in server.messages('E'))
        assert 'loaded' not in server.out()


@pytest.mark.ours
def test_python_path_key(orthanc):
    """Contract 4.1: an alias since 4.1; PythonScript wins."""
    base = os.path.join(str(orthanc.base), 'other.py')
    with open(base, 'w', encoding='utf-8') as f:
        f.write("print('other', flush=True)\n")
    server = orthanc('ours', python={'Path': base})
    server.wait_for_out('^other$')
    server = orthanc('ours', script=HELLO, python={'Path': base, 'AllowThreads': False,
                                                    'Verbose': False, 'DisplayMemoryUsage': False})
    server.wait_for_out('^loaded$')
    assert 'other' not in server.out()


def test_verbose(orthanc, plugin):
    server = orthanc(plugin, script=probe.SCRIPT, config={'PythonVerbose': True})
    probe.run(server, {'a': "orthanc.RestApiGet('/system')",
                       'b': "i = orthanc.CreateImage(1, 2, 2)\ni.GetImageWidth()\ndel i"})
    server.wait_for_log(r'Calling Python global function: OrthancPluginRestApiGet\(\)')
    server.wait_for_log(r'Calling method OrthancPluginGetImageWidth\(\) on object of class '
                        r'OrthancPluginImage')
    server.wait_for_log(r'Creating Python object of class OrthancPluginImage')
    server.wait_for_log(r'Destroying Python object of class OrthancPluginImage')
    server.wait_for_log(r"^import 'json'|^# .*json", timeout=5)


@pytest.mark.ours
def test_display_memory_usage(orthanc):
    server = orthanc(script=HELLO, python={'DisplayMemoryUsage': True})
    server.wait_for_out(r'^Python memory usage: \d+\.\d\d\dMB$')


# -- streams ---------------------------------------------------------------------------------

def test_streams(orthanc, plugin):
    """Contract 4.7: the server's own descriptors, unbuffered, nothing in front."""
    server = orthanc(plugin, script=r'''
import os, sys, threading, warnings
import orthanc
print('no newline', end='')
print()
print('to stdout é')
print('to stderr é', file=sys.stderr)
os.write(1, b'raw one\n')
warnings.warn('a warning')
def fail():
    raise ValueError('in a thread')
t = threading.Thread(target=fail)
t.start()
t.join()
def rest(output, uri, **request):
    print('from a callback')
    output.AnswerBuffer('x', 'text/plain')
orthanc.RegisterRestCallback('/x', rest)
''')
    server.get('/x')
    server.wait_for_out('^from a callback$')
    assert server.out() == 'no newline\nto stdout é\nraw one\nfrom a callback\n'
    server.wait_for_log('^to stderr é$')
    server.wait_for_log('UserWarning: a warning$')
    server.wait_for_log('^ValueError: in a thread$')
    assert server.get('/x').text == 'x'


def test_utf8_under_the_c_locale(orthanc, plugin):
    """Contract 4.3, 8 row 18: ours is always UTF-8."""
    server = orthanc(plugin, script=probe.SCRIPT, env={'LANG': 'C', 'LC_ALL': None})
    outcome = probe.run(server, {'print': "print('\\xe9', flush=True)",
                                 'fs': "__import__('sys').getfilesystemencoding()"})
    assert_outcomes({plugin: outcome}, {}, {'print': Approved('8.18', 'None'),
                                            'fs': Approved('8.18', "'utf-8'")})
    if plugin == 'official':
        assert outcome['print'].startswith('raise UnicodeEncodeError')
    else:
        assert server.out() == '\xe9\n'


# -- what works during the import (contract 2.5) ------------------------------------------------

DATABASE = "raise OrthancException(2038, 'Plugin trying to call the database during its initialization')"
INTERNAL = "raise OrthancException(-1, 'Internal error')"
AT_IMPORT = [
    ("orthanc.GetConfiguration()[:1]", "'{'"),
    ("orthanc.GetOrthancPath()", "'/usr/sbin/Orthanc'"),
    ("orthanc.GetCommandLineArgument(0)", "'--verbose'"),
    ("orthanc.GetFontsCount()", None),
    ("len(orthanc.GenerateUuid())", '36'),
    ("orthanc.ComputeMd5(b'')", None),
    ("orthanc.AutodetectMimeType('a.png')", "'image/png'"),
    ("orthanc.BufferCompression(b'x', 0, 0)[:1]", None),
    ("orthanc.HttpGet('http://127.0.0.1:1/', '', '')", "raise OrthancException(9, 'Error in the "
     "network protocol')"),
    ("orthanc.GetPeers().GetPeersCount()", '0'),
    ("orthanc.LookupDictionary('PatientID')['Group']", '16'),
    ("orthanc.GetTagName(0x10, 0x20, '')", "'PatientID'"),
    ("orthanc.CreateDicom('{\"PatientID\": \"x\"}', None, 0)[128:132]", "b'DICM'"),
    ("orthanc.CreateDicomInstance(orthanc.CreateDicom('{\"PatientID\": \"x\"}', None, 0))"
     ".GetInstanceSimplifiedJson()[:1]", "'{'"),
    ("orthanc.CreateImage(1, 2, 2).GetImageWidth()", '2'),
    ("orthanc.CompressPngImage(1, 1, 1, 1, b'a')[1:4]", "b'PNG'"),
    ("orthanc.LogWarning('at import')", 'None'),
    ("orthanc.SetMetricsValue('x', 1, 0)", 'None'),
    ("orthanc.SetRootUri('x')", 'None'),
    ("orthanc.GenerateRestApiAuthorizationToken()[:7]", "'Bearer '"),
    ("orthanc.RestApiGet('/system')", DATABASE),
    ("orthanc.RestApiPost('/tools/find', '{}')", DATABASE),
    ("orthanc.RestApiDelete('/patients/x')", DATABASE),
    ("orthanc.RestApiGetAfterPlugins('/system')", DATABASE),
    ("orthanc.GetDicomForInstance('x')", DATABASE),
    ("orthanc.SetGlobalProperty(5000, 'x')", DATABASE),
    ("orthanc.LookupPatient('x')", INTERNAL),
    ("orthanc.GetGlobalProperty(5000, 'x')", INTERNAL),
    ("orthanc.DicomInstanceToJson('x', 1, 0, 0)", INTERNAL),
    ("orthanc.TranscodeDicomInstance(b'x', '1.2.840.10008.1.2')", INTERNAL),
    ("orthanc.DecodeDicomImage(b'x', 0)", INTERNAL),
]


def test_what_works_during_the_import(orthanc):
    outcomes = {}
    table = dict((row[0], row[0]) for row in AT_IMPORT)
    for name in PLUGINS:
        outcomes[name] = probe.import_outcomes(orthanc(name, script=probe.at_import(table)))
    assert_outcomes(outcomes, {row[0]: row[1] for row in AT_IMPORT if row[1] is not None})

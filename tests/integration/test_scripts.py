# SPDX-License-Identifier: GPL-3.0-or-later
"""Several scripts in one server: an array of paths, or a directory."""

import os
import re
import signal

import pytest

import dicom
from server import PID_ROUTE, is_alive, reload, wait_until

pytestmark = pytest.mark.ours

# NAME is the script's own. What it does is written to stdout in one piece, whoever else writes.
SCRIPT = r'''
import os, sys
import orthanc

def say(*words):
    os.write(1, (' '.join(str(word) for word in words) + '\n').encode())

def name(output, uri, **request):
    output.AnswerBuffer('NAME', 'text/plain')

def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        say('NAME started')
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        say('NAME stopped')
    elif change_type == orthanc.ChangeType.NEW_INSTANCE:
        say('NAME instance', resource)

say('NAME imported as', __name__)
orthanc.RegisterRestCallback('/NAME', name)
orthanc.RegisterOnChangeCallback(on_change)
'''
STATUS = '/python-bridge/status'


def text_of(name, more=''):
    return SCRIPT.replace('NAME', name) + more


@pytest.fixture
def place(tmp_path):
    """A directory for scripts; place.add(name, text) puts one there as editors do it."""
    class Place:
        path = str(tmp_path / 'scripts')

        def __init__(self):
            os.mkdir(self.path)

        def file(self, name):
            return os.path.join(self.path, name)

        def add(self, name, text):
            os.makedirs(os.path.dirname(self.file(name)), exist_ok=True)
            with open(self.file(name) + '.new', 'w', encoding='utf-8') as f:
                f.write(text)
            os.replace(self.file(name) + '.new', self.file(name))
            return self.file(name)

        def remove(self, name):
            os.unlink(self.file(name))
    return Place()


def lines(server, word):
    return [line for line in server.out().splitlines() if word in line]


def await_route(server, uri, text):
    """A route that is new becomes effective when no request is being served (Python.LateRoutes)."""
    wait_until(lambda: server.get(uri).text == text, 20, 'the new route')


# -- an array ------------------------------------------------------------------------------------------

@pytest.mark.smoke
def test_an_array_of_scripts_in_its_order(orthanc, place):
    paths = [place.add('b/second.py', text_of('second')), place.add('a/first.py', text_of('first', PID_ROUTE)),
             place.add('b/third.py', text_of('third', r'''
directories = [path for path in sys.path if path.startswith(os.path.dirname(os.path.dirname(__file__)))]
say('path', *[os.path.basename(path) for path in directories])
'''))]
    server = orthanc(script_path=paths)
    assert lines(server, 'imported') == ['%s imported as %s' % (name, name) for name in ('second', 'first', 'third')]
    assert lines(server, 'path') == ['path b a']    # the one whose script is being imported first
    assert [server.get('/' + name).text for name in ('first', 'second', 'third')] == ['first', 'second', 'third']
    instance = server.upload(dicom.make_dicom())
    wait_until(lambda: lines(server, 'third instance'), 20, 'the event')
    assert lines(server, 'instance') == ['%s instance %s' % (name, instance) for name in ('second', 'first', 'third')]
    status = server.get(STATUS).json()
    assert status['Scripts'] == paths and status['Script'] == paths[0] + ' and 2 more'
    for path in paths:
        directory, name = os.path.split(path)
        assert re.search(r'Using Python script "%s" from directory: %s$' % (name, directory), server.log(), re.M)
    assert server.stop() == 0
    for word in ('started', 'stopped'):
        assert lines(server, word) == ['%s %s' % (name, word) for name in ('second', 'first', 'third')]
    assert not server.messages('E'), server.messages('E')


def test_one_script_shows_as_before(orthanc):
    server = orthanc(script=text_of('only'))
    status = server.get(STATUS).json()
    assert status['Script'] == server.script_path and status['Scripts'] == [server.script_path]


def test_relative_paths_are_relative_to_the_current_directory(orthanc, place):
    place.add('a.py', text_of('a'))
    place.add('b.py', text_of('b'))
    server = orthanc(python={'Path': ['a.py', 'b.py']}, cwd=place.path)
    assert server.get(STATUS).json()['Scripts'] == [place.file('a.py'), place.file('b.py')]
    assert server.get('/b').text == 'b'


def test_several_hosts_run_several_scripts(orthanc, place):
    paths = [place.add(name + '.py', text_of(name, r'''
say('NAME in', orthanc.GetWorkerIndex())
'''.replace('NAME', name))) for name in ('one', 'two')]
    server = orthanc(script_path=paths, python={'Workers': 3})
    assert sorted(lines(server, ' in ')) == sorted('%s in %d' % (name, i) for name in ('one', 'two') for i in range(3))
    assert [server.get('/' + name).text for name in ('one', 'two')] == ['one', 'two']
    assert reload(server)['Generation'] == 2
    assert server.get('/two').text == 'two'
    assert server.stop() == 0
    assert lines(server, 'stopped') == ['one stopped', 'two stopped'] * 2     # of the primary, in each generation


# -- what each may register ----------------------------------------------------------------------------

FILTER = r'''
def decide(uri, **request):
    say('NAME asked', uri)
    return CONDITION
orthanc.RegisterIncomingHttpRequestFilter(decide)
'''


def test_all_http_filters_must_agree(orthanc, place):
    server = orthanc(script_path=[
        place.add('one.py', text_of('one', FILTER.replace('NAME', 'one').replace('CONDITION', "uri != '/a'"))),
        place.add('two.py', text_of('two', FILTER.replace('NAME', 'two').replace(
            'CONDITION', "1 if uri == '/c' else uri != '/b'"))),
        place.add('three.py', text_of('three'))])
    assert server.get('/a').status_code == 403
    assert server.get('/b').status_code == 403
    assert server.get('/c').status_code == 500
    assert server.get('/three').status_code == 200
    assert lines(server, 'asked /a') == ['one asked /a']        # the second is not asked any more
    assert lines(server, 'asked /b') == ['one asked /b', 'two asked /b']
    assert lines(server, 'asked /three') == ['one asked /three', 'two asked /three']
    assert 'The Python incoming-http-request filter has not returned a Boolean (%s)' % place.file('two.py') \
        in [text for _, text in server.messages('E')]


STORED = r'''
def on_stored(instance, name):
    say('NAME stored', instance.GetInstanceSize())
    AFTER
orthanc.RegisterOnStoredInstanceCallback(on_stored)
'''


def test_every_script_sees_every_stored_instance_whatever_the_others_do(orthanc, place):
    server = orthanc(script_path=[
        place.add('one.py', text_of('one', STORED.replace('NAME', 'one').replace('AFTER', "raise ValueError('oh')"))),
        place.add('two.py', text_of('two', STORED.replace('NAME', 'two').replace('AFTER', '')))])
    content = dicom.make_dicom()
    assert server.upload(content)
    assert lines(server, 'stored') == ['%s stored %d' % (name, len(content)) for name in ('one', 'two')]
    assert any(text.startswith('Error in the Python on-stored-instance callback (%s), traceback:\n'
                               "<class 'ValueError'>\noh\n" % place.file('one.py'))
               for _, text in server.messages('E'))


def test_an_event_that_one_script_does_not_survive_comes_again_to_all(orthanc, place):
    server = orthanc(script_path=[
        place.add('one.py', text_of('one')),
        place.add('two.py', text_of('two').replace("say('two instance', resource)", r'''
        if not os.path.exists(__file__ + '.died'):
            open(__file__ + '.died', 'w').close()
            os._exit(3)
        say('two instance', resource)'''))])
    server.upload(dicom.make_dicom())
    wait_until(lambda: lines(server, 'two instance'), 20, 'the event')
    assert len(lines(server, 'one instance')) == 2 and len(lines(server, 'two instance')) == 1


def test_late_registrations_are_each_scripts_own(orthanc, place):
    """In ORTHANC_STARTED, and in a thread."""
    late = r'''
import threading
def register():
    try:
        orthanc.RegisterOnStoredInstanceCallback(lambda instance, name: say('NAME stored', name))
        say('NAME registered')
    except RuntimeError as e:
        say('NAME refused:', e)
'''
    server = orthanc(script_path=[
        place.add(name + '.py', text_of(name, late.replace('NAME', name)).replace(
            "say('%s started')" % name, call)) for name, call in (
                ('one', 'register()'), ('two', 'threading.Thread(target=register).start()'), ('three', 'register()'))])
    wait_until(lambda: len(lines(server, 'registered')) == 3, 20, 'the registrations')
    server.upload(dicom.make_dicom())
    assert [line.split()[0] for line in lines(server, 'stored')] == ['one', 'two', 'three']
    assert not lines(server, 'refused')


@pytest.mark.parametrize('first,second,expected', [
    ('orthanc.RegisterFindCallback(print)',
     "getattr(orthanc, 'RegisterFindCallback2', orthanc.RegisterFindCallback)(print)", 'C-FIND SCP callback'),
    ('orthanc.RegisterFindCallback(print)', 'orthanc.RegisterFindCallback(print)', 'C-FIND SCP callback'),
    ('orthanc.RegisterReceivedInstanceCallback(print)', 'orthanc.RegisterReceivedInstanceCallback(print)',
     'received instance callback'),
    ('orthanc.RegisterStorageArea(print, print, print)', 'orthanc.RegisterStorageArea(print, print, print)',
     'custom storage area'),
], ids=['find and find2', 'find', 'received', 'storage'])
def test_what_has_one_place_is_refused_with_both_names(orthanc, place, first, second, expected):
    server = orthanc.make(script_path=[place.add('one.py', 'import orthanc\n' + first),
                                       place.add('two.py', 'import orthanc\n' + second)])
    assert server.expect_refusal() == 255
    (text,) = [text for _, text in server.messages('E') if text.startswith('Error during the installation')]
    assert text.startswith('Error during the installation of the Python script (%s), traceback:\n'
                           "<class 'RuntimeError'>\n" % place.file('two.py'))
    assert expected in text
    assert ': the script %s has done so already, and the script %s cannot as well' % (
        place.file('one.py'), place.file('two.py')) in text


def test_one_route_of_two_scripts_is_refused_with_both_names(orthanc, place):
    server = orthanc.make(script_path=[place.add(name, 'import orthanc\northanc.RegisterRestCallback("/a", print)')
                                       for name in ('one.py', 'two.py')])
    assert server.expect_refusal() == 255
    assert 'The REST route /a is that of the script %s, and the script %s cannot register it as well' % (
        place.file('one.py'), place.file('two.py')) in server.log()


@pytest.mark.parametrize('text,expected', [
    ("raise ValueError('no luck')", "<class 'ValueError'>\nno luck\n"),
    ('import os\nos._exit(7)', 'One of the Python scripts DIRECTORY/one.py and 1 more ended the host process while it '
                               'was being imported: it ended with exit code 7'),
    ('def f(:', "<class 'SyntaxError'>"),
], ids=['raises', 'ends', 'syntax'])
def test_a_script_that_cannot_be_imported_ends_the_start(orthanc, place, text, expected):
    server = orthanc.make(script_path=[place.add('one.py', text_of('one')), place.add('two.py', text)])
    assert server.expect_refusal() == 255
    logged = '\n'.join(text for _, text in server.messages('E'))
    assert expected.replace('DIRECTORY', place.path) in logged
    assert 'exit code 7' in expected or 'Python script (%s), traceback:\n<class' % place.file('two.py') in logged


# -- a directory ---------------------------------------------------------------------------------------

@pytest.mark.smoke
def test_a_directory_is_looked_at_again_by_each_reload(orthanc, place):
    place.add('b.py', text_of('b'))
    place.add('_helper.py', 'VALUE = 12\n')
    place.add('a.py', text_of('a', 'import _helper\nsay("helper", _helper.VALUE)\n') + PID_ROUTE)
    server = orthanc(script_path=place.path)
    assert lines(server, 'imported') == ['a imported as a', 'b imported as b']
    assert lines(server, 'helper') == ['helper 12']
    status = server.get(STATUS).json()
    assert status['Script'] == place.path + '/*.py' and status['Scripts'] == [place.file('a.py'), place.file('b.py')]
    place.add('aa.py', text_of('aa'))
    assert server.get('/aa').status_code == 404
    assert reload(server)['Generation'] == 2
    assert lines(server, 'imported')[2:] == ['%s imported as %s' % (name, name) for name in ('a', 'aa', 'b')]
    await_route(server, '/aa', 'aa')
    assert server.get(STATUS).json()['Scripts'] == [place.file(name) for name in ('a.py', 'aa.py', 'b.py')]
    place.remove('b.py')
    assert reload(server)['Generation'] == 3
    assert server.get('/b').status_code == 404 and server.get('/aa').text == 'aa'
    # a host that dies is replaced by one with the scripts of its generation
    place.remove('aa.py')
    place.add('c.py', text_of('c'))
    os.kill(server.host_pid(), signal.SIGKILL)
    place.add('aa.py', text_of('aa'))
    wait_until(lambda: server.get('/aa').text == 'aa', 20, 'the next host')
    assert server.get('/c').status_code == 404


def test_a_reload_of_a_directory_that_is_empty_or_wrong_leaves_the_old_generation(orthanc, place):
    place.add('a.py', text_of('a') + PID_ROUTE)
    server = orthanc(script_path=place.path)
    pid = server.host_pid()
    place.remove('a.py')
    details = reload(server, 500)['Details']
    assert 'names "%s", a directory without scripts' % place.path in details
    assert server.get('/a').text == 'a' and server.host_pid() == pid and is_alive(pid)
    assert server.get(STATUS).json()['Reload']['Failure'] == details
    place.add('orthanc.py', text_of('x'))
    assert 'cannot be imported as a module named "orthanc"' in reload(server, 500)['Details']
    place.remove('orthanc.py')
    place.add('a.py', text_of('a') + PID_ROUTE)
    place.add('b.py', '1/0')
    assert reload(server, 500)['Details'].startswith("%s: <class 'ZeroDivisionError'>" % place.file('b.py'))
    assert server.get(STATUS).json()['Scripts'] == [place.file('a.py')]
    assert server.host_pid() == pid
    place.add('b.py', text_of('b'))
    assert reload(server)['Generation'] == 2
    await_route(server, '/b', 'b')


def test_a_reload_of_an_array_looks_for_its_files(orthanc, place):
    server = orthanc(script_path=[place.add('a.py', text_of('a')), place.add('b.py', text_of('b'))])
    place.remove('b.py')
    assert 'names "%s", which must be a file: No such file' % place.file('b.py') in reload(server, 500)['Details']
    assert server.get('/b').text == 'b'
    place.add('b.py', text_of('b').replace("'b'", "'new'"))
    reload(server)
    assert server.get('/b').text == 'new'


def test_reload_on_change_sees_scripts_that_come_change_and_go(orthanc, place):
    place.add('a.py', text_of('a'))
    server = orthanc(script_path=place.path, python={'ReloadOnChange': True})
    place.add('b.py', text_of('b'))
    wait_until(lambda: server.get('/b').status_code == 200, 30, 'the new script')
    place.add('b.py', text_of('b').replace("'b'", "'changed'"))
    wait_until(lambda: server.get('/b').text == 'changed', 30, 'the changed script')
    place.remove('b.py')
    wait_until(lambda: server.get('/b').status_code == 404, 30, 'the end of the script')
    assert server.get('/a').text == 'a'
    place.remove('a.py')
    wait_until(lambda: server.get(STATUS).json()['Reload'].get('Failure'), 30, 'the failure')
    assert server.get('/a').text == 'a'
    place.add('c.py', text_of('c'))
    wait_until(lambda: server.get('/c').status_code == 200, 30, 'the next script')
    assert server.get('/a').status_code == 404


def test_reload_on_change_watches_every_script_of_an_array(orthanc, place):
    place.add('b/_helper.py', 'VALUE = 1\n')
    server = orthanc(script_path=[place.add('a/a.py', text_of('a')),
                                  place.add('b/b.py', 'import _helper\n' + text_of('b'))],
                     python={'ReloadOnChange': True})
    place.add('a/a.py', text_of('a').replace("'a'", "'changed'"))
    wait_until(lambda: server.get('/a').text == 'changed', 30, 'the first')
    place.add('b/b.py', 'import _helper\n' + text_of('b').replace("'b'", 'str(_helper.VALUE)'))
    wait_until(lambda: server.get('/b').text == '1', 30, 'the second')
    place.add('b/_helper.py', 'VALUE = 22\n')
    wait_until(lambda: server.get('/b').text == '22', 30, 'the module of the second')


# -- what is refused -----------------------------------------------------------------------------------

NO_PATHS = r'must be a string \(the path of a script, or of a directory with scripts\) or an array of paths of scripts'


@pytest.mark.parametrize('value,expected', [
    (12, 'is 12, and ' + NO_PATHS),
    ({}, r'is {}, and ' + NO_PATHS),
    ([], r'is \[\], and must be a path, or an array of 1 to 64 paths of scripts'),
    (['a.py', 12], r'is \["a.py",12\], and must be a path, or an array of paths of scripts: strings'),
    (['a.py'] * 65, r'is \["a.py".*, and must be a path, or an array of 1 to 64 paths of scripts'),
    (['a.py', 'no.py'], r'names "no.py", which must be a file: No such file or directory'),
    (['a.py', 'text.txt'], r'names "text.txt", which must be a file whose name ends with ".py"'),
    (['a.py', 'b'], r'names "b", which must be a file whose name ends with ".py"'),
    (['a.py', './a.py'], r'names ".*/a.py" and ".*/./a.py", which are one file: each script can be named once'),
    (['a.py', 'b/a.py'], r'names ".*/a.py" and ".*/b/a.py", which would be one module of Python, since their files '
                         r'have one name: rename one of them'),
    ('empty', r'names ".*/empty", a directory without scripts: it must hold at least one file whose name ends with '
              r'".py", and begins with neither "_" nor "."'),
], ids=lambda value: str(value)[:30])
@pytest.mark.parametrize('key', ['PythonScript', 'Python.Path'])
def test_a_wrong_value_stops_the_start(orthanc, place, key, value, expected):
    for name in ('a.py', 'b/a.py', 'text.txt', 'empty/_helper.py'):
        place.add(name, "print('loaded', flush=True)\n")
    arguments = dict(script_path=value) if key == 'PythonScript' else dict(python={'Path': value})
    server = orthanc.make(cwd=place.path, **arguments)
    assert server.expect_refusal() == 255
    assert re.search('The configuration option "%s" %s' % (re.escape(key), expected), server.log()), server.log()
    assert 'loaded' not in server.out()


def test_a_script_that_is_preloaded_is_refused(orthanc, place):
    """It would have run where there is nothing to register with."""
    paths = [place.add('one.py', text_of('one')), place.add('two.py', 'try:\n    import orthanc\nexcept ImportError:\n    pass\n')]
    server = orthanc.make(script_path=paths, python={'Preload': ['two']}, env={'PYTHONPATH': place.path})
    assert server.expect_refusal() == 255
    assert 'The Python script %s cannot be used: its name is that of another module' % paths[1] in server.log()
    assert 'already imported' in server.log() and 'one imported' not in server.out()


def test_a_name_that_another_directory_takes_is_refused(orthanc, place):
    """The script would not be what is imported: a package beside it has its name."""
    place.add('b/two/__init__.py', '')
    server = orthanc.make(script_path=[place.add('a/one.py', text_of('one')), place.add('b/two.py', text_of('two'))])
    assert server.expect_refusal() == 255
    assert 'The Python script %s cannot be used: its name is that of another module' % place.file('b/two.py') \
        in server.log()


def test_finders_of_the_old_kind_are_passed_over(orthanc, place):
    """As the import system does: packages of Python 2's days still have some."""
    old = 'import sys\nclass Old:\n    def find_module(self, name, path=None):\n        return None\nsys.meta_path.insert(0, Old())\n'
    server = orthanc(script_path=[place.add('one.py', old + text_of('one')), place.add('two.py', text_of('two'))])
    assert 'two imported' in server.out()

# SPDX-License-Identifier: GPL-3.0-or-later
"""orthanc-python console, stacks and logs: what an administrator does on the server's machine."""

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from server import BUILD, PATIENCE, PID_ROUTE, REPOSITORY, wait_until
from terminal import Terminal

pytestmark = pytest.mark.ours

COMMAND = os.path.join(REPOSITORY, 'worker', 'cli', 'orthanc-python')
NOBODY = 65534
SCRIPT = r'''
import orthanc
def hello(output, uri, **request):
    output.AnswerBuffer('hello', 'text/plain')
orthanc.RegisterRestCallback('/hello', hello)
''' + PID_ROUTE


def environment(**more):
    kept = {key: value for key, value in os.environ.items() if not key.startswith('ORTHANC_PYTHON')}
    return dict(kept, ORTHANC_PYTHON_BRIDGE_BUILD=BUILD, NETRC='/nonexistent', **more)


def run(*words, url=None, stdin='', env=None, **options):
    """(exit code, stdout, stderr)"""
    done = subprocess.run(['/usr/bin/python3', COMMAND, words[0], *(['--url', url] if url else []), *words[1:]],
                          env=environment(**(env or {})), input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=90 * PATIENCE, check=False, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope='module')
def server(module_orthanc):
    return module_orthanc(script=SCRIPT)


def test_a_piece_of_code_runs_with_the_module_of_a_running_server(server):
    assert run('console', '-c', '1 + 1', url=server.url()) == (0, '2\n', '')
    code, out, err = run('console', '-c', "import json; print(json.loads(orthanc.RestApiGet('/system'))['Name'])",
                         url=server.url())
    assert (code, out, err) == (0, 'test\n', '')
    code, out, _ = run('console', url=server.url(), stdin='image = orthanc.CreateImage(1, 7, 5)\n'
                       'for _ in range(2):\n    print(image.GetImageWidth())\n')
    assert (code, out) == (0, '7\n7\n')


def test_a_console_is_told_of_in_the_log_once(orthanc):
    server = orthanc(script=SCRIPT)
    code, out, _ = run('console', '-c', 'import os; orthanc.RestApiGet("/system"); print(os.getpid())', url=server.url())
    assert code == 0
    said = [text for _, text in server.messages('W') if text.startswith('A console')]
    assert len(said) == 1
    assert said == ['A console (process %d) calls the SDK with the rights of the script in the host (pid %d)' % (
        int(out), server.host_pid())]


def test_the_value_of_the_last_statement_is_shown_as_at_the_prompt(server):
    for text, shown in (('x = 20\nx + 1\n', '21\n'), ('1\n2\n', '2\n'), ('if True:\n    3\n', ''), ('None', ''),
                        ('1; _', ''), ('', ''), ('# nothing\n', ''), ('def f():\n    return 4\n\nf()  # four\n', '4\n')):
        code, out, err = run('console', url=server.url(), stdin=text)
        if text != '1; _':
            assert (code, out, err) == (0, shown, ''), text
        assert run('console', '-c', text, url=server.url()) == (code, out, err.replace('<stdin>', '<command>'))


def test_a_traceback_begins_in_the_code_itself(server):
    for text, begin, end in (
            ('x = 1\nx // 0\n', 'Traceback (most recent call last):\n  File "<stdin>", line 2, in <module>', 'ZeroDivisionError: '),
            ('import os\n1 // 0\nprint(os)\n', 'Traceback (most recent call last):\n  File "<stdin>", line 2, in <module>',
             'ZeroDivisionError: '),
            ('x = 1\ndef\n', '  File "<stdin>", line 2\n    def\n', 'SyntaxError: ')):
        code, out, err = run('console', url=server.url(), stdin=text)
        assert (code, out) == (1, '') and err.startswith(begin) and err.splitlines()[-1].startswith(end), err
        assert err.count('File "') == 1 and 'another exception' not in err, err


def test_exceptions_end_it_with_a_traceback(server):
    code, out, err = run('console', '-c', 'orthanc.RestApiGet("/nonsense")', url=server.url())
    assert (code, out) == (1, '')
    assert err.startswith('Traceback') and err.endswith("orthanc.OrthancException: (17, 'Unknown resource')\n")
    assert 'session.py' not in err
    assert run('console', '-c', 'def', url=server.url())[0] == 1
    assert run('console', '-c', 'raise SystemExit(7)', url=server.url())[0] == 7


def test_registrations_are_refused_with_the_reason(server):
    for call in ("RegisterRestCallback('/x', print)", 'RegisterOnChangeCallback(print)'):
        code, _, err = run('console', '-c', 'orthanc.' + call, url=server.url())
        assert code == 1 and 'cannot be used in a console' in err and 'reload' in err
    code, out, _ = run('console', url=server.url(), stdin='''
import os
pid = os.fork()
if pid == 0:
    try:
        orthanc.RegisterRestCallback('/x', print)
    except RuntimeError:
        print(len(orthanc.RestApiGet('/system')) > 10, flush=True)
    os._exit(0)
print(os.waitpid(pid, 0)[1])
''')
    assert (code, out) == (0, 'True\n0\n')
    assert server.get('/x').status_code == 404


def test_the_prompt_is_one(server):
    """On a terminal: a banner, an echo of values, completion by the tabulator, control-D."""
    with Terminal(['/usr/bin/python3', COMMAND, 'console', '--url', server.url()], environment(TERM='dumb')) as terminal:
        banner = terminal.expect(rb'>>> $')
        assert b'attached to Orthanc' in banner and b'not the script' in banner
        terminal.type(b'orthanc.ErrorC\t).UNKNOWN_RESOURCE\n')
        assert b'orthanc.ErrorCode' in terminal.expect(rb'\n17\r\n>>> $')
        terminal.type(b'\x04')
        assert terminal.wait() == 0


def test_it_ends_with_its_host_and_says_so(orthanc):
    server = orthanc(script=SCRIPT)
    console = subprocess.Popen(['/usr/bin/python3', COMMAND, 'console', '--url', server.url(), '-c', '''if True:
        import sys
        orthanc.RestApiGet('/system')
        print('ready', flush=True)
        sys.stdin.readline()
        for _ in range(2):
            try:
                orthanc.RestApiGet('/system')
            except RuntimeError as error:
                print(error)
        '''], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with console:
        assert console.stdout.readline() == 'ready\n'
        before = server.host_pid()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: server.get('/hello').status_code == 200 and server.host_pid() != before, 20, 'the next host')
        out, _ = console.communicate('go\n', timeout=60 * PATIENCE)
    assert 'the host that this console was opened for' in out.splitlines()[-1], out
    assert run('console', '-c', '1', url=server.url())[0] == 0


def test_of_several_hosts_one_is_chosen(orthanc):
    server = orthanc(script=SCRIPT, python={'Workers': 2})
    hosts = server.get('/python-bridge/status').json()['Hosts']
    for host in hosts:
        code, out, _ = run('console', '--worker', str(host['Worker']), '-c', 'orthanc.GetWorkerIndex()', url=server.url())
        assert (code, out) == (0, '%d\n' % host['Worker'])
    code, _, err = run('console', '--worker', '2', '-c', '1', url=server.url())
    assert code == 1 and 'No host 2 serves' in err
    code, out, _ = run('console', '--pid', str(hosts[1]['Pid']), '-c', 'orthanc.GetWorkerIndex()')
    assert (code, out) == (0, '1\n')


def test_the_python_of_a_virtual_environment_can_be_chosen(server, tmp_path):
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'venv'], check=True)
    code, out, _ = run('console', '--python', str(tmp_path / 'venv' / 'bin' / 'python'), '-c',
                       'import sys; print(sys.prefix, len(orthanc.RestApiGet("/system")) > 10)', url=server.url())
    assert (code, out) == (0, '%s True\n' % (tmp_path / 'venv'))
    code, _, err = run('console', '--python', '/nonexistent', '-c', '1', url=server.url())
    assert code == 1 and '/nonexistent cannot be run' in err


def test_without_a_standard_input_there_is_no_prompt(server):
    words = ['/usr/bin/python3', COMMAND, 'console', '--url', server.url()]
    for more, result in (([], (2, '', 'orthanc-python: The standard input is closed: give the code with -c\n')),
                         (['-c', '1 + 1'], (0, '2\n', ''))):
        done = subprocess.run(['sh', '-c', 'exec "$@" <&-', 'sh', *words, *more], env=environment(), capture_output=True,
                              text=True, timeout=90 * PATIENCE, check=False)
        assert (done.returncode, done.stdout, done.stderr) == result


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root, to be another user')
def test_other_users_are_refused(server):
    host = server.host_pid()
    code, out, err = run('console', '--pid', str(host), '-c', '1', user=NOBODY, group=NOBODY, extra_groups=[])
    assert (code, out) == (4, '') and 'only that user, or root' in err, err


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root, who becomes another user')
def test_root_becomes_the_user_of_the_host(tmp_path):
    """A process of another user with such a file stands in for the host of a pool of its own."""
    stand_in = subprocess.Popen([sys.executable, '-c', '''if True:
        import os, sys
        fd = os.memfd_create('orthanc-python-bridge')
        print('ready', flush=True)
        sys.stdin.read()
        '''], stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=NOBODY, group=NOBODY, extra_groups=[], text=True)
    with stand_in:
        assert stand_in.stdout.readline() == 'ready\n'
        sys.path.insert(0, os.path.dirname(COMMAND))
        try:
            from orthanc_python import console
        finally:
            sys.path.pop(0)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            console.become_user_of(stand_in.pid)
            console.find_file(stand_in.pid)
            os.write(write, repr((os.getresuid(), os.getresgid(), os.getgroups())).encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(read, 200).decode() == repr(((NOBODY,) * 3, (NOBODY,) * 3, []))
        stand_in.communicate('')


def test_what_is_no_host_is_refused(server):
    code, _, err = run('console', '--pid', str(os.getpid()), '-c', '1')
    assert code == 2 and 'is no host' in err
    code, _, err = run('console', '--pid', '4194303', '-c', '1')
    assert code == 1 and 'There is no process' in err
    assert run('console', '-c', '1', url='http://127.0.0.1:1')[0] == 3


def test_a_socket_that_only_the_host_sees_is_reached_through_it(server, tmp_path):
    """As that of a service with a /tmp of its own: its folder is looked for below /proc/PID/root."""
    sys.path.insert(0, os.path.dirname(COMMAND))
    try:
        from orthanc_python import console
    finally:
        sys.path.pop(0)
    host = server.host_pid()
    path = console.find_file(host)
    told = console.read_file(path)
    assert console.reachable(host, path, told) == path
    real, console.os.path.exists = os.path.exists, lambda path: False
    try:
        other = console.reachable(host, path, told)
    finally:
        console.os.path.exists = real
    found = console.read_file(other)
    assert found.pop('node_socket').startswith('/proc/self/fd/') and found.items() <= told.items()
    done = subprocess.run([json.load(open(os.path.join(BUILD, 'worker', 'cli', 'bridge.json')))['Python'], '-B', '-c',
                           'import orthanc; print(orthanc.RestApiGet("/system")[:1])'], capture_output=True, text=True,
                          check=False, close_fds=False, env=environment(
                              ORTHANC_PYTHON_BRIDGE_CREDENTIALS=other, ORTHANC_PYTHON_BRIDGE_CONSOLE='1',
                              PYTHONPATH=os.path.join(BUILD, 'worker', 'module')))
    assert done.stdout == "b'{'\n", done.stderr


# stacks: the route is of newer plugins.

class Answers(http.server.BaseHTTPRequestHandler):
    """An Orthanc whose bridge answers as it is told."""

    answers = {}

    def do_GET(self):   # pylint: disable=invalid-name
        status, body = self.answers.get(self.path, (404, {}))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def pretended():
    """pretended(path=(status, body)...): the URL of a server."""
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answers) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()

        def answer(**answers):
            Answers.answers = {'/python-bridge/' + name: value for name, value in answers.items()}
            return 'http://127.0.0.1:%d' % httpd.server_address[1]
        yield answer
        httpd.shutdown()
        thread.join()


def test_stacks_of_every_host_are_shown(pretended):
    frames = [{'File': '/a.py', 'Line': 3, 'Function': 'f'}, {'Text': '...'}]
    hosts = {'Hosts': [{'Worker': 0, 'Pid': 12, 'State': 'serving', 'Problem': None, 'Threads': [
        {'Id': '0x1', 'Name': None, 'Frames': frames}, {'Id': '0x2', 'Name': 'timer', 'Frames': frames[1:]}]},
        {'Worker': 1, 'Pid': 13, 'State': 'hanging', 'Problem': 'gone', 'Threads': []}]}
    url = pretended(stacks=(200, hosts))
    assert run('stacks', url=url) == (0, '''\
Host 0 (pid 12), serving

Thread 0x1 (most recent call first)
  File "/a.py", line 3 in f
  ...

Thread 0x2 (timer) (most recent call first)
  ...

Host 1 (pid 13), hanging: gone
''', '')
    code, out, _ = run('stacks', '--json', url=url)
    assert code == 0 and json.loads(out) == hosts
    assert run('stacks', url=pretended(stacks=(200, {'Hosts': []})))[:2] == (1, 'No host serves\n')
    code, _, err = run('stacks', url=pretended(stacks=(200, {'Hosts': [1]})))
    assert code == 3 and 'Traceback' not in err
    assert run('stacks', url=pretended(stacks=(503, {'Error': 'Others ask'}))) == (5, '', 'orthanc-python: Others ask\n')


@pytest.mark.parametrize('words', [(), ('--json',)])
def test_stacks_of_a_real_server_say_where_its_threads_are(orthanc, words):
    """A bridge without the route says that it is of an older release."""
    server = orthanc(script=SCRIPT + r'''
import threading
def waiter():
    threading.Event().wait()
threading.Thread(target=waiter, daemon=True).start()
''')
    code, out, err = run('stacks', *words, url=server.url())
    if server.get('/python-bridge/stacks').status_code == 404:
        assert code == 3 and 'which cannot show stacks yet' in err
    else:
        assert (code, err) == (0, '') and 'waiter' in out and str(server.host_pid()) in out


def test_stacks_of_a_host_that_does_nothing_say_so(orthanc):
    server = orthanc(script=SCRIPT)
    code, out, err = run('stacks', url=server.url())
    said = 'Host 0 (pid %d), serving\n  no thread is in Python\n' % server.host_pid()
    assert (code, out, err) == (0, said, '')
    assert server.get('/python-bridge/stacks?format=text').text == said + '\n'


def test_stacks_of_an_older_bridge_are_not_to_be_had(pretended):
    url = pretended(status=(200, {'Generation': 1, 'Version': '0.1.0', 'Hosts': []}))
    code, out, err = run('stacks', url=url)
    assert (code, out) == (3, '') and 'is of release 0.1.0, which cannot show stacks' in err
    code, _, err = run('stacks', url=pretended())
    assert code == 3 and 'the Python bridge is not loaded there' in err


# logs

TOOL = '#!/bin/sh\necho "$0" "$@"\n'
SYSTEMCTL = '''#!/bin/sh
for word in "$@"; do
    case $word in --state=*) states=${word#--state=} ;; esac
done
show() {
    case ",$states," in *",$2,"*) echo "$1 loaded $2 whatever A pool" ;; esac
}
%s
'''


@pytest.fixture
def tools(tmp_path):
    """tools(units, unit=state...): $PATH with a journalctl that says what it is asked, and these units, active by default."""
    def make(*units, **others):
        for name, text in (('journalctl', TOOL), ('systemctl', SYSTEMCTL % '\n'.join(
                'show %s %s' % pair for pair in [*((unit, 'active') for unit in units), *others.items()]))):
            path = tmp_path / name
            path.write_text(text, encoding='ascii')
            path.chmod(0o755)
        return {'PATH': '%s:%s' % (tmp_path, os.environ['PATH'])}
    return make


def test_logs_of_a_service_come_from_the_journal(tools):
    path = tools('orthanc-python-worker.service', 'orthanc-python-worker@b.service')
    code, out, err = run('logs', '-f', '--since', 'today', env=path)
    assert (code, err) == (0, '')
    assert out.split()[1:] == ['--unit', 'orthanc-python-worker.service', '--unit', 'orthanc-python-worker@b.service',
                               '--lines', '100', '--since', 'today', '--follow']
    code, out, _ = run('logs', '--json', '-n', '5', '--unit', 'other', env=path)
    assert out.split()[1:] == ['--unit', 'other', '--lines', '5', '--output', 'json', '--no-pager']


@pytest.mark.parametrize('state', ['active', 'reloading', 'activating', 'deactivating'])
def test_logs_of_a_service_that_is_on_its_way_come_from_the_journal(tools, state):
    """As one that systemd starts again and again; one that has failed besides is not meant."""
    code, out, err = run('logs', env=tools(**{'one.service': state, 'two.service': 'failed'}))
    assert (code, err) == (0, '') and out.split()[1:4] == ['--unit', 'one.service', '--lines']


def test_logs_of_a_service_that_has_failed_are_shown_if_no_host_serves(server, tools, pretended):
    failed = tools(**{'one.service': 'failed'})
    for url in ('http://127.0.0.1:1', pretended(status=(200, {'Generation': 1, 'Hosts': []}))):
        code, out, err = run('logs', url=url, env=failed)
        assert code == 0 and out.split()[1:3] == ['--unit', 'one.service'], err
        assert err == '== A pool has failed, and its service does not start it again: one.service\n'
    code, out, err = run('logs', url=server.url(), env=failed)
    assert code == 0 and 'has started the pool itself' in err and '--unit' not in out


def test_a_systemctl_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    sys.path.insert(0, os.path.dirname(COMMAND))
    try:
        from orthanc_python import Problem, logs
    finally:
        sys.path.pop(0)
    (tmp_path / 'systemctl').write_text('#!/bin/sh\nexec sleep 600\n', encoding='ascii')
    (tmp_path / 'systemctl').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    monkeypatch.setattr(logs, 'SYSTEMCTL_SECONDS', 0.1)
    with pytest.raises(Problem, match='systemctl has not said within 0.1 s .*: name the service with --unit') as problem:
        logs.find_units()
    assert problem.value.code == 5


def test_logs_of_a_managed_pool_are_those_of_its_orthanc(server, tools):
    code, out, err = run('logs', '-n', '100000', url=server.url(), env=tools())
    assert code == 0, err
    assert re.search(r'^== Orthanc \(process %d\) has started the pool itself: its lines are in Orthanc\'s log, %s$' % (
        server.pid, re.escape(os.path.realpath(server.stderr_path))), err, re.M), err
    assert 'Orthanc has started' in out


@pytest.mark.parametrize('words', [['--json'], ['--since', 'today'], ['--json', '--since', 'today']])
def test_logs_in_a_file_are_not_shown_as_if_they_were_in_the_journal(server, tools, words):
    code, out, err = run('logs', *words, url=server.url(), env=tools())
    wrong = ' or '.join(word for word in words if word[0] == '-')
    assert (code, out) == (2, '')
    assert err.splitlines()[1:] == ['orthanc-python: The lines are in a file, %s: %s is for those that are in the journal' % (
        os.path.realpath(server.stderr_path), wrong)]


def test_logs_of_an_orthanc_with_a_log_file_say_where_prints_are(orthanc, tools):
    """As --logdir, which Debian's service has."""
    script = SCRIPT + "print('from the script', flush=True)\n"
    server = orthanc(script=script, wrapper=['sh', '-c', 'exec "$0" --logfile=stderr "$@"'])
    code, out, err = run('logs', url=server.url(), env=tools())
    assert code == 0 and 'from the script' not in out and 'from the script' in server.out()
    assert err.splitlines()[1:] == ['== What scripts print is not in that file, but in %s' % os.path.realpath(server.stdout_path)]


@pytest.mark.parametrize('unit, where', [
    ('orthanc.service', 'in the journal: journalctl -u orthanc.service'), (None, r'where Orthanc was started: it goes to socket:\[\d+\]')])
def test_prints_of_a_service_are_said_to_be_in_the_journal(capfd, unit, where):
    """Its stdout is a socket; a process with one stands in for Orthanc."""
    sys.path.insert(0, os.path.dirname(COMMAND))
    try:
        from orthanc_python import logs
    finally:
        sys.path.pop(0)
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=theirs) as stand_in:
        logs.hint_at_prints(stand_in.pid, unit, '/var/log/orthanc/Orthanc.log')
        stand_in.communicate(b'')
    assert re.fullmatch('== What scripts print is not in that file, but %s\n' % where, capfd.readouterr().err)


def test_logs_without_a_server_say_where_to_look(pretended, tools):
    url = pretended(status=(200, {'Generation': 1, 'Hosts': [{'Pid': 4194303}]}))
    code, _, err = run('logs', url=url, env=tools())
    assert code == 1 and 'on the machine and in the container of Orthanc' in err
    url = pretended(status=(200, {'Generation': 1, 'Hosts': [{'Pid': os.getpid()}]}))
    code, _, err = run('logs', url=url, env=tools())
    assert code == 1 and 'is none here' in err
    url = pretended(status=(200, {'Generation': 1, 'Hosts': []}))
    code, _, err = run('logs', url=url, env=tools())
    assert code == 1 and 'no pool runs as a service of systemd: look into the log of Orthanc' in err

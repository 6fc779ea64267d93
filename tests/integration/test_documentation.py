# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages in docs/ and the READMEs: their commands run, their links lead somewhere, and what
they list is what the sources have.

A block of shell commands (```sh) is run here, or ELSEWHERE by the test that is named there, or
stands in NOT_RUN with the reason. A new block fails the first test until it is in one of these.
"""

import ast
import contextlib
import glob
import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest

import test_machine
from server import BUILD, PATIENCE, REPOSITORY, free_port, ours_plugin, wait_until

pytestmark = pytest.mark.ours

ROOT = Path(REPOSITORY)
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('*/README.md'), *ROOT.glob('examples/*/*.md')])

# page: {how a block begins, or the heading of its chapter: the test that runs it}. '' is the whole page.
HERE = {
    'README.md': {'./examples/run': 'test_an_example_is_shown_and_ends',
                  'curl http://localhost:8042/hello': 'test_the_first_script_of_the_readme'},
    'docs/configuration.md': {'orthanc-python reload': 'test_each_way_to_reload'},
    'docs/tools.md': {'orthanc-python check': 'test_a_check_says_what_the_page_shows'},
    'docs/getting-started.md': {'': 'test_getting_started_step_by_step'},
    'docs/testing-scripts.md': {'export PYTHONPATH': 'test_the_example_of_tests_runs_from_a_build_tree'},
}
ELSEWHERE = {
    'docs/debugging.md': {"gdb --batch --pid PID -ex 'thread apply all bt'": 'tests/integration/test_gdb.py::test_the_threads_of_a_host',
                          "gdb --batch --pid PID -ex 'thread apply all py-bt'": 'tests/integration/test_gdb.py::test_the_stacks_of_python',
                          'py-spy record': 'tests/integration/test_pyspy.py::test_a_flame_graph_of_what_takes_the_time',
                          'py-spy top': 'tests/integration/test_pyspy.py::test_a_table_that_lives',
                          'py-spy dump': 'tests/integration/test_pyspy.py::test_the_stacks_of_a_moment'},
    'docs/tools.md': {'sudo orthanc-python console': 'tests/integration/test_console.py::test_the_prompt_is_one'},
    'docs/operations.md': {
        '## From the official plugin to a shared pool':
        'tests/integration/test_machine.py::test_from_the_official_plugin_to_a_shared_pool_step_by_step'},
    'docs/reliability.md': {'/usr/bin/python3 -m pytest tests/integration/test_policy.py': 'tests/integration/test_policy.py::test_rest'},
    'docs/performance.md': {'./tests/bench/soak': 'tests/integration/test_soak.py::test_a_day_of_calls_loses_nothing_and_leaves_nothing'},
    'docs/across-machines.md': {'./certificates': 'tests/integration/test_haproxy.py::test_only_who_has_a_certificate_comes_in'},
}
NOT_RUN = {
    'docs/across-machines.md': {'echo \'d /run/orthanc-lanes': 'needs HAProxy as a service of systemd on three machines; '
                                'the namespaces of test_haproxy.py get that directory without systemd'},
    'docs/operations.md': {'apt-get install ./build/packages/orthanc-python-bridge_*.deb': 'tests/packages installs, upgrades and removes '
                           'them in bare roots of three Debian releases',
                           'docker build': 'tests/image builds that image, and uses it, with buildah'},
    'docs/migration.md': {'apt-get install ./build/packages/orthanc-python-bridge_*.deb': 'likewise: "the official plugin gives way"'},
    'docs/development.md': {
        'tests/install-deps\ncmake --preset debug': 'makes the build that this very test runs on',
        './tests/install-deps build packages': 'tests/packages.d/build, which ./tests/run calls, does the same for two revisions',
        'cd build/fuzz/tests/fuzz': 'an hour on two cores; ./tests/run runs the fuzzers for some seconds (ctest -L fuzz)'},
    'docs/performance.md': {'./tests/bench/curves': 'some minutes of a quiet machine: figures of a suite that runs would say nothing'},
    'docs/reliability.md': {'cmake --preset fuzz': 'a minute for each fuzzer, with a build of its own; ./tests/run makes '
                            'that build and runs them for some seconds'},
}


def name_of(page):
    return str(page.relative_to(ROOT))


def text_of(page):
    return (ROOT / page).read_text(encoding='utf-8')


def fences(page):
    """[(language, text)] of all blocks of a page."""
    return re.findall(r'^```(\w*)\n(.*?)^```$', text_of(page), re.M | re.S)


def blocks(page, language='sh'):
    return [text for found, text in fences(page) if found == language]


def is_meant(page, start, block):
    """Whether a row of the tables is about the block."""
    if start.startswith('## '):
        (chapter,) = re.findall(r'^%s\n.*?(?=^## |\Z)' % re.escape(start), text_of(page), re.M | re.S)
        return '```sh\n' + block in chapter
    return block.startswith(start)


def covering(page, block):
    """What the tables say of a block."""
    return [said for table in (HERE, ELSEWHERE, NOT_RUN) for start, said in table.get(page, {}).items()
            if is_meant(page, start, block)]


# -- commands ---------------------------------------------------------------------------------

def test_every_block_of_commands_is_run_or_says_why_not():
    assert len(PAGES) > 15
    uncovered = ['%s: %s' % (name_of(page), block.splitlines()[0]) for page in PAGES for block in blocks(page)
                 if not covering(name_of(page), block)]
    assert uncovered == [], 'run them in a test of this file, or name the test that does'


COMMAND = r'^(?:\$|sudo|apt(?:-get)?|systemctl|cmake|ctest|curl|docker|gdb|orthanc-python|pytest|\./\S+|/usr/\S+) '


def test_commands_are_called_commands():
    """Other blocks are pictures, configuration and code."""
    for page in PAGES:
        for block in [text for language, text in fences(name_of(page)) if language != 'sh']:
            assert not re.search(COMMAND, block, re.M), '%s: begin this block with ```sh:\n%s' % (name_of(page), block)


def test_the_tables_name_blocks_and_tests_that_exist():
    for table in (HERE, ELSEWHERE, NOT_RUN):
        for page, starts in table.items():
            for start, said in starts.items():
                assert any(is_meant(page, start, block) for block in blocks(page)), (page, start)
                if table is HERE:
                    assert callable(globals()[said])
                if table is ELSEWHERE:
                    path, test = said.split('::')
                    assert 'def %s(' % test in text_of(path), said
    assert test_machine.steps() == [block for block in blocks('docs/operations.md')
                                    if any(is_meant('docs/operations.md', start, block)
                                           for start in ELSEWHERE['docs/operations.md'])]


def run(command, check=True, **variables):
    """A block, in the directory of the repository as the pages say; its output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(('PYTEST', 'ORTHANC_'))}
    environment.update(PYTHONDONTWRITEBYTECODE='1', **variables)
    done = subprocess.run(['bash', '-ec', command], cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120 * PATIENCE,
                          check=False)
    assert not check or done.returncode == 0, '%s\n%s' % (command, done.stdout)
    return done.stdout


@contextlib.contextmanager
def started(command, **variables):
    """A command that starts Orthanc in the foreground, from its start to its end as by Ctrl-C; the lines of its terminal."""
    lines, has_started = [], threading.Event()
    with subprocess.Popen(['bash', '-ec', 'exec ' + command], cwd=REPOSITORY, env=dict(os.environ, **variables),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, start_new_session=True) as process:
        def read():
            for line in process.stdout:
                lines.append(line)
                if 'Orthanc has started' in line:
                    has_started.set()
            has_started.set()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            assert has_started.wait(60 * PATIENCE) and process.poll() is None, ''.join(lines)
            yield lines
        finally:
            process.terminate()
            code = process.wait(60 * PATIENCE)
            reader.join(10)
        assert code == 0, ''.join(lines)


def test_getting_started_step_by_step(tmp_path):
    """All but the build: plugin and command are those of the build that is tested."""
    build, script, configuration, start, ask, edit, mistake, back, event, saving = blocks('docs/getting-started.md')
    assert 'cmake --build --preset release' in build
    port = str(free_port())
    variables = {'HOME': str(tmp_path), 'ORTHANC_PYTHON_URL': 'http://localhost:' + port}

    def here(command):
        return command.replace('8042', port).replace('$PWD/build/release', BUILD)

    run(here(script), **variables)
    run(here(configuration), **variables)
    assert json.loads((tmp_path / 'first-script' / 'orthanc.json').read_text())['Plugins'] == [ours_plugin()]
    with started(here(start), **variables) as lines:
        assert run(here(ask), **variables).endswith('Hello, Ada\n')
        output = run(here(edit), **variables)
        assert 'Generation 2 serves' in output and output.endswith('Good morning, Ada\n')
        output = run(here(mistake), **variables)
        assert 'SyntaxError' in output and output.endswith('Good morning, Ada\n')
        output = run(here(back), **variables)
        assert 'Generation 3 serves' in output and re.search(r'^generation +3$', output, re.M)
        output = run(here(event), **variables)
        assert 'Generation 4 serves' in output and re.search(r'"Status" : "Success"', output), output
        wait_until(lambda: re.search(r'Stored [-0-9a-f]{44} as number 1$', ''.join(lines), re.M), 20, 'what the script prints')
    run(here(saving), **variables)
    with started(here(start), **variables):
        run("sed -i 's/Good morning/Good evening/' ~/first-script/hello.py", **variables)
        wait_until(lambda: run(here(ask), **variables).endswith('Good evening, Ada\n'), 20, 'what was saved')


def test_the_first_script_of_the_readme(orthanc):
    (script,), (configuration,) = blocks('README.md', 'python'), blocks('README.md', 'json')
    server = orthanc(script=script, name=os.path.basename(json.loads(configuration)['PythonScript']))
    (command,) = [block for block in blocks('README.md') if block.startswith('curl')]
    assert run(command.replace('8042', str(server.http_port))).endswith('Hello from Python\n')


def test_an_example_is_shown_and_ends():
    """examples/run after its build, which it ends with: the same command for another build."""
    last = text_of('examples/run').splitlines()[-1]
    assert last == 'exec /usr/bin/python3 examples/serve.py "${options[@]}" --build build/release "$example"'
    output = run('/usr/bin/python3 examples/serve.py --once --build %s rest' % BUILD)
    assert 'Verdict: it works: example rest' in output
    assert 'rest\n' in run('examples/run --list')


def test_each_way_to_reload(orthanc):
    server = orthanc(script='import orthanc\n')
    (block,) = blocks('docs/configuration.md')
    command, route, signal_ = [line.split('#')[0].strip() for line in block.splitlines()]
    path = 'PATH=%s:$PATH; ' % (ROOT / 'worker' / 'cli')
    assert 'Generation 2 serves' in run(path + command, ORTHANC_PYTHON_URL=server.url())
    assert '"Generation": 3' in run(route.replace('http://localhost:8042', server.url()))
    run(signal_.replace('PID', str(server.supervisor())))
    server.wait_for_log('Generation 4 is running')


def test_a_check_says_what_the_page_shows():
    shown = next(text for language, text in fences('docs/tools.md') if language == '' and 'registers' in text)
    said = run('PATH=%s:$PATH; %s' % (ROOT / 'worker' / 'cli', blocks('docs/tools.md')[0]),
               ORTHANC_PYTHON_BRIDGE_BUILD=BUILD)

    def words(text):    # without what differs from machine to machine
        return re.sub(r'\S*/(?=examples)|\d+\.\d+(\.\d+)?', '', text)
    assert words(said) == words(shown)


def test_the_example_of_tests_runs_from_a_build_tree():
    (block,) = blocks('docs/testing-scripts.md')
    output = run(block.replace('$PWD/build/debug', BUILD) .replace('-m pytest', '-m pytest -p no:cacheprovider'),
                 ORTHANC_PYTHON_TESTING_PATIENCE=str(PATIENCE))
    assert ' 5 passed' in output


# -- links ------------------------------------------------------------------------------------

def anchors(page):
    """Of the headings, as GitHub makes them."""
    found = set()
    text = re.sub(r'^```.*?^```', '', text_of(page), flags=re.M | re.S)
    for heading in re.findall(r'^#+ (.*)$', text, re.M):
        plain = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading).strip().lower()
        slug = re.sub(r'[^\w\- ]', '', plain).replace(' ', '-')
        number = 0
        while (slug if number == 0 else '%s-%d' % (slug, number)) in found:
            number += 1
        found.add(slug if number == 0 else '%s-%d' % (slug, number))
    return found


def links(page):
    text = re.sub(r'^```.*?^```', '', text_of(page), flags=re.M | re.S)
    text = re.sub(r'`[^`\n]*`', '', text)
    return re.findall(r'\]\(([^)\s]+)\)', text)


@pytest.mark.smoke
def test_every_link_leads_somewhere():
    broken, count = [], 0
    for page in PAGES:
        for link in links(page):
            if re.match(r'\w+:', link):
                continue
            path, _, anchor = link.partition('#')
            target = (page.parent / path).resolve() if path else page
            count += 1
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append('%s: %s' % (name_of(page), link))
    assert count > 80
    assert broken == []


def test_every_page_and_every_example_is_in_its_index():
    index = links(ROOT / 'docs' / 'README.md')
    assert [path.name for path in (ROOT / 'docs').glob('*.md') if path.name != 'README.md' and path.name not in index] == []
    rows = re.findall(r'^\| \[(\w+)\]\((\w+)/[^)]+\) \| \S.*\|$', text_of('examples/README.md'), re.M)
    assert sorted(name for name, _ in rows) == sorted(path.name for path in (ROOT / 'examples').iterdir() if path.is_dir())
    assert all(name == folder for name, folder in rows)


# -- the configuration ------------------------------------------------------------------------

CHAPTERS = ['At the top of the configuration', 'In the section `Python`', 'The file of a shared pool']


def documented(chapter):
    """{key: its row} of a chapter's table, out of which the build makes the parser's."""
    (text,) = re.findall(r'^## %s\n(.*?)(?=^## |^### |\Z)' % re.escape(chapter), text_of('docs/configuration.md'), re.M | re.S)
    lines = text[text.index('| key |'):].split('\n\n')[0].splitlines()
    columns = [cell.strip() for cell in lines[0].strip('|').split('|')]
    rows = [dict(zip(columns, [cell.strip() for cell in line.strip('|').split('|')])) for line in lines[2:]]
    return {row['key'].strip('`'): row for row in rows}


def made_keys():
    """{table: names} of what the compiler got."""
    found = {}
    for path in ('plugin/config_keys.gen.h', 'worker/supervisor/pool_keys.gen.h'):
        text = Path(BUILD, path).read_text(encoding='utf-8')
        for table, entries in re.findall(r'(\w+)\[\] = \{\n(.*?)^\};', text, re.M | re.S):
            found[table] = re.findall(r'^    \{"(\w+)"', entries, re.M)
    return found


def test_the_parsers_know_the_keys_of_the_page():
    """Which are all that they know: the C files have no keys of their own."""
    assert [list(documented(chapter)) for chapter in CHAPTERS] == list(made_keys().values())
    for path in ('plugin/config.c', 'worker/supervisor/config.c'):
        assert re.search(r'#include "\w+_keys\.gen\.h"', text_of(path)) and not re.search(r'\{"[A-Z]\w+", ', text_of(path))


def test_each_type_of_a_key_is_explained():
    explained = {name for cell in re.findall(r'^\| ([a-zA-Z, ]+) \| (?:an? |`true`|`"error")', text_of('docs/configuration.md'), re.M)
                 for name in cell.split(', ')}
    used = {row['type'] for chapter in CHAPTERS for row in documented(chapter).values()}
    assert used == explained


def section_of(configuration):
    """Names below "Python", and those at the top that look like ours."""
    return [*configuration.get('Python', {}), *[name for name in configuration if re.match('Python[A-Z]', name)]]


def test_no_message_and_no_page_names_a_key_that_does_not_exist():
    """Nor does an example's configuration."""
    known = set(documented(CHAPTERS[0])) | set(documented(CHAPTERS[1])) | {'Verbos'}    # which shows what a wrong key says
    sources = [path for folder in ('plugin', 'protocol', 'worker') for path in (ROOT / folder).rglob('*.[ch]')]
    names = [(path, name) for path in [*sources, *PAGES]
             for name in re.findall(r'(?<![\w.])Python\.([A-Z]\w+)', path.read_text(encoding='utf-8'))]
    shown = [(page, name) for page in PAGES for block in blocks(name_of(page), 'json') for name in section_of(json.loads(block))]
    given = [(path, name) for path in ROOT.glob('examples/*/*.json') for name in section_of(json.loads(path.read_text(encoding='utf-8')))]
    assert len(names) > 80 and len(shown) > 5 and len(given) > 10, (len(names), len(shown), len(given))
    assert [(str(path), name) for path, name in names + shown + given if name not in known] == []


def test_the_page_has_the_time_limit_of_each_kind_of_callback():
    """The table of CallTimeout against the one in C: {name of a kind: {call: milliseconds}}."""
    source = text_of('plugin/config_calls.c')
    names = dict(re.findall(r'\[(GROUP_\w+)\]\s*=\s*"(\w+)"', source))
    (locked,) = re.findall(r'#define LOCKED_MS \((\d+)u \* 1000u\)', source)
    known = {name: {} for group, name in names.items() if group != 'GROUP_NONE'}
    for call, group, limit in re.findall(r'\[OPB_CALL_(\w+)_INDEX\] = \{(GROUP_\w+), (\w+)\}', source):
        known[names[group]][call] = {'0': 'no limit', 'LOCKED_MS': locked}[limit]
    words = {'create': 'STORAGE_CREATE', 'read': 'STORAGE_READ', 'remove': 'STORAGE_REMOVE', 'lookup': 'COMMITMENT_LOOKUP'}
    (table,) = re.findall(r'^\| kind \| without any configuration \|\n\|.*\n((?:\|.*\n)+)', text_of('docs/configuration.md'), re.M)
    for kinds, limit in re.findall(r'^\| (.*?) \| (no limit|\d+)', table, re.M):
        for name, which in re.findall(r'`(\w+)`(?:: ([^`]*))?', kinds):
            parts = [start for word, start in words.items() if word in (which or '')]
            meant = [call for call in known[name] if not parts or call.startswith(tuple(parts))]
            if name == 'StorageCommitment' and not parts:
                meant.remove('COMMITMENT_LOOKUP')    # which has a row of its own
            assert meant and {known[name].pop(call) for call in meant} == {limit}, (name, which, limit)
    assert [name for name, calls in known.items() if calls] == []


@pytest.mark.parametrize('key', documented(CHAPTERS[2]))
def test_the_pool_refuses_what_the_page_does_not_allow(tmp_path, key):
    """By key, and by the range that its row has."""
    row, file = documented(CHAPTERS[2])[key], tmp_path / 'pool.json'
    file.write_text(json.dumps({key: {'a': 1}}), encoding='utf-8')
    done = subprocess.run([os.path.join(BUILD, 'worker', 'supervisor', 'orthanc-python-worker'), '--check', '--config', file],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and 'the key "%s" is {"a":1}, and must be ' % key in done.stderr, done.stderr
    assert ('from ' + row['range'] in done.stderr) if row['range'] else ('number' not in done.stderr)


# -- messages ---------------------------------------------------------------------------------

LOGGING = r'opb_log_error|opb_log_warning|opb_host_say|opb_pool_log|opb_log_to_node|PyErr_Format|refuse_stranger'
STRING = r'"(?:[^"\\]|\\.)*"'
# Messages that need no remedy, with the reason: how they begin.
WITHOUT_REMEDY = {
    'Python plugin is ': 'the start and the end',
    'Version of the Orthanc SDK in use': 'the start',
    'Python stacks of the host': 'what another message announces',
    '--venv %s: out of memory': 'says it itself',
    '(cut here': 'the end of such stacks',
    'Generation ': 'a reload that has succeeded',
    'the main lane is still bound': 'an assertion of the host on itself',
    'the generated table has a bad signature': 'the same',
}


def messages():
    """[(file, text)]: the texts of the sources that are logged or raised."""
    found = []
    for path in sorted(glob.glob(str(ROOT / 'plugin' / '*.c')) + glob.glob(str(ROOT / 'worker' / '*' / '*.c'))):
        text = re.sub(r'\bPRI\w+', '"llu"', Path(path).read_text(encoding='utf-8'))
        for arguments in re.findall(r'\b(?:%s)\s*\(((?:[^()"]|%s|\((?:[^()"]|%s)*\))*)\)' % (LOGGING, STRING, STRING), text):
            for parts in re.findall(r'%s(?:\s*%s)*' % (STRING, STRING), arguments):
                message = ''.join(re.findall(r'"((?:[^"\\]|\\.)*)"', parts)).replace('\\"', '"').replace('\\n', '')
                if len(message.split()) >= 4:
                    found.append((os.path.relpath(path, REPOSITORY), message))
    return found


def messages_of_the_command():
    """[(file, text)]: with what the command orthanc-python ends, or what it says besides."""
    found = []
    for path in sorted((ROOT / 'worker' / 'cli' / 'orthanc_python').glob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ('Problem', 'say'):
                texts = [text.left if isinstance(text, ast.BinOp) else text for text in node.args[-1:]]
                found += [(os.path.relpath(path, REPOSITORY), text.value) for text in texts
                          if isinstance(text, ast.Constant) and max(
                              len(part.split()) for part in re.split(r'\S*%\S*', text.value)) >= 4]
    return found


def documented_messages():
    """The parts of what the pages show as code, between the names and numbers that they leave out."""
    pages = '\n'.join(text_of('docs/%s.md' % name) for name in ('troubleshooting', 'configuration', 'scripts'))
    parts = [part.strip(' :;,.') for code in re.findall(r'`([^`]+)`', pages) for part in re.split(r'…|<[^>]*>|\.\.\.', code)]
    return [part for part in parts if len(part.split()) >= 3 and len(part) >= 14]


def test_every_error_and_warning_has_its_remedy():
    """A page shows it, or a part of it."""
    shown, everything = documented_messages(), [*messages(), *messages_of_the_command()]
    assert len(everything) > 150 and len(messages_of_the_command()) > 25 and len(shown) > 150
    missing = ['%s: %s' % (path, message) for path, message in everything
               if not any(part in message for part in shown)
               and not any(message.startswith(start) for start in WITHOUT_REMEDY)]
    assert missing == [], 'add them to docs/troubleshooting.md:\n' + '\n'.join(missing)

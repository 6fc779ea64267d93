# SPDX-License-Identifier: GPL-3.0-or-later
"""Manual pages, --help and the completion of bash say the same, and say it well."""

import argparse
import os
import pathlib
import re
import subprocess
import sys

import pytest

from server import BUILD, REPOSITORY

pytestmark = pytest.mark.ours

CLI = pathlib.Path(REPOSITORY, 'worker', 'cli')
WORKER = os.path.join(BUILD, 'worker', 'supervisor', 'orthanc-python-worker')
PAGES = sorted(pathlib.Path(REPOSITORY, 'docs', 'man').glob('*.[0-9]'))
OPTION = re.compile(r'(?<![\w-])--?[a-z][a-z-]*')


@pytest.fixture(scope='module')
def commands():
    """{command: its options}, as the parser knows them."""
    sys.path.insert(0, str(CLI))
    try:
        from orthanc_python.arguments import make_parser
    finally:
        sys.path.pop(0)
    (choices,) = [action.choices for action in make_parser()._actions
                  if isinstance(action, argparse._SubParsersAction)]
    return {name: {option for action in parser._actions for option in action.option_strings}
            for name, parser in choices.items()}


def worker_options():
    return set(OPTION.findall(subprocess.run([WORKER, '--help'], capture_output=True, text=True, check=True).stdout))


def plain(path):
    """The page as text, on one line."""
    done = subprocess.run(['mandoc', '-T', 'ascii', path], capture_output=True, text=True, check=True)
    return re.sub(r'\s+', ' ', re.sub('.\b', '', done.stdout).replace('-\n', '-'))


def options_of(path):
    """The options that a page describes: those that begin an entry of a list."""
    entries = [line for line in path.read_text(encoding='utf-8').splitlines() if line.startswith('.It Fl')]
    return {'-' + option for line in entries for option in re.findall(r'Fl (\S+)', line)}


@pytest.mark.parametrize('page', PAGES, ids=[page.name for page in PAGES])
def test_manual_pages_have_no_fault(page):
    lint = subprocess.run(['mandoc', '-T', 'lint', '-W', 'warning', str(page)], capture_output=True, text=True,
                          check=False)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, '')
    shown = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', str(page)], capture_output=True,
                           text=True, check=False, env=dict(os.environ, LC_ALL='C.UTF-8'))
    assert (shown.returncode, shown.stderr) == (0, '')
    whatis = subprocess.run(['lexgrog', str(page)], capture_output=True, text=True, check=False)
    assert whatis.returncode == 0 and '%s - ' % page.stem in whatis.stdout


def test_the_checks_find_a_fault(tmp_path):
    page = tmp_path / 'a.1'
    page.write_text(PAGES[0].read_text(encoding='utf-8').replace('.It Cm reload', '.Itt Cm reload'), encoding='utf-8')
    lint = subprocess.run(['mandoc', '-T', 'lint', '-W', 'warning', str(page)], capture_output=True, check=False)
    assert lint.returncode != 0


def test_every_command_and_option_is_in_the_manual(commands):
    page = CLI.parent.parent / 'docs' / 'man' / 'orthanc-python.1'
    assert options_of(page) == set().union(*commands.values()) - {'-h', '--help'}
    text = plain(page)
    for command in commands:
        assert re.search(r' %s ' % command, text)
    codes = re.findall(r'^\.It (\d)$', page.read_text(encoding='utf-8'), re.M)
    assert codes == list('0123456')


def test_every_option_of_the_worker_is_in_its_manual():
    page = CLI.parent.parent / 'docs' / 'man' / 'orthanc-python-worker.8'
    assert options_of(page) == worker_options()


def test_every_command_is_in_the_page_of_tools(commands):
    text = pathlib.Path(REPOSITORY, 'docs', 'tools.md').read_text(encoding='utf-8')
    for command in commands:
        assert '| `%s' % command in text and re.search(r'^## .*\b%s\b' % command, text, re.M), command


@pytest.mark.parametrize('words', [(), ('check',), ('reload',), ('status',), ('stacks',), ('console',), ('logs',)])
def test_help_has_words_for_every_option(words):
    shown = subprocess.run([sys.executable, str(CLI / 'orthanc-python'), *words, '--help'], capture_output=True,
                           text=True, check=True, env=dict(os.environ, COLUMNS='100')).stdout
    assert shown.startswith('usage: orthanc-python') and 'None' not in shown
    for line in re.findall(r'^  (-.*)$', shown, re.M):
        assert re.search(r'\S {2,}\S', line) or line.endswith(('PATH', 'URL', 'VERSION', 'WHEN', 'UNIT', 'FILE', 'N')), line


def complete(name, *words, cwd=None):
    """What bash would offer for the last word."""
    function = '_' + name.replace('-', '_')
    script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); %s; printf "%%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(['bash', '-c', script % function, 'bash', str(CLI / 'completions' / name), name, *words],
                          cwd=cwd, capture_output=True, text=True, check=True)
    assert done.stderr == ''
    return set(done.stdout.split())


def test_bash_completes_what_the_parser_takes(commands):
    assert complete('orthanc-python', '') == set(commands) | {'--help', '--version'}
    assert complete('orthanc-python', 'sta') == {'status', 'stacks'}
    for command, options in commands.items():
        assert complete('orthanc-python', command, '-') == options - {'-h'}, command
    assert complete('orthanc-python-worker', '-') == worker_options()
    assert complete('orthanc-python-worker', '--log-level', 'w') == {'warning'}


def test_bash_completes_scripts_and_configurations(tmp_path):
    for name in ('script.py', 'other.txt', 'conf.json'):
        (tmp_path / name).touch()
    (tmp_path / 'folder').mkdir()
    assert complete('orthanc-python', 'check', '', cwd=tmp_path) == {'script.py', 'folder'}
    assert complete('orthanc-python', 'check', '--config', '', cwd=tmp_path) == {'conf.json', 'folder'}
    assert complete('orthanc-python', 'check', '--timeout', '', cwd=tmp_path) == set()

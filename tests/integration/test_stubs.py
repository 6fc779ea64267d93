# SPDX-License-Identifier: GPL-3.0-or-later
"""The type stubs: against the module, and for those who write scripts.

Every example, and usage.py with what must be refused, under mypy --strict and pyright.
pyright is no package of Debian: $OPB_PYRIGHT or the one in PATH is taken, else the version that
fetch_pyright.py names, run by Debian's node. Where that cannot be fetched the tests are skipped,
which tests/run names at its end.
"""

import ast
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import fetch_pyright
from server import BUILD, PATIENCE, REPOSITORY

pytestmark = [pytest.mark.ours, pytest.mark.types]

HERE = pathlib.Path(REPOSITORY, 'tests', 'stubs')
STUBS = pathlib.Path(BUILD, 'python-stubs')
USAGE = HERE / 'usage' / 'usage.py'
ALL_EXAMPLES = sorted(pathlib.Path(REPOSITORY, 'examples').glob('*/*.py'))
PYTHON = '/usr/bin/python3'


def find_newer():
    """The examples with names that the SDK of this build, and so the stubs, do not have."""
    sys.path.insert(0, os.path.join(REPOSITORY, 'worker', 'cli'))
    try:
        from orthanc_python.source import Names, look
    finally:
        sys.path.pop(0)
    names = Names(json.loads(pathlib.Path(BUILD, 'generated', 'model.json').read_text(encoding='utf-8')))
    return [path for path in ALL_EXAMPLES if any(item[3] in ('missing', 'guarded') for item in look(names, (99, 0, 0), path))]


NEWER = find_newer()
EXAMPLES = [path for path in ALL_EXAMPLES if path not in NEWER]


def run(*words, env=None, check=True):
    """The output of a checker, which must have found nothing."""
    done = subprocess.run([str(word) for word in words], cwd=REPOSITORY, env=dict(os.environ, **(env or {})),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=300 * PATIENCE, check=False)
    assert not check or done.returncode == 0, done.stdout
    return done.stdout


def mypy(directory, *paths):
    return run(PYTHON, '-m', 'mypy', '--config-file', HERE / 'mypy.ini', '--cache-dir', directory / 'mypy', *paths,
               env={'MYPYPATH': str(STUBS)})


def answers(program):
    """Not every pyright in PATH does: that of PyPI is one that would fetch the real one."""
    try:
        return subprocess.run([program, '--version'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=60 * PATIENCE, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find_pyright():
    """The words of a command."""
    if os.environ.get('OPB_PYRIGHT'):
        return [os.environ['OPB_PYRIGHT']]
    found = shutil.which('pyright')
    if found and answers(found):
        return [found]
    assert shutil.which('node'), 'node is missing: tests/install-deps installs it (package nodejs)'
    try:
        return ['node', str(fetch_pyright.fetch(os.path.join(REPOSITORY, 'build', 'pyright')))]
    except fetch_pyright.NotFetched as error:
        pytest.skip('pyright is not installed, and cannot be fetched: %s' % error)


def write_stubs(folder):
    """Ours, and for the libraries of mypy.ini ones that say nothing: pyright has types of some of its
    own, and would find others where this system has installed them."""
    folder.mkdir()
    (folder / 'orthanc').symlink_to(STUBS / 'orthanc')
    libraries = re.findall(r'(\w+)\.\*', (HERE / 'mypy.ini').read_text(encoding='utf-8'))
    assert 'pydicom' in libraries
    for name in libraries:
        (folder / name).mkdir()
        (folder / name / '__init__.pyi').write_text('from typing import Any\ndef __getattr__(name: str) -> Any: ...\n')


@pytest.fixture(scope='module')
def pyright(tmp_path_factory):
    """pyright(files...): its output."""
    words = find_pyright()

    def check(**folders):
        directory = tmp_path_factory.mktemp('pyright')
        write_stubs(directory / 'stubs')
        for name, path in folders.items():
            (directory / name).symlink_to(path)
        included = ', '.join('"%s"' % name for name in folders)
        config = re.sub(r'"include": \[.*?\]', '"include": [%s]' % included, (HERE / 'pyright.json').read_text())
        (directory / 'pyrightconfig.json').write_text(config)
        output = run(*words, '-p', directory, '--pythonpath', PYTHON, '--stats')
        assert int(re.search(r'Found (\d+) source file', output).group(1)) > 0, output
        return output
    return check


def test_the_stubs_say_what_the_module_is():
    """stubtest imports the real module: without a node, as an editor's machine has none."""
    environment = {'MYPYPATH': str(STUBS), 'PYTHONPATH': os.path.join(BUILD, 'worker', 'module')}
    assert 'no issues' in run(PYTHON, '-B', '-m', 'mypy.stubtest', 'orthanc', env=environment)


def test_stubtest_misses_what_is_left_out(tmp_path):
    """The check before this one can fail."""
    (tmp_path / 'orthanc').mkdir()
    text = (STUBS / 'orthanc' / '__init__.pyi').read_text(encoding='utf-8')
    broken = text.replace('def GetWorkerIndex(', 'def GetWorkerIndexes(').replace('STABLE_STUDY: Final = 9', '')
    (tmp_path / 'orthanc' / '__init__.pyi').write_text(broken, encoding='utf-8')
    output = run(PYTHON, '-B', '-m', 'mypy.stubtest', 'orthanc', check=False, env={
        'MYPYPATH': str(tmp_path), 'PYTHONPATH': os.path.join(BUILD, 'worker', 'module')})
    for name in ('GetWorkerIndex', 'GetWorkerIndexes', 'ChangeType.STABLE_STUDY'):
        assert 'error: orthanc.%s ' % name in output, output


def test_every_example_is_typed_for_mypy(tmp_path):
    assert len(EXAMPLES) >= 35
    assert 'in %d source files' % len(EXAMPLES) in mypy(tmp_path, *EXAMPLES)


def test_every_example_is_for_the_sdk_of_this_build():
    if NEWER:
        pytest.skip('types of examples that need a newer SDK: ' + ', '.join(path.stem for path in NEWER))


def test_mypy_accepts_what_works_and_refuses_what_does_not(tmp_path):
    mypy(tmp_path, USAGE)


def test_every_example_is_typed_for_pyright(pyright):
    pyright(**{path.parent.name: path.parent for path in EXAMPLES})


def test_pyright_accepts_what_works_and_refuses_what_does_not(pyright):
    pyright(usage=USAGE.parent)


def test_pyright_finds_nothing_in_the_stubs_themselves(pyright):
    pyright(package=STUBS / 'orthanc')


def fake_pyright(folder, text, monkeypatch):
    """The only pyright in PATH."""
    program = folder / 'pyright'
    program.write_text('#!/bin/sh\n%s\n' % text)
    program.chmod(0o755)
    monkeypatch.delenv('OPB_PYRIGHT', raising=False)
    monkeypatch.setenv('PATH', '%s:%s' % (folder, os.environ['PATH']))
    monkeypatch.setattr(fetch_pyright, 'fetch', lambda folder: folder + '/fetched')
    return str(program)


def test_a_pyright_in_path_is_taken(tmp_path, monkeypatch):
    program = fake_pyright(tmp_path, 'echo pyright 1.1.400', monkeypatch)
    assert find_pyright() == [program]
    monkeypatch.setenv('OPB_PYRIGHT', '/another/pyright')
    assert find_pyright() == ['/another/pyright']


def test_a_pyright_in_path_that_does_not_run_is_passed_over(tmp_path, monkeypatch):
    fake_pyright(tmp_path, 'echo cannot reach the registry >&2; exit 1', monkeypatch)
    assert find_pyright() == ['node', os.path.join(REPOSITORY, 'build', 'pyright', 'fetched')]


def test_a_pyright_that_cannot_be_fetched_is_not_checked(tmp_path, monkeypatch):
    def fetch(_folder):
        raise fetch_pyright.NotFetched('no network')
    fake_pyright(tmp_path, 'exit 1', monkeypatch)
    monkeypatch.setattr(fetch_pyright, 'fetch', fetch)
    with pytest.raises(pytest.skip.Exception, match='cannot be fetched: no network'):
        find_pyright()


def test_a_pyright_that_is_another_one_is_a_failure(tmp_path, monkeypatch):
    def fetch(_folder):
        raise fetch_pyright.Wrong('checksum')
    fake_pyright(tmp_path, 'exit 1', monkeypatch)
    monkeypatch.setattr(fetch_pyright, 'fetch', fetch)
    with pytest.raises((fetch_pyright.Wrong, pytest.skip.Exception)) as caught:
        find_pyright()
    assert caught.type is fetch_pyright.Wrong     # a test that is skipped would not be red


def test_every_name_is_described():
    """An editor shows it; classes and functions alike."""
    tree = ast.parse((STUBS / 'orthanc' / '__init__.pyi').read_text(encoding='utf-8'))
    public = [node for item in tree.body for node in [item, *getattr(item, 'body', [])]
              if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith('_')]
    assert len(public) > 150
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_the_package_has_the_version_of_the_sdk():
    (found,) = importlib.metadata.distributions(name='orthanc-stubs', path=[str(STUBS / 'package')])
    reference = pathlib.Path(BUILD, 'generated', 'api-reference.md').read_text(encoding='utf-8')
    assert found.version == re.search(r'Orthanc SDK ([\d.]+)\.', reference).group(1)
    assert found.metadata['License'] == 'GPL-3.0-or-later' and found.metadata['Summary']
    names = sorted(str(path) for path in found.files)
    assert 'orthanc-stubs/__init__.pyi' in names and all(path.locate().exists() for path in found.files)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of Python scripts for Orthanc, by pytest, on a real and throw-away Orthanc.

    pytest_plugins = ['orthanc_python_testing']

    def test_hello(start_orthanc):
        orthanc = start_orthanc('hello.py')
        assert orthanc.get('/hello').text == 'Hello'

docs/testing-scripts.md of the bridge says more. Here: the fixtures, the options of pytest,
and the log in the report of a test that fails. The server is in server.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Generator, Iterator

import pytest

from .server import BRIDGE_VARIABLE, ORTHANC_VARIABLE, Answer, Failure, Orthanc

__all__ = ['Answer', 'Failure', 'Orthanc', 'start_module_orthanc', 'start_orthanc']

Starter = Callable[..., Orthanc]
LAST_OF_LOG = 8000
servers_key = pytest.StashKey['list[Orthanc]']()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the programs are, unless they are where they are installed."""
    group = parser.getgroup('orthanc', 'Python scripts for Orthanc')
    group.addoption('--orthanc', metavar='PATH', help='the program Orthanc (or $%s)' % ORTHANC_VARIABLE)
    group.addoption('--orthanc-bridge', metavar='PATH', help='the plugin libOrthancPythonBridge.so, or the build '
                    'directory that has it (or $%s)' % BRIDGE_VARIABLE)


def _servers(node: Any) -> list[Orthanc]:
    """Those of a test, or of a module."""
    found: list[Orthanc] = node.stash.setdefault(servers_key, [])
    return found


@pytest.hookimpl(hookwrapper=True)  # type: ignore[misc]
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A test that fails shows what its servers and their scripts have said."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        module = item.getparent(pytest.Module)
        for server in _servers(item) + (_servers(module) if module else []):
            for title, text in (('log of Orthanc', server.log()), ('output of the script', server.output())):
                if text:
                    report.sections.append((title, text[-LAST_OF_LOG:]))


def _starter(request: pytest.FixtureRequest, servers: list[Orthanc]) -> Iterator[Starter]:
    folder = request.path.parent
    options = request.config.option

    def start(script: str | os.PathLike[str], **arguments: Any) -> Orthanc:
        arguments.setdefault('program', getattr(options, 'orthanc', None))
        arguments.setdefault('bridge', getattr(options, 'orthanc_bridge', None))
        server = Orthanc(folder / Path(script), **arguments)
        servers.append(server)
        return server.start()

    yield start
    problems = []
    for server in servers:
        try:
            server.close()
        except Failure as e:
            problems.append(str(e))
    if problems:
        pytest.fail('\n'.join(problems), pytrace=False)


@pytest.fixture
def start_orthanc(request: pytest.FixtureRequest) -> Iterator[Starter]:
    """start_orthanc('script.py', ...): an Orthanc that serves the script, for this test.

    The path is relative to the test's file; the other arguments are those of the class Orthanc."""
    yield from _starter(request, _servers(request.node))


@pytest.fixture(scope='module')
def start_module_orthanc(request: pytest.FixtureRequest) -> Iterator[Starter]:
    """As start_orthanc, for a server that all tests of a file share."""
    yield from _starter(request, _servers(request.node))

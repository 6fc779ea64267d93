# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: servers under the official plugin and under ours.

OPB_TEST_BUILD      build directory with our plugin and worker (default build/debug)
OPB_TEST_WORKER     another worker daemon, e.g. of an instrumented build
OPB_TEST_PYTHON     a second Python, for test_second_python.py
OPB_TEST_SANITIZE   address or thread: from build/asan or build/tsan, see sanitizer.py
OPB_TEST_PLUGINS    'official,ours' (default), or one of them
OPB_TEST_PATIENCE   factor on every deadline, for slow machines and sanitizers
"""

import json
import os
import re
import shutil
import sys

import pytest

import tally
from server import OFFICIAL, REPOSITORY, OrthancServer

PLUGINS = [name for name in os.environ.get('OPB_TEST_PLUGINS', 'official,ours').split(',') if name]


def pytest_configure(config):
    config.addinivalue_line('markers', 'smoke: a few quick ones, for instrumented builds')
    config.addinivalue_line('markers', 'age: a server of another age than the SDK of the build')
    config.addinivalue_line('markers', 'ours: about our plugin only')
    config.addinivalue_line('markers', 'types: type checkers, with neither a server nor a plugin')
    config.addinivalue_line('markers', 'survival: faults and reloads, the same on every server')
    unknown = set(PLUGINS) - {'official', 'ours'}
    if unknown or not PLUGINS:
        raise pytest.UsageError('OPB_TEST_PLUGINS names official, ours or both')
    if 'official' in PLUGINS and not os.path.exists(OFFICIAL):
        raise pytest.UsageError('the differential tests need Debian\'s package orthanc-python '
                                '(%s); install it, or set OPB_TEST_PLUGINS=ours' % OFFICIAL)


def pytest_collection_modifyitems(config, items):
    """Without our plugin, what is only about it is left out by choice, and said so."""
    if 'ours' not in PLUGINS:
        for item in items:
            if item.get_closest_marker('ours'):
                item.add_marker(pytest.mark.skip(reason='OPB_TEST_PLUGINS leaves ours out'))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    parameters = getattr(getattr(item, 'callspec', None), 'params', {})
    if report.when == 'call' and report.passed and parameters.get('plugin') == 'ours':
        if 'official' in PLUGINS:
            tally.compared()    # the same test passed, or fails, under the other one
    if report.failed:
        for server in getattr(item, 'opb_servers', []):
            report.sections.append(('%s, %s: log' % (server.plugin, server.directory),
                                    server.log()[-6000:]))
            report.sections.append(('stdout', server.out()[-2000:]))


def needs_default_pool(plugin):
    """For tests whose script makes a pool with the default start method."""
    if plugin == 'official' and sys.version_info >= (3, 14):
        pytest.skip('contract 8 row 17: no such pool under the official plugin, since sys.executable '
                    'is Orthanc and the default is forkserver')


class Farm:
    """Makes servers, and ends all of them at the end of its scope."""

    def __init__(self, base):
        self.base = base
        self.servers = []

    def make(self, plugin='ours', **kwargs):
        directory = os.path.join(str(self.base), '%s-%d' % (plugin, len(self.servers)))
        server = OrthancServer(directory, plugin=plugin, **kwargs)
        self.servers.append(server)
        return server

    def __call__(self, plugin='ours', **kwargs):
        return self.make(plugin, **kwargs).start()

    def close(self):
        problems = []
        for server in self.servers:
            try:
                server.close()
            except AssertionError as e:
                problems.append('%s: %s' % (server.plugin, e))
        assert not problems, '\n'.join(problems)


@pytest.fixture
def orthanc(tmp_path, request):
    """A maker of started servers: orthanc(plugin, script=..., ...)."""
    farm = Farm(tmp_path)
    request.node.opb_servers = farm.servers
    yield farm
    farm.close()


@pytest.fixture(scope='module')
def module_orthanc(tmp_path_factory, request):
    """As orthanc, for servers that all tests of a module share."""
    name = re.sub(r'\W', '_', request.module.__name__)
    farm = Farm(tmp_path_factory.mktemp(name))
    yield farm
    farm.close()


@pytest.fixture(params=PLUGINS)
def plugin(request):
    """The name of each plugin in turn."""
    return request.param


@pytest.fixture
def example(orthanc, tmp_path):
    """example(plugin, name, config=..., **server arguments): a server in a copy of examples/NAME."""
    def start(plugin, name, config=None, **kwargs):
        directory = os.path.join(str(tmp_path), 'copy-%s-%s' % (plugin, name))
        shutil.copytree(os.path.join(REPOSITORY, 'examples', name), directory)
        with open(os.path.join(directory, 'orthanc.json'), encoding='utf-8') as f:
            fragment = json.load(f)
        fragment.update({'StableAge': 1} if 'StableAge' in fragment else {})
        fragment.update(config or {})
        return orthanc(plugin, config=fragment, cwd=directory, **kwargs)
    return start


@pytest.fixture
def both(orthanc):
    """both(action, **server arguments): runs action(server) under each plugin and returns
    {plugin: result}; see compare.assert_same()."""
    def run(action, **kwargs):
        results = {}
        for name in PLUGINS:
            server = orthanc(name, **kwargs)
            results[name] = action(server)
            if server.poll() is None:
                server.stop()
        return results
    return run

# SPDX-License-Identifier: GPL-3.0-or-later
"""What `cmake --install` leaves, and that it works where it is."""

import os
import pathlib
import re
import subprocess

import pytest

from server import BUILD, PID_ROUTE, REPOSITORY

pytestmark = pytest.mark.ours

LIBRARY = 'lib/orthanc/libOrthancPythonBridge.so'
PLUGIN = 'share/orthanc/plugins/libOrthancPythonBridge.so'
WORKER = 'bin/orthanc-python-worker'
HOST = 'libexec/orthanc-python-bridge/orthanc-python-host'
FILES = [
    'bin/orthanc-python', WORKER, r'etc/orthanc-python/pool\.json',
    LIBRARY,
    r'lib/python3\.\d+/dist-packages/orthanc-stubs/__init__\.pyi',
    r'lib/python3\.\d+/dist-packages/orthanc-stubs/py\.typed',
    r'lib/python3\.\d+/dist-packages/orthanc_stubs-[\d.]+\.dist-info/INSTALLER',
    r'lib/python3\.\d+/dist-packages/orthanc_stubs-[\d.]+\.dist-info/METADATA',
    r'lib/python3\.\d+/dist-packages/orthanc_stubs-[\d.]+\.dist-info/RECORD',
    *[r'lib/python3/dist-packages/orthanc_python_testing/' + name
      for name in (r'__init__\.py', r'py\.typed', r'server\.py')],
    r'lib/systemd/system/orthanc-python-worker\.service', r'lib/systemd/system/orthanc-python-worker\.socket',
    r'lib/systemd/system/orthanc-python-worker@\.service', r'lib/sysusers\.d/orthanc-python\.conf',
    r'lib/tmpfiles\.d/orthanc-python\.conf',
    r'libexec/orthanc-python-bridge/bridge\.json',
    r'libexec/orthanc-python-bridge/module/orthanc\.cpython-\d+-.*\.so', HOST,
    *[r'libexec/orthanc-python-bridge/orthanc_python/%s\.py' % path.stem for path in sorted(
        pathlib.Path(REPOSITORY, 'worker', 'cli', 'orthanc_python').glob('*.py'))],
    r'libexec/orthanc-python-bridge/sdk\.json',
    'share/bash-completion/completions/orthanc-python', 'share/bash-completion/completions/orthanc-python-worker',
    *['share/doc/orthanc-python-bridge/' + re.escape(name) for name in sorted(
        ['api-reference.md'] + [path.name for kind in ('*.md', '*.png')
                                for path in pathlib.Path(REPOSITORY, 'docs').glob(kind)])],
    r'share/man/man1/orthanc-python\.1(\.gz)?', r'share/man/man8/orthanc-python-worker\.8(\.gz)?', PLUGIN]

SCRIPT = r'''
import json, multiprocessing
import orthanc

def double(n):
    return 2 * n, orthanc.ErrorCode.UNKNOWN_RESOURCE

def rest(output, uri, **request):
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        output.AnswerBuffer(json.dumps(pool.map(double, [21])), 'application/json')

orthanc.RegisterRestCallback('/spawn', rest)
''' + PID_ROUTE


def install(root, prefix):
    done = subprocess.run(['cmake', '--install', BUILD, '--prefix', prefix],
                          env=dict(os.environ, DESTDIR=str(root)), capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """The directory that the prefix has become."""
    root = tmp_path_factory.mktemp('installed')
    install(root, '/opt/prefix')
    return root / 'opt' / 'prefix'


def test_everything_is_below_the_prefix(installed):
    root = installed.parent.parent
    found = sorted(str(path.relative_to(root)) for path in root.rglob('*') if not path.is_dir())
    assert len(found) == len(FILES), found
    for path, pattern in zip(found, FILES):
        assert re.fullmatch('opt/prefix/' + pattern, path), (path, pattern)


@pytest.mark.parametrize('prefix', ['/usr', '/usr/local'])
def test_debians_python_finds_the_stubs(tmp_path, prefix):
    """In the directory for packages that goes with the prefix."""
    install(tmp_path, prefix)
    (stubs,) = tmp_path.rglob('orthanc-stubs')
    looked_at = subprocess.run(['/usr/bin/python3', '-c', 'import site; print(*site.getsitepackages())'],
                               capture_output=True, text=True, check=True).stdout.split()
    assert '/' + str(stubs.parent.relative_to(tmp_path)) in looked_at


def test_it_works_where_it_is(orthanc, installed):
    """The plugin finds its worker, that one the host, and a child of the script the module."""
    server = orthanc(None, script=SCRIPT, config={'Plugins': [str(installed / PLUGIN)]})
    assert os.path.samefile('/proc/%d/exe' % server.supervisor(), installed / WORKER)
    assert os.path.samefile('/proc/%d/exe' % server.host_pid(), installed / HOST)
    assert server.get('/spawn', timeout=60).json() == [[42, 17]]
    assert not server.messages('E')
    assert server.stop() == 0


def test_the_command_works_where_it_is(installed):
    """It finds its package, the host and the names of the SDK; from a link to it, too."""
    link = installed.parent / 'a-link'
    link.symlink_to(installed / 'bin' / 'orthanc-python')
    environment = {key: value for key, value in os.environ.items() if not key.startswith('ORTHANC_PYTHON')}
    for command in (installed / 'bin' / 'orthanc-python', link):
        done = subprocess.run([command, 'check', os.path.join(REPOSITORY, 'examples', 'rest', 'rest.py')],
                              env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and 'RegisterRestCallback  /tata' in done.stdout, done.stdout + done.stderr
        worker = subprocess.run([installed / WORKER, '--version'], capture_output=True, text=True, check=True).stdout
        done = subprocess.run([command, '--version'], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == 'orthanc-python %s\n' % worker.split()[1].rstrip(','), worker


def test_only_the_host_and_the_module_know_python(installed):
    """Neither Orthanc nor the pool's supervisor loads it."""
    for path in (PLUGIN, WORKER, HOST):
        libraries = re.findall(r'\(NEEDED\).*\[(.*)\]', subprocess.run(
            ['readelf', '-d', installed / path], capture_output=True, text=True, check=True).stdout)
        assert libraries
        assert any('python' in name for name in libraries) == (path == HOST), (path, libraries)

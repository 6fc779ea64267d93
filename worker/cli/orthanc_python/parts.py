# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the other parts of the bridge are: beside this package as installed, or in a build.

$ORTHANC_PYTHON_BRIDGE_BUILD names a build directory. Without it, a command that is still in
the source takes build/release or build/debug beside it, whichever is newer: that is the one
that its user has just made. What a running host belongs to is told by where its program is.
"""

import json
import os
import pathlib

from orthanc_python import USAGE, Problem

LIBRARY = pathlib.Path(__file__).resolve().parent.parent
VARIABLE = 'ORTHANC_PYTHON_BRIDGE_BUILD'
BUILDS = ('build/release', 'build/debug')
HOST = 'worker/host/orthanc-python-host'      # in a build


def is_source(library):
    return (library / 'CMakeLists.txt').exists() and (library / 'orthanc_python').is_dir()


def build_of_source(root):
    """The newer one of the builds that the presets make; None without any that has a host."""
    hosts = [root / build / HOST for build in BUILDS]
    found = [(host.stat().st_mtime, host) for host in hosts if host.exists()]
    return max(found)[1].parents[2] if found else None


def build_of(library):
    """The build directory that a folder with a host or with this package belongs to, or None."""
    if is_source(library):
        root = library.parents[1]
        build = build_of_source(root)
        if build is None:
            raise Problem(USAGE, 'There is no build of the bridge in %s: build it, or name the directory of a build in '
                          '%s' % (root / 'build', VARIABLE))
        return build
    inside = pathlib.Path(HOST).parent
    if library.parts[-len(inside.parts):] == inside.parts and not (library / 'bridge.json').exists():
        return library.parents[len(inside.parts) - 1]
    return None


def find(installed, built, what, library=LIBRARY):
    """The path of a part: as it is installed, and in a build directory."""
    named = os.environ.get(VARIABLE)
    build = pathlib.Path(named).absolute() if named else build_of(library)
    path = build / built if build else library / installed
    if path.exists():
        return path
    raise Problem(USAGE, 'There is no %s (%s): %s' % (
        path, what, '%s has to name the directory of a complete build' % VARIABLE if named else
        'build the bridge completely, or name the directory of another build in %s' % VARIABLE if build else
        'install the worker of the bridge completely'))


def host_program():
    return find('orthanc-python-host', HOST, 'the program that runs scripts')


def library_of(pid):
    """Where the parts beside a running host are: it may be of another Python than this command."""
    try:
        return pathlib.Path(os.readlink('/proc/%d/exe' % pid)).parent
    except OSError:
        return LIBRARY


def module_folder(library):
    return find('module', 'worker/module', 'the orthanc module', library)


def read_bridge(library=LIBRARY):
    path = find('bridge.json', 'worker/cli/bridge.json', 'what the bridge was built with', library)
    return json.loads(path.read_text(encoding='utf-8'))


def python_program(library):
    """The Python that the module is for."""
    return read_bridge(library)['Python']


def version():
    """That of the bridge, and which build it is if it is not installed."""
    number, build = read_bridge()['Version'], os.environ.get(VARIABLE) or build_of(LIBRARY)
    return '%s (build: %s)' % (number, os.path.abspath(build)) if build else number


def sdk():
    """The functions, classes and enumerations of the SDK that the bridge was built with."""
    return json.loads(find('sdk.json', 'generated/model.json', 'the names of the SDK').read_text(encoding='utf-8'))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the other parts of the bridge are: beside this package as installed, or in a build.

$ORTHANC_PYTHON_BRIDGE_BUILD names a build directory, for those who work on the bridge.
"""

import json
import os
import pathlib

from orthanc_python import USAGE, Problem

LIBRARY = pathlib.Path(__file__).resolve().parent.parent


def find(installed, built, what, library=LIBRARY):
    """The path of a part: as it is installed, and in a build directory."""
    build = os.environ.get('ORTHANC_PYTHON_BRIDGE_BUILD')
    path = pathlib.Path(build).absolute() / built if build else library / installed
    if not path.exists():
        raise Problem(USAGE, 'There is no %s (%s): install the worker of the bridge completely' % (path, what))
    return path


def host_program():
    return find('orthanc-python-host', 'worker/host/orthanc-python-host', 'the program that runs scripts')


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
    return read_bridge()['Version']


def sdk():
    """The functions, classes and enumerations of the SDK that the bridge was built with."""
    return json.loads(find('sdk.json', 'generated/model.json', 'the names of the SDK').read_text(encoding='utf-8'))

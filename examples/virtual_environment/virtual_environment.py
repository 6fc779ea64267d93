# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules from a virtual environment, which the configuration names.

    python3 -m venv /srv/venv
    /srv/venv/bin/pip install ...

The bridge has a key for this, "Python.VirtualEnv"; this way works under Orthanc's own plugin
too. It must be one of the Python that runs the script. addsitedir() looks at .pth files as well,
and what it adds is put in front: so modules of the environment win over those of the system.
"""

import json
import os
import site
import sys
from typing import Any

import orthanc

DIRECTORY = os.path.abspath(json.loads(orthanc.GetConfiguration())['VirtualEnvironment'])
BEFORE = list(sys.path)
site.addsitedir(os.path.join(DIRECTORY, 'lib', 'python%d.%d' % sys.version_info[:2], 'site-packages'))
sys.path[:] = [path for path in sys.path if path not in BEFORE] + BEFORE
sys.prefix = DIRECTORY      # some packages look for their data there


def on_module(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """GET /module/{name}: where it is found."""
    module = __import__(request['groups'][0])
    output.AnswerBuffer(json.dumps({'File': module.__file__, 'Version': getattr(module, '__version__', None)}),
                        'application/json')


orthanc.RegisterRestCallback(r'/module/(\w+)', on_module)

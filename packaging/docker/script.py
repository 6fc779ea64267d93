# SPDX-License-Identifier: GPL-3.0-or-later
"""What the image runs until a script of yours takes its place."""

import sys
from typing import Any

import orthanc


def hello(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    output.AnswerBuffer('Hello from Python %s\n' % sys.version.split()[0], 'text/plain')


orthanc.RegisterRestCallback('/hello', hello)

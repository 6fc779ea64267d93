# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes what the tests have made scripts use and what was compared, for tests/matrix.

Here:      one line per finding, in a file of each test process below $OPB_TEST_TALLY.
Elsewhere: counting them (tests/matrix.d/facts). Without the variable, nothing is noted.
"""

import os
import re

DIRECTORY = os.environ.get('OPB_TEST_TALLY')
NAME = re.compile(r'\borthanc\.([A-Z]\w+)|\.([A-Z]\w+)\(')


def _note(lines):
    if DIRECTORY and lines:
        os.makedirs(DIRECTORY, exist_ok=True)
        with open(os.path.join(DIRECTORY, str(os.getpid())), 'a', encoding='utf-8') as f:
            f.write(''.join(line + '\n' for line in lines))


def script(text):
    """Python text that ran under our plugin: which names of the SDK it uses."""
    if DIRECTORY:
        _note(sorted({'name ' + (a or b) for a, b in NAME.findall(text)}))


def compared(count=1):
    """That many outcomes of ours were compared with those of the official plugin."""
    _note(['differential %d' % count])

# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/bench/soak in its short form: a day of calls in 20 seconds, and what it finds."""

import os
import subprocess
import sys

import pytest

from server import BUILD, PATIENCE, REPOSITORY

pytestmark = [pytest.mark.ours, pytest.mark.survival]


def soak(*arguments):
    result = subprocess.run([sys.executable, os.path.join(REPOSITORY, 'tests', 'bench', 'soak'), '--quick', '--build', BUILD,
                             *arguments], capture_output=True, text=True, timeout=300 * PATIENCE, check=False)
    return result.returncode, result.stdout + result.stderr


def failures(output):
    return [line for line in output.splitlines() if 'FAILED ' in line]


def test_a_day_of_calls_loses_nothing_and_leaves_nothing():
    code, output = soak()
    assert code == 0 and failures(output) == [], output


def test_a_script_that_leaks_is_found():
    code, output = soak('--leak', '4000')
    assert code == 1 and len(failures(output)) == 1 and 'FAILED host: memory' in output, output

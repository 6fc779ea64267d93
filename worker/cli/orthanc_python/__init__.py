# SPDX-License-Identifier: GPL-3.0-or-later
"""The command orthanc-python: Python, with nothing but its standard library.

Here:      what all commands share: exit codes, and how a command fails.
Elsewhere: the command line (arguments.py), the REST API (rest.py), the commands.
"""

DONE, FAILED, USAGE, NO_ANSWER, REFUSED, LATER, CONCERNS = range(7)


class Problem(Exception):
    """Ends the program with a sentence and an exit code."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code

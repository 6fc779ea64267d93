# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers whose plugin and worker are of an instrumented build, below an Orthanc that is not.

OPB_TEST_SANITIZE=address (with undefined) or thread: of build/asan or build/tsan. The runtime
is preloaded into Orthanc, and with it into all that it starts. What a process reports goes to
a file of its own; a server whose processes have reported anything fails when it is closed.
"""

import glob
import os
import re
import subprocess

NAME = os.environ.get('OPB_TEST_SANITIZE') or None
PRESET = {None: 'debug', 'address': 'asan', 'thread': 'tsan'}[NAME]

SUPPRESSIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'first', 'tsan.supp')
# Runtimes of the compiler, in the order in which they want to be preloaded.
RUNTIMES = r'lib[atu]\w*san\.so'
# Not a finding: a notice that goes where findings go.
NOTICE = re.compile(r"^==\d+==WARNING: ASan doesn't fully support makecontext/swapcontext.*\n", re.MULTILINE)


def _runtimes(plugin):
    """The runtimes that the plugin is linked with: those of the compiler that built it."""
    text = subprocess.run(['ldd', plugin], stdout=subprocess.PIPE, check=True, text=True).stdout
    found = re.findall(r'=> (/\S*/%s\S*)' % RUNTIMES, text)
    if not found:
        raise AssertionError('%s is linked with no sanitizer' % plugin)
    return sorted(found)


def environment(build, directory):
    """For Orthanc. Reports go to directory."""
    if NAME is None:
        return {}
    os.makedirs(directory, exist_ok=True)
    runtimes = _runtimes(os.path.join(build, 'plugin', 'libOrthancPythonBridge.so'))
    first = os.path.join(build, 'tests', 'integration', 'first', 'libfirst.so')
    return {
        'LD_PRELOAD': ':'.join(runtimes + [first]),
        # Leaks are valgrind's matter (test_valgrind.py): Orthanc and CPython have their own.
        'ASAN_OPTIONS': 'detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=32:'
                        'log_path=%s/asan' % directory,
        'UBSAN_OPTIONS': 'print_stacktrace=1',
        # Python forks with threads; its children are few, and are watched too.
        'TSAN_OPTIONS': 'die_after_fork=0:exitcode=0:history_size=4:second_deadlock_stack=1:'
                        'suppressions=%s:log_path=%s/tsan' % (SUPPRESSIONS, directory),
    }


def configuration():
    """For Orthanc: a runtime's malloc() has no arenas, and mallopt() fails, which is fatal."""
    return {} if NAME is None else {'MallocArenaMax': 0}


def reports(directory, log):
    """What was reported, as texts: in files in directory, and by libubsan, which does not know
    their name beside another runtime, in the log."""
    found = []
    for path in sorted(glob.glob(os.path.join(directory, '*'))):
        with open(path, encoding='utf-8', errors='replace') as f:
            text = NOTICE.sub('', f.read()).strip()
        if text:
            found.append('%s:\n%s' % (os.path.basename(path), text))
    if NAME is not None:
        found += re.findall(r'^.*: runtime error: .*(?:\n +#\d.*)*', log, re.MULTILINE)
    return found

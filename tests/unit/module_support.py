# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests in module_*_tests.py share. test_module.c calls run() for each of them.

Here:      values of every kind, what is expected of a call, what the node was asked
           (fake_node: it writes that down), and how a test begins and ends.
Elsewhere: the tests; each function of those files without a helper's name is one.
"""

import enum
import gc
import importlib
import os
import threading
import time

import fake_node
import orthanc
from hostile_arguments import Index, OnlyInt  # noqa: F401 (for those that import this)


class Real:
    def __float__(self):
        return 1.5


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    pass


def raises(kind, text, function, *args, **keywords):
    """Calls, and expects exactly that exception with that text. Returns it."""
    try:
        value = function(*args, **keywords)
    except BaseException as error:
        assert type(error) is kind, (type(error), error)
        if text is not None:
            assert str(error) == text, str(error)
        return error
    raise AssertionError(f"{kind.__name__} was not raised, but {value!r} returned")


def bad(count):
    return f"Bad types for the arguments ({count} arguments expected)"


def take():
    """What the node was asked since the last time. Objects are released whenever they are."""
    return [line for line in fake_node.take() if not line.startswith("_Release")]


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def settle(wanted=None, seconds=30):
    """Back to one service lane, so that descriptors can be compared."""
    end = time.monotonic() + seconds
    gc.collect()
    fake_node.take()
    orthanc.CreateImage(1, 1, 1)  # dies at once, and is released with whatever else died
    wait_for(lambda lines: any(line.startswith("_Release") for line in lines), seconds)
    while True:
        time.sleep(0.02)  # the flusher gives its lane back
        fake_node.drop()
        orthanc.CheckVersion()
        if wanted in (None, descriptors()) or time.monotonic() > end:
            break
    fake_node.take()


def run(name, file):
    before = descriptors()
    settle()
    try:
        getattr(importlib.import_module(file), name)()
    finally:
        fake_node.verbose(False)
        fake_node.clear()
        settle(before)


def wait_for(what, seconds=5):
    """Lines of the node until what(lines) is true."""
    lines = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines += fake_node.take()
        if what(lines):
            return lines
        time.sleep(0.001)
    raise AssertionError(lines)


def in_threads(count, work):
    """So many threads at the same time, to the end of all."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

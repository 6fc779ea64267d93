# SPDX-License-Identifier: GPL-3.0-or-later
"""The module in children that fork without exec, as those of multiprocessing may.

Elsewhere: children that start afresh (module_child_tests.py).
"""

import gc
import os
import sys
import threading

import fake_node
import orthanc
from module_support import in_threads, raises, settle, take, wait_for


def in_child(function, meanwhile=None):
    """Exit code of a fork that runs it, and ends after what the parent does meanwhile."""
    done = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(done[1])
            function()
            os.read(done[0], 1)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(done[0])
    try:
        if meanwhile is not None:
            meanwhile()
    finally:
        os.close(done[1])
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def use_the_sdk(owned):
    """owned is of the process that this one is a fork of."""
    assert orthanc.CheckVersion() == 42
    raises(ValueError, "Invalid object", owned.GetImageWidth)
    raises(ValueError, "Invalid object", orthanc.CreateDicom, "{}", owned, 0)
    image = orthanc.CreateImage(1, 1, 1)
    assert image.GetImageWidth() == 42
    return image


def a_fork_child_calls_the_sdk_on_lanes_of_its_own():
    image = orthanc.CreateImage(1, 1, 1)
    fake_node.take()

    def child():
        own = use_the_sdk(image)
        assert in_child(lambda: use_the_sdk(own)) == 0
        assert own.GetImageWidth() == 42

    def body():
        assert in_child(child) == 0
        assert image.GetImageWidth() == 42

    body()
    lines = fake_node.take()
    assert lines.count("child") == 2 and lines.count("CheckVersion()") == 2, lines
    fake_node.bound(body)  # the thread that forks serves a lane, which the child has not
    lines = fake_node.take()
    assert lines.count("child") == 2 and lines.count("CheckVersion()") == 2, lines
    assert image.GetImageWidth() == 42


def a_fork_child_releases_its_objects_and_not_those_of_its_parent():
    settle()
    kept = [orthanc.CreateImage(1, 1, 1)]
    live = fake_node.live()
    fake_node.take()

    def child():
        kept.clear()
        gc.collect()
        orthanc.CreateImage(1, 1, 1)

    released = lambda lines: any(line.startswith("_Release") for line in lines)
    assert in_child(child, lambda: wait_for(released, 30)) == 0
    assert kept[0].GetImageWidth() == 42
    assert fake_node.live() == live, (fake_node.live(), live)


def registrations_in_a_fork_child_do_nothing_and_say_so_once():
    def child():
        assert orthanc.RegisterRestCallback("/a", 1) is None
        assert orthanc.RegisterOnChangeCallback(1) is None
        raises(ValueError, None, orthanc.RegisterRestCallback, "/a")

    fake_node.take()
    assert in_child(child) == 0
    said, line = wait_for(lambda lines: len(lines) > 1, 30)  # a post, which nobody answers
    assert said == "child"
    assert line.startswith("LogWarning(s<"), line  # a text that is too long to be written down
    assert fake_node.registered("Change", 0) is None


def threads_of_a_fork_child_share_a_limited_number_of_lanes():
    def child():
        in_threads(50, orthanc.CheckVersion)

    fake_node.take()
    assert in_child(child) == 0
    lines = take()
    assert 1 <= lines.count("child") <= 8, lines
    assert lines.count("CheckVersion()") == 50, lines


def forks_among_busy_threads_do_not_hang():
    stop = threading.Event()
    failures = []

    def work():
        try:
            while not stop.is_set():
                orthanc.CreateImage(1, 1, 1).GetImageWidth()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    # The sanitizer's memory may be locked in a child for ever, unlike that of the C library.
    call = orthanc.CheckVersion if not fake_node.sanitized() else lambda: None
    try:
        for _ in range(30):
            assert in_child(call) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []

# SPDX-License-Identifier: GPL-3.0-or-later
"""Which lane and thread a call takes, what is posted on it without waiting, and lost lanes."""

import os
import threading
import time

import fake_node
import orthanc
from module_support import in_threads, raises, take, wait_for


def posts_wait_for_company_but_not_long():
    def bound():
        output = fake_node.new("RestOutput", 21, False)
        output.SetHttpHeader("a", "b")
        begin = time.monotonic()
        lines = wait_for(bool)
        assert lines == ["RestOutput.SetHttpHeader(O21, s'a', s'b') posted"], lines
        assert time.monotonic() - begin < 2
        orthanc.LogWarning("now")
        assert wait_for(bool) == ["LogWarning(s'now') posted"]
    fake_node.bound(bound)


def posts_keep_their_order_before_requests():
    def bound():
        output = fake_node.new("RestOutput", 22, False)
        for i in range(500):
            assert output.SetCookie("c", str(i)) is None
            if i % 100 == 99:
                orthanc.CheckVersion()
        output.AnswerBuffer("done", "text/plain")
        orthanc.LogInfo("end")
        orthanc.CheckVersion()
    fake_node.bound(bound)
    lines = take()
    cookies = [l for l in lines if "SetCookie" in l]
    assert cookies == [f"RestOutput.SetCookie(O22, s'c', s'{i}') posted" for i in range(500)]
    checks = [i for i, l in enumerate(lines) if l == "CheckVersion()"]
    assert checks == [100, 201, 302, 403, 504, 507], checks
    assert lines[506] == "LogInfo(s'end') posted"


def another_thread_that_uses_an_object_of_the_call_waits_for_what_was_posted():
    def bound():
        output = fake_node.new("RestOutput", 25, False)
        for i in range(200):
            output.SetCookie("here", str(i))
            thread = threading.Thread(target=output.SetCookie, args=("there", str(i)))
            thread.start()
            thread.join()
        orthanc.CheckVersion()
    fake_node.bound(bound)
    lines = take()
    assert len(lines) == 4 * 200 + 1
    for i in range(200):
        assert lines[4 * i:4 * i + 4] == [
            f"RestOutput.SetCookie(O25, s'here', s'{i}') posted",
            f"_Fence({i + 1}, 0) posted", f"_Fence({i + 1}, 1) posted",
            f"RestOutput.SetCookie(O25, s'there', s'{i}')"], (i, lines[4 * i:4 * i + 4])


def many_posts_do_not_deadlock():
    """More than fits in a socket, while the node waits for the GIL in a nested call."""
    orthanc.RegisterOnChangeCallback(lambda text: None)

    def bound():
        output = fake_node.new("RestOutput", 23, False)
        for _ in range(20000):
            output.SetHttpHeader("header", "v" * 200)
        orthanc.RestApiGet("nest:3")
    fake_node.bound(bound)
    lines = take()
    assert sum("SetHttpHeader" in l for l in lines) == 20000


def posts_that_wait_for_the_node_do_not_stop_other_threads():
    """Bodies that go out of line, more of them than a lane holds, while the node does something else."""
    posted = []

    def let_go_when_it_waits():
        before, looks = 0, 0
        while looks < 20:
            time.sleep(0.005)
            looks = looks + 1 if len(posted) == before > 20 else 0
            before = len(posted)
        fake_node.go()

    def bound():
        output = fake_node.new("RestOutput", 26, False)
        output.SetHttpHeader("hold", "")
        thread = threading.Thread(target=let_go_when_it_waits)
        thread.start()
        for _ in range(400):
            output.AnswerBuffer(b"x" * 5000, "text/plain")
            posted.append(None)
        thread.join()
        orthanc.RestApiGet("/end")     # after all that was posted
    fake_node.bound(bound)
    assert fake_node.was_let_go()
    assert len([line for line in take() if "AnswerBuffer" in line]) == 400


def void_functions_of_free_threads_are_round_trips():
    output = fake_node.new("RestOutput", 24, False)
    output.AnswerBuffer("a", "b")
    assert take() == ["RestOutput.AnswerBuffer(O24, b'a', s'b')"]
    orthanc.LogError("text")
    assert take() == ["LogError(s'text')"]
    fake_node.log("from the host")
    assert wait_for(bool) == ["LogError(s'from the host') posted"]


def nested_calls_run_on_the_waiting_thread():
    lock = threading.RLock()
    local = threading.local()
    seen = []

    def callback(text):
        with lock:
            seen.append((text, threading.get_ident(), local.value))
            assert orthanc.RestApiGet("inner") == b"RestApiGet(s'inner')"

    orthanc.RegisterOnChangeCallback(callback)

    def body():
        local.value = "mine"
        with lock:
            assert orthanc.RestApiGet("nest:3") == b"RestApiGet(s'nest:3')"

    body()  # on a service lane
    fake_node.bound(body)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert len(seen) == 9 and {s[0] for s in seen} == {"nested"}
    assert seen[0][1] == seen[3][1] == threading.get_ident() != seen[6][1]
    assert {s[2] for s in seen} == {"mine"}


def nesting_has_a_limit_and_survives_it():
    deepest = []

    def callback(text):
        try:
            orthanc.RestApiGet(text)
        except RecursionError as error:
            deepest.append(str(error))

    orthanc.RegisterOnChangeCallback(callback)

    def body():
        orthanc.RestApiGet("deep:60")
        assert deepest == []
        orthanc.RestApiGet("deep:200")
        assert len(deepest) == 1 and "more than 64 times" in deepest[0], deepest
        deepest.clear()
        assert orthanc.CheckVersion() == 42

    fake_node.bound(body)
    body()


def other_threads_run_during_a_call():
    counter = [0]
    stop = threading.Event()

    def count():
        while not stop.is_set():
            counter[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = counter[0]
        orthanc.RestApiGet("sleep:300")
        assert counter[0] > before + 2, counter    # a machine may have other things to do
    finally:
        stop.set()
        thread.join()


def free_threads_share_a_limited_number_of_lanes():
    failures = []

    def work():
        try:
            for _ in range(3):
                orthanc.RestApiGet("sleep:10")
        except Exception as error:
            failures.append(error)

    in_threads(150, work)
    assert failures == []
    assert 2 <= fake_node.most() <= 64, fake_node.most()


def closed_service_lanes_are_replaced():
    for _ in range(5):
        assert orthanc.CheckVersion() == 42
        fake_node.drop()
    assert orthanc.CheckVersion() == 42


def a_lost_connection_raises():
    error = raises(RuntimeError, None, orthanc.RestApiGet, "drop")
    assert "the connection to Orthanc failed: the peer closed the connection" in str(error), error
    assert orthanc.CheckVersion() == 42

    def body():
        raises(RuntimeError, None, orthanc.RestApiGet, "drop")
        raises(RuntimeError, None, orthanc.CheckVersion)
        raises(RuntimeError, None, orthanc.LogWarning, "x")
    fake_node.bound(body)
    assert orthanc.CheckVersion() == 42


def a_node_that_cannot_be_reached_raises_and_gets_releases_later():
    path = fake_node.path()
    fake_node.take()
    os.rename(path, path + ".away")
    try:
        fake_node.drop()
        error = raises(RuntimeError, None, orthanc.CheckVersion)
        assert f"cannot connect to {path}" in str(error), error
        image = fake_node.new("Image", 16, True)
        del image
        time.sleep(0.1)
        assert fake_node.take() == []
    finally:
        os.rename(path + ".away", path)
    wait_for(lambda lines: lines == ["_Release(1) posted"])

# SPDX-License-Identifier: GPL-3.0-or-later
"""What test_module.c checks, seen from Python. Each function is one test.

Here:      the contract's sections 1, 2 and 3.1 against a node that writes down what it is
           asked (fake_node), and answers with that text.
Elsewhere: the same against a real Orthanc (tests/integration).
"""

import array
import copy
import enum
import gc
import importlib
import inspect
import os
import pickle
import sys
import threading
import time
import weakref

import fake_node
import orthanc


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


class OnlyInt:
    def __int__(self):
        return 1


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


# --- the surface --------------------------------------------------------------------


def the_module_looks_as_the_contract_says():
    assert repr(orthanc) == "<module 'orthanc' (built-in)>"
    assert type(orthanc) is type(sys) and orthanc.__doc__ is None
    assert orthanc.__spec__.origin == "built-in"
    assert not hasattr(orthanc, "__file__") and not hasattr(orthanc, "__all__")
    assert "orthanc" in sys.builtin_module_names
    dunders = [n for n in dir(orthanc) if n.startswith("_")]
    assert dunders == ["__doc__", "__loader__", "__name__", "__package__", "__spec__"]
    orthanc.added = 1
    del orthanc.added
    function = orthanc.RestApiGet
    assert type(function).__name__ == "builtin_function_or_method"
    assert function.__self__ is orthanc and function.__module__ == "orthanc"
    assert function.__qualname__ == function.__name__ == "RestApiGet"
    assert function.__doc__ == "Generated from C function OrthancPluginRestApiGet()"
    assert orthanc.LookupDictionary.__doc__ == "Implemented in C++ function LookupDictionary()"
    raises(ValueError, None, inspect.signature, function)
    raises(TypeError, "RestApiGet() takes no keyword arguments", function, uri="/")
    assert issubclass(orthanc.OrthancException, Exception)
    assert orthanc.OrthancException.__bases__ == (Exception,)
    assert orthanc.OrthancException.__module__ == "orthanc"
    assert orthanc.OrthancException.__doc__ is None
    assert str(orthanc.OrthancException(17, "a")) == "(17, 'a')"
    assert not hasattr(orthanc, "RegisterFindCallback2")  # of Orthanc 1.12.10


def a_name_that_is_missing_says_which_version_has_it():
    text = "module 'orthanc' has no attribute 'RegisterFindCallback2': it needs Orthanc 1.12.10, and "
    for name in ("RegisterFindCallback2", "StoreKeyValue", "KeysValuesIterator", "QueueOrigin"):
        try:
            getattr(orthanc, name)
        except AttributeError as e:
            assert str(e).startswith(text.replace("RegisterFindCallback2", name).partition("1.12")[0]), e
            assert "1.10.1" in str(e), e
        else:
            raise AssertionError(name)
    raises(AttributeError, "module 'orthanc' has no attribute 'Nothing'", getattr, orthanc, "Nothing")
    raises(AttributeError, "'orthanc.Image' object has no attribute 'Nothing'",
           getattr, orthanc.Image(0, 0), "Nothing")
    try:
        orthanc.RestOutput(0, 0).SendStreamChunk
    except AttributeError as e:
        assert str(e).startswith("'orthanc.RestOutput' object has no attribute 'SendStreamChunk': it "
                                 "needs Orthanc 1.12.6, and "), e
    else:
        raise AssertionError("SendStreamChunk")


def classes_behave_as_the_contract_says():
    text = "Expected a pair (pointer, borrowed) in the constructor"
    image = orthanc.Image(0, 0)
    assert orthanc.Image.__bases__ == (object,) and type(orthanc.Image) is type
    assert orthanc.Image.__module__ == "orthanc"
    assert orthanc.Image.__doc__ == "Generated from Orthanc C class: OrthancPluginImage"
    assert repr(image).startswith("<orthanc.Image object at 0x")
    for wrong in ((), (3,), (0, 0, 0), (0, 256), (0, -1), ("", 0), (0.0, 0), (1 << 63, 0), (5, 0), (5, 1)):
        raises(ValueError, text, orthanc.Image, *wrong)
    raises(ValueError, "Invalid object", image.GetImageWidth)
    raises(ValueError, "Invalid object", orthanc.Image.__new__(orthanc.Image).GetImageWidth)
    method = orthanc.RestOutput.AnswerBuffer
    assert inspect.ismethoddescriptor(method) and method.__qualname__ == "RestOutput.AnswerBuffer"
    assert not hasattr(method, "__module__")
    assert method.__doc__ == "Generated from C function OrthancPluginAnswerBuffer()"
    output = orthanc.RestOutput(0, 1)
    try:
        output.AnswerBuffer(answer=b"")
    except TypeError as error:
        assert str(error) == "RestOutput.AnswerBuffer() takes no keyword arguments"
    else:
        raise AssertionError
    raises(TypeError, "descriptor 'GetInstanceSize' for 'orthanc.DicomInstance' objects doesn't "
           "apply to a 'int' object", orthanc.DicomInstance.GetInstanceSize, 5)
    raises(TypeError, "type 'orthanc.Image' is not an acceptable base type",
           type, "Sub", (orthanc.Image,), {})
    raises(TypeError, "cannot set 'X' attribute of immutable type 'orthanc.Image'",
           setattr, orthanc.Image, "X", 1)
    error = raises(AttributeError, None, setattr, image, "x", 1)
    assert str(error).startswith("'orthanc.Image' object has no attribute 'x'"), error
    raises(TypeError, "cannot pickle 'orthanc.Image' object", copy.copy, image)
    raises(TypeError, "cannot pickle 'orthanc.Image' object", pickle.dumps, image)
    raises(TypeError, "cannot create weak reference to 'orthanc.Image' object", weakref.ref, image)
    assert image == image and image != orthanc.Image(0, 0) and {image: 1}[image] == 1
    assert hasattr(orthanc.FindMatcher, "IsMatch") and hasattr(orthanc.FindMatcher, "FindMatcherIsMatch")


def enumerations_behave_as_the_contract_says():
    code = orthanc.ErrorCode
    assert code.SUCCESS == 0 and type(code.SUCCESS) is int and code.INTERNAL_ERROR == -1
    assert code.__doc__ == "Generated from C enumeration OrthancPluginOrthancPluginErrorCode"
    assert code.__bases__ == (object,) and code.__module__ == "orthanc"
    raises(TypeError, "cannot set 'SUCCESS' attribute of immutable type 'orthanc.ErrorCode'",
           setattr, code, "SUCCESS", 5)
    raises(AttributeError, "type object 'orthanc.ErrorCode' has no attribute 'FOO'",
           getattr, code, "FOO")
    raises(TypeError, "type 'orthanc.ErrorCode' is not an acceptable base type",
           type, "Sub", (code,), {})
    for instance in (code(), code(3), code(1, 2, x=3)):
        assert repr(instance).startswith("<orthanc.ErrorCode object at 0x")
    assert orthanc.PixelFormat.SIGNED_GRAYSCALE16 == 3


# --- arguments ----------------------------------------------------------------------


def accepts(function, expected):
    """expected: value -> how the node sees it; None where it is refused."""
    for value, seen in expected:
        if seen is None:
            error = raises(TypeError, None, function, value)
            assert "Bad types for the arguments" in str(error), error
        else:
            assert function(value) == seen, (value, function(value))


def strings_are_converted_strictly():
    accepts(lambda v: orthanc.AutodetectMimeType(v), [
        ("a", "AutodetectMimeType(s'a')"), ("", "AutodetectMimeType(s'')"),
        (Text("b"), "AutodetectMimeType(s'b')"), ("\u00e9", "AutodetectMimeType(s'\\xc3\\xa9')"),
        (b"a", None), (bytearray(b"a"), None), (None, None), (1, None), ("a\0b", None),
        ("\ud800", None)])
    assert orthanc.AutodetectMimeType("x" * 5000) == "AutodetectMimeType(s<5000 bytes>)"
    assert orthanc.AutodetectMimeType("x" * 100000) == "AutodetectMimeType(s<100000 bytes>)"
    assert orthanc.AutodetectMimeType("x" * (20 << 20)) == "AutodetectMimeType(s<20971520 bytes>)"


def buffers_are_converted_generously():
    accepts(lambda v: orthanc.ComputeMd5(v), [
        ("\u00e9", "ComputeMd5(b'\\xc3\\xa9')"), ("a\0b", "ComputeMd5(b'a\\x00b')"),
        (b"a", "ComputeMd5(b'a')"), (bytearray(b"a"), "ComputeMd5(b'a')"), (None, "ComputeMd5(b'')"),
        (b"", "ComputeMd5(b'')"), (bytearray(), "ComputeMd5(b'')"),
        (memoryview(b"abc"), "ComputeMd5(b'abc')"), (memoryview(b"abc")[1:], "ComputeMd5(b'bc')"),
        (array.array("B", [65, 66]), "ComputeMd5(b'AB')"),
        (memoryview(b"abcd").cast("B", (2, 2)), "ComputeMd5(b'abcd')"),
        (memoryview(b"abcdef")[::2], None), (1, None), ([1], None), ("\ud800", None), (1.0, None)])
    grown = bytearray(b"a")
    orthanc.ComputeMd5(grown)
    grown.append(1)  # no buffer of it is still held
    raises(TypeError, bad(3), orthanc.BufferCompression, grown, "x", 0)
    grown.append(1)


def integers_wrap_as_in_c():
    big = 1 << 32
    enumeration = [
        (1, "1"), (True, "1"), (Number.ONE, "1"), (Index(7), "7"), (-1, "-1"), (big, "0"),
        (big + 1, "1"), ((1 << 63) - 1, "-1"), (1 << 31, "-2147483648"), (1 << 63, None),
        (-(1 << 63) - 1, None), (Index(1 << 70), None), (1.0, None), ("1", None), (None, None),
        (OnlyInt(), None), (Real(), None)]
    accepts(lambda v: orthanc.GetErrorDescription(v),
            [(v, s and f"GetErrorDescription(e{s})") for v, s in enumeration])
    accepts(lambda v: orthanc.GetGlobalProperty(v, ""),
            [(v, s and f"GetGlobalProperty(i{s}, s'')") for v, s in enumeration])
    accepts(lambda v: orthanc.GetTagName(v, 0x20, ""),
            [(v, s and f"GetTagName(h{s}, h32, s'')") for v, s in [
                (0x10010, "16"), (-1, "65535"), (10 ** 400, "0"), (True, "1"), (Index(-2), "65534"),
                (1.0, None), ("", None), (None, None), (OnlyInt(), None)]])
    accepts(lambda v: orthanc.GetFontName(v),
            [(v, s and f"GetFontName(u{s})") for v, s in [
                (big, "0"), (-1, "4294967295"), (1 << 70, "0"), (Index(3), "3"), (Number.ONE, "1"),
                (1.0, None), ("", None), (OnlyInt(), None)]])
    accepts(lambda v: orthanc.BufferCompression(b"a", 0, v),
            [(v, s and f"BufferCompression(b'a', e0, c{s})".encode()) for v, s in [
                (0, "0"), (255, "255"), (True, "1"), (Index(3), "3"), (256, None), (-1, None),
                (1 << 70, None), (1.0, None), ("", None)]])


def floats_are_single_precision():
    def seen(value):
        orthanc.SetMetricsValue("m", value, 0)
        return take()[-1]

    take()
    assert seen(0.1) == "SetMetricsValue(s'm', f0.100000001, e0)"
    assert seen(3) == "SetMetricsValue(s'm', f3, e0)"
    assert seen(True) == "SetMetricsValue(s'm', f1, e0)"
    assert seen(Real()) == "SetMetricsValue(s'm', f1.5, e0)"
    assert seen(Index(4)) == "SetMetricsValue(s'm', f4, e0)"
    assert seen(1e300) == "SetMetricsValue(s'm', finf, e0)"
    assert "nan" in seen(float("nan"))
    for value in (10 ** 400, "1", None, OnlyInt(), 1j):
        raises(TypeError, bad(3), orthanc.SetMetricsValue, "m", value, 0)


def objects_travel_as_handles():
    image = orthanc.CreateImage(1, 2, 3)
    assert type(image) is orthanc.Image
    width = take()
    assert width[-1] == "CreateImage(e1, u2, u3)", width
    assert image.GetImageWidth() == 42
    line = take()[-1]
    assert line.startswith("Image.GetImageWidth(O1"), line
    handle = line[len("Image.GetImageWidth(O"):-1]
    assert orthanc.CreateDicom("{}", image, 0) == f"CreateDicom(s'{{}}', N{handle}, e0)".encode()
    assert orthanc.CreateDicom("{}", None, 0) == b"CreateDicom(s'{}', nil, e0)"
    assert orthanc.CreateDicom("{}", orthanc.Image(0, 0), 0) == b"CreateDicom(s'{}', nil, e0)"
    wrong = "Invalid orthanc.OrthancPluginImage object"
    for value in (5, "x", orthanc.DicomInstance(0, 0), object(), orthanc.Image):
        raises(TypeError, wrong, orthanc.CreateDicom, "{}", value, 0)
    raises(TypeError, bad(3), orthanc.CreateDicom, 1, 5, 0)  # conversions come first
    answers = fake_node.new("WorklistAnswers", 77, False)
    query = fake_node.new("WorklistQuery", 78, False)
    assert answers.WorklistAddAnswer(query, b"d") is None
    assert take()[-1] == "WorklistAnswers.WorklistAddAnswer(O77, O78, b'd')"
    wrong = "Invalid orthanc.OrthancPluginWorklistQuery object"
    raises(TypeError, wrong, answers.WorklistAddAnswer, None, b"")
    raises(ValueError, "Invalid object", answers.WorklistAddAnswer, orthanc.WorklistQuery(0, 0), b"")
    matcher = orthanc.CreateFindMatcher(b"q")
    assert matcher.IsMatch(b"d") == matcher.FindMatcherIsMatch(b"d") == 42
    image.__init__(0, 0)
    raises(ValueError, "Invalid object", image.GetImageWidth)


def bad_arguments_raise_one_text_with_the_cause():
    for args in ((), (1,), ("a", "b"), (None,)):
        raises(TypeError, bad(1), orthanc.RestApiGet, *args)
    error = raises(TypeError, bad(2), orthanc.RestApiPost, "/a", 5)
    assert type(error.__cause__) is TypeError, error.__cause__
    error = raises(TypeError, bad(1), orthanc.RestApiGet, "a\0")
    assert str(error.__cause__) == "embedded null character"

    class Exploding:
        def __index__(self):
            raise KeyboardInterrupt("inside")

    error = raises(TypeError, bad(1), orthanc.GetFontName, Exploding())
    assert type(error.__cause__) is KeyboardInterrupt
    assert take() == []


def surplus_arguments_of_functions_without_any_are_ignored():
    assert orthanc.CheckVersion(1, "a", object()) == 42
    assert take()[-1] == "CheckVersion()"
    image = orthanc.CreateImage(1, 2, 3)
    assert image.GetImageWidth(1, 2, 3) == 42
    raises(TypeError, "CheckVersion() takes no keyword arguments", orthanc.CheckVersion, a=1)


# --- results ------------------------------------------------------------------------


def results_have_the_types_of_their_signature():
    assert orthanc.RestApiGet("/a") == b"RestApiGet(s'/a')"
    assert orthanc.RestApiDelete("/a") is None
    assert orthanc.GenerateUuid() == "GenerateUuid()"
    assert orthanc.AutodetectMimeType("none") is None
    assert orthanc.CheckVersionAdvanced(1, 2, 3) == 42
    for function in (orthanc.RestApiGet, orthanc.AutodetectMimeType, orthanc.LookupPatient,
                     orthanc.LookupDictionary, orthanc.CreateFindMatcher):
        error = raises(RuntimeError, None, function, "wrong")
        assert "with something else than its signature says" in str(error), error


def faults_become_exceptions():
    def fault(kind, text, code=0):
        return lambda: orthanc.RestApiGet(f"fault:{kind}:{code}:{text}")

    error = raises(orthanc.OrthancException, "(17, 'Unknown resource')", fault(0, "Unknown resource", 17))
    assert error.args == (17, "Unknown resource") and type(error.args[0]) is int
    error = raises(orthanc.OrthancException, None, fault(0, "Internal error", -1))
    assert error.args == (-1, "Internal error")
    raises(ValueError, "Invalid object", fault(1, "x"))
    raises(RuntimeError, "not now", fault(2, "not now"))
    raises(TypeError, "some type", fault(3, "some type"))
    raises(ValueError, "some value", fault(4, "some value"))
    raises(RuntimeError, "100% wrong", fault(5, "100% wrong"))
    error = raises(RuntimeError, None, fault(8, "too short"))
    assert "(too short)" in str(error)


def functions_that_the_node_lacks_are_refused_by_name():
    error = raises(RuntimeError, None, orthanc.GetFontSize, 1)
    assert "GetFontSize() is not offered" in str(error) and "1.10.1" in str(error)
    error = raises(RuntimeError, None, orthanc.GetFontsCount)
    assert "GetFontsCount() is another function" in str(error)
    raises(TypeError, bad(1), orthanc.GetFontSize, "x")
    assert take() == []


def large_buffers_travel_both_ways():
    body = os.urandom(1 << 20) * 60
    assert orthanc.RestApiPost("/a", body) == f"RestApiPost(s'/a', b<{len(body)} bytes>)".encode()
    for size in (1, 4096, 4097, 70000, 50_000_000):
        answer = orthanc.RestApiGet(f"big:{size}")
        assert type(answer) is bytes and len(answer) == size and answer.count(b"x") == size

    def bound():
        output = fake_node.new("RestOutput", 9, False)
        for size in (10, 5000, 20000, 3_000_000):
            output.AnswerBuffer(b"y" * size, "text/plain")
        assert orthanc.RestApiGet("big:5000000") == b"x" * 5_000_000
    fake_node.bound(bound)
    lines = [l for l in take() if "AnswerBuffer" in l]
    assert len(lines) == 4 and "b<3000000 bytes>" in lines[3], lines


# --- objects ------------------------------------------------------------------------


def stale_objects_are_refused_without_asking():
    output = fake_node.new("RestOutput", 11, False)
    instance = fake_node.new("DicomInstance", 12, False)
    assert instance.GetInstanceSize() == 42
    fake_node.take()
    fake_node.end(output)
    fake_node.end(instance)
    raises(ValueError, "Invalid object", output.AnswerBuffer, b"", "text/plain")
    raises(ValueError, "Invalid object", output.AnswerBuffer)
    raises(ValueError, "Invalid object", output.SendHttpStatus, 200, "abc", 3)
    raises(ValueError, "Invalid object", instance.GetInstanceSize)
    del output, instance
    time.sleep(0.03)
    assert fake_node.take() == []
    image = fake_node.new("Image", 13, False)
    fake_node.end(image)
    raises(ValueError, "Invalid object", orthanc.CreateDicom, "{}", image, 0)


def owned_objects_are_released_in_batches():
    images = [orthanc.CreateImage(1, 1, 1) for _ in range(50)]
    fake_node.take()
    del images
    lines = wait_for(lambda lines: any("_Release" in l for l in lines))
    assert sum(int(l[9:l.index(")")]) for l in lines) == 50, lines
    assert len(lines) <= 3, lines
    borrowed = fake_node.new("Image", 14, False)
    del borrowed
    owned = fake_node.new("Image", 15, True)
    fake_node.end(owned)
    del owned
    wait_for(lambda lines: lines == ["_Release(1) posted"])
    many = [fake_node.new("Image", i + 1, True) for i in range(5000)]
    del many
    total = wait_for(lambda lines: sum(int(l[9:l.index(")")]) for l in lines) == 5000)
    assert all(int(l[9:l.index(")")]) <= 1024 for l in total)


def objects_that_die_do_not_pile_up_in_the_node():
    """A loop is faster than any timer, and an image may have megabytes."""
    def loop():
        most = 0
        for _ in range(300):
            orthanc.CreateImage(1, 1, 1)
            most = max(most, fake_node.live())
        assert most <= 8, most
        fake_node.take()

    loop()
    fake_node.bound(loop)


# --- posts --------------------------------------------------------------------------


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


def void_functions_of_free_threads_are_round_trips():
    output = fake_node.new("RestOutput", 24, False)
    output.AnswerBuffer("a", "b")
    assert take() == ["RestOutput.AnswerBuffer(O24, b'a', s'b')"]
    orthanc.LogError("text")
    assert take() == ["LogError(s'text')"]
    fake_node.log("from the host")
    assert wait_for(bool) == ["LogError(s'from the host') posted"]


# --- lanes and threads --------------------------------------------------------------


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
    before = counter[0]
    orthanc.RestApiGet("sleep:300")
    assert counter[0] > before + 2, counter    # a machine may have other things to do
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

    threads = [threading.Thread(target=work) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
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


# --- registrations ------------------------------------------------------------------


def registrations_reach_the_node():
    def route(output, uri, **request):
        pass

    assert orthanc.RegisterRestCallback("/a/(.*)", route) is None
    assert orthanc.RegisterRestCallback("/a/(.*)", 12) is None
    assert take() == ["_Register(Rest, /a/(.*), 0)", "_Register(Rest, /a/(.*), 1)"]
    assert fake_node.registered("Rest", 0) is route and fake_node.registered("Rest", 1) == 12
    assert fake_node.registered("Rest", 2) is None
    orthanc.RegisterOnChangeCallback(1)
    orthanc.RegisterOnStoredInstanceCallback(2)
    orthanc.RegisterIncomingHttpRequestFilter(3)
    assert take() == [
        "_Register(Change, nil, 0)", "_Register(StoredInstance, nil, 0)", "_Register(HttpFilter, nil, 0)"]
    for value, name in enumerate(("Change", "StoredInstance", "HttpFilter"), 1):
        assert fake_node.registered(name, 0) == value
    raises(RuntimeError, "Can only register one Python on-changes callback",
           orthanc.RegisterOnChangeCallback, route)
    raises(RuntimeError, "Can only register one Python on-stored-instance callback",
           orthanc.RegisterOnStoredInstanceCallback, route)
    raises(RuntimeError, "Can only register one Python incoming-http-request filter",
           orthanc.RegisterIncomingHttpRequestFilter, route)
    for i in range(100):
        orthanc.RegisterRestCallback(f"/{i}", i)
    assert fake_node.registered("Rest", 101) == 99


def refused_registrations_are_forgotten():
    class Callback:
        pass

    callback = Callback()
    gone = weakref.ref(callback)
    raises(ValueError, "bad pattern", orthanc.RegisterRestCallback, "fault:4:0:bad pattern", callback)
    assert fake_node.registered("Rest", 0) is None
    del callback
    gc.collect()
    assert gone() is None
    orthanc.RegisterRestCallback("/a", 1)
    assert take()[-1] == "_Register(Rest, /a, 0)"


def registrations_are_checked_as_the_contract_says():
    rest = "Expected a string (URI) and a callback function"
    for args in ((), ("/a",), (b"/a", 1), (1, 2), ("/a", 1, 2), ("a\0b", 1), ("\ud800", 1), (None, 1)):
        raises(ValueError, rest, orthanc.RegisterRestCallback, *args)
    one = "Expected a callback function to register one "
    expected = {
        "OnChangeCallback": one + "Python on-changes callback",
        "OnStoredInstanceCallback": one + "Python on-stored-instance callback",
        "IncomingHttpRequestFilter": one + "Python incoming-http-request filter",
        "FindCallback": one + "Python C-FIND SCP callback",
        "MoveCallback": one + "Python C-MOVE SCP callback",
        "MoveCallback2": "Expected 4 callback functions to register Python C-MOVE SCP callback (v2)",
        "WorklistCallback": one + "Python C-FIND SCP for worklist callback",
        "StorageArea": "Expected three callback functions to register a custom storage area",
        "IncomingCStoreInstanceFilter": one + "Python incoming CStore instance filter",
        "ReceivedInstanceCallback": one + "Python received instance callback",
        "StorageCommitmentScpCallback":
            "Expected two callback functions to register Python storage commitment SCP & Lookup callback",
    }
    for name, text in expected.items():
        function = getattr(orthanc, "Register" + name)
        raises(ValueError, text, function)
        raises(ValueError, text, function, 1, 2, 3, 4, 5)
        raises(TypeError, f"Register{name}() takes no keyword arguments", function, callback=1)
    error = raises(RuntimeError, None, orthanc.RegisterFindCallback, 1)
    assert str(error).startswith("RegisterFindCallback() is not supported yet"), error
    raises(RuntimeError, None, orthanc.RegisterMoveCallback2, 1, 2, 3, 4)
    assert take() == []


def hand_written_functions_behave_as_the_contract_says():
    tag = orthanc.LookupDictionary("PatientID")
    assert list(tag.items()) == [("Group", 16), ("Element", 32), ("ValueRepresentation", 11),
                                 ("MinMultiplicity", 1), ("MaxMultiplicity", 1)]
    raises(TypeError, "Unknown DICOM tag: x", orthanc.LookupDictionary,
           "fault:3:0:Unknown DICOM tag: x")
    text = "Please provide a string containing the name of the DICOM tag of interest"
    for args in ((), (1,), (b"a",), ("a", "b")):
        raises(TypeError, text, orthanc.LookupDictionary, *args)
    assert orthanc.CreateMemoryBuffer(5) == bytes(5) and orthanc.CreateMemoryBuffer(1 << 32) == b""
    raises(TypeError, bad(1), orthanc.CreateMemoryBuffer)
    raises(TypeError, bad(1), orthanc.CreateMemoryBuffer, "x")
    text = "5 arguments are needed: image.PixelFormat, width, height, pitch and memory buffer"
    for args in ((), (1, 1, 1, 1, None), (1, 1, 1, 1, 5), ("", 1, 1, 1, b"a"), (1, 1, 1, b"a")):
        raises(TypeError, text, orthanc.CreateImageFromBuffer, *args)
    take()
    assert type(orthanc.CreateImageFromBuffer(1, 2, 2, 2, "abcd")) is orthanc.Image
    assert take() == ["CreateImageFromBuffer(e1, u2, u2, u2, b'abcd')"]
    query = fake_node.new("FindQuery", 31, False)
    raises(TypeError, "Index is missing", query.GetFindQueryTagGroup)
    raises(TypeError, "Index is missing", query.GetFindQueryTagElement, "x")
    output = fake_node.new("RestOutput", 32, False)
    take()
    for args in ((404, "abc"), (404, None), (404, "abcdef", 3), (404, b"abc", 100),
                 (404, "\u00e9\u00e9", 2), (404, None, 5)):
        assert output.SendHttpStatus(*args) is None
    assert take() == [f"RestOutput.SendHttpStatus(O32, h404, b'{body}')" for body in (
        "abc", "", "abc", "abc", "\\xc3\\xa9", "")]
    for args in ((404,), (404, "a", "b"), (404, 5, 1), (404, "\ud800", 1), ("x", "a", 1), (1, 2, 3, 4)):
        raises(TypeError, bad(2), output.SendHttpStatus, *args)
    assert orthanc.RegisterErrorCode(1, 400, "text") == 42


def verbose_tells_each_call():
    fake_node.verbose(True)

    def body():
        image = orthanc.CreateImage(1, 2, 3)
        image.GetImageWidth()
        del image
        raises(ValueError, None, orthanc.Image(0, 0).GetImageWidth)
        raises(TypeError, bad(1), orthanc.ComputeMd5, 3)
        orthanc.LookupDictionary("x")
        orthanc.CheckVersion()
    fake_node.bound(body)
    fake_node.verbose(False)
    lines = [l[len("LogInfo(s'"):-len("') posted")] for l in take() if "LogInfo" in l]
    assert lines == [
        "Calling Python global function: OrthancPluginCreateImage()",
        "Creating Python object of class OrthancPluginImage",
        "Calling method OrthancPluginGetImageWidth() on object of class OrthancPluginImage",
        "Destroying Python object of class OrthancPluginImage",
        "Creating Python object of class OrthancPluginImage",
        "Calling method OrthancPluginGetImageWidth() on object of class OrthancPluginImage",
        "Destroying Python object of class OrthancPluginImage",
        "Calling Python global function: OrthancPluginComputeMd5()",
        "Calling Python global function: OrthancPluginCheckVersion()"], lines


# --- children -----------------------------------------------------------------------


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
        threads = [threading.Thread(target=orthanc.CheckVersion) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

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
    for _ in range(30):
        assert in_child(call) == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def a_second_import_gives_the_same_types():
    first = sys.modules.pop("orthanc")
    try:
        import orthanc as second
        assert second is not first
        assert second.Image is first.Image and second.OrthancException is first.OrthancException
        assert type(second.CreateImage(1, 1, 1)) is first.Image
        del second
        sys.modules.pop("orthanc")
        gc.collect()
    finally:
        sys.modules["orthanc"] = first
    assert first.CheckVersion() == 42

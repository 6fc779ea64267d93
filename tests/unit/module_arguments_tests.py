# SPDX-License-Identifier: GPL-3.0-or-later
"""What Python values become on their way to the node, and which are refused.

Here:      section 3.1 of the contract, against a node that answers with what it was asked.
"""

import array

import fake_node
import orthanc
from module_support import Index, Number, OnlyInt, Real, Text, bad, raises, take


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

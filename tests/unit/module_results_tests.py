# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes back from the node: values, exceptions, bodies of any size; and what is logged of it."""

import os

import fake_node
import orthanc
from module_support import bad, raises, take


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

# SPDX-License-Identifier: GPL-3.0-or-later
"""How the orthanc module looks: its names, classes and enumerations, and what is written by hand.

Here:      the contract's sections 1 and 2, and what its functions do that no table describes.
Elsewhere: the same against a real Orthanc (tests/integration/test_surface.py).
"""

import copy
import gc
import inspect
import pickle
import sys
import weakref

import fake_node
import orthanc
from module_support import bad, raises, take


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
    for name in ("RegisterFindCallback2", "StoreKeyValue", "KeysValuesIterator", "QueueOrigin"):
        error = raises(AttributeError, None, getattr, orthanc, name)
        assert str(error).startswith(
            f"module 'orthanc' has no attribute '{name}': it needs Orthanc 1.12."), error
        assert "1.10.1" in str(error), error
    raises(AttributeError, "module 'orthanc' has no attribute 'Nothing'", getattr, orthanc, "Nothing")
    raises(AttributeError, "'orthanc.Image' object has no attribute 'Nothing'",
           getattr, orthanc.Image(0, 0), "Nothing")
    error = raises(AttributeError, None, getattr, orthanc.RestOutput(0, 0), "SendStreamChunk")
    assert str(error).startswith("'orthanc.RestOutput' object has no attribute 'SendStreamChunk': it "
                                 "needs Orthanc 1.12.6, and "), error


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
    raises(TypeError, "RestOutput.AnswerBuffer() takes no keyword arguments",
           output.AnswerBuffer, answer=b"")
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

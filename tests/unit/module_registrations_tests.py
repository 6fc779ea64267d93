# SPDX-License-Identifier: GPL-3.0-or-later
"""Callbacks that a script registers: what the node hears of them, and which are refused."""

import gc
import weakref

import fake_node
import orthanc
from module_support import bad, raises, take


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
    raises(ValueError, "the pattern of the REST route is too long", orthanc.RegisterRestCallback,
           "/" + "a" * (17 << 20), 1)
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

# SPDX-License-Identifier: GPL-3.0-or-later
"""Results that were told along with a handle, and those that the node was asked for once.

Here:      what is asked, how often, and when no more (worker/module/facts.c), against a node
           that writes down what it is asked.
Elsewhere: what a node tells (test_facts.c), the same against a real Orthanc (tests/integration).
"""

import random

import fake_node
import orthanc
from module_support import Index, OnlyInt, bad, in_threads, raises, settle, take

QUERY = 900


def told_query(facts, handle=QUERY):
    return fake_node.told("FindQuery", handle, {fake_node.method(f"FindQuery.{name}"): value
                                                for name, value in facts.items()})


def what_was_told_is_not_asked():
    query = told_query({
        "GetFindQuerySize": 3, "GetFindQueryTagGroup": [8, 16], "GetFindQueryTagElement": [82, 32],
        "GetFindQueryTagName": ["QueryRetrieveLevel", ""], "GetFindQueryValue": ["STUDY", "J\u00f6rg"]})
    take()
    for _ in range(2):
        assert query.GetFindQuerySize() == 3 and type(query.GetFindQuerySize()) is int
        assert [query.GetFindQueryTagGroup(i) for i in range(2)] == [8, 16]
        assert [query.GetFindQueryTagElement(i) for i in (0, Index(1))] == [82, 32]
        assert [query.GetFindQueryTagName(i) for i in (False, True)] == ["QueryRetrieveLevel", ""]
        assert [query.GetFindQueryValue(i) for i in (2 ** 32, 2 ** 32 + 1)] == ["STUDY", "J\u00f6rg"]
        assert type(query.GetFindQueryValue(1)) is str
    assert take() == []


def what_was_not_told_is_asked_once():
    query = told_query({"GetFindQueryValue": ["a", None, "c"]})
    take()
    for _ in range(3):
        assert query.GetFindQueryValue(0) == "a" and query.GetFindQueryValue(2) == "c"
        assert query.GetFindQueryValue(1) == f"FindQuery.GetFindQueryValue(O{QUERY}, u1)"
        assert query.GetFindQueryValue(3) == f"FindQuery.GetFindQueryValue(O{QUERY}, u3)"
        assert query.GetFindQueryTagGroup(0) == 42 and query.GetFindQuerySize() == 42
    assert take() == [f"FindQuery.GetFindQueryValue(O{QUERY}, u1)", f"FindQuery.GetFindQueryValue(O{QUERY}, u3)",
                      f"FindQuery.GetFindQueryTagGroup(O{QUERY}, u0)", f"FindQuery.GetFindQuerySize(O{QUERY})"]


def what_may_change_is_asked_each_time():
    instance = fake_node.new("DicomInstance", 901, False)
    answers = {instance.GetInstanceMetadata("k") for _ in range(3)}
    sizes = {instance.GetInstanceSize() for _ in range(3)}
    assert answers == {"DicomInstance.GetInstanceMetadata(O901, s'k')"} and sizes == {42}
    assert take() == ["DicomInstance.GetInstanceMetadata(O901, s'k')"] * 3 + ["DicomInstance.GetInstanceSize(O901)"]


def facts_are_those_of_one_object():
    one, two = told_query({"GetFindQuerySize": 1}), told_query({"GetFindQuerySize": 2}, QUERY + 1)
    three = fake_node.new("FindQuery", QUERY, False)    # the handle of the first
    assert (one.GetFindQuerySize(), two.GetFindQuerySize(), three.GetFindQuerySize()) == (1, 2, 42)
    image = orthanc.CreateImage(1, 2, 3)
    other = orthanc.CreateImage(1, 2, 3)
    take()
    assert [i.GetImageWidth() for i in (image, other, image)] == [42] * 3
    assert len(take()) == 2


def facts_end_with_their_handle():
    query = told_query({"GetFindQuerySize": 3, "GetFindQueryValue": ["a"]})
    query.GetFindQueryTagName(0)
    fake_node.end(query)
    take()
    for use in (query.GetFindQuerySize, lambda: query.GetFindQueryValue(0), lambda: query.GetFindQueryTagName(0)):
        raises(ValueError, "Invalid object", use)
    query = told_query({"GetFindQuerySize": 3})
    query.__init__(0, True)
    raises(ValueError, "Invalid object", query.GetFindQuerySize)
    assert take() == []


def arguments_are_checked_before_facts_are_looked_at():
    query = told_query({"GetFindQuerySize": 3, "GetFindQueryValue": ["a"], "GetFindQueryTagGroup": [8]})
    for wrong in ((), (0, 0), ("0",), (0.0,), (None,), (OnlyInt(),)):
        raises(TypeError, bad(1), query.GetFindQueryValue, *wrong)
        raises(TypeError, "Index is missing", query.GetFindQueryTagGroup, *wrong)
    assert query.GetFindQuerySize("surplus") == 3
    assert take() == []


def an_error_is_no_fact():
    query = told_query({"GetFindQuerySize": 3})
    fake_node.order("fault:4:0:Index is out of range")
    for _ in range(2):
        raises(ValueError, "Index is out of range", query.GetFindQueryTagGroup, 7)
    fake_node.order("")
    assert query.GetFindQueryTagGroup(7) == 42


def a_text_that_is_not_utf8_is_no_fact():
    query = told_query({"GetFindQueryTagName": [b"\xff", "b"], "GetFindQuerySize": 1})
    take()
    assert query.GetFindQueryTagName(1) == "b" and query.GetFindQuerySize() == 1
    assert query.GetFindQueryTagName(0) == f"FindQuery.GetFindQueryTagName(O{QUERY}, u0)"
    assert len(take()) == 1


def facts_about_other_things_are_ignored():
    number = fake_node.method
    query = fake_node.told("FindQuery", QUERY, {
        number("RestApiGet"): "x", number("Image.GetImageWidth"): "x", number("FindQuery.GetFindQuerySize"): 2,
        number("DicomInstance.GetInstanceMetadata"): ["x"], 0: None})
    assert query.GetFindQuerySize() == 2
    image = fake_node.told("Image", 902, {number("FindQuery.GetFindQuerySize"): 7})
    assert image.GetImageWidth() == 42


def facts_of_a_wrong_form_are_refused():
    size, value = fake_node.method("FindQuery.GetFindQuerySize"), fake_node.method("FindQuery.GetFindQueryValue")
    origin, aet = (fake_node.method("DicomInstance." + name) for name in ("GetInstanceOrigin", "GetInstanceRemoteAet"))
    for wrong in ({size: "3"}, {size: [3]}, {size: None}, {size: {}}, {size: 2 ** 64 - 1}, {size: True},
                  {value: "a"}, {value: 3}, {value: None}, {value: {}}, {value: [3]}, {value: [["a"]]},
                  {value: ["a", {}]}, {10 ** 6: 1}, {2 ** 32 + size: 3}, {-1: 3}, {"size": 3}, {None: 3},
                  None, 3, "x", [size, 3], []):
        raises(ValueError, "malformed", fake_node.told, "FindQuery", QUERY, wrong)
    for wrong in ({origin: "2"}, {aet: 2}, {aet: ["a"]}):
        raises(ValueError, "malformed", fake_node.told, "DicomInstance", QUERY, wrong)
    instance = fake_node.told("DicomInstance", QUERY, {aet: None, origin: -1})
    take()
    assert instance.GetInstanceRemoteAet() is None and instance.GetInstanceOrigin() == -1
    assert take() == []


def no_facts_break_the_module():
    """Whatever a peer sends is read, ignored or refused; what was read has the right type."""
    rng = random.Random(1)
    classes = ("FindQuery", "DicomInstance", "Image", "RestOutput")
    getters = {name: [method for method in dir(getattr(orthanc, name)) if method.startswith("Get")] for name in classes}
    methods = [fake_node.method(f"{name}.{method}") for name in classes for method in getters[name]]

    def value(depth):
        choice = rng.randrange(12 if depth > 0 else 8)
        if choice < 8:
            return (None, True, rng.randrange(-2 ** 63, 2 ** 64), rng.randrange(-3, 400), "text", "",
                    rng.randbytes(rng.randrange(5)), rng.choice(methods))[choice]
        if choice < 10:
            return [value(depth - 1) for _ in range(rng.randrange(6))]
        return {rng.choice((rng.choice(methods), value(0))): value(depth - 1) for _ in range(rng.randrange(4))}

    outcomes = {True: 0, False: 0}
    for _ in range(20000):
        name = rng.choice(classes)
        facts = value(3) if rng.random() < 0.1 else {
            rng.choice(methods): rng.choice((7, "t", [7], ["t", None, "u"], None, value(2)))
            for _ in range(rng.randrange(3))}
        try:
            thing = fake_node.told(name, QUERY, facts)
        except ValueError as error:
            assert str(error) == "malformed", error
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        if name == "FindQuery":
            assert type(thing.GetFindQuerySize()) is int and type(thing.GetFindQueryTagGroup(0)) is int
            assert type(thing.GetFindQueryValue(0)) is str and type(thing.GetFindQueryTagName(1)) is str
        fake_node.end(thing)
    assert min(outcomes.values()) > 2000, outcomes
    take()


def threads_share_facts():
    query = told_query({"GetFindQueryValue": [str(i) for i in range(20)]})
    problems = []

    def read():
        for i in range(2000):
            if query.GetFindQueryValue(i % 20) != str(i % 20) or query.GetFindQueryTagGroup(i % 20) != 42:
                problems.append(i)

    in_threads(8, read)
    assert problems == []
    assert set(take()) == {f"FindQuery.GetFindQueryTagGroup(O{QUERY}, u{i})" for i in range(20)}
    settle()


def an_answer_that_comes_after_the_end_of_the_call_is_no_fact():
    query = told_query({})

    def end(text):
        fake_node.end(query)

    orthanc.RegisterOnChangeCallback(end)
    fake_node.order("nest:1")   # the node calls us while it is asked

    def ask():
        assert query.GetFindQuerySize() == 42

    fake_node.bound(ask)
    fake_node.order("")
    fake_node.clear()
    raises(ValueError, "Invalid object", query.GetFindQuerySize)

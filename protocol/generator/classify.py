# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the declarations of the header into the model, by patterns.

Here:      which name, arguments and result a C function gets in Python.
Elsewhere: reading the header (parse.py), what has no pattern (exceptions.py).
May use:   the model; not clang.
"""

from __future__ import annotations

import re

import annotations as facts
import exceptions
from model import (
    PREFIX,
    SCALARS,
    Doc,
    Enumeration,
    EnumValue,
    Function,
    GeneratorError,
    Model,
    Param,
    Result,
    SdkClass,
    value_name,
    version_number,
)
from parse import CEnum, CFunction, CParam, CType, Header

_EXCEPTIONS_FILE = "protocol/generator/exceptions.py"
_SIZE_NAMES = ("size", "Size")


class _NoPattern(Exception):
    """This C function cannot be wrapped; the text is the reason."""


def _is_destructor(function: CFunction, class_name: str) -> bool:
    return (
        function.name == f"{PREFIX}Free{_bare(class_name)}"
        and function.result == CType("void")
        and [p.type.name for p in function.params] == [PREFIX + "Context", class_name]
    )


def _bare(c_name: str) -> str:
    return c_name.removeprefix(PREFIX)


class _Types:
    """The enumerations and classes of the header, by C name."""

    def __init__(self, header: Header) -> None:
        self.enums = {e.name for e in header.enums}
        self.classes = {o.name for o in header.opaques}

    def is_class(self, of: CType) -> bool:
        return of.pointers == 1 and of.name in self.classes

    def is_enum(self, of: CType) -> bool:
        return of.pointers == 0 and of.name in self.enums


def _is_data(of: CType) -> bool:
    return of.pointers == 1 and of.is_const and of.name in ("void", "char")


def _is_size(param: CParam) -> bool:
    return (
        param.type.pointers == 0
        and param.type.name in ("uint32_t", "uint64_t")
        and param.name.endswith(_SIZE_NAMES)
    )


def _single(c_name: str, param: CParam, types: _Types) -> Param:
    """One C parameter that is one Python argument."""
    of = param.type
    if types.is_enum(of):
        return Param(param.name, "e", _bare(of.name), of.name)
    if of.pointers == 0 and of.name in SCALARS:
        return Param(param.name, SCALARS[of.name], c_type=of.name)
    if types.is_class(of):
        never_none = (_bare(c_name), param.name) in exceptions.NEVER_NONE
        return Param(param.name, "O" if never_none else "N", _bare(of.name), str(of))
    if of == CType("char", 1, True):
        return Param(param.name, "s", c_type="const char *")
    if of == CType("void", 1, True):
        return Param(param.name, "p", c_type="const void *")
    raise _NoPattern(f'the type "{of}" of its parameter "{param.name}" follows no pattern')


def _parameters(function: CFunction, rest: list[CParam], types: _Types) -> tuple[list[Param], list[str | tuple[str, int]]]:
    params: list[Param] = []
    call: list[str | tuple[str, int]] = []
    index = 0
    while index < len(rest):
        param = rest[index]
        after = rest[index + 1] if index + 1 < len(rest) else None
        if (
            after is not None
            and _is_data(param.type)
            and _is_size(after)
            and _bare(function.name) not in exceptions.SEPARATE_SIZE
        ):
            call += [("param", len(params)), ("size", len(params))]
            params.append(Param(param.name, "b", c_type=str(param.type), size_type=after.type.name))
            index += 2
        else:
            call.append(("param", len(params)))
            params.append(_single(function.name, param, types))
            index += 1
    for pointer in params:
        if pointer.code == "p":
            check_rule(params, pointer)
    return params, call


def check_rule(params: list[Param], pointer: Param) -> str:
    """How the plugin knows how many bytes the SDK will read behind a bare pointer."""
    names = {p.name: p for p in params}
    if {"format", "width", "height", "pitch"} <= names.keys() and names["format"].type_name == "PixelFormat":
        return "image"
    if "size" in names and names["size"].code in "uU":
        return "size"
    raise _NoPattern(
        f'nothing says how many bytes its parameter "{pointer.name}" points at '
        "(neither size, nor format, width, height and pitch)"
    )


def _result(function: CFunction, has_target: bool, types: _Types) -> Result:
    of = function.result
    if has_target:
        return Result("b")
    if of == CType(PREFIX + "ErrorCode"):
        return Result("E")
    if of == CType("void"):
        return Result("v")
    if of == CType("char", 1, False):
        return Result("s")
    if of == CType("char", 1, True):
        return Result("z")
    if types.is_class(of) and not of.is_const:
        return Result("O", _bare(of.name))
    if types.is_enum(of):
        return Result("i", _bare(of.name), of.name)
    if of.pointers == 0 and of.name in SCALARS and of.name != "float":
        return Result("i", c_type=of.name)
    raise _NoPattern(f'its result type "{of}" follows no pattern')


def _method_name(c_name: str, class_name: str) -> str:
    bare = _bare(c_name)
    shorter = bare.removeprefix(class_name)
    return shorter if shorter and shorter != bare else bare


def _wrap(function: CFunction, types: _Types) -> Function:
    params = list(function.params)
    if not function.is_inline:
        raise _NoPattern("it is declared but not defined, so there is nothing to call")
    if not params or params[0].type.name != PREFIX + "Context" or params[0].type.pointers != 1:
        raise _NoPattern(f"its first parameter is no {PREFIX}Context *")
    rest = params[1:]
    call: list[str | tuple[str, int]] = ["context"]
    has_target = False
    if rest and rest[0].type == CType(PREFIX + "MemoryBuffer", 1):
        if function.result != CType(PREFIX + "ErrorCode"):
            raise _NoPattern(f'it fills a {PREFIX}MemoryBuffer, but does not return a {PREFIX}ErrorCode')
        has_target = True
        call.append("target")
        rest = rest[1:]
    class_name = receiver_type = ""
    if rest and types.is_class(rest[0].type):
        class_name = _bare(rest[0].type.name)
        receiver_type = str(rest[0].type)
        call.append("receiver")
        rest = rest[1:]
    wrapped, more = _parameters(function, rest, types)
    result = _result(function, has_target, types)
    name = _method_name(function.name, class_name) if class_name else _bare(function.name)
    return Function(
        name=name,
        c_name=function.name,
        class_name=class_name,
        params=wrapped,
        result=result,
        call=call + more,
        receiver_type=receiver_type,
        docstring=f"Generated from C function {function.name}()",
        type_error=f"Bad types for the arguments ({len(wrapped)} arguments expected)",
    )


def _can_be_told(function: Function) -> bool:
    return (
        bool(function.class_name)
        and [p.code for p in function.params] in ([], ["u"])
        and function.result.code in "iBsz"
        and not (function.custom_host or function.is_protected or function.needs_server)
    )


def _annotate(function: Function, source: CFunction) -> Function:
    bare = _bare(source.name)
    function.since = version_number(source.since or facts.FUNCTION_SINCE.get(bare, ""))
    function.doc = source.doc
    function.deprecated = source.is_deprecated
    function.is_protected = bare in facts.PROTECTED
    function.needs_server = bare in facts.NEEDS_SERVER
    function.is_constant = bare in facts.CONSTANT
    if function.is_constant and not _can_be_told(function):
        raise GeneratorError(
            f"{source.where}: the result of {source.name} cannot be remembered: CONSTANT in "
            "protocol/generator/annotations.py is for methods with at most an index, whose result is a "
            "number, a boolean or a text, and which may be called at any time."
        )
    return function


def _custom(full_name: str, custom: exceptions.Custom) -> Function:
    class_name, _, name = full_name.rpartition(".")
    count = len(custom.params)
    return Function(
        name=name,
        c_name=PREFIX + custom.c_name,
        class_name=class_name,
        params=list(custom.params),
        result=custom.result,
        docstring=custom.docstring or f"Implemented in C++ function {name}()",
        type_error=custom.type_error or f"Bad types for the arguments ({count} arguments expected)",
        on_node=custom.node,
        custom_node=custom.node and custom.custom_node,
        custom_host=custom.custom_host,
        extra_doc=custom.doc,
    )


def _aliases(functions: list[Function]) -> list[Function]:
    found = []
    for function in functions:
        old_name = exceptions.ALIASES.get(function.full_name)
        if old_name:
            copy = Function(**vars(function))
            copy.name, copy.alias_of = old_name, function.name
            copy.extra_doc = f"The name of {function.full_name} in earlier plugins."
            found.append(copy)
    return found


def _refuse(function: CFunction, reason: str) -> str:
    return (
        f"{function.where}: {function.name} cannot be wrapped: {reason}.\n"
        f"  Either write it by hand: add it to CUSTOM in {_EXCEPTIONS_FILE}, with its code in\n"
        f"  plugin/sdk_custom.c and, if needed, worker/module/. Or leave it out of Python:\n"
        f'  add "{_bare(function.name)}" with the reason to NOT_WRAPPED in {_EXCEPTIONS_FILE}.'
    )


def _functions(header: Header, types: _Types, destructors: set[str]) -> tuple[list[Function], dict[str, str]]:
    by_hand: dict[str, list[str]] = {}
    for full_name, custom in exceptions.CUSTOM.items():
        by_hand.setdefault(custom.c_name, []).append(full_name)
    functions: list[Function] = []
    not_wrapped: dict[str, str] = {}
    problems: list[str] = []
    for source in header.functions:
        bare = _bare(source.name)
        if source.name in destructors:
            continue
        if bare in by_hand:
            functions += [_annotate(_custom(n, exceptions.CUSTOM[n]), source) for n in by_hand[bare]]
        elif bare in exceptions.NOT_WRAPPED:
            not_wrapped[source.name] = exceptions.NOT_WRAPPED[bare]
        else:
            try:
                functions.append(_annotate(_wrap(source, types), source))
            except _NoPattern as why:
                problems.append(_refuse(source, str(why)))
    if problems:
        raise GeneratorError("\n".join(problems))
    for function in functions:
        if function.full_name in exceptions.CUSTOM_HOST:
            function.custom_host = True
            function.stub_params = exceptions.CUSTOM_HOST[function.full_name]
    functions += _aliases(functions)
    _check_names(functions)
    return sorted(functions, key=lambda f: (f.class_name, f.name)), not_wrapped


def _check_names(functions: list[Function]) -> None:
    seen: dict[str, str] = {}
    for function in functions:
        name = function.full_name
        if name in seen:
            raise GeneratorError(
                f"{function.c_name} and {seen[name]} would both be called orthanc.{name}: "
                f"give one of them an entry in {_EXCEPTIONS_FILE}."
            )
        seen[name] = function.c_name


def _enumeration(source: CEnum) -> Enumeration:
    name = _bare(source.name)
    since = version_number(source.since or facts.ENUMERATION_SINCE.get(name, ""))
    values = []
    for item in source.values:
        if item.name.startswith("_"):
            continue  # the marker that makes the C type 32 bits wide
        prefix = source.name + "_"
        if not item.name.startswith(prefix) or not -(2**31) <= item.value < 2**31:
            raise GeneratorError(
                f"{source.where}: the value {item.name} = {item.value} of {source.name} has no name in "
                f'Python: expected "{prefix}..." and 32 bits. Teach protocol/generator/classify.py.'
            )
        python = value_name(item.name.removeprefix(prefix))
        age = version_number(item.since or facts.VALUE_SINCE.get(f"{name}.{python}", ""))
        if name in facts.ALWAYS_WHOLE:
            age = 0
        values.append(EnumValue(python, item.name, item.value, max(age, since), item.doc))
    numbers = {value.value for value in values}
    for text, number in facts.LATER_VALUES.get(name, {}).items():
        if number not in numbers:
            values.append(EnumValue(value_name(text), f"{source.name}_{text}", number))
    names = [value.name for value in values]
    if len(set(names)) != len(names):
        raise GeneratorError(
            f"{source.where}: two values of {source.name} have the same name in Python. "
            "Teach protocol/generator/classify.py."
        )
    return Enumeration(name, values, since, source.doc)


def _check_structs(header: Header) -> None:
    expected = {"data": CType("void", 1), "size": CType("uint32_t")}
    found = header.structs.get(PREFIX + "MemoryBuffer")
    if found is not None and dict(found) != expected:
        raise GeneratorError(
            f"{header.name}: {PREFIX}MemoryBuffer is not {{void *data; uint32_t size;}} any more. "
            "Teach plugin/invocation.h and protocol/generator/classify.py."
        )


def _translate(functions: list[Function], classes: list[SdkClass], enumerations: list[Enumeration]) -> None:
    """Lets the descriptions speak of Python's names instead of C's."""
    names = {f.c_name: f.full_name for f in functions if not f.alias_of}
    names |= {v.c_name: f"{e.name}.{v.name}" for e in enumerations for v in e.values}
    names |= {c.c_name: c.name for c in classes}
    names |= {PREFIX + e.name: e.name for e in enumerations}
    word = re.compile(rf"\b{PREFIX}\w+")

    def plain(text: str) -> str:
        return word.sub(lambda match: names.get(match.group(), match.group()), text)

    def doc(of: Doc) -> Doc:
        params = tuple((name, plain(what)) for name, what in of.params)
        notes = tuple(plain(note) for note in of.notes)
        return Doc(plain(of.brief), plain(of.details), params, plain(of.returns), notes, plain(of.deprecated))

    for function in functions:
        function.doc = doc(function.doc)
    for item in classes:
        item.doc = doc(item.doc)
    for enumeration in enumerations:
        enumeration.doc = doc(enumeration.doc)
        for value in enumeration.values:
            value.doc = plain(value.doc)


def build_model(header: Header) -> Model:
    """The model of a header. Raises GeneratorError on what it does not understand."""
    types = _Types(header)
    _check_structs(header)
    classes = []
    for source in sorted(header.opaques, key=lambda o: o.name):
        name = _bare(source.name)
        since = version_number(source.since or facts.CLASS_SINCE.get(name, ""))
        ends = [f.name for f in header.functions if _is_destructor(f, source.name)]
        classes.append(SdkClass(name, since, source.doc, ends[0] if ends else ""))
    functions, not_wrapped = _functions(header, types, {c.destructor for c in classes})
    ages = {c.name: c.since for c in classes}
    for function in functions:
        function.since = max(function.since, ages.get(function.class_name, 0))
    for function in functions:
        made = function.result.type_name if function.result.code == "O" else ""
        if made and not any(c.name == made and c.destructor for c in classes):
            where = next(f.where for f in header.functions if f.name == function.c_name)
            raise GeneratorError(
                f"{where}: {function.c_name} makes a {made}, but the header has no {PREFIX}Free{made}() to end it. "
                f"Write it by hand, or leave it out: {_EXCEPTIONS_FILE}."
            )
    enumerations = [_enumeration(e) for e in sorted(header.enums, key=lambda e: e.name)]
    _translate(functions, classes, enumerations)
    major, minor, revision = header.version
    version = version_number(f"{major}.{minor}.{revision}")
    return Model(header.name, version, functions, classes, enumerations, not_wrapped)

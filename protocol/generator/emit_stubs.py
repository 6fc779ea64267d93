# SPDX-License-Identifier: GPL-3.0-or-later
"""orthanc-stubs/__init__.pyi: what editors and type checkers know of the module."""

from __future__ import annotations

import keyword
import re

from callbacks import CALLBACKS, DRIVER, Callback
from model import Enumeration, Function, Model, Param, SdkClass, version_text
from text import LICENCE, origin, wrap
from words import effects, paragraphs

_ARGUMENTS = {
    "s": "str",
    "b": "_Buffer",
    "p": "_Buffer",
    "e": "_Integer",
    "i": "_Integer",
    "l": "_Integer",
    "c": "_Integer",
    "h": "_Integer",
    "u": "_Integer",
    "U": "_Integer",
    "f": "SupportsFloat | SupportsIndex",
}
_RESULTS = {"v": "None", "E": "None", "b": "bytes", "s": "str", "z": "str | None", "i": "int", "B": "bool"}

_HEAD = '''from array import array
from typing import Any, Final, Protocol, SupportsFloat, SupportsIndex, TypedDict, TypeVar, final

from typing_extensions import TypeAlias

_Driver = TypeVar("_Driver")
_Driver_co = TypeVar("_Driver_co", covariant=True)
_Driver_contra = TypeVar("_Driver_contra", contravariant=True)

class _SupportsBuffer(Protocol):
    def __buffer__(self, flags: int, /) -> memoryview: ...

_Integer: TypeAlias = SupportsIndex
# Text is passed on as UTF-8; None is an empty buffer. Checkers that do not know
# __buffer__ yet accept the first ones only.
_Buffer: TypeAlias = str | bytes | bytearray | memoryview | array[Any] | _SupportsBuffer | None

class _DictionaryTag(TypedDict):
    Group: int
    Element: int
    ValueRepresentation: int
    MinMultiplicity: int
    MaxMultiplicity: int

class OrthancException(Exception):
    """An error that the server reported. args is (code, text), with a code of ErrorCode."""
'''


def _has_driver(callback: Callback) -> bool:
    return callback.result == DRIVER or f": {DRIVER}" in callback.parameters


def argument_type(param: Param) -> str:
    if param.code == "callable":
        return f"_{param.type_name}{'[_Driver]' if _has_driver(CALLBACKS[param.type_name]) else ''}"
    if param.code == "O":
        return param.type_name
    if param.code == "N":
        return f"{param.type_name} | None"
    return _ARGUMENTS[param.code]


def result_type(function: Function) -> str:
    result = function.result
    if result.stub:
        return result.stub
    return result.type_name if result.code == "O" else _RESULTS[result.code]


def parameter_list(function: Function) -> str:
    if function.stub_params:
        return function.stub_params
    names = [p.name + "_" if keyword.iskeyword(p.name) else p.name for p in function.params]
    parts = [f"{name}: {argument_type(p)}" for name, p in zip(names, function.params)]
    return ", ".join([*parts, "/"]) if parts else ""


def _docstring(lines: list[str], indent: str) -> list[str]:
    lines = [line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') for line in lines]
    if len(lines) == 1 and not lines[0].endswith('"'):
        return [f'{indent}"""{lines[0].strip()}"""']
    return [f'{indent}"""{lines[0].strip()}', *lines[1:], f'{indent}"""']


def _head(start: str, parameters: str, end: str, indent: str) -> list[str]:
    """One line, or one line per parameter if that is too long."""
    line = f"{indent}{start}({parameters}){end}"
    if len(line) <= 99:
        return [line]
    parts = [f"{indent}    {part}," for part in re.split(r", (?![^\[]*\])", parameters)]
    return [f"{indent}{start}(", *parts, f"{indent}){end}"]


def _function(function: Function, indent: str = "") -> list[str]:
    inner = indent + "    "
    parameters = parameter_list(function)
    if function.class_name:
        parameters = f"self, {parameters}" if parameters else "self"
    out = _head(f"def {function.name}", parameters, f" -> {result_type(function)}:", indent)
    text: list[str] = []
    for paragraph in paragraphs(function):
        text += ([""] if text else []) + wrap(paragraph, inner)
    described = dict(function.doc.params)
    arguments = [(p.name, described.get(p.name, "")) for p in function.params]
    if any(what for _, what in arguments):
        text += ["", f"{inner}Args:"]
        for name, what in arguments:
            text += wrap(f"{name}: {what}", inner + "    ", hanging="    ")
    returns, raises = effects(function)
    if returns:
        text += ["", f"{inner}Returns:", *wrap(returns, inner + "    ")]
    if raises:
        text += ["", f"{inner}Raises:", *wrap(raises, inner + "    ")]
    out += _docstring(text, inner)
    return [*out, f"{inner}...", ""]


def _class(model: Model, item: SdkClass) -> list[str]:
    text = wrap(item.doc.brief or f"The SDK's {item.c_name}.", "    ")
    if item.since:
        text += ["", f"    Needs Orthanc {version_text(item.since)}."]
    out = ["@final", f"class {item.name}:", *_docstring(text, "    "), ""]
    out += ["    def __init__(self, pointer: int, borrowed: int, /) -> None: ...", ""]
    for method in model.methods_of(item.name):
        out += _function(method, "    ")
    return out


def _enumeration(item: Enumeration) -> list[str]:
    text = wrap(item.doc.brief or f"Values of the SDK's {item.name}.", "    ")
    if item.since:
        text += ["", f"    Needs Orthanc {version_text(item.since)}."]
    out = ["@final", f"class {item.name}:", *_docstring(text, "    "), ""]
    for value in item.values:
        out.append(f"    {value.name}: Final = {value.value}")
        notes = [value.doc] if value.doc else []
        if value.since > item.since:
            notes.append(f"Needs Orthanc {version_text(value.since)}.")
        if notes:
            joined = " ".join(n if n.endswith(".") else n + "." for n in notes)
            out += _docstring(wrap(joined, "    "), "    ")
    return [*out, ""]


def _callback_protocols(model: Model) -> list[str]:
    out: list[str] = []
    wanted = {p.type_name for f in model.functions for p in f.params if p.code == "callable"}
    known = {c.name for c in model.classes}
    for name in sorted(wanted):
        callback = CALLBACKS[name]
        parameters = callback.parameters
        for class_name in callback.classes:
            if class_name not in known:
                parameters = parameters.replace(class_name, "Any")
        result, variable = callback.result, ""
        if _has_driver(callback):
            variable = "[_Driver_co]" if result == DRIVER else "[_Driver_contra]"
            parameters = parameters.replace(f": {DRIVER}", ": _Driver_contra")
            result = result.replace(DRIVER, "_Driver_co")
        out += [f"class _{name}(Protocol{variable}):", *_docstring(wrap(callback.doc, "    "), "    "), ""]
        out += _head("def __call__", f"self, {parameters}", f" -> {result}: ...", "    ") + [""]
    return out


def emit(model: Model) -> dict[str, str]:
    out = [f"# {origin(model)}", f"# {LICENCE}"]
    out += ["# The descriptions are those of the SDK header, which has this licence too.", ""]
    out += _HEAD.splitlines() + [""]
    for enumeration in model.enumerations:
        out += _enumeration(enumeration)
    for item in model.classes:
        out += _class(model, item)
    out += _callback_protocols(model)
    for function in model.methods_of(""):
        out += _function(function)
    return {"orthanc-stubs/__init__.pyi": "\n".join(out).rstrip("\n") + "\n"}

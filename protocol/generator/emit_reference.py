# SPDX-License-Identifier: GPL-3.0-or-later
"""api-reference.md: every name of the module, for readers."""

from __future__ import annotations

import re

from callbacks import CALLBACKS, DRIVER
from emit_stubs import parameter_list, result_type
from model import Enumeration, Function, Model, version_text
from text import origin
from words import effects, paragraphs

_INTRO = """# The orthanc module

Every function, class and enumeration that a script gets from `import orthanc`, made from the
header of the Orthanc SDK {version}. A name that says "needs Orthanc X" exists only if the
running server is at least X: test for it with `hasattr(orthanc, ...)`.

Arguments are positional; their names are the SDK's. In signatures, `buffer` means `str` (sent
as UTF-8), `bytes`, or any object with a contiguous buffer, and `None` for an empty one; `int`
also takes any object with `__index__()`. Arguments of a wrong type or number raise `TypeError`
with a text that does not say which. A method of an object that is no longer valid raises
`ValueError('Invalid object')`. `orthanc.OrthancException`, a subclass of `Exception`, has the
server's error code and its text as `args`.
"""


def _md(text: str) -> str:
    """Plain text, safe in Markdown: no tags, no emphasis, no table cells."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)


def _plain_types(text: str) -> str:
    text = text.replace("SupportsFloat | SupportsIndex", "float").replace("_Integer", "int")
    text = re.sub(r"_Buffer\b", "buffer", text)
    return re.sub(r": _([A-Z]\w+)(?:\[_Driver\])?", r": \1", text)


def _signature(function: Function) -> str:
    parameters = _plain_types(parameter_list(function)).removesuffix(", /")
    result = result_type(function).replace("_DictionaryTag", "dict[str, int]")
    return f"{function.full_name}({parameters}) -> {result}"


def _function(function: Function, level: str) -> list[str]:
    out = [f"{level} {_md(function.full_name)}", "", "```python", _signature(function), "```", ""]
    for paragraph in paragraphs(function):
        out += [_md(paragraph), ""]
    described = dict(function.doc.params)
    rows = []
    for param in function.params:
        what = _md(described.get(param.name, ""))
        if param.code == "e":
            what = f"{what} A value of [{param.type_name}](#{param.type_name.lower()}).".strip()
        if param.code == "callable":
            what = f"See [{param.type_name}](#{param.type_name.lower()})."
        if what:
            rows.append(f"- `{param.name}`: {what}")
    returns, raises = effects(function)
    if returns:
        rows.append(f"- returns: {_md(returns)}")
    if raises:
        rows.append(f"- raises: {_md(raises)}")
    if rows:
        out += [*rows, ""]
    if not function.custom_host and not function.custom_node:
        out += [f"C function: `{function.c_name}()`", ""]
    return out


def _enumeration(item: Enumeration) -> list[str]:
    out = [f"### {item.name}", ""]
    if item.doc.brief:
        out += [_md(item.doc.brief), ""]
    if item.since:
        out += [f"Needs Orthanc {version_text(item.since)}.", ""]
    out += ["| value | name | meaning |", "| ---: | --- | --- |"]
    for value in item.values:
        what = _md(value.doc)
        if value.since > item.since:
            what = f"{what}{'' if not what or what.endswith('.') else '.'} Needs Orthanc {version_text(value.since)}.".strip()
        out.append(f"| {value.value} | `{value.name}` | {what} |")
    return [*out, ""]


def _callbacks(model: Model) -> list[str]:
    wanted = sorted({p.type_name for f in model.functions for p in f.params if p.code == "callable"})
    if not wanted:
        return []
    out = ["## Callbacks", "", "What the registered functions are called with, and give.", ""]
    for name in wanted:
        callback = CALLBACKS[name]
        parameters = callback.parameters.replace(" = ...", "=...")
        out += [f"### {name}", "", "```python", f"f({parameters}) -> {callback.result}".replace(DRIVER, "Any"), "```", "", _md(callback.doc), ""]
    return out


def _not_wrapped(model: Model) -> list[str]:
    if not model.not_wrapped:
        return []
    out = ["## Functions of the SDK that Python does not have", "", "| C function | reason |", "| --- | --- |"]
    out += [f"| `{name}()` | {_md(reason)} |" for name, reason in sorted(model.not_wrapped.items())]
    return [*out, ""]


def emit(model: Model) -> dict[str, str]:
    out = [f"<!-- {origin(model)} -->", ""]
    out += _INTRO.format(version=version_text(model.sdk_version)).splitlines() + [""]
    out += ["## Functions", ""]
    for function in model.methods_of(""):
        out += _function(function, "###")
    out += ["## Classes", ""]
    for item in model.classes:
        out += [f"### {item.name}", ""]
        if item.doc.brief:
            out += [_md(item.doc.brief), ""]
        if item.since:
            out += [f"Needs Orthanc {version_text(item.since)}.", ""]
        if not model.methods_of(item.name):
            out += ["It has no methods.", ""]
        for method in model.methods_of(item.name):
            out += _function(method, "####")
    out += ["## Enumerations", "", "Values are plain `int` attributes of the class.", ""]
    for enumeration in model.enumerations:
        out += _enumeration(enumeration)
    out += _callbacks(model) + _not_wrapped(model)
    return {"api-reference.md": "\n".join(out).rstrip("\n") + "\n"}

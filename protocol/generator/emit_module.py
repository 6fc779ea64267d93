# SPDX-License-Identifier: GPL-3.0-or-later
"""orthanc_module.gen.c and .h: the tables of the orthanc module, for worker/."""

from __future__ import annotations

from exceptions import complete_since, later_names
from model import PREFIX, Enumeration, Function, Model, SdkClass, version_number
from text import c_head, c_string

_CAST = "(PyCFunction)(void (*)(void))"


def _entry(function: Function) -> str:
    return f"opb_py_custom_{function.symbol}" if function.custom_host else f"fn_{function.symbol}"


def _trampoline(index: int, function: Function) -> list[str]:
    head = f"fn_{function.symbol}(PyObject *self, PyObject *const *args, Py_ssize_t count"
    row = f"&opb_py_functions[{index}], self, args, count"
    if function.class_name:
        body = [f"{head})", "{", f"    return opb_sdk_call({row});"]
    else:
        body = [f"{head}, PyObject *names)", "{", f"    return opb_sdk_call_keywords({row}, names);"]
    return ["static PyObject *", *body, "}", ""]


def _text(text: str) -> str:
    return c_string(text) if text else "NULL"


def _function_row(model: Model, function: Function) -> list[str]:
    names = [c.name for c in model.classes]
    class_index = names.index(function.class_name) if function.class_name else -1
    flags = "METH_FASTCALL" if function.class_name else "METH_FASTCALL | METH_KEYWORDS"
    return [
        "    {",
        f"        .name = {c_string(function.name)},",
        f"        .node_name = {_text(function.node_name if function.on_node else '')},",
        f"        .signature = {_text(function.signature if function.on_node else '')},",
        f"        .type_error = {c_string(function.type_error)},",
        f"        .doc = {c_string(function.docstring)},",
        f"        .since = {function.since},",
        f"        .argument_count = {len(function.params)},",
        f"        .class_index = {class_index},",
        f"        .is_constant = {1 if function.is_constant else 0},",
        f"        .entry = {_CAST}{_entry(function)},",
        f"        .flags = {flags},",
        "    },",
    ]


def _class_row(model: Model, item: SdkClass) -> list[str]:
    return [
        "    {",
        f"        .name = {c_string(item.name)},",
        f"        .qualified_name = {c_string('orthanc.' + item.name)},",
        f"        .sdk_name = {c_string(item.c_name)},",
        f"        .doc = {c_string('Generated from Orthanc C class: ' + item.c_name)},",
        f"        .since = {item.since},",
        f"        .complete_since = {complete_since(model, item.name)},",
        f"        .is_owned = {1 if item.destructor else 0},",
        "    },",
    ]


def _enumeration_values(item: Enumeration) -> list[str]:
    out = [f"static const struct opb_py_enum_value values_{item.name}[] = {{"]
    out += [f"    {{{c_string(v.name)}, {v.value}, {v.since}}}," for v in item.values]
    return [*out, "    {NULL, 0, 0},", "};", ""]


def _enumeration_row(item: Enumeration) -> list[str]:
    doc = f"Generated from C enumeration {PREFIX}{PREFIX}{item.name}"  # doubled, as scripts know it
    return [
        "    {",
        f"        .name = {c_string(item.name)},",
        f"        .qualified_name = {c_string('orthanc.' + item.name)},",
        f"        .doc = {c_string(doc)},",
        f"        .since = {item.since},",
        f"        .values = values_{item.name},",
        "    },",
    ]


def _table(kind: str, plural: str, rows: list[list[str]]) -> list[str]:
    out = [f"const struct {kind} {plural}[] = {{"]
    for row in rows:
        out += row
    return [*out, "};", f"const uint32_t {kind}_count = {len(rows)};", ""]


def _later(model: Model) -> list[str]:
    """Names that scripts may ask for and this header is too old for, with their versions."""
    out = ["const struct opb_py_later opb_py_later_names[] = {"]
    out += [f"    {{{c_string(n)}, {version_number(v)}}}," for n, v in sorted(later_names(model).items())]
    return [*out, "    {NULL, 0},", "};"]


def _module(model: Model) -> str:
    out = c_head(model, "The orthanc module's functions, classes and enumerations, as tables.")
    out += ['#include "worker/module/model.h"', ""]
    for index, function in enumerate(model.functions):
        if not function.custom_host:
            out += _trampoline(index, function)
    out += _table("opb_py_function", "opb_py_functions", [_function_row(model, f) for f in model.functions])
    out += _table("opb_py_class", "opb_py_classes", [_class_row(model, c) for c in model.classes])
    for item in model.enumerations:
        out += _enumeration_values(item)
    out += _table("opb_py_enum", "opb_py_enums", [_enumeration_row(e) for e in model.enumerations])
    out += [f"const uint32_t opb_py_sdk_version = {model.sdk_version};", *_later(model), ""]
    return "\n".join(out)


def _header(model: Model) -> str:
    out = c_head(model, "Where the hand-written functions stand in opb_py_functions; HAS: this SDK has it.")
    out += ["#ifndef OPB_ORTHANC_MODULE_GEN_H", "#define OPB_ORTHANC_MODULE_GEN_H", ""]
    for index, function in enumerate(model.functions):
        if function.custom_host:
            out += [f"#define OPB_PY_HAS_{function.symbol} 1", f"#define OPB_PY_{function.symbol} {index}"]
    return "\n".join([*out, "", "#endif", ""])


def emit(model: Model) -> dict[str, str]:
    return {"orthanc_module.gen.c": _module(model), "orthanc_module.gen.h": _header(model)}

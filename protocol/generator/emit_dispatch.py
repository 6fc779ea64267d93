# SPDX-License-Identifier: GPL-3.0-or-later
"""sdk_dispatch.gen.c, sdk_custom.gen.h and sdk_facts.gen.h: decode, call the SDK, encode; for plugin/."""

from __future__ import annotations

from classify import check_rule
from model import NODE_OWN, Function, Model, Param
from text import c_head, c_string

# Names in the generated functions, and words of C, that an argument must not have.
_TAKEN = set(
    """
    auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef
    union unsigned void volatile while bool true false
    code inv receiver result target
    """.split()
)
_TAKE = {
    "int": "opb_take_i32",
    "int32_t": "opb_take_i32",
    "int64_t": "opb_take_i64",
    "uint8_t": "opb_take_u8",
    "uint16_t": "opb_take_u16",
    "uint32_t": "opb_take_u32",
    "uint64_t": "opb_take_u64",
    "float": "opb_take_float",
}
_UNSIGNED = {"uint8_t", "uint16_t", "uint32_t", "uint64_t"}


def _name(param: Param, is_size: bool = False) -> str:
    name = param.name + "_size" if is_size else param.name
    return name + "_" if name in _TAKEN else name


def _declare(c_type: str, name: str) -> str:
    return f"{c_type}{'' if c_type.endswith('*') else ' '}{name}"


def _take(param: Param) -> list[str]:
    name, size = _name(param), _name(param, True)
    if param.code == "s":
        return [f"const char *{name} = opb_take_str(inv);"]
    if param.code == "e":
        return [f"{param.c_type} {name} = ({param.c_type})opb_take_i32(inv);"]
    if param.code in "bp":
        wide = param.code == "p" or param.size_type == "uint64_t"
        take = "opb_take_buf64" if wide else "opb_take_buf"
        width = "uint64_t" if wide else "uint32_t"
        return [f"{width} {size} = 0;", f"{_declare(param.c_type, name)} = {take}(inv, &{size});"]
    if param.code in "ON":
        nullable = "true" if param.code == "N" else "false"
        value = f"opb_take_object(inv, OPB_CLASS_{param.type_name}, {nullable})"
        return [f"{_declare(param.c_type, name)} = {value};"]
    return [f"{param.c_type} {name} = {_TAKE[param.c_type]}(inv);"]


def _checks(function: Function) -> list[str]:
    out = []
    for param in function.params:
        if param.code != "p":
            continue
        have = _name(param, True)
        if check_rule(function.params, param) == "image":
            out.append(f"opb_check_image(inv, format, width, height, pitch, {have});")
        else:
            out.append(f"opb_check_size(inv, size, {have});")
    return out


def _arguments(function: Function) -> str:
    fixed = {"context": "opb_invocation_context(inv)", "target": "&target", "receiver": "receiver"}
    out = []
    for item in function.call:
        if isinstance(item, tuple):
            kind, index = item
            out.append(_name(function.params[index], kind == "size"))
        else:
            out.append(fixed[item])
    return ", ".join(out)


def _call_and_give(function: Function) -> list[str]:
    call = f"{function.c_name}({_arguments(function)})"
    code, c_type = function.result.code, function.result.c_type
    if code == "v":
        return [f"{call};", "opb_give_void(inv);"]
    if code == "E":
        return [f"opb_give_code(inv, {call});"]
    if code == "b":
        return [f"code = {call};", "opb_give_buffer(inv, code, &target);"]
    if code == "s":
        return [f"opb_give_string(inv, {call});"]
    if code == "z":
        return [f"opb_give_static_string(inv, {call});"]
    if code == "O":
        return [f"opb_give_object(inv, OPB_CLASS_{function.result.type_name},", f"    {call});"]
    if c_type in _UNSIGNED:
        return [f"opb_give_uint(inv, {call});"]
    cast = "(int64_t)" if function.result.type_name else ""
    return [f"opb_give_int(inv, {cast}{call});"]


def _run(function: Function) -> list[str]:
    body: list[str] = []
    if function.result.code == "b":
        body += ["OrthancPluginMemoryBuffer target = {NULL, 0};", "OrthancPluginErrorCode code;"]
    if function.class_name:
        value = f"opb_take_object(inv, OPB_CLASS_{function.class_name}, false)"
        body.append(f"{_declare(function.receiver_type, 'receiver')} = {value};")
    for param in function.params:
        body += _take(param)
    if body:
        body.append("")
    body += _checks(function)
    body += ["if (!opb_invocation_ready(inv)) {", "    return;", "}"]
    body += _call_and_give(function)
    head = ["static void", f"run_{function.symbol}(struct opb_invocation *inv)", "{"]
    return [*head, *[f"    {line}" if line else "" for line in body], "}", ""]


def _flags(function: Function) -> str:
    flags = []
    if function.is_protected:
        flags.append("OPB_SDK_PROTECTED")
    if function.needs_server:
        flags.append("OPB_SDK_NEEDS_SERVER")
    return " | ".join(flags) or "0"


def _row(function: Function) -> str:
    run = f"opb_custom_{function.symbol}" if function.custom_node else f"run_{function.symbol}"
    fields = [c_string(function.full_name), c_string(function.signature), str(function.since), _flags(function), run]
    return f"    {{{', '.join(fields)}}},"


def _free_object(model: Model) -> list[str]:
    out = ["bool", "opb_sdk_free_object(OrthancPluginContext *context, enum opb_class class_id, void *object)", "{"]
    out += ["    switch (class_id) {"]
    for item in model.classes:
        if item.destructor:
            out += [f"    case OPB_CLASS_{item.name}:", f"        {item.destructor}(context, object);", "        return true;"]
    borrowed = [item for item in model.classes if not item.destructor]
    out += [f"    case OPB_CLASS_{item.name}:" for item in borrowed]
    out += ["    case OPB_CLASS_COUNT:", "        break;", "    }", "    return false;", "}", ""]
    return out


def _dispatch(model: Model) -> str:
    out = c_head(model, "One function per SDK function: arguments from the frame, the call, the result.")
    out += ['#include "plugin/opb_plugin.h"', '#include "plugin/invocation.h"', '#include "sdk_custom.gen.h"', ""]
    out += ["/* Scripts may call what the SDK calls deprecated. */"]
    out += ['#pragma GCC diagnostic ignored "-Wdeprecated-declarations"', ""]
    out += ["const char *const opb_class_names[OPB_CLASS_COUNT] = {"]
    out += [f"    [OPB_CLASS_{item.name}] = {c_string(item.name)}," for item in model.classes]
    out += ["};", ""]
    rows = model.node_functions
    for function in rows:
        if not function.custom_node:
            out += _run(function)
    out += ["const struct opb_sdk_function opb_sdk_functions[] = {"]
    out += [f'    {{"{name}", "x", 0, {flags}, opb_custom_{name}}},' for name, flags in NODE_OWN.items()]
    out += [_row(function) for function in rows]
    out += ["};", ""]
    out += ["const uint32_t opb_sdk_function_count ="]
    out += ["    (uint32_t)(sizeof(opb_sdk_functions) / sizeof(opb_sdk_functions[0]));", ""]
    out += _free_object(model)
    return "\n".join(out)


def _custom_header(model: Model) -> str:
    out = c_head(model, "What sdk_custom.c implements; OPB_SDK_HAS_... says whether this SDK has it.")
    out += ["#ifndef OPB_SDK_CUSTOM_GEN_H", "#define OPB_SDK_CUSTOM_GEN_H", "", "struct opb_invocation;", ""]
    symbols = [*NODE_OWN] + [f.symbol for f in model.node_functions if f.custom_node]
    for symbol in symbols:
        out += [f"#define OPB_SDK_HAS_{symbol.lstrip('_')} 1"]
        out += [f"void opb_custom_{symbol}(struct opb_invocation *inv);"]
    out += ["", "#endif", ""]
    return "\n".join(out)


def _facts_header(model: Model) -> str:
    out = c_head(model, "The numbers of the functions whose results may be sent along with a handle.")
    out += ["#ifndef OPB_SDK_FACTS_GEN_H", "#define OPB_SDK_FACTS_GEN_H", "", "enum opb_fact {"]
    out += ["    OPB_FACT_NONE = 0, /* the number of _Register, which is none */"]
    constant = [f for f in model.node_functions if f.is_constant]
    out += [f"    OPB_FACT_{f.symbol} = {model.node_number(f)}," for f in constant]
    return "\n".join([*out, "};", "", "#endif", ""])


def emit(model: Model) -> dict[str, str]:
    return {
        "sdk_dispatch.gen.c": _dispatch(model),
        "sdk_custom.gen.h": _custom_header(model),
        "sdk_facts.gen.h": _facts_header(model),
    }

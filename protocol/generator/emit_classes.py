# SPDX-License-Identifier: GPL-3.0-or-later
"""sdk_classes.gen.h: the numbers and names of the SDK's classes, for plugin/."""

from __future__ import annotations

from text import c_head
from model import Model


def emit(model: Model) -> dict[str, str]:
    out = [*c_head(model, "plugin/ names the classes of handles with these; same order as opb_py_classes.")]
    out += ["#ifndef OPB_SDK_CLASSES_GEN_H", "#define OPB_SDK_CLASSES_GEN_H", "", "enum opb_class {"]
    out += [f"    OPB_CLASS_{c.name}," for c in model.classes]
    out += ["    OPB_CLASS_COUNT", "};", ""]
    out += ['/* By enum opb_class: "RestOutput". */']
    out += ["extern const char *const opb_class_names[OPB_CLASS_COUNT];", "", "#endif", ""]
    return {"sdk_classes.gen.h": "\n".join(out)}

# SPDX-License-Identifier: GPL-3.0-or-later
"""model.json: the whole model as data, for tests and tools."""

from __future__ import annotations

import json

from exceptions import later_names
from model import Model, version_text
from text import origin


def emit(model: Model) -> dict[str, str]:
    data = {
        "generated": origin(model),
        "sdk": version_text(model.sdk_version),
        "functions": [
            {
                "name": f.full_name,
                "c_name": f.c_name,
                "node_name": f.node_name if f.on_node else None,
                "signature": f.signature if f.on_node else None,
                "arguments": [{"name": p.name, "code": p.code, "type": p.type_name} for p in f.params],
                "result": f.result.signature,
                "since": version_text(f.since),
                "docstring": f.docstring,
                "type_error": f.type_error,
                "deprecated": f.deprecated,
                "protected": f.is_protected,
                "needs_server": f.needs_server,
                "constant": f.is_constant,
                "by_hand": [end for end, is_so in (("node", f.custom_node), ("host", f.custom_host)) if is_so],
                "alias_of": f.alias_of or None,
            }
            for f in model.functions
        ],
        "classes": [
            {"name": c.name, "since": version_text(c.since), "owned": bool(c.destructor)} for c in model.classes
        ],
        "enumerations": [
            {
                "name": e.name,
                "since": version_text(e.since),
                "values": [{"name": v.name, "value": v.value, "since": version_text(v.since)} for v in e.values],
            }
            for e in model.enumerations
        ],
        "later": dict(sorted(later_names(model).items())),
        "not_wrapped": dict(sorted(model.not_wrapped.items())),
    }
    return {"model.json": json.dumps(data, indent=1, ensure_ascii=True) + "\n"}

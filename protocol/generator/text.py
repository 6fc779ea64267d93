# SPDX-License-Identifier: GPL-3.0-or-later
"""What the emitters share: first lines, C strings, wrapped text."""

from __future__ import annotations

import textwrap

from model import Model

_SCRIPT = "protocol/generator/generate.py"
LICENCE = "SPDX-License-Identifier: GPL-3.0-or-later"


def origin(model: Model) -> str:
    return f"Generated from orthanc/{model.header} by {_SCRIPT}; do not edit."


def c_head(model: Model, purpose: str) -> list[str]:
    return [f"/* {origin(model)} */", f"/* {LICENCE} */", "", f"/* {purpose} */", ""]


def c_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def wrap(text: str, indent: str, width: int = 99, hanging: str = "") -> list[str]:
    """Lines of plain text; paragraphs are separated by an empty line."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        if lines:
            lines.append("")
        lines += textwrap.wrap(
            paragraph, width, initial_indent=indent, subsequent_indent=indent + hanging,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return lines

# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the header's doxygen comments into plain text.

Here:      comment markers, commands and line breaks.
Elsewhere: where the text is used (emit_stubs.py, emit_reference.py).
May use:   the standard library.
"""

from __future__ import annotations

import re

from model import Doc

_COMMAND = re.compile(r"(?:^|\s)[@\\](brief|param|return|returns|result|note|warning|see|ingroup|deprecated|defgroup|since)\b")


def _bare(comment: str) -> str:
    text = re.sub(r"^/\*+!?<?", "", comment.strip())
    text = re.sub(r"\**/$", "", text)
    lines = [re.sub(r"^\s*\*? ?", "", line).rstrip() for line in text.splitlines()]
    return "\n".join(lines).strip()


def _one_line(text: str) -> str:
    text = re.sub(r"</?(?:tt|b|i|em|code)>", "", text)
    return re.sub(r"\s+", " ", text).strip().replace("::OrthancPlugin", "OrthancPlugin")


def _paragraphs(text: str) -> str:
    parts = [_one_line(part) for part in re.split(r"\n\s*\n|\n(?=\s*- )", text)]
    return "\n\n".join(part for part in parts if part)


def parse_comment(comment: str | None) -> Doc:
    """The parts of a doxygen comment; an empty Doc for none."""
    if not comment:
        return Doc()
    text = _bare(comment)
    pieces = _COMMAND.split(text)
    brief, details = "", pieces[0]
    params: list[tuple[str, str]] = []
    notes: list[str] = []
    returns = deprecated = ""
    for command, body in zip(pieces[1::2], pieces[2::2]):
        if command == "brief":
            head, _, rest = body.partition("\n\n")
            brief = _one_line(head)
            details += "\n\n" + rest
        elif command == "param":
            body = re.sub(r"^\s*\[[a-z, ]*\]", "", body)
            name, _, what = body.strip().partition(" ")
            params.append((name, _one_line(what)))
        elif command in ("return", "returns", "result"):
            head, _, rest = body.partition("\n\n")
            returns = _one_line(head)
            details += "\n\n" + rest
        elif command in ("note", "warning"):
            notes.append(_one_line(body))
        elif command == "deprecated":
            deprecated = _one_line(body)
    details = _paragraphs(details)
    if not brief:
        brief, _, details = details.partition("\n\n")
    if details.startswith(brief):
        details = details.removeprefix(brief).strip()
    return Doc(brief, details, tuple(params), returns, tuple(n for n in notes if n), deprecated)


def parse_value_comment(comment: str | None) -> str:
    """The text of an enumerator's comment, on one line."""
    if not comment:
        return ""
    return _one_line(re.sub(r"[@\\](brief)\b", "", _bare(comment)))

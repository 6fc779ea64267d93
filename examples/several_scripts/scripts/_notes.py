# SPDX-License-Identifier: GPL-3.0-or-later
"""No script, since its name begins with "_": what the scripts beside it share."""

import threading

_LOCK = threading.Lock()
_LINES = []


def add(text: str) -> None:
    with _LOCK:
        _LINES.append(text)


def lines() -> list[str]:
    with _LOCK:
        return list(_LINES)

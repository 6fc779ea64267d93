# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the SDK header into everything that the bridge derives from it.

    generate.py --header /usr/include/orthanc/OrthancCPlugin.h --output-dir DIR [--format NAME ...]

Without --format all of it. Equal input gives equal bytes. On a declaration that it can
neither wrap nor find in exceptions.py it writes nothing, says why, and ends with 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # the source tree stays as it is

import emit_classes
import emit_dispatch
import emit_json
import emit_module
import emit_reference
import emit_stubs
from model import GeneratorError

_FORMATS = {
    "classes": emit_classes.emit,
    "dispatch": emit_dispatch.emit,
    "module": emit_module.emit,
    "stubs": emit_stubs.emit,
    "reference": emit_reference.emit,
    "json": emit_json.emit,
}


def generate(header: Path, formats: list[str]) -> dict[str, str]:
    """File names (relative to the output directory) and their text."""
    try:
        from classify import build_model
        from parse import parse_header
    except ImportError as error:
        raise GeneratorError(
            f"{sys.executable} cannot read C headers: {error}. Install python3-clang, or name "
            "an interpreter that has clang.cindex with -DOPB_GENERATOR_PYTHON=FILE."
        ) from error
    model = build_model(parse_header(header))
    files: dict[str, str] = {}
    for name in formats:
        files.update(_FORMATS[name](model))
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--header", type=Path, required=True, help="OrthancCPlugin.h")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--format", action="append", choices=sorted(_FORMATS), help="default: all")
    arguments = parser.parse_args()
    try:
        files = generate(arguments.header, arguments.format or sorted(_FORMATS))
        for name, text in files.items():
            path = arguments.output_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except (GeneratorError, OSError) as error:
        print(f"generate.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

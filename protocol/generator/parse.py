# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the SDK header with libclang: what is declared, and nothing about its meaning.

Here:      translation unit, types, macros, attributes, comments.
Elsewhere: what a declaration becomes (classify.py).
May use:   clang.cindex (Debian: python3-clang), any version from 14 on.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from clang import cindex

from doxygen import parse_comment, parse_value_comment
from model import PREFIX, Doc, GeneratorError

_SINCE = re.compile(r"^ORTHANC_PLUGIN_SINCE_SDK\s+(\d+\.\d+\.\d+)$")
_VERSION_MACROS = [f"ORTHANC_PLUGINS_MINIMAL_{part}_NUMBER" for part in ("MAJOR", "MINOR", "REVISION")]
_BUILTIN = {
    "VOID": "void", "CHAR_S": "char", "CHAR_U": "char", "SCHAR": "signed char",
    "UCHAR": "unsigned char", "SHORT": "short", "USHORT": "unsigned short", "INT": "int",
    "UINT": "unsigned int", "LONG": "long", "ULONG": "unsigned long", "LONGLONG": "long long",
    "ULONGLONG": "unsigned long long", "FLOAT": "float", "DOUBLE": "double", "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class CType:
    """A type as written: a name, and how many pointers it is away."""

    name: str
    pointers: int = 0
    is_const: bool = False  # of what is pointed at

    def __str__(self) -> str:
        const = "const " if self.is_const else ""
        return f"{const}{self.name}{' ' + '*' * self.pointers if self.pointers else ''}"


@dataclass(frozen=True)
class CParam:
    name: str
    type: CType


@dataclass
class CFunction:
    name: str
    result: CType
    params: list[CParam]
    where: str  # file:line
    is_inline: bool
    is_deprecated: bool
    since: str
    doc: Doc


@dataclass
class CEnumValue:
    name: str
    value: int
    since: str
    doc: str


@dataclass
class CEnum:
    name: str
    values: list[CEnumValue]
    where: str
    since: str
    doc: Doc


@dataclass
class COpaque:
    name: str
    where: str
    since: str
    doc: Doc


@dataclass
class Header:
    name: str
    version: tuple[int, int, int]
    functions: list[CFunction] = field(default_factory=list)
    enums: list[CEnum] = field(default_factory=list)
    opaques: list[COpaque] = field(default_factory=list)
    structs: dict[str, list[tuple[str, CType]]] = field(default_factory=dict)


def _where(cursor: cindex.Cursor) -> str:
    return f"{cursor.location.file}:{cursor.location.line}"


def _type(of: cindex.Type) -> CType:
    if of.kind == cindex.TypeKind.POINTER:
        pointee = of.get_pointee()
        inner = _type(pointee)
        return CType(inner.name, inner.pointers + 1, inner.is_const or pointee.is_const_qualified())
    declaration = of.get_declaration()
    if declaration.kind == cindex.CursorKind.TYPEDEF_DECL:
        return CType(declaration.spelling)
    canonical = of.get_canonical()
    return CType(_BUILTIN.get(canonical.kind.name, canonical.spelling))


def _since(*cursors: cindex.Cursor) -> str:
    for cursor in cursors:
        for child in cursor.get_children():
            if child.kind == cindex.CursorKind.ANNOTATE_ATTR:
                match = _SINCE.match(child.spelling)
                if match:
                    return match.group(1)
    return ""


def _function(cursor: cindex.Cursor) -> CFunction:
    params = [
        CParam(arg.spelling or f"argument{index}", _type(arg.type))
        for index, arg in enumerate(cursor.get_arguments())
    ]
    return CFunction(
        name=cursor.spelling,
        result=_type(cursor.result_type),
        params=params,
        where=_where(cursor),
        is_inline=cursor.is_definition(),
        is_deprecated=cursor.availability == cindex.AvailabilityKind.DEPRECATED,
        since=_since(cursor),
        doc=parse_comment(cursor.raw_comment),
    )


def _enum(alias: cindex.Cursor, declaration: cindex.Cursor) -> CEnum:
    values = [
        CEnumValue(c.spelling, c.enum_value, _since(c), parse_value_comment(c.raw_comment))
        for c in declaration.get_children()
        if c.kind == cindex.CursorKind.ENUM_CONSTANT_DECL
    ]
    doc = parse_comment(alias.raw_comment or declaration.raw_comment)
    return CEnum(alias.spelling, values, _where(alias), _since(declaration, alias), doc)


def _typedef(header: Header, alias: cindex.Cursor) -> None:
    declaration = alias.underlying_typedef_type.get_declaration()
    if declaration.kind == cindex.CursorKind.ENUM_DECL:
        header.enums.append(_enum(alias, declaration))
    elif declaration.kind == cindex.CursorKind.STRUCT_DECL:
        definition = declaration.get_definition()
        if definition is None:
            doc = parse_comment(alias.raw_comment or declaration.raw_comment)
            header.opaques.append(
                COpaque(alias.spelling, _where(alias), _since(alias, declaration), doc)
            )
        else:
            header.structs[alias.spelling] = [
                (f.spelling, _type(f.type))
                for f in definition.get_children()
                if f.kind == cindex.CursorKind.FIELD_DECL
            ]


def _version(unit: cindex.TranslationUnit, path: Path) -> tuple[int, int, int]:
    found: dict[str, int] = {}
    for cursor in unit.cursor.get_children():
        if cursor.kind == cindex.CursorKind.MACRO_DEFINITION and cursor.spelling in _VERSION_MACROS:
            tokens = [token.spelling for token in cursor.get_tokens()]
            if len(tokens) == 2 and tokens[1].isdigit():
                found[cursor.spelling] = int(tokens[1])
    missing = [name for name in _VERSION_MACROS if name not in found]
    if missing:
        raise GeneratorError(
            f"{path}: {missing[0]} is not defined as a number, so the version of the SDK is "
            "unknown. Is this really OrthancCPlugin.h?"
        )
    major, minor, revision = (found[name] for name in _VERSION_MACROS)
    return major, minor, revision


def _parse_unit(path: Path) -> cindex.TranslationUnit:
    options = cindex.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD
    arguments = ["-x", "c", "-std=gnu11", "-fparse-all-comments"]
    extra: list[list[str]] = [[]]
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler:  # a libclang without clang's own headers borrows those of the compiler
        run = subprocess.run([compiler, "-print-file-name=include"], capture_output=True, text=True, check=False)
        if run.returncode == 0 and run.stdout.strip().startswith("/"):
            extra.append(["-isystem", run.stdout.strip()])
    errors: list[str] = []
    for more in extra:
        try:
            unit = cindex.Index.create().parse(str(path), args=arguments + more, options=options)
        except cindex.LibclangError as error:
            raise GeneratorError(f"libclang is missing: install python3-clang with the libclang it is for. {error}") from error
        except cindex.TranslationUnitLoadError as error:
            raise GeneratorError(f"{path}: libclang cannot read it: {error}") from error
        errors = [str(d) for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Error]
        if not errors:
            return unit
    raise GeneratorError(f"{path}: the header does not compile:\n  " + "\n  ".join(errors))


def parse_header(path: Path) -> Header:
    """All declarations of the header itself (not of what it includes)."""
    if not path.is_file():
        raise GeneratorError(
            f"{path}: no such header. Install orthanc-dev, or name another SDK with "
            "-DORTHANC_SDK_INCLUDE_DIR=DIRECTORY (it holds orthanc/OrthancCPlugin.h)."
        )
    unit = _parse_unit(path)
    header = Header(path.name, _version(unit, path))
    for cursor in unit.cursor.get_children():
        if cursor.location.file is None or Path(cursor.location.file.name) != path:
            continue
        if not cursor.spelling.startswith(PREFIX):
            continue
        if cursor.kind == cindex.CursorKind.FUNCTION_DECL:
            header.functions.append(_function(cursor))
        elif cursor.kind == cindex.CursorKind.TYPEDEF_DECL:
            _typedef(header, cursor)
    return header

# SPDX-License-Identifier: GPL-3.0-or-later
"""The one model between the SDK header and everything that is generated.

Here:      what a function, class and enumeration of the SDK is to the bridge.
Elsewhere: reading the header (parse.py, classify.py), writing files (emit_*.py).
May use:   the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PREFIX = "OrthancPlugin"

# Argument codes, as in worker/module/model.h.
SCALARS = {
    "int": "i",
    "int32_t": "i",
    "int64_t": "l",
    "uint8_t": "c",
    "uint16_t": "h",
    "uint32_t": "u",
    "uint64_t": "U",
    "float": "f",
}

# Functions of the node that are not the SDK's (protocol/words.h), with their flags: numbers 0 and up.
NODE_OWN = {"_Register": "OPB_SDK_PROTECTED", "_Release": "0", "_Fence": "0"}


class GeneratorError(Exception):
    """The header holds something that must stop the build; the text says what to do."""


@dataclass(frozen=True)
class Doc:
    """What the header says about a declaration, as plain text."""

    brief: str = ""
    details: str = ""
    params: tuple[tuple[str, str], ...] = ()
    returns: str = ""
    notes: tuple[str, ...] = ()
    deprecated: str = ""


@dataclass(frozen=True)
class Param:
    """One argument as Python sees it."""

    name: str
    code: str  # s b p e i l c h u U f O N, or "callable"
    type_name: str = ""  # of the enumeration, class or callback, without the prefix
    c_type: str = ""  # how C declares it
    size_type: str = ""  # code b: the C type of the length that follows

    @property
    def signature(self) -> str:
        return f"{self.code}{self.type_name};" if self.code in "ON" else self.code


@dataclass(frozen=True)
class Result:
    code: str  # v E b s z i O B x
    type_name: str = ""
    c_type: str = ""
    stub: str = ""  # the Python type, where the code does not say it

    @property
    def signature(self) -> str:
        return f"{self.code}{self.type_name};" if self.code == "O" else self.code


@dataclass
class Function:
    """A module function or a method."""

    name: str  # Python name
    c_name: str
    class_name: str  # "" for a module function
    params: list[Param]
    result: Result
    # The call in C order: "context", "target", "receiver", ("param", n), ("size", n).
    call: list[str | tuple[str, int]] = field(default_factory=list)
    receiver_type: str = ""
    since: int = 0
    doc: Doc = Doc()
    docstring: str = ""
    type_error: str = ""
    deprecated: bool = False
    is_protected: bool = False
    needs_server: bool = False
    is_constant: bool = False  # the host may answer it from what it was told
    on_node: bool = True  # False: only Python's side exists
    custom_node: bool = False  # sdk_custom.c in plugin/ runs it
    custom_host: bool = False  # hand-written in worker/module
    alias_of: str = ""  # Python name of the method it repeats
    stub_params: str = ""  # replaces the generated parameter list of the stub
    extra_doc: str = ""  # our own words where behaviour differs from the header's

    @property
    def full_name(self) -> str:
        return f"{self.class_name}.{self.name}" if self.class_name else self.name

    @property
    def node_name(self) -> str:
        if self.alias_of:
            return f"{self.class_name}.{self.alias_of}"
        return self.full_name

    @property
    def symbol(self) -> str:
        return self.full_name.replace(".", "_")

    @property
    def signature(self) -> str:
        receiver = f"O{self.class_name};" if self.class_name else ""
        return receiver + "".join(p.signature for p in self.params) + ":" + self.result.signature


@dataclass
class SdkClass:
    name: str
    since: int = 0
    doc: Doc = Doc()
    destructor: str = ""  # C name; "" if the bridge never owns one

    @property
    def c_name(self) -> str:
        return PREFIX + self.name


@dataclass
class EnumValue:
    name: str
    c_name: str
    value: int
    since: int = 0
    doc: str = ""


@dataclass
class Enumeration:
    name: str
    values: list[EnumValue]
    since: int = 0
    doc: Doc = Doc()


@dataclass
class Model:
    header: str  # its name, without a directory
    sdk_version: int
    functions: list[Function]  # module functions, then methods; sorted
    classes: list[SdkClass]
    enumerations: list[Enumeration]
    not_wrapped: dict[str, str]  # of this header: C name to reason

    def methods_of(self, class_name: str) -> list[Function]:
        return [f for f in self.functions if f.class_name == class_name]

    @property
    def node_functions(self) -> list[Function]:
        """Those that the node offers: aliases share a row, Register* has none."""
        rows = [f for f in self.functions if f.on_node and not f.alias_of]
        return sorted(rows, key=lambda f: f.full_name)

    def node_number(self, function: Function) -> int:
        """The method number of one of these; the node's own come first."""
        return len(NODE_OWN) + self.node_functions.index(function)


def version_number(text: str) -> int:
    """1012006 for "1.12.6"; 0 for ""."""
    if not text:
        return 0
    parts = [int(part) for part in text.split(".")]
    if len(parts) != 3 or max(parts) > 999:
        raise GeneratorError(f'"{text}" is no version of the SDK: write it as "1.12.6"')
    return parts[0] * 1000000 + parts[1] * 1000 + parts[2]


def version_text(number: int) -> str:
    """"1.12.6" for 1012006; "" for 0."""
    if number == 0:
        return ""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def value_name(text: str) -> str:
    """NO_CFIND_HANDLER for NoCFindHandler: a '_' only between a small letter and a capital."""
    out = ""
    for index, char in enumerate(text):
        if char.isupper() and index > 0 and text[index - 1].islower():
            out += "_"
        out += char.upper()
    return out

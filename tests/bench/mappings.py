# SPDX-License-Identifier: GPL-3.0-or-later
"""What the memory of a process consists of, by what /proc/PID/smaps says of each mapping.

The kernel has no names for anonymous memory. What it is for is told by how the C library makes it: a
stack lies above a page that nobody may touch, the further heaps of malloc() begin at multiples of 64 MB.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

GUARD_BYTES = 64 << 10  # at most
BSS_BYTES = 512 << 10  # at most; what is larger and touches a library is a neighbour
ARENA_BYTES = 64 << 20  # HEAP_MAX_SIZE of glibc on 64 bits
LIBPYTHON = re.compile(r"libpython3|/python3\.\d+$")
OURS = re.compile(r"OrthancPythonBridge|orthanc-python-|/worker/|/libexec/orthanc-python-bridge/")
PYTHON_MODULES = re.compile(r"/python3[./].*\.so$")


class Mapping(NamedTuple):
    begin: int
    end: int
    permissions: str
    name: str  # a path, [heap], [stack], or nothing
    pss_kb: float
    private_kb: float


def parse(smaps):
    """[Mapping] of the text of /proc/PID/smaps."""
    found, head, values = [], None, {}
    for line in [*smaps.splitlines(), "0-0 end"]:
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)(?: \S+ \S+ \S+ *(.*))?$", line)
        if match is None:
            words = line.split()
            values[words[0]] = int(words[1]) if len(words) > 2 and words[2] == "kB" else 0
            continue
        if head is not None:
            private = values.get("Private_Clean:", 0) + values.get("Private_Dirty:", 0)
            found.append(Mapping(*head, values.get("Pss:", 0), private))
        head, values = (int(match[1], 16), int(match[2], 16), match[3], match[4] or ""), {}
    return found


def kind(mapping, before):
    """What the mapping is for; before is the one below it, or None."""
    name = mapping.name.removesuffix(" (deleted)")
    if name.startswith(("/memfd:", "/dev/shm/", "/dev/zero", "/SYSV")):
        return "shared memory"
    if name == "[heap]":
        return "malloc"
    if name.startswith("[stack"):
        return "stacks"
    if name.startswith("/"):
        return _file(name)
    if name:
        return "of the kernel"
    return _anonymous(mapping, before)


def _file(name):
    if OURS.search(name):
        return "ours"
    if LIBPYTHON.search(name):
        return "libpython"
    if "/libOrthancPython.so" in name:
        return "official plugin"
    if name.endswith("/Orthanc"):
        return "Orthanc"
    if PYTHON_MODULES.search(name):
        return "modules of Python"
    return "libraries" if ".so" in name else "other files"


def _anonymous(mapping, before):
    touches = before is not None and before.end == mapping.begin
    if touches and before.name.startswith("/") and mapping.end - mapping.begin <= BSS_BYTES:
        return _file(before.name)  # what a library has not initialised (.bss)
    if touches and before.permissions.startswith("---") and before.end - before.begin <= GUARD_BYTES:
        return "stacks"
    if mapping.begin % ARENA_BYTES == 0:
        return "malloc"
    return "other memory"


def by_kind(found):
    """{kind: (PSS in kB, of it private in kB)}, the largest first."""
    sums, before = defaultdict(lambda: [0, 0]), None
    for mapping in found:
        entry = sums[kind(mapping, before)]
        entry[0] += mapping.pss_kb
        entry[1] += mapping.private_kb
        before = mapping
    return {name: tuple(sums[name]) for name in sorted(sums, key=lambda name: -sums[name][0])}


def of_process(pid):
    return parse(Path(f"/proc/{pid}/smaps").read_text())

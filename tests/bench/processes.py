# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes below one, and what they have: memory, descriptors, threads."""

import time
from pathlib import Path


def _children():
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue  # it has ended meanwhile
            found.setdefault(parent, []).append(int(entry.name))
    return found


def tree(root):
    """The process and all below it."""
    children, found, todo = _children(), [], [root]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def role(pid):
    """What the process is: orthanc, worker, zygote or host."""
    return role_of_program(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode())


def role_of_program(path):
    program = path.rsplit("/", 1)[-1]
    for name in ("worker", "zygote", "host"):
        if program == f"orthanc-python-{name}":
            return name
    return program.lower()


def cpu_seconds(pid):
    """What all threads of the process have used, those that have ended included (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


def sizes(pid):
    """What the kernel says, in bytes; nothing of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def pss_bytes(pid):
    """Proportional set size."""
    return sizes(pid).get("Pss", 0)


def own_bytes(pid):
    """The same without mapped files: a library counts for less while other servers have it as well, and for
    more when they end, which is no growth. And without what the kernel was told that it may take (MADV_FREE)."""
    found = sizes(pid)
    if "Pss_Anon" not in found:
        return found.get("Pss", 0)
    return max(0, found["Pss_Anon"] + found["Pss_Shmem"] - found.get("LazyFree", 0))


def memory_mb(*roots):
    """Of all processes below."""
    return sum(pss_bytes(pid) for root in roots for pid in tree(root)) / 1e6


def own_mb(root):
    return sum(own_bytes(pid) for pid in tree(root)) / 1e6


def settled_own_mb(root, limit_mb, seconds=10):
    """Own memory once it is below a limit, or what it is when time is up."""
    until = time.monotonic() + seconds
    while True:
        now = own_mb(root)
        if now <= limit_mb or time.monotonic() > until:
            return now
        time.sleep(0.2)  # the kernel tells nobody when memory is given back

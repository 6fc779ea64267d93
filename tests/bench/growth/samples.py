# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes hold at the end of each hour of tests/bench/soak, and whether that is flat."""

import os
import statistics
import time
from pathlib import Path

import processes

# Roles and how much more memory in MB they may have in the end, without mapped files (processes.own_bytes):
# what allocators and SQLite may keep of a million calls. A byte lost by each call would be 1 MB.
GROWTH_MB = {"orthanc": 12.0, "host": 3.0, "worker": 0.5, "zygote": 0.5}
EXACT = ("descriptors", "threads", "processes")
STEADY_SECONDS, GIVE_UP_SECONDS = 0.4, 10


def _look(root):
    """{role: {what: number}} of all processes below the root."""
    found = {}
    for pid in processes.tree(root):
        try:
            role = processes.role(pid)
            numbers = {
                "processes": 1, "descriptors": len(os.listdir(f"/proc/{pid}/fd")), "threads": len(os.listdir(f"/proc/{pid}/task")),
                "memory": processes.own_bytes(pid) / 1e6, "pss": processes.pss_bytes(pid) / 1e6,
            }  # fmt: skip
        except OSError:
            continue  # it has ended meanwhile
        sums = found.setdefault(role, dict.fromkeys(numbers, 0))
        for name, value in numbers.items():
            sums[name] += value
    return found


def _counted(look):
    return {role: {name: numbers[name] for name in EXACT} for role, numbers in look.items()}


def take(root):
    """Once descriptors and threads do not change any more: connections end a little later."""
    until, before, since = time.monotonic() + GIVE_UP_SECONDS, None, 0.0
    while True:
        now = _look(root)
        if _counted(now) != before:
            before, since = _counted(now), time.monotonic()
        if time.monotonic() - since > STEADY_SECONDS or time.monotonic() > until:
            return now
        time.sleep(0.1)


def log_bytes(path):
    return Path(path).stat().st_size


def _middle(values):
    third = max(1, len(values) // 3)
    return statistics.median(values[:third]), statistics.median(values[-third:])


def verdicts(samples):
    """(text, is_good) of each role. After the first quarter all must be flat; hosts, which are new until then,
    after another one."""
    found = []
    for role in sorted({role for sample in samples for role in sample}):
        first = len(samples) // 2 if role == "host" else len(samples) // 4
        rows = [sample.get(role, dict.fromkeys((*EXACT, "memory"), 0)) for sample in samples[first:]]
        for name in EXACT:
            values = sorted({row[name] for row in rows})
            seen = " or ".join(map(str, values))
            found.append((f"{role}: {name} {seen} at the end of each hour from {first + 1} on; allowed: no change",
                          len(values) == 1))  # fmt: skip
        before, after = _middle([row["memory"] for row in rows])
        limit = GROWTH_MB.get(role, 1.0)
        found.append((f"{role}: memory {before:.1f} MB, in the end {after:.1f} MB (medians of the first and last third "
                      f"from hour {first + 1} on); allowed: {limit:g} MB more", after - before <= limit))  # fmt: skip
    objects = sorted({sample["host"]["objects"] for sample in samples})
    found.append((f"objects of Orthanc's that hosts hold at the end of an hour: {', '.join(map(str, objects))}; "
                  "allowed: 0", objects == [0]))  # fmt: skip
    return found

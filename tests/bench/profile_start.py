# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests/bench/profile shows of rows without a load: start-up to the first answer, and memory.

Each function starts a server of its own, and stops it. {"zygote: execve": count}, from the start
of Orthanc until the script has answered.
"""

import os
import re
import signal
import time
from collections import defaultdict
from pathlib import Path

import mappings
import processes
import profile_looks
from server import running, stopped_together

TRACER_SECONDS = 60
ENDED = "has ended meanwhile"  # threads and processes that were there before the first answer only


def _by_role(server):
    """[(role, pid)] of all processes."""
    return [(processes.role(pid), pid) for pid in processes.tree(server.process.pid)]


# -- start-up --------------------------------------------------------------------------


def startup_costs(server, directory):
    figures, sums = {}, defaultdict(float)
    with stopped_together() as servers:
        servers.append(server)
        figures["wall us"] = server.start() * 1e6
        for role, pid in _by_role(server):
            for cost, value in profile_looks.costs_of(pid).items():
                figures[f"{role}: {cost}"] = figures.get(f"{role}: {cost}", 0) + value
                sums[f"all: {cost}"] += value
            ended = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            sums[f"page faults of what {ENDED}"] += int(ended[8]) + int(ended[10])
            sums[f"cpu us of what {ENDED}"] += (int(ended[13]) + int(ended[14])) * 1e6 / profile_looks.CLOCK_TICKS
    return {**figures, **sums}


def count_calls(lines):
    """{thread: {system call: count}} of the lines of strace -f -o."""
    counts = defaultdict(lambda: defaultdict(int))
    for line in lines:
        match = re.match(r"(\d+) +([a-z_0-9]+)\(", line)  # neither resumed nor a signal
        if match:
            counts[int(match[1])][match[2]] += 1
    return counts


def _end_of_trace(server):
    """Lets strace write what it has, and leave."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    tracer = int(re.search(r"TracerPid:\s+(\d+)", status)[1])
    os.kill(tracer, signal.SIGTERM)
    until = time.monotonic() + TRACER_SECONDS
    while Path(f"/proc/{tracer}").exists():
        if time.monotonic() > until:
            raise RuntimeError("strace does not end")
        time.sleep(0.01)  # it is not our child: nobody tells


def startup_calls(server, directory):
    """A log of each call, since a summary does not say of which process they are."""
    log = Path(directory) / "strace"
    profile_looks.under(directory, f"strace -D -I waiting -f -qq -e signal=none -s 0 -o {log}")
    with running(server):
        roles = {int(task.name): role for role, pid in _by_role(server) for task in Path(f"/proc/{pid}/task").iterdir()}
        _end_of_trace(server)
    figures = defaultdict(float)
    with log.open(errors="replace") as lines:
        for thread, counts in count_calls(lines).items():
            role = roles.get(thread, ENDED)
            for call, count in counts.items():
                figures[f"{role}: {call}"] += count
                figures[f"{role}: total"] += count
                figures["all: total"] += count
    return {name: count for name, count in figures.items() if count >= 20}


def apart(zygote_and_forks):
    """(of the zygote, of its forks) {library: instructions}: a fork goes on counting from what its parent had.

    The zygote is the one that has counted least: it forks when it has Python ready, and then waits.
    """
    zygote, *forks = sorted(zygote_and_forks, key=lambda counts: counts["all"])
    own = defaultdict(int)
    for counts in forks:
        for library, count in counts.items():
            own[library] += max(0, count - zygote.get(library, 0))
    return zygote, dict(own)


def startup_instructions(server, directory):
    """Also keeps the files for callgrind_annotate."""
    profile_looks.under_valgrind(directory)
    by_role, forked = defaultdict(lambda: defaultdict(int)), []
    with running(server):
        for pid in processes.tree(server.process.pid):
            profile_looks.dump(server, pid)
        for path in sorted(server.directory.glob("callgrind.*")):
            command = re.search(r"^cmd: *(.*)", path.read_text(errors="replace"), re.MULTILINE)
            if command is None:
                continue  # of a process whose counts are in its dump
            role = processes.role_of_program(command[1].split()[0])
            counts = profile_looks.annotate(path)
            profile_looks.keep(path, f"{server.label}-{role}-{path.name}")
            if "--zygote-fd" in command[1]:
                forked.append(counts)
                continue
            for library, count in counts.items():
                by_role[role][library] += count
    if forked:
        by_role["zygote"], by_role["host"] = apart(forked)
    figures = {f"{role}: {library}": count for role, counts in by_role.items() for library, count in counts.items()}
    figures["all: all"] = sum(counts["all"] for counts in by_role.values())
    return {name: count for name, count in figures.items() if count >= 100000}


# -- memory ----------------------------------------------------------------------------


def memory(server, directory):
    """PSS in kB before any load, and what of it no other process has."""
    figures, sums = {}, defaultdict(float)
    with running(server):
        for role, pid in _by_role(server):
            kinds = mappings.by_kind(mappings.of_process(pid))
            for kind, (pss, private) in kinds.items():
                figures[f"{role}: {kind}"] = figures.get(f"{role}: {kind}", 0) + pss
                for name in (role, "all"):
                    sums[f"{name}: total"] += pss
                    sums[f"{name}: total, private"] += private
                sums[f"all: {kind}"] += pss
    return {name: value for name, value in {**figures, **sums}.items() if value >= 8}


# name: (unit, {how: function})
STARTS = {
    "startup": ("start-up to first answer", {"costs": startup_costs, "calls": startup_calls,
                                             "instructions": startup_instructions}),
    "memory": ("server before any load, kB", {"costs": memory}),
}  # fmt: skip

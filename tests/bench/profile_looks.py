# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways in which tests/bench/profile looks at a server while it does something.

Each is a function of a server, its row, and the row's material: it lets the row run and gives
{"host: futex": a count per call}.
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import processes
import profile_cores
import server as bench_server

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
VALGRIND_SECONDS = 300  # for a server to start under it
# Entered before the counting began, so that callgrind takes all inside of them for their own.
OUTERMOST = re.compile(r":(clone|start_thread|\(below main\)|main|__libc_start_main@@GLIBC_2\.34)$"
                       r"|:0x[0-9a-f]+ \[.*/libboost_thread\.")  # how boost starts a thread has no name


class Done(NamedTuple):
    """What a row did: how many calls, figures that it has itself, and {thread: name} whose waits matter."""

    calls: int
    figures: dict = {}
    threads: dict = {}


def participants(server):
    """{"Orthanc": [pid], "host": [pids]}, hosts where there are some."""
    found = {"Orthanc": [server.process.pid]}
    for pid in processes.tree(server.process.pid)[1:]:
        # of all processes only a host has threads for lanes; under valgrind its name says nothing
        names = {(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()}
        if any(name.startswith("lane-") for name in names):
            found.setdefault("host", []).append(pid)
    return found


# -- time, faults, sleeps --------------------------------------------------------------


def costs_of(pid):
    """What the process has cost since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    costs = {
        "cpu us": processes.cpu_seconds(pid) * 1e6,
        "of it in the kernel us": int(fields[12]) * 1e6 / CLOCK_TICKS,
        "waited for a core us": 0.0,
        "page faults": int(fields[7]) + int(fields[9]),
        "sleeps": 0,
        "preemptions": 0,
    }
    for task in Path(f"/proc/{pid}/task").iterdir():
        costs["waited for a core us"] += int((task / "schedstat").read_text().split()[1]) / 1e3
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary"):
                costs["sleeps"] += int(line.split()[1])
            elif line.startswith("nonvoluntary"):
                costs["preemptions"] += int(line.split()[1])
    return costs


def costs_of_all(found):
    """{"host: sleeps": ...}, hosts together."""
    sums = defaultdict(float)
    for name, pids in found.items():
        for pid in pids:
            for cost, value in costs_of(pid).items():
                sums[f"{name}: {cost}"] += value
    return sums


def look_at_costs(server, row, material):
    with row.ready(server, material) as run:
        found = participants(server)
        before, begin = costs_of_all(found), time.perf_counter()
        done = run()
        figures = {"wall us": (time.perf_counter() - begin) * 1e6 / done.calls}
        for name, value in costs_of_all(found).items():
            figures[name] = (value - before[name]) / done.calls
    return {**figures, **done.figures}


# -- system calls ----------------------------------------------------------------------


def _attach(output, pid):
    tracer = subprocess.Popen(
        ["strace", "-f", "-c", "-U", "name,calls,errors", "-o", output, "-p", str(pid)],
        stderr=subprocess.PIPE, text=True)  # fmt: skip
    while "attached" not in tracer.stderr.readline():
        if tracer.poll() is not None:
            raise RuntimeError("strace cannot attach")
    return tracer


def look_at_calls(server, row, material):
    tracers, counts = [], defaultdict(int)
    with row.ready(server, material) as run:
        for name, pids in participants(server).items():
            for pid in pids:
                output = server.directory / f"strace-{pid}"
                tracers.append((name, output, _attach(output, pid)))
        done = run()
        for name, output, tracer in tracers:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
            for call, count in parse_summary(output.read_text()).items():
                counts[f"{name}: {call}"] += count
    return {name: count / done.calls for name, count in counts.items() if count >= done.calls / 20}


def parse_summary(text):
    """{system call: count} of strace -c, "total" among them."""
    counts = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].isdigit():
            counts[words[0]] = int(words[1])
    return counts


# -- instructions ----------------------------------------------------------------------


def under(directory, command):
    """From here on a server is started by this command, which execs Orthanc with its arguments."""
    tools = Path(directory) / "bin"
    tools.mkdir(exist_ok=True)
    orthanc = bench_server.which_orthanc()
    (tools / "Orthanc").write_text(f'#!/bin/sh\nhere=$(dirname "$1")\nexec {command} {orthanc} "$@"\n')
    (tools / "Orthanc").chmod(0o755)
    bench_server.ENVIRONMENT["PATH"] = f"{tools}:{os.environ['PATH']}"


def under_valgrind(directory):
    """The counts of process N are written to callgrind.N, beside the configuration."""
    under(directory, "valgrind --tool=callgrind --trace-children=yes --fair-sched=yes --separate-threads=no "
                     '--callgrind-out-file="$here/callgrind.%p"')  # fmt: skip
    bench_server.START_SECONDS = VALGRIND_SECONDS


def parse_annotation(text):
    """{library: instructions} of callgrind_annotate, "all" among them."""
    counts = defaultdict(int)
    for line in text.splitlines():
        match = re.match(r" *([\d,]+) \([^)]*\) +((.*?)(?: \[([^\]]*)\])?)$", line)
        if not match:
            continue
        count = int(match[1].replace(",", ""))
        if match[3] == "PROGRAM TOTALS":
            counts["all"] = count
        elif match[4] and not OUTERMOST.search(match[3]) and not OUTERMOST.search(match[2]):
            counts[Path(match[4]).name] += count
    return counts


def annotate(path):
    lines = subprocess.run(["callgrind_annotate", "--threshold=100", path], capture_output=True, text=True)
    return parse_annotation(lines.stdout)


def dump(server, pid):
    """The file with what was counted since the last time."""
    seen = set(server.directory.glob(f"callgrind.{pid}*"))
    subprocess.run(["callgrind_control", "-d", str(pid)], check=True, capture_output=True)
    # the other new one has what ended with the zeroing
    return max(set(server.directory.glob(f"callgrind.{pid}*")) - seen, key=lambda path: path.stat().st_size)


def keep(path, name):
    kept = Path(tempfile.gettempdir()) / f"{name}.callgrind"
    kept.write_bytes(path.read_bytes())
    print(f"  for callgrind_annotate: {kept}")


def look_at_instructions(server, row, material):
    """Also keeps the files for callgrind_annotate."""
    with row.ready(server, material) as run:
        run()
    figures = defaultdict(float)
    with row.ready(server, material) as run:
        found = participants(server)
        for pid in (pid for pids in found.values() for pid in pids):
            subprocess.run(["callgrind_control", "-z", str(pid)], check=True, capture_output=True)
        done = run()
        dumps = [(name, pid, dump(server, pid)) for name, pids in found.items() for pid in pids]
    for name, pid, path in dumps:
        for library, count in annotate(path).items():
            figures[f"{name}: {library}"] += count / done.calls
        keep(path, f"{server.label}-{name}-{pid}")
    return {name: count for name, count in figures.items() if count >= 10}


LOOKS = {"costs": look_at_costs, "calls": look_at_calls, "instructions": look_at_instructions,
         "cores": profile_cores.look}  # fmt: skip

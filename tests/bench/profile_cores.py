# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/bench/profile --how cores: who had the core while a thread waited for one.

perf records when each thread is woken and when a core changes from one to another, for the whole
machine. A wait that other programs had no part in says what a quiet machine would do.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import processes

EVENTS = "sched:sched_switch,sched:sched_wakeup"
SWITCH = re.compile(r"\[(\d+)\] +([\d.]+): sched:sched_switch: .*prev_pid=(\d+) .*prev_state=(\S).*next_pid=(\d+) ")
WAKEUP = re.compile(r"\[\d+\] +([\d.]+): sched:sched_wakeup: .*pid=(\d+) ")
OTHERS = "other programs"
LONG_US = 500
RECORDER_SECONDS = 60


class Wait(NamedTuple):
    us: float
    had_the_core: dict  # {thread: us}


def waits_of(threads, lines):
    """[Wait] of these threads, by the text of perf script: from when one could run to when it did."""
    found, since, turns = [], {}, defaultdict(list)  # of each core: [(when, thread)]
    for line in lines:
        woken = WAKEUP.search(line)
        if woken and int(woken[2]) in threads:
            since.setdefault(int(woken[2]), float(woken[1]))
        switch = SWITCH.search(line)
        if not switch:
            continue
        core, now, before, after = switch[1], float(switch[2]), int(switch[3]), int(switch[5])
        if after in since:
            found.append(_wait(since.pop(after), now, turns[core]))
        if before in threads and switch[4] == "R":
            since[before] = now  # it could go on
        turns[core].append((now, after))
    return found


def _wait(begin, end, turns):
    had, until = defaultdict(float), end
    for when, thread in reversed(turns):
        had[thread] += (until - max(begin, when)) * 1e6
        until = when
        if when <= begin:
            break
    return Wait((end - begin) * 1e6, dict(had))


def summary(waits, role_of, calls):
    """{name: us per call, by who had the core; how many waits were long, with and without others}."""
    undisturbed = [wait for wait in waits if all(role_of(thread) != OTHERS for thread in wait.had_the_core)]
    figures = defaultdict(float)
    figures["waits"] = len(waits) / calls
    figures["waits without other programs"] = len(undisturbed) / calls
    for title, part in (("", waits), ("without other programs, ", undisturbed)):
        long = [wait for wait in part if wait.us > LONG_US]
        figures[f"{title}over {LONG_US} us, of 10 000 waits"] = len(long) * 1e4 / max(1, len(part))
        for wait in long:
            for thread, us in wait.had_the_core.items():
                figures[f"{title}over {LONG_US} us, had by {role_of(thread)}: us"] += us / calls
    return dict(figures)


@contextlib.contextmanager
def _recorded(path):
    """perf says when it records."""
    control, to_perf = os.pipe()
    answer, from_perf = os.pipe()
    perf = subprocess.Popen(["perf", "record", "-q", "-a", "-D", "-1", f"--control=fd:{control},{from_perf}",
                             "-e", EVENTS, "-o", path], pass_fds=(control, from_perf),
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    os.close(control)
    os.close(from_perf)
    try:
        os.write(to_perf, b"enable\n")
        if not os.read(answer, 16):
            raise RuntimeError("perf cannot record: see perf_event_paranoid")
        yield
    finally:
        perf.send_signal(signal.SIGINT)
        perf.wait(RECORDER_SECONDS)
        os.close(to_perf)
        os.close(answer)


def _roles(server):
    roles = {0: "nobody"}
    for pid in processes.tree(server.process.pid):
        roles.update({int(task.name): processes.role(pid) for task in Path(f"/proc/{pid}/task").iterdir()})
    return roles


def look(server, row, material):
    """Of the threads that the row names, or all of Orthanc's."""
    path = server.directory / "perf.data"
    with row.ready(server, material) as run:
        with _recorded(path):
            done = run()
        roles = _roles(server)
    threads = done.threads or {thread: role for thread, role in roles.items() if role == "orthanc"}
    roles.update(threads)
    text = subprocess.run(["perf", "script", "-i", path], check=True, capture_output=True, text=True).stdout
    path.unlink()
    return summary(waits_of(threads, text.splitlines()), lambda thread: roles.get(thread, OTHERS), done.calls)

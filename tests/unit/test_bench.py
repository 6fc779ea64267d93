# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark and its profile make of figures (tests/bench), without servers. Run by ctest."""

from __future__ import annotations

import json
import os
import sys
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
PAGE = ROOT / "docs" / "performance.md"

sys.dont_write_bytecode = True
sys.path.insert(0, str(BENCH))

import mappings  # noqa: E402
import processes  # noqa: E402
import profile_cores  # noqa: E402
import profile_looks  # noqa: E402
import profile_native  # noqa: E402
import profile_rows  # noqa: E402
import profile_start  # noqa: E402
import report  # noqa: E402
import targets  # noqa: E402

RATE = "REST trivial, 16 clients, rate"  # target 1, stretch 1.3
P50 = "REST trivial, 1 client, p50"  # target 0.8, stretch 1
RELOAD = "reload with heavy preloaded imports, longest wait"  # 50 ms, 10 ms


def pair(name: str, ratio: float) -> dict:
    return {"name": name, "unit": "1/s", "better": "more", "official": 100.0, "ours": 100.0 * ratio,
            "ratio": ratio, "ratios": [ratio]}  # fmt: skip


def absolute(name: str, value: float) -> dict:
    return {"name": name, "unit": "ms", "ours": value, "values": [value]}


class Summaries(unittest.TestCase):
    def test_ratios_are_medians_of_pairs_and_above_1_is_better(self) -> None:
        official = [{P50: ("us", value, "less"), RATE: ("1/s", value, "more")} for value in (10, 20, 60)]
        ours = [{P50: ("us", value, "less"), RATE: ("1/s", value, "more")} for value in (20, 20, 20)]
        p50, rate = report.summarize(list(zip(official, ours)), [])
        self.assertEqual((p50["official"], p50["ours"], p50["ratio"]), (20, 20, 1))
        self.assertEqual(p50["ratios"], [0.5, 1, 3])
        self.assertEqual(rate["ratios"], [2, 1, 1 / 3])

    def test_absolute_rows_are_medians_and_have_no_ratio(self) -> None:
        (row,) = report.summarize([], [{RELOAD: ("ms", value)} for value in (9, 1, 5)])
        self.assertEqual((row["name"], row["unit"], row["ours"]), (RELOAD, "ms", 5))
        self.assertTrue(report.is_absolute(row))


class Verdicts(unittest.TestCase):
    def test_a_ratio_reaches_its_target_from_above(self) -> None:
        said = [report.verdict(pair(P50, ratio)) for ratio in (0.79, 0.8, 0.99, 1.0)]
        self.assertEqual(said, ["missed", "met", "met", "stretch"])

    def test_an_absolute_figure_reaches_its_target_from_below(self) -> None:
        said = [report.verdict(absolute(RELOAD, value)) for value in (50.1, 50, 10.1, 10)]
        self.assertEqual(said, ["missed", "met", "met", "stretch"])

    def test_it_is_about_the_figure_that_is_printed(self) -> None:
        self.assertEqual(report.verdict(pair(RATE, 0.996)), "met")
        self.assertEqual(report.verdict(absolute(RELOAD, 50.04)), "met")

    def test_a_row_without_a_target_has_none(self) -> None:
        self.assertEqual(report.verdict(pair("another", 0.01)), "")

    def test_a_target_without_a_row_is_named(self) -> None:
        rows = [pair(name, 1) for name in targets.RATIOS if name != RATE]
        rows += [absolute(name, 1) for name in targets.ABSOLUTES if name != RELOAD]
        self.assertEqual(report.unmeasured(rows), [RATE, RELOAD])
        self.assertEqual(report.unmeasured([*rows, absolute(RATE, 1), absolute(RELOAD, 1)]), [RATE])

    def test_more_than_15_times_worse_is_named(self) -> None:
        rows = [pair("a", 0.066), pair("b", 0.067), absolute(RELOAD, 1e9)]
        self.assertEqual(report.far_worse(rows), ["a"])


class Gate(unittest.TestCase):
    def test_a_ratio_may_fall_by_20_percent_and_no_further(self) -> None:
        self.assertEqual(report.regressions([pair("a", 0.80)], [pair("a", 1.0)]), [])
        self.assertEqual(report.regressions([pair("a", 0.79)], [pair("a", 1.0)]),
                         ["a: recorded ratio 1.00, measured 0.79"])  # fmt: skip

    def test_a_scattered_row_may_fall_by_20_percent_below_its_lowest_round(self) -> None:
        (name,) = targets.SCATTERED
        recorded = [{**pair(name, 1.0), "ratios": [0.5, 1.0, 3.0]}]
        self.assertEqual(report.regressions([pair(name, 0.40)], recorded), [])
        self.assertEqual(len(report.regressions([pair(name, 0.39)], recorded)), 1)

    def test_it_does_not_matter_what_the_target_is(self) -> None:
        self.assertEqual(len(report.regressions([pair(RATE, 1.5)], [pair(RATE, 2.0)])), 1)

    def test_an_absolute_figure_must_be_worse_and_beyond_its_target(self) -> None:
        self.assertEqual(report.regressions([absolute(RELOAD, 49)], [absolute(RELOAD, 2)]), [])
        self.assertEqual(report.regressions([absolute(RELOAD, 60)], [absolute(RELOAD, 55)]), [])
        self.assertEqual(report.regressions([absolute(RELOAD, 51)], [absolute(RELOAD, 2)]),
                         [RELOAD + ": recorded 2.0 ms, measured 51.0 ms"])  # fmt: skip

    def test_an_absolute_figure_below_zero_is_a_good_one(self) -> None:
        memory = "memory over the official plugin's (PSS), 1 host"
        self.assertEqual(report.regressions([absolute(memory, 1)], [absolute(memory, -3)]), [])

    def test_a_recorded_row_that_is_gone_is_named(self) -> None:
        self.assertEqual(report.regressions([], [pair("a", 1.0)]), ["a: recorded, and not measured"])

    def test_a_row_that_is_not_recorded_yet_is_none(self) -> None:
        self.assertEqual(report.regressions([pair("a", 0.1)], []), [])


class Tables(unittest.TestCase):
    ROWS = [pair(RATE, 1.25), pair("another", 2), absolute(RELOAD, 60)]

    def test_the_page_shows_figures_targets_and_verdicts(self) -> None:
        record = {"date": "2026-01-02", "command": "c --record", "machine": "m", "versions": "v", "rows": self.ROWS}
        self.assertEqual(report.page_table(record).splitlines(), [
            "Recorded on 2026-01-02 by `c --record` on m; v.",
            "",
            "| row | official | ours | ratio | target | stretch | verdict |",
            "|---|---:|---:|---:|---:|---:|---|",
            f"| {RATE} | 100 1/s | 125 1/s | 1.25 | 1 | 1.3 | met |",
            "| another | 100 1/s | 200 1/s | 2.00 |  |  |  |",
            f"| {RELOAD} |  | 60.0 ms |  | 50 ms | 10 ms | missed |",
        ])  # fmt: skip

    def test_of_several_rounds_the_range_is_shown(self) -> None:
        official, ours = {RATE: ("1/s", 100, "more")}, [{RATE: ("1/s", value, "more")} for value in (90, 150)]
        rows = report.summarize([(official, ours[0]), (official, ours[1])], [{RELOAD: ("ms", 3)}, {RELOAD: ("ms", 8)}])
        table = report.text_table(rows)
        self.assertIn("1.20 (0.90 to 1.50)", table)
        self.assertIn("5.5 ms (3.0 to 8.0)", table)

    def test_the_terminal_shows_the_same_in_columns(self) -> None:
        lines = report.text_table(self.ROWS).splitlines()
        column = lines[0].index("verdict")
        self.assertEqual([line[column:] for line in lines], ["verdict", "met", "", "missed"])

    def test_only_what_is_between_the_comments_is_replaced(self) -> None:
        page = f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n"
        new = report.with_table(page, "new")
        self.assertEqual(new, f"before\n\n{report.BEGIN}\nnew\n{report.END}\n\nafter\n")
        self.assertEqual(report.between_markers(new), "new")

    def test_a_page_without_its_comments_is_refused(self) -> None:
        for page in ("", report.BEGIN, report.END + report.BEGIN, 2 * (report.BEGIN + report.END)):
            with self.assertRaises(ValueError):
                report.with_table(page, "new")


SMAPS = """\
55b58e5da000-55b58e5fb000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
Rss:                 100 kB
Pss:                  76 kB
Private_Clean:         4 kB
Private_Dirty:        60 kB
THPeligible:           0
VmFlags: rd wr mr mw me ac
7f4820000000-7f4820021000 rw-p 00000000 00:00 0
Pss:                  12 kB
7f4830000000-7f4830001000 ---p 00000000 00:00 0
Pss:                   0 kB
7f4830001000-7f4830801000 rw-p 00000000 00:00 0
Pss:                   8 kB
7f481fe23000-7f481ff61000 rw-p 00622000 fe:00 4711     /usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0
Pss:                1272 kB
7f481ff61000-7f481ff71000 rw-p 00000000 00:00 0
Pss:                  40 kB
7f4900000000-7f4900100000 rw-p 00622000 fe:00 4713     /usr/lib/x86_64-linux-gnu/libm.so.6
Pss:                   4 kB
7f4900100000-7f4900200000 rw-p 00000000 00:00 0
Pss:                 696 kB
7f4900200000-7f4900300000 rw-s 00000000 00:01 4712     /memfd:ring (deleted)
Pss:                   6 kB
"""


class Profile(unittest.TestCase):
    """tests/bench/profile."""

    def test_every_row_of_the_benchmark_has_a_script_that_exists(self) -> None:
        for row in profile_rows.ROWS.values():
            self.assertTrue((BENCH / row.script).exists(), row.script)

    def test_no_row_is_a_load_and_a_start(self) -> None:
        self.assertEqual(profile_rows.ROWS.keys() & profile_start.STARTS.keys(), set())

    def test_the_summary_of_strace_is_read_with_its_total_and_without_its_lines(self) -> None:
        text = ("syscall               calls    errors\n"
                "---------------- --------- ---------\n"
                "futex                 1847       243\n"
                "poll                   318\n"
                "---------------- --------- ---------\n"
                "total                 2165       243\n")  # fmt: skip
        self.assertEqual(profile_looks.parse_summary(text), {"futex": 1847, "poll": 318, "total": 2165})

    def test_the_log_of_strace_is_counted_by_thread_and_each_call_once(self) -> None:
        counts = profile_start.count_calls([
            '12 openat(AT_FDCWD, "/etc", O_RDONLY) = 3',
            "12 read(3,  <unfinished ...>",
            "7  read(4, ""..., 10) = 0",
            "12 <... read resumed>""..., 512) = 0",
            "7  +++ exited with 0 +++",
            "7  --- SIGCHLD {si_signo=SIGCHLD} ---",
        ])  # fmt: skip
        self.assertEqual(counts, {12: {"openat": 1, "read": 1}, 7: {"read": 1}})

    def test_instructions_are_summed_by_library_but_for_what_surrounds_the_counting(self) -> None:
        text = ("1,000 (100.0%)  PROGRAM TOTALS\n"
                "  300 (30.0%)  ./a.c:f [/usr/lib/libc.so.6]\n"
                "1,200 (12.0%)  ./b.c:g'2 [/usr/lib/libc.so.6]\n"
                "   50 ( 5.0%)  ./c.c:start_thread [/usr/lib/libc.so.6]\n"
                "    7 ( 0.7%)  ???:0x1234 [/opt/x.so]\n"
                "  900 (90.0%)  ???:0x000000000000baa0 [/usr/lib/libboost_thread.so.1.74.0]\n"
                "    2 ( 0.2%)  ???:boost::f(int) [/usr/lib/libboost_thread.so.1.74.0]\n"
                "    9 ( 0.9%)  ./d.c:h\n")  # fmt: skip
        self.assertEqual(profile_looks.parse_annotation(text), {
            "all": 1000, "libc.so.6": 1500, "x.so": 7, "libboost_thread.so.1.74.0": 2,
        })

    def test_a_fork_is_not_charged_with_what_its_parent_had_counted(self) -> None:
        zygote, middle, host = {"all": 50, "libc": 10}, {"all": 51, "libc": 10}, {"all": 70, "libc": 12, "x.so": 3}
        self.assertEqual(profile_start.apart([host, zygote, middle]), (zygote, {"all": 21, "libc": 2, "x.so": 3}))

    def test_the_counters_of_a_thread_are_compared(self) -> None:
        before = profile_native.parse_schedule("1000 200 3\n")
        self.assertEqual(profile_native.parse_schedule("1500 900 5\n") - before, (500, 700, 2))

    def test_an_answer_is_whole_when_its_body_is(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
        said = [profile_native.is_whole(text) for text in (b"", head[:-2], head, head + b"ab", head + b"abc")]
        self.assertEqual(said, [False, False, False, False, True])
        self.assertFalse(profile_native.is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"))

    def test_the_slowest_hundredth_is_shown_apart(self) -> None:
        fast = [profile_native.Request(10, 4, 0, 5, 0, 1)] * 99
        slow = profile_native.Request(1000, 4, 300, 5, 600, 2)
        figures = profile_native.summary([slow, *fast], 2)
        self.assertEqual((figures["p50 us"], figures["p99 us"]), (10, 1000))
        self.assertEqual((figures["requests per second"], figures["of them over 500 us"]), (50, 0.5))
        self.assertEqual(figures["slowest 1 %: orthanc waited us"], 600)
        self.assertEqual(figures["slowest 1 %: turns"], 2)
        self.assertEqual(figures["slowest 1 %: rest us"], 91)

    def test_cpu_time_is_that_of_the_process(self) -> None:
        before = processes.cpu_seconds(os.getpid())
        sum(range(1000000))
        after = processes.cpu_seconds(os.getpid())
        self.assertAlmostEqual(after, time.process_time(), delta=0.1)
        self.assertGreater(after, before)


def switch(core: int, when: float, before: int, state: str, after: int) -> str:
    return (f" x {before} [{core:03}] {when:.6f}: sched:sched_switch: prev_comm=a b prev_pid={before} prev_prio=120 "
            f"prev_state={state} ==> next_comm=c next_pid={after} next_prio=120")  # fmt: skip


def wakeup(when: float, thread: int) -> str:
    return f" x 1 [000] {when:.6f}: sched:sched_wakeup: comm=a b pid={thread} prio=120 target_cpu=001"


class Cores(unittest.TestCase):
    """Thread 7 waits; 20 is the host's, 99 another program's."""

    def roles(self, thread: int) -> str:
        return {7: "client", 20: "host"}.get(thread, profile_cores.OTHERS)

    def check(self, lines: list[str], *expected: tuple[float, dict[int, float]]) -> list[profile_cores.Wait]:
        found = profile_cores.waits_of({7}, lines)
        self.assertEqual([(round(w.us), {t: round(us) for t, us in w.had_the_core.items()}) for w in found],
                         list(expected))  # fmt: skip
        return found

    def test_a_wait_lasts_from_the_wakeup_until_the_thread_has_a_core(self) -> None:
        self.check([switch(1, 1.0, 99, "S", 20), wakeup(1.001, 7), wakeup(1.002, 7), switch(1, 1.004, 20, "R", 7)],
                   (3000, {20: 3000}))  # fmt: skip

    def test_a_thread_that_is_preempted_waits_and_one_that_sleeps_does_not(self) -> None:
        self.check([switch(1, 1.0, 7, "R+", 20), switch(1, 1.002, 20, "S", 7), switch(1, 1.003, 7, "S", 99),
                    switch(1, 1.009, 99, "S", 7)], (2000, {20: 2000}))  # fmt: skip

    def test_only_the_core_counts_on_which_it_ran_at_last(self) -> None:
        self.check([switch(1, 1.0, 1, "S", 20), wakeup(1.001, 7), switch(1, 1.002, 20, "R", 30),
                    switch(0, 1.003, 1, "S", 99), switch(1, 1.004, 30, "S", 7)],
                   (3000, {30: 2000, 20: 1000}))  # fmt: skip

    def test_long_waits_are_summed_by_who_had_the_core_and_apart_where_no_other_program_had_it(self) -> None:
        waits = [profile_cores.Wait(1000, {20: 1000}), profile_cores.Wait(3000, {20: 1000, 99: 2000}),
                 profile_cores.Wait(100, {20: 100}), profile_cores.Wait(100, {99: 100})]  # fmt: skip
        figures = profile_cores.summary(waits, self.roles, 2)
        self.assertEqual(figures, {
            "waits": 2, "waits without other programs": 1,
            "over 500 us, of 10 000 waits": 5000, "over 500 us, had by host: us": 1000,
            "over 500 us, had by other programs: us": 1000,
            "without other programs, over 500 us, of 10 000 waits": 5000,
            "without other programs, over 500 us, had by host: us": 500,
        })  # fmt: skip


class Mappings(unittest.TestCase):
    def test_memory_is_told_apart_by_how_it_was_mapped(self) -> None:
        kinds = mappings.by_kind(mappings.parse(SMAPS))
        self.assertEqual(kinds, {
            "libpython": (1312, 0), "other memory": (696, 0), "malloc": (88, 64), "stacks": (8, 0),
            "shared memory": (6, 0), "libraries": (4, 0),
        })  # fmt: skip
        self.assertEqual(next(iter(kinds)), "libpython")

    def test_files_are_named_for_whose_they_are(self) -> None:
        def kind(name: str) -> str:
            return mappings.kind(mappings.Mapping(0, 1, "r-xp", name, 1, 1), None)

        self.assertEqual(kind("/usr/lib/orthanc/libOrthancPythonBridge.so"), "ours")
        self.assertEqual(kind("/usr/bin/orthanc-python-worker"), "ours")
        self.assertEqual(kind("/usr/share/orthanc/plugins/libOrthancPython.so.4.0"), "official plugin")
        self.assertEqual(kind("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0"), "libpython")
        self.assertEqual(kind("/usr/lib/python3.11/lib-dynload/_json.cpython-311.so"), "modules of Python")
        self.assertEqual(kind("/usr/sbin/Orthanc"), "Orthanc")
        self.assertEqual(kind("/usr/lib/x86_64-linux-gnu/libc.so.6"), "libraries")
        self.assertEqual(kind("/usr/lib/locale/locale-archive"), "other files")
        self.assertEqual(kind("[vdso]"), "of the kernel")

    def test_the_sum_is_what_the_kernel_says_of_the_process(self) -> None:
        whole = processes.sizes(os.getpid())["Pss"] / 1024
        self.assertAlmostEqual(sum(m.pss_kb for m in mappings.of_process(os.getpid())), whole, delta=0.1 * whole)


class Recorded(unittest.TestCase):
    """What is in the repository."""

    def test_the_page_shows_what_is_recorded(self) -> None:
        shown, path = report.between_markers(PAGE.read_text()), BENCH / "recorded.json"
        if path.exists():
            record = json.loads(path.read_text())
            self.assertEqual(shown, report.page_table(record), "written by hand? See tests/bench/run --record")
            self.assertEqual(report.unmeasured(record["rows"]), [])
        else:
            self.assertNotIn("Recorded on", shown)


if __name__ == "__main__":
    unittest.main()

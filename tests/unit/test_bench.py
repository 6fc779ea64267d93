# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark makes of its figures (tests/bench/report.py), without servers. Run by ctest."""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
PAGE = ROOT / "docs" / "performance.md"

sys.dont_write_bytecode = True
sys.path.insert(0, str(BENCH))

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

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the figures of a run mean: summaries, verdicts, the gate, and the tables.

Here:      nothing that starts, asks or waits; tests/unit/test_bench.py tests it without servers.
Elsewhere: where figures come from (rounds.py), what rows should reach (targets.py).

A row is a dictionary that JSON can hold: name, unit, ours; of a pair also better, official,
ratio and ratios. A row without a ratio is absolute, and less of it is better.
"""

import statistics

from targets import ABSOLUTES, RATIOS, SCATTERED

BEGIN = "<!-- written by tests/bench/run --record: begin -->"
END = "<!-- written by tests/bench/run --record: end -->"
WORST_RATIO = 1 / 15
TOLERANCE = 0.20  # how much worse than recorded a row may be


def summarize(pairs, absolutes):
    """Rows of [({name: (unit, value, better)} of the official plugin, the same of ours)] and of
    [{name: (unit, value)}]: medians of the figures, and of the ratios within each pair."""
    rows = []
    for name, (unit, _, better) in (pairs[0][0] if pairs else {}).items():
        official = [first[name][1] for first, _ in pairs]
        ours = [second[name][1] for _, second in pairs]
        ratios = [(o / u) if better == "less" else (u / o) for o, u in zip(official, ours)]
        rows.append({
            "name": name, "unit": unit, "better": better,
            "official": statistics.median(official), "ours": statistics.median(ours),
            "ratio": statistics.median(ratios), "ratios": ratios,
        })  # fmt: skip
    for name, (unit, _) in (absolutes[0] if absolutes else {}).items():
        values = [figures[name][1] for figures in absolutes]
        rows.append({"name": name, "unit": unit, "ours": statistics.median(values), "values": values})
    return rows


def is_absolute(row):
    return "ratio" not in row


def target_of(row):
    return (ABSOLUTES if is_absolute(row) else RATIOS).get(row["name"])


def verdict(row):
    """stretch, met or missed; nothing for a row without a target."""
    goal = target_of(row)
    if goal is None:
        return ""
    # As it is printed: 0.996 is 1.00, and so has reached 1.
    figure = -round(row["ours"], 1) if is_absolute(row) else round(row["ratio"], 2)
    sign = -1 if is_absolute(row) else 1
    if figure >= sign * goal.stretch:
        return "stretch"
    return "met" if figure >= sign * goal.target else "missed"


def unmeasured(rows):
    """Names of the rows that have a target and no figure."""
    names = [{row["name"] for row in rows if is_absolute(row) == kind} for kind in (False, True)]
    return [name for goals, found in zip((RATIOS, ABSOLUTES), names) for name in goals if name not in found]


def far_worse(rows):
    """Names of the rows that are more than 15 times worse, whatever was recorded."""
    return [row["name"] for row in rows if not is_absolute(row) and row["ratio"] < WORST_RATIO]


def regressions(rows, recorded):
    """[text] on each row that is worse than recorded: more than 20 %, and where it is absolute also
    beyond its target, as single milliseconds jitter; scattered ones than the lowest round. A recorded row that is gone counts too."""
    measured, found = {row["name"]: row for row in rows}, []
    for old in recorded:
        new = measured.get(old["name"])
        if new is None or is_absolute(new) != is_absolute(old):
            found.append(f"{old['name']}: recorded, and not measured")
        elif is_absolute(new):
            goal = target_of(new)
            limit = max(old["ours"] * (1 + TOLERANCE), goal.target if goal else 0)
            if new["ours"] > limit:
                found.append(f"{old['name']}: recorded {_absolute(old)}, measured {_absolute(new)}")
        elif new["ratio"] < _lowest_expected(old) * (1 - TOLERANCE):
            found.append(f"{old['name']}: recorded ratio {old['ratio']:.2f}, measured {new['ratio']:.2f}")
    return found


def _lowest_expected(recorded):
    return min(recorded["ratios"]) if recorded["name"] in SCATTERED else recorded["ratio"]


def _number(value):
    """Three digits, at most two of them behind the point."""
    return f"{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def _absolute(row):
    return f"{row['ours']:.1f} {row['unit']}"


def _range(values, digits):
    """What the rounds gave, lowest and highest: how far to believe the median."""
    if len(values) < 2:
        return ""
    return f" ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _cells(row):
    """name, official, ours, ratio or figure, target, stretch, verdict."""
    goal = target_of(row)
    if is_absolute(row):
        wanted = [f"{value:g} {row['unit']}" for value in goal] if goal else ["", ""]
        return [row["name"], "", _absolute(row) + _range(row["values"], 1), "", *wanted, verdict(row)]
    wanted = [f"{value:g}" for value in goal] if goal else ["", ""]
    return [row["name"], *(f"{_number(row[side])} {row['unit']}" for side in ("official", "ours")),
            f"{row['ratio']:.2f}" + _range(row["ratios"], 2), *wanted, verdict(row)]  # fmt: skip


HEADINGS = ["row", "official", "ours", "ratio", "target", "stretch", "verdict"]


def text_table(rows):
    """For a terminal."""
    lines = [HEADINGS] + [_cells(row) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.rjust(width) if 0 < column < 6 else cell.ljust(width)
                  for column, (cell, width) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    )  # fmt: skip


def page_table(record):
    """For docs/performance.md: what was recorded, when and where."""
    lines = [f"Recorded on {record['date']} by `{record['command']}` on {record['machine']}; {record['versions']}.", ""]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * 5 + "---|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in record["rows"]]
    return "\n".join(lines)


def between_markers(page):
    """What stands between the two comments of a page."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page needs one '{BEGIN}' and after it one '{END}'")
    return page[page.index(BEGIN) + len(BEGIN) : page.index(END)].strip("\n")


def with_table(page, table):
    """The page with another text between its two comments."""
    between_markers(page)
    return page[: page.index(BEGIN)] + f"{BEGIN}\n{table}\n" + page[page.index(END) :]

# SPDX-License-Identifier: GPL-3.0-or-later
"""A curve: how a cost grows with some number, and the verdict on it, which can fail."""

import os
from dataclasses import dataclass, field

NOISE = 2.0  # how many times the best earlier cost of a unit is still "no cliff"


@dataclass
class Series:
    """One line: what, in which unit, for which numbers."""

    label: str
    unit: str
    points: list = field(default_factory=list)  # (number, value)
    is_plotted: bool = True

    def add(self, number, value):
        self.points.append((number, value))

    def at(self, number):
        return dict(self.points)[number]

    def last(self):
        return self.points[-1]


@dataclass
class Curve:
    """name: of the option and the files; x: what grows; y: of the plot."""

    name: str
    title: str
    x: str
    y: str
    series: list = field(default_factory=list)
    checks: list = field(default_factory=list)  # (text, is_good)
    notes: list = field(default_factory=list)

    def line(self, label, unit, is_plotted=True):
        """The series of that label, made when it is asked for first."""
        for series in self.series:
            if series.label == label:
                return series
        self.series.append(Series(label, unit, is_plotted=is_plotted))
        return self.series[-1]

    def check(self, text, is_good):
        self.checks.append((text, bool(is_good)))

    def check_no_cliff(self, what, series, factor=NOISE, beside=None):
        """The cost of a unit at the largest number is near the best one of those before it. beside: the same
        of the official plugin; what grows there by half as much grows in Orthanc or in the kernel."""
        worst, largest, best, at = growth(series)
        if beside is not None:
            other_worst, _, other_best, _ = growth(beside)
            factor = max(factor, 1.5 * other_worst / other_best)
        self.check(
            f"{what}: {in_words(worst)} {series.unit} at {in_words(largest)}, {worst / best:.2f} times the best before it "
            f"({in_words(best)} at {in_words(at)}); allowed: {factor:.3g}",
            worst <= factor * best,
        )

    def failures(self):
        return [text for text, is_good in self.checks if not is_good]

    def to_json(self):
        return {
            "name": self.name, "title": self.title, "x": self.x, "y": self.y, "notes": self.notes,
            "series": [{"label": s.label, "unit": s.unit, "points": s.points} for s in self.series],
            "checks": [{"text": text, "passed": is_good} for text, is_good in self.checks],
        }  # fmt: skip


def growth(series):
    """(cost at the largest number, that number, the best cost before it, its number)."""
    costs = [(value, number) for number, value in series.points]
    return (*costs[-1], *min(costs[:-1]))


def in_words(number):
    """1000000 -> "1 000 000", 12.3456 -> "12.3"."""
    if number == int(number) or abs(number) >= 1000:
        return f"{number:,.0f}".replace(",", " ")
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.3g}"


def report(curve, out=print):
    """The points and the verdict, for a terminal."""
    out(f"\n{curve.title}")
    for series in curve.series:
        points = ", ".join(f"{in_words(number)}: {in_words(value)}" for number, value in series.points)
        out(f"  {series.label} [{series.unit}]  {points}")
    for note in curve.notes:
        out(f"  note: {note}")
    for text, is_good in curve.checks:
        out(f"  {'ok    ' if is_good else 'FAILED'} {text}")


def core_count():
    return len(os.sched_getaffinity(0))

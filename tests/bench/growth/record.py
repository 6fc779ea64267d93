# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what was measured: JSON beside the benchmark, plots and tables into the documentation.

Curves that were not measured this time stay as they are. The documentation has a place for each, between
two comments: <!-- curves --> and <!-- /curves -->, <!-- soak --> and <!-- /soak -->.
"""

import json
import time
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

from model import core_count, in_words  # noqa: E402

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "orthanc-python-bridge", "font.size": 9})
NAMES = {"pss": "memory"}
ORDER = ("clients", "hosts", "payload", "crowd", "nodes", "routes", "events")
COLORS = ("#1f6fb2", "#c8501e", "#3b8f4a", "#7b4fa3", "#8a6d1b", "#555555")


def _machine():
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    return f"{core_count()} cores ({model}), {memory:.0f} GB of memory"


def _save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    plt.close(figure)


def _replace(path, name, text):
    """What is between the comments of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise SystemExit(f"{path} has no place for the figures: {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _merge(path, content):
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**old, **content}, indent=1) + "\n")
    return {**old, **content}


# -- curves ----------------------------------------------------------------------------------------


def _plot(curve, path):
    figure, axes = plt.subplots(figsize=(6, 3.2))
    shown = [series for series in curve.series if series.is_plotted]
    for series, color in zip(shown, COLORS):
        numbers, values = zip(*series.points)
        is_other = series.label.endswith("official")
        axes.plot(numbers, values, marker="o", markersize=3, color=color, linestyle="--" if is_other else "-", label=series.label)
    numbers = sorted({number for series in shown for number, _ in series.points})
    if numbers[-1] > 100 * max(1, numbers[0]):
        axes.set_xscale("symlog" if numbers[0] == 0 else "log")
        axes.set_yscale("log")
    else:
        axes.set_xscale("log", base=2)
        axes.set_xticks(numbers, [in_words(number) for number in numbers])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
    axes.set_xlabel(curve.x)
    axes.set_ylabel(curve.y)
    axes.grid(True, linewidth=0.4)
    axes.legend(frameon=False)
    _save(figure, path)


def _table(curve):
    numbers = sorted({number for series in curve["series"] for number, _ in series["points"]})
    lines = [f"### {curve['title']}", "", f"![{curve['title']}](plots/{curve['name']}.svg)", "",
             f"| {curve['x']} | " + " | ".join(in_words(number) for number in numbers) + " |", "|---" * (len(numbers) + 1) + "|"]
    for series in curve["series"]:
        values = dict(map(tuple, series["points"]))
        cells = (in_words(values[number]) if number in values else "" for number in numbers)
        lines.append(f"| {series['label']}, {series['unit']} | " + " | ".join(cells) + " |")
    for note in curve["notes"]:
        lines += ["", f"{note[0].upper()}{note[1:]}."]
    lines.append("")
    lines += [f"- {'Passed' if check['passed'] else '**Failed**'}: {check['text']}." for check in curve["checks"]]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def curves(measured, repository):
    repository = Path(repository)
    for curve in measured:
        _plot(curve, repository / "docs" / "plots" / f"{curve.name}.svg")
    content = {curve.name: {**curve.to_json(), "date": time.strftime("%Y-%m-%d"), "machine": _machine()} for curve in measured}
    everything = _merge(repository / "tests/bench/curves.json", content)
    found = [everything[name] for name in ORDER if name in everything]
    dates = sorted({curve["date"] for curve in found})
    head = f"Measured on {' and '.join(dates)}, {' / '.join(sorted({curve['machine'] for curve in found}))}.\n\n"
    _replace(repository / "docs/performance.md", "curves", head + "\n\n".join(map(_table, found)))
    print(f"written: tests/bench/curves.json, docs/plots/, docs/performance.md ({', '.join(curve.name for curve in measured)})")


# -- soak ------------------------------------------------------------------------------------------


def _plot_samples(samples, path):
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(6, 4.4), sharex=True)
    hours = range(1, len(samples) + 1)
    for role, color in zip(sorted(samples[0]), COLORS):
        upper.plot(hours, [sample[role]["memory"] for sample in samples], color=color, marker="o", markersize=2, label=role)
        lower.plot(hours, [sample[role]["descriptors"] for sample in samples], color=color, marker="o", markersize=2)
    upper.set_ylabel("memory, MB")
    lower.set_ylabel("descriptors")
    lower.set_xlabel("hours of the day")
    for axes in (upper, lower):
        axes.set_ylim(bottom=0)
        axes.grid(True, linewidth=0.4)
    upper.legend(frameon=False, ncol=4)
    _save(figure, path)


def soak(done, seconds, samples, checks, repository):
    repository = Path(repository)
    if samples:
        _plot_samples(samples, repository / "docs/plots/soak.svg")
    content = {"date": time.strftime("%Y-%m-%d"), "machine": _machine(), "seconds": round(seconds), "done": done,
               "samples": samples, "checks": [{"text": text, "passed": is_good} for text, is_good in checks]}  # fmt: skip
    (repository / "tests/bench/soak.json").write_text(json.dumps(content, indent=1) + "\n")
    lines = [f"Measured on {content['date']}, {content['machine']}: {in_words(content['seconds'])} s for "
             + ", ".join(f"{in_words(value)} {name}" for name, value in done.items()) + ".", "",
             "![Memory and descriptors at the end of each hour](plots/soak.svg)", "",
             "| at the end of hour | 1 | " + " | ".join(str(hour) for hour in _shown(samples)) + " |",
             "|---" * (len(_shown(samples)) + 2) + "|"]
    for role in sorted(samples[0]) if samples else ():
        for what, unit in (("pss", ", MB (PSS)"), ("memory", " without mapped files, MB"), ("descriptors", ""), ("threads", "")):
            cells = [samples[hour - 1][role][what] for hour in (1, *_shown(samples))]
            lines.append(f"| {role}: {NAMES.get(what, what)}{unit} | " + " | ".join(map(in_words, cells)) + " |")
    lines += [""] + [f"- {'Passed' if is_good else '**Failed**'}: {text.splitlines()[0]}." for text, is_good in checks]
    _replace(repository / "docs/performance.md", "soak", "\n".join(lines))
    print("written: tests/bench/soak.json, docs/plots/soak.svg, docs/performance.md")


def _shown(samples):
    """Hours for the table: each quarter's last."""
    count = len(samples)
    return sorted({max(2, count * quarter // 4) for quarter in (1, 2, 3, 4)}) if count > 1 else []

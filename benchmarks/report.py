"""What was measured, as JSON, tables and charts under docs/benchmarks."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

FOLDER = Path(__file__).parent.parent / "docs" / "benchmarks"
ORDER = ("drain", "workflow", "enqueue", "pickup", "mixed", "growth", "payload", "atomic", "memory")
OURS = "ours"
LOG_SPREAD = 20  # From here on a linear scale hides the small ones.

# Of a chart, in pixels.
NAME, BARS, FIGURE, TOP = 220, 450, 100, 46
BAR, GAP = 13, 9

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #59636e }
.grid { stroke: #8b949e; stroke-opacity: .3 }
.range { stroke: #59636e; stroke-width: 1.5 }
.bar { fill: #8b949e }
.ours { fill: #1f7ae0 }
text.ours, .title { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 }
  .range { stroke: #c4ccd4 }
  .ours { fill: #4493f8 }
}
"""


def number(figure: float) -> str:
    """Return a figure with three digits that matter."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def results(folder: Path) -> dict[str, Any]:
    """Return everything measured so far, by scenario."""
    path = folder / "results.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def add(folder: Path, scenario: str, about: dict[str, Any]) -> None:
    """Replace what was known of a scenario."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {**results(folder), scenario: about}
    # Not sorted: variants and contenders stay as the scenario has them.
    (folder / "results.json").write_text(json.dumps(known, indent=1) + "\n")


def variants(about: dict[str, Any]) -> list[str]:
    """Return the names of what a scenario varies, in its order."""
    return list(dict.fromkeys(name for each in about["contenders"].values() for name in each["samples"]))


def ranked(about: dict[str, Any]) -> list[tuple[str, dict[str, list[float]]]]:
    """Return the contenders with their samples, best first by the first variant; who lacks it comes last."""

    def rank(item: tuple[str, dict[str, list[float]]]) -> tuple[bool, float]:
        samples = item[1].get(first)
        if not samples:
            return True, 0.0
        median = statistics.median(samples)
        return False, median if about["less"] else -median

    first = next(iter(variants(about)), "")
    return sorted(((name, each["samples"]) for name, each in about["contenders"].items()), key=rank)


def table(about: dict[str, Any]) -> str:
    """Return the medians of a scenario, and the range of each, as a table, best first."""
    names = variants(about)
    lines = [_row("contender", *names, "ours beside it"), "|---" * (len(names) + 2) + "|"]
    for contender, samples in ranked(about):
        cells = [_cell(samples.get(name, [])) for name in names]
        lines.append(_row(contender, *cells, _beside(about, contender)))
    return "\n".join(lines)


def _beside(about: dict[str, Any], contender: str) -> str:
    """Return by how much ours is better than a contender (above 1), or worse, for each variant."""
    found = dict(ranked(about))
    if contender == OURS or OURS not in found:
        return ""
    ratios = []
    for variant in variants(about):
        if found[OURS].get(variant) and found[contender].get(variant):
            ours, theirs = (statistics.median(found[name][variant]) for name in (OURS, contender))
            ratio = theirs / ours if about["less"] else ours / theirs
            ratios.append(f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x")
        else:
            ratios.append("-")
    return " / ".join(ratios)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(samples: list[float]) -> str:
    if not samples:
        return ""
    return f"{number(statistics.median(samples))} ({number(min(samples))} to {number(max(samples))})"


def chart(about: dict[str, Any]) -> str:
    """Return the medians of a scenario as bars, with the range of each, as an SVG."""
    names = variants(about)
    figures = [figure for _, samples in ranked(about) for each in samples.values() for figure in each]
    place, ticks = _scale(figures)
    parts, y = [], float(TOP)
    for contender, samples in ranked(about):
        ours = " ours" if contender == OURS else ""
        shown = [name for name in names if samples.get(name)]
        middle = y + BAR * len(shown) / 2 + 4
        parts.append(
            f'<text class="{ours.strip()}" x="{NAME - 10}" y="{middle:.1f}" text-anchor="end">'
            f"{escape(contender)}</text>"
        )
        for name in shown:
            median, low, high = statistics.median(samples[name]), min(samples[name]), max(samples[name])
            line = y + BAR / 2 - 0.5
            parts.append(
                f'<rect class="bar{ours}" x="{NAME}" y="{y:.1f}" width="{place(median):.1f}"'
                f' height="{BAR - 1}" fill-opacity="{_shade(names, name):.2f}"/>'
            )
            if high > low:
                parts.append(
                    f'<path class="range" d="M{NAME + place(low):.1f} {line:.1f}H{NAME + place(high):.1f}'
                    f'M{NAME + place(low):.1f} {line - 3:.1f}v6M{NAME + place(high):.1f} {line - 3:.1f}v6"/>'
                )
            right = NAME + place(high) + 6
            parts.append(
                f'<text class="{ours.strip()}" x="{right:.1f}" y="{line + 4:.1f}">{number(median)}</text>'
            )
            y += BAR
        y += GAP
    grid = [
        f'<path class="grid" d="M{NAME + place(tick):.1f} {TOP - 6}V{y:.1f}"/>'
        f'<text x="{NAME + place(tick):.1f}" y="{y + 14:.1f}" text-anchor="middle">{number(tick)}</text>'
        for tick in ticks
    ]
    scale = "; each line ten times the one before" if _spread(figures) > LOG_SPREAD else ""
    title = escape(f"{about['title']} ({_reading(about)}{scale})")
    width, height = NAME + BARS + FIGURE, y + 22
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}"'
        f' height="{height:.0f}" role="img">\n<title>{title}</title>\n<style>{STYLE}</style>\n'
        f'<text class="title" x="0" y="14">{title}</text>\n'
        + "\n".join([*_legend(names), *grid, *parts])
        + "\n</svg>\n"
    )


def _reading(about: dict[str, Any]) -> str:
    return f"{about['unit']}, {'less' if about['less'] else 'more'} is better"


def _shade(names: list[str], name: str) -> float:
    return 1.0 - names.index(name) * min(0.45, 0.65 / max(1, len(names) - 1))


def _legend(names: list[str]) -> list[str]:
    """Return a swatch and the name of each variant, when there are several."""
    parts, x = [], 0.0
    for name in names if len(names) > 1 else ():
        shade = _shade(names, name)
        parts.append(
            f'<rect class="bar" x="{x:.0f}" y="23" width="11" height="11" fill-opacity="{shade:.2f}"/>'
        )
        parts.append(f'<text x="{x + 16:.0f}" y="33">{escape(name)}</text>')
        x += 16 + 7 * len(name) + 10
    return parts


def _spread(figures: list[float]) -> float:
    return max(figures) / min(figures) if min(figures) > 0 else 1.0


def _scale(figures: list[float]) -> tuple[Callable[[float], float], list[float]]:
    """Return what puts a figure at its place, in pixels from the left, and where lines are drawn."""
    most = max(figures) or 1.0
    if _spread(figures) > LOG_SPREAD:
        low = math.floor(math.log10(min(figures) / 1.5))  # The shortest bar is to be seen.
        span = math.log10(most) - low
        ticks = [10.0**power for power in range(low, math.floor(math.log10(most)) + 1)]
        return lambda figure: BARS * (math.log10(figure) - low) / span, ticks
    step = 10.0 ** math.floor(math.log10(most))
    step *= next(part for part in (0.2, 0.5, 1.0, 2.0) if most / (step * part) <= 6)
    ticks = [step * count for count in range(math.floor(most / step) + 1)]
    return lambda figure: BARS * figure / most, ticks


def write(folder: Path) -> None:
    """Make the page and the charts of all results."""
    known = {name: each for name, each in results(folder).items() if each["contenders"]}
    scenarios = sorted(known, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    parts = [
        "# Benchmarks",
        "`make bench` measures this project (`ours`) and its peers side by side: each in an environment of"
        " its own, with the best settings that its documentation has, on one PostgreSQL with its default"
        " durability. Every round measures all of them, so what the machine does besides falls on all."
        " A figure is the median of the rounds; the range, and the thin line in the charts, go from the"
        " lowest to the highest. The last column of a table says by how much ours is better, above 1, or"
        " worse, column by column. `raw`, `raw_500` and `bare_loop` are no systems but limits: our own two"
        " statements in pgbench, and a loop of psycopg that claims and finishes. Compare the figures of one"
        " section: those of another machine, or of another day, are others. All single figures are in"
        " [results.json](results.json).",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for scenario in scenarios:
        about = known[scenario]
        (folder / f"{scenario}.svg").write_text(chart(about))
        parts += _section(scenario, about)
    taking_part = sorted({name for each in known.values() for name in each["contenders"]})
    parts += ["## What is equal, and what is not", _equality(taking_part)]
    (folder / "index.md").write_text("\n\n".join(parts) + "\n")


def _section(scenario: str, about: dict[str, Any]) -> list[str]:
    reading = _reading(about)
    rounds = max(len(each) for item in about["contenders"].values() for each in item["samples"].values())
    measured = [_row("contender", "version", "settings"), "|---|---|---|"]
    for name, _ in ranked(about):
        each = about["contenders"][name]
        measured.append(_row(name, each["version"], each["settings"]))
    for name, reason in about.get("failures", {}).items():
        measured.append(_row(name, "", f"not measured: {reason}"))
    what = " ".join((import_module(f"benchmarks.scenarios.{scenario}").__doc__ or "").split())
    several = f"{rounds} rounds" if rounds > 1 else "one round"
    return [
        f"## {about['title']}",
        f"{what} In {reading}; {several}, {about['measured']}, commit {about['commit']}, {about['machine']},"
        f" {about['server']}.",
        f"![{about['title']}: {reading}]({scenario}.svg)",
        table(about),
        "<details><summary>Versions and settings</summary>",
        "\n".join(measured),
        "</details>",
    ]


def _equality(names: list[str]) -> str:
    """Return what each contender promises and keeps, which a figure alone does not tell."""
    from benchmarks.contender import load
    from benchmarks.runner import NAMES

    lines = [
        "All are given the same work and the same server. They do not promise the same, and who promises less"
        " has less to write:",
        "",
        _row(
            "contender",
            "an enqueued job is durable",
            "kept of a finished job",
            "when its worker is killed",
        ),
        "|---|---|---|---|",
    ]
    for name in names:
        if name in NAMES:
            kind = load(name)
            lines.append(_row(name, kind.durability, kind.history, kind.crash_safety))
    return "\n".join(lines)

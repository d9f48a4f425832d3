"""What was measured, as JSON, tables and charts under docs/benchmarks."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "docs" / "benchmarks"


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
    (folder / "results.json").write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def table(about: dict[str, Any]) -> str:
    """Return the medians of a scenario, and the range of each, as a table, best first."""
    contenders = about["contenders"]
    variants = list(dict.fromkeys(variant for each in contenders.values() for variant in each["samples"]))
    lines = ["| contender | " + " | ".join(variants) + " |", "|---" * (len(variants) + 1) + "|"]

    def rank(item: tuple[str, Any]) -> float:
        median = statistics.median(next(iter(item[1]["samples"].values())))
        return median if about["less"] else -median

    for name, each in sorted(contenders.items(), key=rank):
        cells = []
        for variant in variants:
            samples = each["samples"].get(variant)
            cells.append(
                f"{number(statistics.median(samples))} ({number(min(samples))} to {number(max(samples))})"
                if samples
                else ""
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Make the tables and charts of all results."""

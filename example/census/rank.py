"""From the counts of thousands of files to the few rows that a reader wants."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

PACKAGES_SHOWN = 15
FUNCTIONS_SHOWN = 10
TEST_FOLDERS = {"test", "tests", "idle_test"}

Count = dict[str, Any]


def totals(counts: list[Count]) -> dict[str, int]:
    """Return the sums over all files, and over those that are tests."""
    return {
        "files": len(counts),
        "lines": _sum(counts, "lines"),
        "functions": _sum(counts, "functions"),
        "classes": _sum(counts, "classes"),
        "test_lines": _sum([count for count in counts if is_test(count["name"])], "lines"),
    }


def largest_packages(counts: list[Count]) -> list[Count]:
    """Return the packages with the most lines. Tests are left out: they would dwarf the rest."""
    packages = defaultdict(list)
    for count in counts:
        if not is_test(count["name"]):
            packages[package(count["name"])].append(count)
    rows = [
        {
            "name": name,
            "files": len(members),
            **{key: _sum(members, key) for key in ("lines", "functions", "classes")},
        }
        for name, members in packages.items()
    ]
    return sorted(rows, key=lambda row: (-row["lines"], row["name"]))[:PACKAGES_SHOWN]


def longest_functions(counts: list[Count]) -> list[Count]:
    """Return the longest functions, at most one of a file, tests left out."""
    found = [
        {"name": count["longest"][0], "lines": count["longest"][1], "file": count["name"]}
        for count in counts
        if count["longest"] and not is_test(count["name"])
    ]
    return sorted(found, key=lambda row: (-row["lines"], row["file"]))[:FUNCTIONS_SHOWN]


def package(name: str) -> str:
    """Return the importable name at the top of a file's path: `json` of json/decoder.py."""
    return name.partition("/")[0].removesuffix(".py")


def is_test(name: str) -> bool:
    """Tell whether a file belongs to tests, by the folders it lies in."""
    return not TEST_FOLDERS.isdisjoint(name.split("/")[:-1])


def _sum(counts: list[Count], key: str) -> int:
    return sum(count[key] for count in counts)

"""The report: one HTML file that needs nothing else, neither scripts nor styles nor pictures."""

from __future__ import annotations

from typing import Any

from django.template.loader import render_to_string

ROW_PIXELS = 46  # Of the chart: a line of text, its bar, and air below.
AIR_PIXELS = 14


def render_report(workspace: dict[str, Any]) -> str:
    """Return the report as HTML."""
    packages = workspace["packages"]
    lines, test_lines = workspace["totals"]["lines"], workspace["totals"]["test_lines"]
    return render_to_string(
        "report.html",
        {
            **workspace,
            "code_lines": lines - test_lines,
            "code_share": percent(lines - test_lines, lines),
            "bars": [
                {**row, "top": index * ROW_PIXELS, "width": percent(row["lines"], packages[0]["lines"])}
                for index, row in enumerate(packages)
            ],
            "chart_height": len(packages) * ROW_PIXELS - AIR_PIXELS,
        },
    )


def percent(part: int, whole: int) -> str:
    """Return a share as SVG writes it, with a point in every language."""
    return f"{100 * part / whole:.2f}%" if whole else "0%"

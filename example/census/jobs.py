"""A census of Python's standard library: one job, four tasks, each a plain function of the job.

What goes from task to task is the workspace, which stays small: totals and the few rows that the
report shows. Lists of thousands lie in files beside, in the job's folder. With workers on several
machines that folder would be on storage they share.

A task runs again when its worker died half way. So each reads what the task before it has finished,
and puts its own file in place in one step: a second run replaces, and never mixes.
"""

from __future__ import annotations

import json
import os
import platform
import sysconfig
import time
from pathlib import Path
from typing import Any

from django_dbq import Abort, Job
from example.census.count import count_module, find_python_files
from example.census.rank import largest_packages, longest_functions, totals
from example.census.report import render_report

FOLDER = "demo-census"  # Below the worker's working directory, unless the job names another.
PROGRESS_SECONDS = 0.25  # Each save is a commit, so not after every file.


def find_modules(job: Job) -> None:
    """List the library's files. Nothing to count is nothing a retry could mend: abort."""
    workspace = job.workspace
    standard = sysconfig.get_path("stdlib")
    library = Path(workspace.setdefault("library", standard))
    workspace["title"] = (
        f"The standard library of Python {platform.python_version()}"
        if str(library) == standard
        else f"The Python code in {library.name}"
    )
    names = find_python_files(library)
    if not names:
        raise Abort(f"no Python files in {library}")
    folder = Path(workspace.get("folder", FOLDER)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "modules.json", names)
    workspace |= {"folder": str(folder), "modules": len(names), "parsed": 0}


def parse_modules(job: Job) -> None:
    """Parse each file and count what is in it, showing now and then how far that is."""
    workspace = job.workspace
    folder, library = Path(workspace["folder"]), Path(workspace["library"])
    counts, skipped = [], []
    saved_at = time.monotonic()
    for number, name in enumerate(_read_json(folder / "modules.json"), start=1):
        count = count_module(library, name)
        if count is None:
            skipped.append(name)
        else:
            counts.append(count)
        workspace["parsed"] = number
        if time.monotonic() - saved_at > PROGRESS_SECONDS:
            job.save()
            saved_at = time.monotonic()
    _write_json(folder / "counts.json", counts)
    _write_json(folder / "skipped.json", skipped)
    workspace["skipped"] = len(skipped)


def rank_packages(job: Job) -> None:
    """Add the counts up, and keep the rows that the report shows."""
    counts = _read_json(Path(job.workspace["folder"]) / "counts.json")
    job.workspace |= {
        "totals": totals(counts),
        "packages": largest_packages(counts),
        "longest": longest_functions(counts),
    }


def write_report(job: Job) -> None:
    """Write the report, and leave its path and the totals as the job's result."""
    path = Path(job.workspace["folder"]) / "report.html"
    _write(path, render_report(job.workspace))
    job.result = {"report": str(path), "skipped": job.workspace["skipped"], **job.workspace["totals"]}


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _write_json(path: Path, value: Any) -> None:
    _write(path, json.dumps(value))


def _write(path: Path, text: str) -> None:
    """Put a whole file in place, so that nobody ever reads half of one."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)

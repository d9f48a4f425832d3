"""Showing a job as it runs: a live table on a terminal, plain lines anywhere else.

All of it is read from two tables that any project can read: the job's row says what runs now and how
far it is, and its TaskRun rows say what each attempt came to and how long it took.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from django_dbq import Job, TaskRun

RUNNING_STATES = (Job.STATES.PROCESSING, Job.STATES.STOPPING)
STYLES = {"done": "green", "running": "bold cyan", "waiting": "dim", "failed": "bold red"}
PLAIN_SECONDS = 2.0  # Between two lines on the progress of one task.


@dataclass
class Step:
    """One task of the job, as far as it has come."""

    name: str
    state: str = "waiting"
    attempt: int = 0
    seconds: float | None = None
    facts: str = ""
    share: float | None = None  # Of its work, where the task tells.


class Watch:
    """Turns rows into steps. It remembers when it first saw an attempt, which no row says before the end."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def steps(self, job: Job, runs: Sequence[TaskRun]) -> list[Step]:
        """Return the job's tasks in order, finished ones with the seconds that TaskRun has."""
        last = {run.position: run for run in runs}
        return [self._step(job, last.get(index), index, path) for index, path in enumerate(job.plan)]

    def _step(self, job: Job, run: TaskRun | None, index: int, path: str) -> Step:
        step = Step(path.rpartition(".")[2])
        if index == job.position and job.state in RUNNING_STATES:
            began = self._seen.setdefault(job.claim, time.monotonic())
            step.state, step.attempt, step.seconds = "running", job.attempt, time.monotonic() - began
        elif run is not None:
            step.state, step.attempt, step.seconds = run.outcome, run.attempt, seconds(run)
        if step.state != "waiting":
            step.facts, step.share = facts(step.name, job.workspace)
        if index == job.position and step.state != "running" and job.error:
            step.facts = job.error
        return step


class LiveDisplay:
    """A table that is drawn anew in place, and stays when the job is over."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=10)
        self._watch = Watch()

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, job: Job, runs: Sequence[TaskRun]) -> None:
        self._live.update(table(self._watch.steps(job, runs)))


class PlainDisplay:
    """A line when a task begins, now and then while it runs, and when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watch = Watch()
        self._shown: dict[str, tuple[str, int]] = {}
        self._next_at = 0.0

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, job: Job, runs: Sequence[TaskRun]) -> None:
        for step in self._watch.steps(job, runs):
            changed = self._shown.get(step.name) != (step.state, step.attempt)
            running = step.state == "running" and time.monotonic() > self._next_at
            if (step.state != "waiting" or step.facts) and (changed or running):
                self._shown[step.name] = (step.state, step.attempt)
                self._next_at = time.monotonic() + PLAIN_SECONDS
                self._console.print(line(step), soft_wrap=True)


def display(console: Console) -> LiveDisplay | PlainDisplay:
    """Return the display that suits where the output goes."""
    live = console.is_terminal and not console.is_dumb_terminal
    return LiveDisplay(console) if live else PlainDisplay(console)


def facts(task: str, workspace: dict[str, Any]) -> tuple[str, float | None]:
    """Return what the workspace says of a task that has begun, and the share of its work done."""
    files, parsed = workspace.get("modules"), workspace.get("parsed")
    if task == "find_modules" and files is not None:
        return f"{files:,} files", None
    if task == "parse_modules" and files:
        return f"{parsed:,} of {files:,} files", parsed / files
    if task == "rank_packages" and "totals" in workspace:
        return f"{workspace['totals']['lines']:,} lines", None
    return "", None


def seconds(run: TaskRun) -> float:
    """Return how long an attempt took."""
    return (run.finished - run.started).total_seconds()


def table(steps: Sequence[Step]) -> Table:
    """Return the steps as a table for a terminal."""
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    found.add_column("task")
    found.add_column("state", min_width=len("waiting"))
    found.add_column("attempt", justify="right")
    found.add_column("seconds", justify="right", min_width=len("000.00"))
    found.add_column("")
    for step in steps:
        found.add_row(
            step.name,
            Text(step.state, style=STYLES.get(step.state, "yellow")),
            str(step.attempt or ""),
            "" if step.seconds is None else f"{step.seconds:.2f}",
            progress(step),
        )
    return found


def progress(step: Step) -> RenderableType:
    """Return how far a step is: a bar with its facts while it runs, else the facts alone."""
    if step.share is None or step.state != "running":
        return step.facts
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(ProgressBar(total=1.0, completed=step.share, width=20), step.facts)
    return grid


def line(step: Step) -> str:
    """Return a step as one line of plain text."""
    parts = [f"{step.name}: {step.state}", f"attempt {step.attempt}"]
    if step.seconds is not None:
        parts.append(f"{step.seconds:.2f} s")
    return ", ".join([*parts, *([step.facts] if step.facts else [])])

"""The live view of `manage.py monitor`: one thread reads the database, this one draws and hears keys.

Whatever the database does, keys are answered: it may hang without the view doing so.
"""

from __future__ import annotations

import os
import queue
import re
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from django.db import DatabaseError, InterfaceError, connections
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from django_dbq import conf, metrics
from django_dbq.metrics import GONE, Failure, Overview, Queue, Worker
from django_dbq.models import pause_queue, resume_queue
from django_dbq.store import get_store

REFRESH_SECONDS = 1.0
SHARE = 10  # Of ten seconds, reading may take one: a database with much to count is asked less often.
WIDE = 120  # Columns from which on there is room for everything.

_KEYS = re.compile(r"\x1b[\[O](?P<arrow>[A-Z])|(?P<key>[^\x1b])", re.DOTALL)


# Readings.


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known: the last overview, and since when the database has been away."""

    overview: Overview | None = None
    rates: dict[str, float] = field(default_factory=dict)  # Tasks a second, by worker.
    read_at: float = 0.0  # Monotonic times.
    away_since: float | None = None
    error: str = ""


class Rates:
    """Tasks a second of each worker, between its last two reports."""

    def __init__(self) -> None:
        self._latest: dict[str, Worker] = {}
        self._rates: dict[str, float] = {}

    def read(self, workers: Iterable[Worker]) -> dict[str, float]:
        """Take in a reading; return the rates of those workers that live."""
        living = {worker.name: worker for worker in workers if worker.state != GONE}
        for name, worker in living.items():
            earlier = self._latest.get(name)
            if earlier is None or worker.reported_at > earlier.reported_at + 0.001:
                self._rates[name] = worker.tasks_per_second(earlier) or 0.0
                self._latest[name] = worker
        self._rates = {name: rate for name, rate in self._rates.items() if name in living}
        self._latest = {name: worker for name, worker in self._latest.items() if name in living}
        return dict(self._rates)


class Reader(threading.Thread):
    """Reads again and again on a connection of its own, and says so through a pipe."""

    def __init__(self, using: str) -> None:
        super().__init__(name="dbq-monitor", daemon=True)
        self.using = using
        self.reading = Reading()
        self.news, self._tell = os.pipe()
        self._asked: queue.SimpleQueue[Queue] = queue.SimpleQueue()  # To pause, or to resume.
        self._rates = Rates()

    def toggle(self, selected: Queue) -> None:
        """Pause this queue, or resume it if it is paused."""
        self._asked.put(selected)

    def tell(self) -> None:
        """Have the view drawn again."""
        os.write(self._tell, b".")

    def run(self) -> None:
        get_store(self.using).prepare_connection(conf.options().LEASE_SECONDS)
        while True:
            began = time.monotonic()
            self._read()
            self.tell()
            taken = time.monotonic() - began
            with suppress(queue.Empty):
                selected = self._asked.get(timeout=max(REFRESH_SECONDS, SHARE * taken))
                self._read(selected)
                self.tell()

    def _read(self, selected: Queue | None = None) -> None:
        try:
            if selected is not None:
                (resume_queue if selected.paused else pause_queue)(selected.name, self.using)
            found = metrics.overview(self.using)
        except (DatabaseError, InterfaceError, OSError) as error:
            connections[self.using].close()
            last, now = self.reading, time.monotonic()
            since = now if last.away_since is None else last.away_since
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self.reading = Reading(last.overview, last.rates, last.read_at, since, lines[0])
        else:
            self.reading = Reading(found, self._rates.read(found.workers), time.monotonic())


# The loop.


def watch(using: str, out: TextIO) -> None:
    """Show the view on a terminal until somebody presses q or Ctrl-C, or a signal ends it."""
    reader = Reader(using)
    selected: str | None = None
    console = Console(file=out)
    with suppress(KeyboardInterrupt), _own_terminal(sys.stdin.fileno(), reader) as terminal:
        reader.start()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                reading = reader.reading
                queues = reading.overview.queues if reading.overview else ()
                names = [one.name for one in queues]
                if selected not in names:
                    selected = names[0] if names else None
                live.update(frame(reading, console.width, console.height, selected), refresh=True)
                ready = select.select([terminal, reader.news], [], [], REFRESH_SECONDS)[0]
                if reader.news in ready:
                    os.read(reader.news, 4096)
                if terminal not in ready:
                    continue
                if not (typed := os.read(terminal, 256)):
                    return  # The terminal has gone.
                for key in _keys(typed):
                    if key == "q":
                        return
                    step = {"C": 1, "\t": 1, "B": 1, "D": -1, "Z": -1, "A": -1}.get(key, 0)
                    if names and selected is not None:
                        at = names.index(selected)
                        selected = names[(at + step) % len(names)]
                        if key == "p":
                            reader.toggle(queues[at])


def _keys(typed: bytes) -> Iterator[str]:
    for found in _KEYS.finditer(typed.decode("ascii", "replace")):
        # An arrow is a capital letter here, and a key is a small one.
        yield found["arrow"] or found["key"].lower()


@contextmanager
def _own_terminal(terminal: int, reader: Reader) -> Iterator[int]:
    """Hear keys one by one, without their showing; leave the terminal as it was found."""
    before = termios.tcgetattr(terminal)

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    handlers = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, end),
        signal.SIGHUP: signal.signal(signal.SIGHUP, end),
        signal.SIGWINCH: signal.signal(signal.SIGWINCH, lambda number, frame: reader.tell()),
    }
    try:
        tty.setcbreak(terminal)
        yield terminal
    finally:
        with suppress(termios.error):  # It may have gone.
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


# The picture.


def frame(
    reading: Reading, width: int, height: int | None = None, selected: str | None = None
) -> RenderableType:
    """Return the picture of a reading, at most `height` lines high; None: as high as it takes."""
    found = reading.overview
    if found is None:
        parts: list[RenderableType] = [_banner(reading) or Text("Reading …")]
        return Group(*parts, *([_help()] if height else []))
    banner = _banner(reading)
    parts = [_head(found, reading.rates), *([banner] if banner else [])]
    wanted = [len(found.queues), len(found.workers), len(found.failures)]
    # Besides the rows: a line above each table, one of heads in each, and the line of keys.
    rows = wanted if height is None else _shares(height - len(parts) - 7, wanted)
    parts += [Text(), _queues(_around(found.queues, rows[0], selected), selected, len(found.queues), width)]
    parts += [Text(), _workers(found.workers, rows[1], reading.rates, width)]
    parts += [Text(), _failures(found.failures, rows[2], width)]
    if height is not None:
        parts.append(_help())
    return Group(*parts)


def _shares(lines: int, wanted: Sequence[int]) -> list[int]:
    """Share lines out: each gets what it wants, and who wants much what the others leave."""
    given = [0] * len(wanted)
    left = max(0, lines)
    while left and any(have < want for have, want in zip(given, wanted, strict=True)):
        for index, want in enumerate(wanted):
            if left and given[index] < want:
                given[index] += 1
                left -= 1
    return given


def _around(queues: Sequence[Queue], rows: int, selected: str | None) -> Sequence[Queue]:
    """Return so many queues that follow each other, among them the selected one."""
    at = next((index for index, one in enumerate(queues) if one.name == selected), 0)
    first = max(0, min(at - rows // 2, len(queues) - rows))
    return queues[first : first + rows]


def _head(found: Overview, rates: dict[str, float]) -> Text:
    states = [worker.state for worker in found.workers]
    hosts = len({worker.host for worker in found.workers if worker.state != GONE})
    living = len(states) - states.count(GONE)
    order = ("busy", "idle", "stopping", GONE)
    told = [f"{states.count(state)} {state}" for state in order if state in states]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{found.now:%Y-%m-%d %H:%M:%S}", style="bold")
    text.append(f"  {_many(living, 'worker')} on {_many(hosts, 'host')}")
    text.append(f" ({', '.join(told)})" if told else "")
    text.append(f"  {sum(rates.values()):.1f} tasks/s")
    return text


def _banner(reading: Reading) -> Text | None:
    if reading.away_since is None:
        return None
    away = _duration(time.monotonic() - reading.away_since)
    text = f"Database away for {away}, trying again: {_plain(reading.error)}"
    return Text(text, style="bold red", no_wrap=True, overflow="ellipsis")


def _help() -> Text:
    return Text("p pause or resume the queue   ←/→ or tab another queue   q quit", style="dim", no_wrap=True)


def _table(title: str, *columns: str) -> Table:
    """Return a table whose columns are named as given; those that end in # are numbers."""
    table = Table(box=None, expand=True, padding=(0, 1), pad_edge=False, header_style="bold")
    for index, column in enumerate((title, *columns)):
        number = column.endswith("#")
        # What has no fixed width gives way: names first, errors and tasks last.
        ratio = {"TASK": 3, "ERROR": 5}.get(column, 2 if index == 0 else None)
        table.add_column(
            column.rstrip("#"),
            justify="right" if number else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=ratio,
            min_width=8 if index == 0 else None,
        )
    return table


def _queues(queues: Sequence[Queue], selected: str | None, total: int, width: int) -> Table:
    of = f" ({len(queues)} of {total})" if len(queues) < total else ""
    table = _table(f"QUEUE{of}", "STATE", "WORKERS#", "DUE#", "OLDEST#", "LATER#", "RUNNING#", "FAILED 24H#")
    table.width = min(width, WIDE)
    for one in queues:
        state, style = ("paused", "yellow") if one.paused else ("", "")
        if not one.paused and one.depth and not one.workers:
            state, style = "no worker", "red"
        here = one.name == selected
        table.add_row(
            _cell(("> " if here else "  ") + one.name),
            Text(state, style=style),
            str(one.workers),
            f"{one.depth:,}",
            _duration(one.oldest_due_age),
            f"{one.later:,}",
            f"{one.in_progress:,}",
            Text(f"{one.failed:,}", style="red" if one.failed else ""),
            style="reverse" if here else "",
        )
    return table


_COLOURS = {"busy": "green", "stopping": "yellow", GONE: "red"}


def _workers(workers: Sequence[Worker], rows: int, rates: dict[str, float], width: int) -> Table:
    of = f" ({rows} of {len(workers)})" if rows < len(workers) else ""
    wide = width >= WIDE
    extra = ("SEEN#", "SIZE#", "DONE#", "FAILED#", "QUEUES") if wide else ()
    table = _table(f"WORKER{of}", "PID#", "STATE", "UP#", "TASKS/S#", *extra, "TASK", "FOR#")
    for worker in workers[:rows]:
        task = worker.tasks[0] if worker.tasks else None
        more = f" +{len(worker.tasks) - 1}" if len(worker.tasks) > 1 else ""
        size = "" if worker.rss_bytes is None else f"{worker.rss_bytes / 1_000_000:.0f} MB"
        cells: list[RenderableType] = [
            _duration(worker.seen_age),
            size,
            f"{worker.tasks_done:,}",
            Text(f"{worker.tasks_failed:,}", style="red" if worker.tasks_failed else ""),
            _cell(", ".join(worker.queues)),
        ]
        table.add_row(
            _cell(worker.host),
            str(worker.pid),
            Text(worker.state, style=_COLOURS.get(worker.state, "")),
            _duration(worker.uptime),
            f"{rates[worker.name]:.1f}" if worker.name in rates else "",
            *(cells if wide else ()),
            _cell("" if task is None else _what(task.name, task.task) + more),
            _duration(task.seconds if task else None),
        )
    return table


def _failures(failures: Sequence[Failure], rows: int, width: int) -> Table:
    wide = width >= WIDE
    table = _table("FAILED JOB", *(("ID", "QUEUE") if wide else ()), "AGO#", "ERROR")
    for failure in failures[:rows]:
        table.add_row(
            _cell(_what(failure.name, failure.task)),
            *((Text(failure.job), _cell(failure.queue)) if wide else ()),
            _duration(failure.age),
            _cell(failure.error),
        )
    return table


def _what(name: str, task: str) -> str:
    """Return a job's name with the last part of its task's path; a call's name is that path."""
    return name if not task or name == task else f"{name}: {task.rpartition('.')[2]}"


def _cell(text: str) -> Text:
    return Text(_plain(text))


def _plain(text: str) -> str:
    """Return text that moves no cursor: anybody may have named a job, or raised an error."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float | None) -> str:
    """Return a time in its largest unit: 5s, 3m, 2h, 4d."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)}{unit}"
    return f"{int(seconds)}s"

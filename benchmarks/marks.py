"""What the tasks of every contender leave behind, at the cost of a write to shared memory.

The runner reads from it how many tasks have run and when the first did, without asking
the database that is being measured. Standard library only: it runs in every environment.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
from pathlib import Path

SLOTS = 256  # Processes of one run; each counts in a slot of its own.
SLOT = struct.Struct("qq")  # How many ran, and when the first did, in nanoseconds.
HEAD = struct.Struct("q")  # How many slots are taken.
SIZE = HEAD.size + SLOTS * SLOT.size
STAMP = struct.Struct("qd")  # Which job, when it began.


class _Process:
    """The slot of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        path = os.environ["BENCH_MARKS"]
        with open(path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            numbers = memoryview(mmap.mmap(file.fileno(), SIZE)).cast("q")
            at = HEAD.size + numbers[0] * SLOT.size
            numbers[0] += 1
            fcntl.flock(file, fcntl.LOCK_UN)  # The map keeps the file open.
        # Item by item: who reads meanwhile is to see whole numbers.
        self.slot = numbers[at // 8 : (at + SLOT.size) // 8]
        self.stamps = os.open(f"{path}.stamps", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


_process: _Process | None = None


def ran() -> None:
    """Count a task that has run."""
    global _process
    process = _process
    if process is None:
        process = _process = _Process()
    with process.lock:
        process.count += 1
        if process.count == 1:
            process.slot[1] = time.time_ns()
        process.slot[0] = process.count


def _forget() -> None:
    global _process
    _process = None


os.register_at_fork(after_in_child=_forget)  # Workers fork after their imports.


def stamp(index: int) -> None:
    """Note that job number `index` has begun."""
    now = time.time()
    ran()
    assert _process is not None
    os.write(_process.stamps, STAMP.pack(index, now))


def prepare(path: Path) -> Reader:
    """Let the tasks of this process and of those that it starts leave their marks in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.environ["BENCH_MARKS"] = str(path)
    return Reader(str(path))


class Reader:
    """The runner's side: a fresh file for a run, and what is in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.clear()

    def clear(self) -> None:
        """Forget everything, for the next run."""
        with open(self.path, "wb") as file:
            file.write(bytes(SIZE))
        open(f"{self.path}.stamps", "wb").close()

    def counted(self) -> tuple[int, float]:
        """Return how many tasks have run, and when the first did (0.0: none)."""
        with open(self.path, "rb") as file:
            content = file.read(SIZE)
        (taken,) = HEAD.unpack_from(content, 0)
        slots = [SLOT.unpack_from(content, HEAD.size + slot * SLOT.size) for slot in range(taken)]
        first = min((first for count, first in slots if count), default=0)
        return sum(count for count, _ in slots), first / 1e9

    def stamps(self) -> dict[int, float]:
        """Return when each numbered job began."""
        with open(f"{self.path}.stamps", "rb") as file:
            return dict(STAMP.iter_unpack(file.read()))

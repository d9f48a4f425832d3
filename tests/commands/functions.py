"""Functions that the tests of commands call through jobs, in processes of their own."""

from __future__ import annotations

import os
import time
from pathlib import Path

from django_dbq import schedule
from tests.models import Row


def write(text):
    """Leave a row, which goes with the transaction if this fails."""
    Row.objects.create(text=text)


def write_any(*texts, **named):
    """Leave a row of each text."""
    for text in (*texts, *named.values()):
        write(text)


def boom(text="uh oh"):
    write(text)
    raise ValueError(text)


def fail_once(folder, text):
    """Leave a row and fail; the next time, leave it and do not."""
    write(text)
    seen = Path(folder) / text
    if not seen.exists():
        seen.touch()
        raise ValueError(f"not yet: {text}")


def write_and_schedule(text, later):
    write(text)
    schedule(write, [later])


def hold(folder, text):
    """Say that the call began, then wait for the test's word (or 30 seconds)."""
    (Path(folder) / f"began-{text}").touch()
    deadline = time.monotonic() + 30
    while not (Path(folder) / "go-on").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    write(text)


def outlast(seconds, text):
    """Run for so long that the lease runs out unless it is renewed."""
    time.sleep(seconds)
    write(f"{text} {os.getpid()}")

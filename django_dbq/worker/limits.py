"""The time limit of a task: how it is told that its time is over."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django_dbq.engine.workflow import Task
from django_dbq.exceptions import TaskTimeout
from django_dbq.models import Job


async def run_coroutine(task: Task, function: Callable[[Job], Awaitable[Any]], job: Job) -> Any:
    """Run an `async def` task, cancelled and with TaskTimeout raised after its time."""
    limit = asyncio.timeout(task.timeout_seconds)
    try:
        async with limit:
            return await function(job)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise _timeout(task) from error


def _timeout(task: Task) -> TaskTimeout:
    return TaskTimeout(f"{task.path} ran longer than its timeout_seconds, {task.timeout_seconds:g}")


@contextmanager
def time_limit(task: Task) -> Iterator[None]:
    """Raise TaskTimeout in the block after the task's time; in the main thread only.

    A thread cannot be interrupted: there the keeper reports the task as stuck.
    """
    seconds = task.timeout_seconds
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(signum: int, frame: Any) -> None:
        raise _timeout(task)

    previous = signal.signal(signal.SIGALRM, expire)
    began = time.monotonic()
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        try:
            # Before the handler goes: an alarm that finds the default one ends the process.
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # One that came at the last moment raises here.
            signal.signal(signal.SIGALRM, previous)
            if outer:  # A task may run another within itself: its own limit goes on.
                signal.setitimer(signal.ITIMER_REAL, max(0.001, outer - (time.monotonic() - began)))

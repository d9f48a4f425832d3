"""Starts N workers, restarts the fallen, forwards signals. Never asks the database anything."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import select
import signal
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

from django_dbq.worker.connections import close_for_forks
from django_dbq.worker.runner import SIGNALS, Runner, end_process, new_token, worker_name
from django_dbq.worker.settings import WorkerSettings

logger = logging.getLogger("django_dbq.worker")

RESTART_PAUSE_SECONDS = 0.5
RESTART_PAUSE_SECONDS_MAX = 30.0
FORK_PAUSE_SECONDS = 5.0  # After a child that the system had no room for.
FALLS_MAX = 10  # In a row, of workers that did not live for a minute, nor come to claim a job.
HEALTHY_SECONDS = 60.0
KILL_MARGIN_SECONDS = 5.0  # After --grace, for a child that cannot even give its jobs back.


@dataclass(slots=True)
class _Child:
    name: str
    claimed: mmap.mmap  # A byte that it shares: 1 once it has claimed a job.
    born: float = field(default_factory=time.monotonic)


class Supervisor:
    """Runs `processes` workers as children of this process, from `run()` to its exit code."""

    def __init__(self, settings: WorkerSettings, processes: int) -> None:
        self.settings = settings
        self.processes = processes
        self._children: dict[int, _Child] = {}
        self._fallen: list[str] = []  # Whose jobs the next child rescues.
        self._start_at: list[float] = [0.0] * processes  # When the missing children are due.
        self._kill_at = float("inf")
        self._stopping = False
        self._signals = 0
        self._passed_on = 0
        self._falls = 0
        self._code = 0
        self._news, self._wake = os.pipe()

    def run(self) -> int:
        """Keep the workers running until asked to stop; return 0, or 1 when they keep falling."""
        close_for_forks()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._news, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        while self._children or (self._start_at and not self._stopping):
            self._start_due()
            select.select([self._news], [], [], self._patience())
            with contextlib.suppress(BlockingIOError):
                os.read(self._news, 4096)
            self._pass_signals_on()
            self._reap()
        return self._code

    def _on_signal(self, number: int, frame: Any) -> None:
        self._signals += 1

    def _patience(self) -> float:
        times = [self._kill_at, time.monotonic() + 60.0, *([] if self._stopping else self._start_at)]
        return max(0.0, min(times) - time.monotonic())

    # Children.

    def _start_due(self) -> None:
        now = time.monotonic()
        while not self._stopping and self._start_at and min(self._start_at) <= now:
            self._start_at.remove(min(self._start_at))
            self._start()

    def _start(self) -> None:
        token, parent = new_token(), os.getpid()
        # Until the child has handlers of its own, a signal waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            claimed = mmap.mmap(-1, 1)
            pid = os.fork()
        except OSError as error:  # Too many processes, or too little memory, for the moment.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            logger.error("Worker not started: %s", error)
            return self._start_at.append(time.monotonic() + FORK_PAUSE_SECONDS)
        if pid == 0:
            self._become_worker(parent, token, self._fallen, claimed)
        self._fallen = []
        self._children[pid] = _Child(worker_name(pid, token), claimed)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        logger.info("Worker started: pid=%d", pid)

    def _become_worker(self, parent: int, token: str, fallen: list[str], claimed: mmap.mmap) -> None:
        code = 1
        try:
            # Ctrl-C reaches the supervisor alone, which passes it on once.
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            runner = Runner(self.settings, parent=parent, token=token, fallen=fallen)
            runner.at_first_claim(lambda: claimed.write_byte(1))
            runner.handle_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            code = runner.run()
        except BaseException:
            traceback.print_exc()
        finally:
            end_process(code)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            child = self._children.pop(pid, None)
            if child is not None:
                self._ended(pid, child, os.waitstatus_to_exitcode(status))
        if time.monotonic() >= self._kill_at:
            self._kill_at = float("inf")
            self._send(signal.SIGKILL)

    def _ended(self, pid: int, child: _Child, code: int) -> None:
        lived = time.monotonic() - child.born
        with child.claimed:
            claimed = bool(child.claimed[0])
        if code == 0:
            logger.info("Worker ended: pid=%d seconds=%.0f", pid, lived)
            if not self.settings.burst:
                self._start_at.append(0.0)  # It was recycled.
            return
        logger.error("Worker fell: pid=%d %s seconds=%.0f", pid, _cause(code), lived)
        self._fallen.append(child.name)
        if self._stopping:
            self._code = 1
            return
        if claimed:
            # What it ran may have killed it. That is counted with the job, which will not kill for ever.
            return self._start_at.append(time.monotonic() + RESTART_PAUSE_SECONDS)
        self._falls = 1 if lived > HEALTHY_SECONDS else self._falls + 1
        if self._falls >= FALLS_MAX:
            logger.critical("Workers keep falling, stopping: falls=%d", self._falls)
            self._code = 1
            return self._stop()
        pause = min(RESTART_PAUSE_SECONDS_MAX, RESTART_PAUSE_SECONDS * 2 ** (self._falls - 1))
        self._start_at.append(time.monotonic() + pause)

    # Stopping.

    def _pass_signals_on(self) -> None:
        """Send each child one signal for each that came: the first asks, the second hurries."""
        while self._passed_on < min(self._signals, 2):
            self._passed_on += 1
            self._stop()

    def _stop(self) -> None:
        if not self._stopping and self.settings.grace_seconds is not None:
            self._kill_at = time.monotonic() + self.settings.grace_seconds + KILL_MARGIN_SECONDS
        self._stopping = True
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _cause(code: int) -> str:
    return f"signal={signal.Signals(-code).name}" if code < 0 else f"exit={code}"

"""Starts N workers, restarts the fallen, forwards signals. Never touches the database."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import time
import traceback
from typing import Any

from django_dbq.worker.runner import SIGNALS, Runner
from django_dbq.worker.settings import WorkerSettings

logger = logging.getLogger("django_dbq.worker")

RESTART_PAUSE_SECONDS = 0.5
RESTART_PAUSE_SECONDS_MAX = 30.0
FALLS_MAX = 10  # In a row, of workers that did not live for a minute.
HEALTHY_SECONDS = 60.0


class Supervisor:
    """Runs `processes` workers as children of this process, from `run()` to its exit code."""

    def __init__(self, settings: WorkerSettings, processes: int) -> None:
        self.settings = settings
        self.processes = processes
        self._born: dict[int, float] = {}
        self._stopping = False
        self._falls = 0
        self._code = 0
        self._asked, self._ask = os.pipe()

    def run(self) -> int:
        """Keep the workers running until asked to stop; return 0, or 1 when they keep falling."""
        for number in SIGNALS:
            signal.signal(number, self._forward)
        for _ in range(self.processes):
            self._start()
        while self._born:
            pid, status = os.waitpid(-1, 0)
            self._ended(pid, os.waitstatus_to_exitcode(status))
        return self._code

    def _start(self) -> None:
        # A signal between the fork and its entry in the book would miss the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._become_worker()
        self._born[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        logger.info("Worker started: pid=%d", pid)

    def _become_worker(self) -> None:
        code = 1
        try:
            # Ctrl-C reaches the supervisor alone, which forwards it once.
            os.setpgid(0, 0)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            runner = Runner(self.settings)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            code = runner.run(parent=os.getppid())
        except BaseException:
            traceback.print_exc()
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _ended(self, pid: int, code: int) -> None:
        lived = time.monotonic() - self._born.pop(pid, time.monotonic())
        if self._stopping:
            self._code = self._code or (1 if code > 0 else 0)
            return
        if code == 0:
            logger.info("Worker ended: pid=%d seconds=%.0f", pid, lived)
            if not self.settings.burst:
                self._start()  # It reached --max-jobs.
            return
        logger.error("Worker fell: pid=%d %s seconds=%.0f", pid, _cause(code), lived)
        self._falls = 1 if lived > HEALTHY_SECONDS else self._falls + 1
        if self._falls >= FALLS_MAX:
            logger.critical("Workers keep falling, stopping: falls=%d", self._falls)
            self._code = 1
            self._forward(signal.SIGTERM, None)
            return
        pause = min(RESTART_PAUSE_SECONDS_MAX, RESTART_PAUSE_SECONDS * 2 ** (self._falls - 1))
        select.select([self._asked], [], [], pause)  # A signal ends the pause.
        if not self._stopping:
            self._start()

    def _forward(self, number: int, frame: Any) -> None:
        self._stopping = True
        os.write(self._ask, b"!")
        for pid in list(self._born):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _cause(code: int) -> str:
    return f"signal={signal.Signals(-code).name}" if code < 0 else f"exit={code}"

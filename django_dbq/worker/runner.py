"""One worker process: tasks in the main thread or in N threads, a keeper and a listener beside them."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import connections

from django_dbq.worker.backlog import Backlog
from django_dbq.worker.executor import Executor
from django_dbq.worker.keeper import Keeper, Slot, Word
from django_dbq.worker.settings import WorkerSettings

logger = logging.getLogger("django_dbq.worker")

SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGQUIT] if hasattr(signal, "SIGQUIT") else [])]


class Runner:
    """Runs one worker in this process, from `run()` to its exit code."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.name = f"{socket.gethostname()[:64]}:{os.getpid()}:{secrets.token_hex(3)}"
        self._backlog = Backlog()
        self._slots = [Slot() for _ in range(settings.threads)]
        self._keeper = Keeper(settings, self.name, self._backlog, self._slots, self._leave)
        self._executor = Executor(settings.using, self.name, self._keeper.keeps)
        self._signals = 0
        self._code = 0

    def run(self, parent: int | None = None) -> int:
        """Work until asked to stop; return 0, or 1 when the worker could not go on.

        `parent` is the supervisor's process id: when it is gone the worker stops.
        """
        self._keeper.parent = parent
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._on_signal)
        listener = self._listen()
        self._keeper.start()
        if self.settings.threads == 1:
            self._serve(self._slots[0])
        else:
            threads = [
                threading.Thread(target=self._serve, args=(slot,), name=f"dbq-task-{index}", daemon=True)
                for index, slot in enumerate(self._slots)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self._keeper.join()
        if listener is not None:
            listener.stop()
        return self._code or int(self._keeper.crashed is not None)

    def stop(self, now: bool = False) -> None:
        """Ask the worker to stop; safe in a signal handler."""
        self._keeper.inbox.put(Word.NOW if now else Word.STOP)
        if now:
            self._keeper.hurry()

    def give_back(self) -> None:
        """Give every job back, before this process is replaced."""
        self._keeper.leave = lambda: None
        self.stop(now=True)
        self._keeper.join(timeout=5)

    def _on_signal(self, number: int, frame: Any) -> None:
        self._signals += 1
        if self._signals <= 2:
            self.stop(now=self._signals == 2)

    def _listen(self) -> Any:
        if connections[self.settings.using].vendor != "postgresql":
            return None
        from django_dbq.worker.listener import Listener

        wake: Callable[[], None] = lambda: self._keeper.inbox.put(Word.WAKE)  # noqa: E731
        listener = Listener(self.settings.using, self.settings.queue_names, wake)
        listener.start()
        return listener

    def _serve(self, slot: Slot) -> None:
        """Take jobs and run them in this thread until the backlog is closed."""
        try:
            while (job := self._backlog.take()) is not None:
                slot.began = time.monotonic()
                attempt = self._executor.fail_lost(job) if job.spent else self._executor.run(job)
                slot.began = None
                self._keeper.inbox.put(attempt)
        except BaseException as error:
            # Not the task's error, which is an outcome: this worker's own. Its jobs go back.
            logger.critical("Worker stops: %s", error, exc_info=error)
            self._code = 1
            self.stop(now=True)
        finally:
            connections.close_all()

    def _leave(self) -> None:
        """End this process at once: whatever its tasks do, their jobs are given back."""
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(self._code)

"""One worker process: tasks in the main thread or in N threads, a keeper and a listener beside them."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, NoReturn

from django.db import connections

from django_dbq import conf, signals
from django_dbq.exceptions import TransactionLeftOpen
from django_dbq.store import get_store
from django_dbq.worker.backlog import Backlog
from django_dbq.worker.connections import depths, drop_open_transactions, refuse_open_transactions
from django_dbq.worker.executor import Attempt, Executor
from django_dbq.worker.keeper import Keeper, Word
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.slot import Slot

logger = logging.getLogger("django_dbq.worker")

LATE_SECONDS = 4.0  # After --grace, to give jobs back; less than a supervisor waits before it kills.
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGQUIT] if hasattr(signal, "SIGQUIT") else [])]

_hearing: Runner | None = None  # The one that has the signals of this process.
_masks = threading.local()  # What a thread blocks while it forks.


def _before_fork() -> None:
    # Until the child has handlers of its own, a signal to it waits.
    _masks.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS) if _hearing is not None else None


def _after_fork() -> None:
    if _masks.blocked is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.blocked)


def _after_fork_in_child() -> None:
    """Let a process that a task forks have signals as any other has: it is no worker."""
    global _hearing
    if _hearing is not None:
        _hearing.lose_signals()
        _hearing = None
    _after_fork()


if hasattr(os, "register_at_fork"):
    # A child would write to its worker's pipe, and that would stop.
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def new_token() -> str:
    """Return what tells a worker from an earlier one with the same process id."""
    return secrets.token_hex(3)


def worker_name(pid: int, token: str) -> str:
    """Return the name that a worker's jobs carry in `claimed_by`."""
    return f"{socket.gethostname()[:64]}:{pid}:{token}"


def end_process(code: int) -> NoReturn:
    """End this process without its tasks and exit handlers; what it has said is written out if it can be."""
    try:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # Its reader may be gone.
                stream.flush()
    finally:
        os._exit(code)


class Runner:
    """Runs one worker in this process, from `run()` to its exit code.

    A supervisor passes itself as `parent`, the `token` that its child's name ends in,
    and `fallen`, the names of workers that have died and whose jobs are to be rescued now.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        parent: int | None = None,
        token: str | None = None,
        fallen: Collection[str] = (),
    ) -> None:
        self.settings = settings
        self.name = worker_name(os.getpid(), token or new_token())
        self._backlog = Backlog()
        self._slots = [Slot() for _ in range(settings.threads)]
        self._executor = Executor(settings.using, self.name)
        self._keeper = Keeper(settings, self._executor, self._backlog, self._slots, self._leave)
        self._keeper.parent = parent
        self._keeper.fallen = tuple(fallen)
        self._ended = threading.Event()
        self._signals = 0
        self._pipe: tuple[int, int] | None = None  # What signals write to.
        self._wakeup_before = -1
        self._handlers_before: dict[int, Any] = {}

    def run(self) -> int:
        """Work until asked to stop; return 0, or 1 when the worker could not go on."""
        takes_signals = self._pipe is None and threading.current_thread() is threading.main_thread()
        if takes_signals:
            self.handle_signals()
        try:
            return self._work()
        finally:
            self._ended.set()
            if takes_signals:
                self.return_signals()

    def _work(self) -> int:
        listener = self._listen()
        self._keeper.start()
        before = depths()
        self._executor.starts_clean = not any(before.values())
        signals.post_spawn.send_robust(sender=signals.SENDER, proc_name=self.name)
        try:
            refuse_open_transactions(before, "a receiver of post_spawn")
        except TransactionLeftOpen as error:
            logger.error("%s", error)
            drop_open_transactions(before)
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
        return self._keeper.code

    @property
    def jobs_begun(self) -> int:
        """How many jobs this worker has taken and not given back."""
        return self._keeper.jobs_begun

    @property
    def failure(self) -> Attempt | None:
        """The failed attempt at which this worker stopped, where its settings ask for that."""
        return self._keeper.failure

    def at_first_claim(self, tell: Callable[[], None]) -> None:
        """Have a function called, in the keeper's thread, once this worker has claimed a job."""
        self._keeper.at_first_claim = tell

    def handle_signals(self) -> None:
        """Make the first signal ask this worker to stop, and the second to stop now.

        A thread reads them from a pipe: Python's own handlers run only when the main
        thread does, and that may sit in a C call of its task, or wait for a job.
        """
        global _hearing
        if self._pipe is not None:
            return
        self._pipe = os.pipe()
        _hearing = self
        os.set_blocking(self._pipe[1], False)
        self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in SIGNALS:
            self._handlers_before[number] = signal.signal(number, lambda number, frame: None)
        threading.Thread(target=self._read_signals, name="dbq-signals", daemon=True).start()

    def return_signals(self) -> None:
        """Give this process the handlers back that it had: it may go on without a worker."""
        global _hearing
        assert self._pipe is not None
        _hearing = None
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # It is None where Python does not know it.
        os.close(self._pipe[1])

    def lose_signals(self) -> None:
        """Undo this in a forked process, which has no thread that would read them."""
        assert self._pipe is not None
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for end in self._pipe:
            os.close(end)

    def stop(self, now: bool = False) -> None:
        """Ask the worker to stop; safe in any thread."""
        self._keeper.ask(Word.NOW if now else Word.STOP)
        if now:
            self._keeper.hurry()
        if self.settings.grace_seconds is not None:
            seconds = self.settings.grace_seconds + LATE_SECONDS
            threading.Thread(target=self._leave_after, args=[seconds], name="dbq-grace", daemon=True).start()

    def give_back(self) -> None:
        """Give every job back, before this process is replaced."""
        self._keeper.leave = lambda: None
        self.stop(now=True)
        self._keeper.join(timeout=5)

    def _read_signals(self) -> None:
        assert self._pipe is not None
        while received := os.read(self._pipe[0], 64):
            for number in received:
                if number in SIGNALS:
                    self._signals += 1
                    if self._signals <= 2:
                        self.stop(now=self._signals == 2)
        os.close(self._pipe[0])

    def _listen(self) -> Any:
        if connections[self.settings.using].vendor != "postgresql" or self.settings.job_ids is not None:
            return None
        from django_dbq.worker.listener import Listener

        wake: Callable[[], None] = lambda: self._keeper.inbox.put(Word.WAKE)  # noqa: E731
        listener = Listener(self.settings.using, self.settings.queue_names, wake, self._keeper.awaited)
        listener.start()
        return listener

    def _serve(self, slot: Slot) -> None:
        """Take jobs and run them in this thread until the backlog is closed."""
        get_store(self.settings.using).prepare_connection(conf.options().LEASE_SECONDS, pooled=True)
        try:
            while (job := self._backlog.take()) is not None:
                slot.enter(job)
                attempt = self._executor.fail_lost(job) if job.spent else self._executor.run(job)
                slot.leave()
                self._executor.let_go(attempt)
                self._keeper.inbox.put(attempt)
        except BaseException as error:
            # Not the task's error, which is an outcome: this worker's own. Its jobs go back.
            logger.critical("Worker stops: %s", error, exc_info=error)
            self._keeper.code = 1
            self.stop(now=True)
        finally:
            connections.close_all()

    def _leave_after(self, seconds: float) -> None:
        """Leave though the keeper has not: it has given up, or its database says nothing at all."""
        if not self._ended.wait(seconds):
            logger.error("Grace over, leaving: worker=%s", self.name)
            self._keeper.code = 1
            self._keeper.leave()

    def _leave(self) -> None:
        """End this process at once: whatever its tasks do, their jobs are given back."""
        end_process(self._keeper.code)

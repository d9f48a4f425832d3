"""The keeper's connection: statements run whole, and again when an error is of the moment."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from django_dbq.store import get_store
from django_dbq.worker.watchdog import Watchdog

logger = logging.getLogger("django_dbq.worker")

PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 10.0
READ_ONLY = "25006"  # The SQLSTATE of a standby that is not the new primary yet.

Answer = TypeVar("Answer")


class Session:
    """One thread's connection to the database of the jobs, made anew as often as it takes."""

    def __init__(self, using: str, lease_seconds: float, retry_seconds: float, watchdog: Watchdog) -> None:
        self.using = using
        self.store = get_store(using)
        self.lease_seconds = lease_seconds
        self.retry_seconds = retry_seconds
        self.watchdog = watchdog
        self.give_up_at = float("inf")  # A monotonic time after which nothing is tried again.
        self._hurry = threading.Event()
        self._prepared: Any = None  # The driver's connection that prepare_session saw.

    def run(self, statement: Callable[[], Answer]) -> Answer:
        """Run a statement, again after a lost connection, a deadlock or a lock timeout.

        Raises the last error once `retry_seconds` have passed, or as soon as there is a hurry.
        """
        began = time.monotonic()
        pause = PAUSE_SECONDS
        while True:
            connection = connections[self.using]
            try:
                with self.watchdog.watching(connection):
                    if connection.connection is None:
                        self.store.prepare_connection(self.lease_seconds)
                        connection.ensure_connection()
                    if connection.connection is not self._prepared:
                        self.store.prepare_session(self.lease_seconds)
                        self._prepared = connection.connection
                    return statement()
            except (DatabaseError, InterfaceError) as error:
                if not passes(error):
                    raise
                connection.close()
                now = time.monotonic()
                if self._hurry.is_set() or now > min(began + self.retry_seconds, self.give_up_at):
                    raise
                logger.warning("Database error, trying again: %s", str(error).strip())
                self._hurry.wait(pause * (0.5 + random.random() / 2))
                pause = min(PAUSE_SECONDS_MAX, pause * 2)

    def hurry(self) -> None:
        """Let the next error be the last; called once, by a signal handler too."""
        self._hurry.set()

    @property
    def hurried(self) -> bool:
        return self._hurry.is_set()

    def close(self) -> None:
        connections[self.using].close()


def passes(error: Exception) -> bool:
    """Tell whether an error is of the moment, so that the same statement may succeed later."""
    if isinstance(error, (OperationalError, InterfaceError)):
        return True
    cause = error.__cause__
    return READ_ONLY in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))

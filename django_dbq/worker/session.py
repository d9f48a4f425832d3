"""The keeper's connection: statements run whole, and again when an error is of the moment."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from django_dbq.redaction import redact_text
from django_dbq.store import get_store
from django_dbq.store.drivers import sqlstate
from django_dbq.worker.watchdog import Watchdog

logger = logging.getLogger("django_dbq.worker")

PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 10.0
SIGNAL_SECONDS = 0.2  # A request to stop is seen within this time.
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
        self.needed: Callable[[], bool] = lambda: True  # Asked to stop: is there still something to record?
        self._asked = False
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
                logger.warning("Database error, trying again: %s", redact_text(str(error).strip()))
                self._wait(pause * (0.5 + random.random() / 2))
                if self.not_needed:
                    raise
                pause = min(PAUSE_SECONDS_MAX, pause * 2)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.not_needed:
            if self._hurry.wait(min(left, SIGNAL_SECONDS)):
                return

    def ask(self) -> None:
        """Note that the worker was asked to stop; safe in a signal handler."""
        self._asked = True

    @property
    def not_needed(self) -> bool:
        """Whether the worker was asked to stop, and holds nothing that it would need a database for."""
        return self._asked and not self.needed()

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
    code = sqlstate(error)
    # psycopg2 may say no more than DatabaseError where the server closed the connection.
    return code == READ_ONLY or (code is None and type(error) is DatabaseError)

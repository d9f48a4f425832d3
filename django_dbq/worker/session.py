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
from django_dbq.store.drivers import code_of, is_missing, sqlstate
from django_dbq.worker.watchdog import Watchdog

logger = logging.getLogger("django_dbq.worker")

PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 10.0
SIGNAL_SECONDS = 0.2  # A request to stop is seen within this time.
READ_ONLY = "25006"  # The SQLSTATE of a standby that is not the new primary yet.
SERIALIZATION_FAILURE = "40001"
# What PostgreSQL, MariaDB and SQLite call errors that other transactions cause.
CONTENTION = {SERIALIZATION_FAILURE, "40P01", "55P03", "57014", 1205, 1213, "SQLITE_BUSY", "SQLITE_LOCKED"}

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
        self.meanwhile: Callable[[], None] = lambda: None  # What cannot wait for another's transaction.
        self._asked = False
        self._hurry = threading.Event()
        self._prepared: Any = None  # The driver's connection that prepare_session saw.
        self._settled_at = 0.0  # A monotonic time.

    def run(self, statement: Callable[[], Answer], gives_way: bool = False) -> Answer:
        """Run a statement, again after a lost connection, a deadlock or a lock timeout.

        Raises the last error once `retry_seconds` have passed, or as soon as there is a hurry; and one that
        other transactions cause at once, if it `gives_way`.
        """
        began = time.monotonic()
        away = False
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
                    answer = statement()
                if away:
                    seconds = time.monotonic() - began
                    self._settled_at = time.monotonic() + min(seconds, PAUSE_SECONDS_MAX)
                    logger.info("Database is back: seconds=%.1f database=%s", seconds, self.using)
                return answer
            except (DatabaseError, InterfaceError) as error:
                if not passes(error):
                    raise
                contended = is_contention(error)
                if contended and gives_way:
                    raise
                connection.close()
                if not contended:
                    away, self._settled_at = True, float("inf")
                left = min(began + self.retry_seconds, self.give_up_at) - time.monotonic()
                if self.hurried or left < 0:
                    raise
                reason = redact_text(str(error).strip())
                logger.warning(
                    "Database error, trying again: database=%s gives_up_in=%.0fs %s", self.using, left, reason
                )
                self._wait(pause * (0.5 + random.random() / 2))
                if self.not_needed:
                    raise
                if contended:
                    self.meanwhile()
                pause = min(PAUSE_SECONDS_MAX, pause * 2)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := min(until, self.give_up_at) - time.monotonic()) > 0 and not self.not_needed:
            if self._hurry.wait(min(left, SIGNAL_SECONDS)):
                return

    def ask(self) -> None:
        """Note that the worker was asked to stop; safe in a signal handler."""
        self._asked = True

    @property
    def settled(self) -> bool:
        """Whether the database has been there for as long as it was away before, ten seconds at most.

        By then other workers, who pause between their tries for up to so long, have renewed their leases.
        """
        return time.monotonic() >= self._settled_at

    @property
    def not_needed(self) -> bool:
        """Whether the worker was asked to stop, and holds nothing that it would need a database for."""
        return self._asked and not self.needed()

    def hurry(self) -> None:
        """Let the next error be the last; called once, by a signal handler too."""
        self._hurry.set()

    @property
    def hurried(self) -> bool:
        return self._hurry.is_set() or time.monotonic() >= self.give_up_at

    def close(self) -> None:
        connections[self.using].close()


def is_contention(error: BaseException) -> bool:
    """Tell whether an error is due to what other transactions hold, on a database that answers."""
    return code_of(error) in CONTENTION


def passes(error: Exception) -> bool:
    """Tell whether an error is of the moment, so that the same statement may succeed later."""
    if is_missing(error):
        return False
    if isinstance(error, (OperationalError, InterfaceError)):
        return True
    code = sqlstate(error)
    # psycopg2 may say no more than DatabaseError where the server closed the connection.
    return code == READ_ONLY or (code is None and type(error) is DatabaseError)

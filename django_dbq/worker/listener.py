"""LISTEN -> wakes the keeper. Silence is normal: polling is the truth."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Collection
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from django_dbq import conf
from django_dbq.redaction import redact_text
from django_dbq.store import get_store
from django_dbq.store.drivers import readable
from django_dbq.store.postgres import AWAITED, CHANNEL, received

logger = logging.getLogger("django_dbq.worker")

RECONNECT_SECONDS_MAX = 30.0


class Listener(threading.Thread):
    """One thread and one PostgreSQL connection, that call `wake` when a served queue has news.

    `awaited` is given the ids of jobs for whose end somebody waits.
    """

    def __init__(
        self,
        using: str,
        queue_names: Collection[str],
        wake: Callable[[], None],
        awaited: Callable[[list[str]], None] = lambda job_ids: None,
    ) -> None:
        super().__init__(name="dbq-listener", daemon=True)
        self.using = using
        self.queue_names = frozenset(queue_names)
        self.wake = wake
        self.awaited = awaited
        self._stopped, self._ask = os.pipe()

    def stop(self) -> None:
        os.close(self._ask)
        self.join(timeout=1)

    def run(self) -> None:
        try:
            self._listen_on()
        finally:
            os.close(self._stopped)

    def _listen_on(self) -> None:
        """Listen until stopped, on a new connection whenever one breaks."""
        failures = 0
        while True:
            try:
                raw = self._connect()
                if failures:
                    self.wake()  # What was announced meanwhile is missed.
                failures = 0
                self._listen(raw)
                return
            except (DatabaseError, InterfaceError, OSError) as error:
                failures += 1
                if failures == 1:
                    logger.warning(
                        "Listening interrupted, polling goes on: %s", redact_text(str(error).strip())
                    )
                pause = min(RECONNECT_SECONDS_MAX, 0.1 * 2.0 ** min(failures, 20)) * random.random()
                if readable([self._stopped], pause):
                    return
            finally:
                connections[self.using].close()

    def _connect(self) -> Any:
        connection = connections[self.using]
        get_store(self.using).prepare_connection(conf.options().LEASE_SECONDS)
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        return connection.connection

    def _listen(self, raw: Any) -> None:
        while True:
            with connections[self.using].wrap_database_errors:  # Read below Django.
                if self._stopped in readable([raw, self._stopped]):
                    return
                names = received(raw)
            if self.queue_names.intersection(names):
                self.wake()
            if awaited := [name.removeprefix(AWAITED) for name in names if name.startswith(AWAITED)]:
                self.awaited(awaited)

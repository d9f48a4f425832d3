"""Breaks a connection whose statement gets no answer: a peer may acknowledge every byte and stay silent."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Watchdog(threading.Thread):
    """Watches statements of other threads. The server limits how long one runs; this, how long one waits."""

    def __init__(self, seconds: float) -> None:
        super().__init__(name="dbq-watchdog", daemon=True)
        self.seconds = seconds
        self._watched: dict[int, tuple[Any, float]] = {}  # Thread -> connection, deadline.
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @contextmanager
    def watching(self, connection: Any) -> Iterator[None]:
        """Break `connection` when the block is not over after `seconds`: its statement raises."""
        thread = threading.get_ident()
        self._watched[thread] = connection, time.monotonic() + self.seconds
        try:
            yield
        finally:
            with self._lock:  # Never while it is being broken.
                del self._watched[thread]

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(self.seconds / 8):
            with self._lock:
                for connection, deadline in list(self._watched.values()):
                    if time.monotonic() > deadline:
                        _break(connection)


def _break(connection: Any) -> None:
    """Shut the socket down below the driver, which takes it for the server's doing."""
    raw = connection.connection
    if not hasattr(raw, "fileno"):
        return  # No driver of a server, or none that shows its socket.
    with suppress(connection.Database.Error, OSError, ValueError), _line(raw.fileno()) as line:
        line.shutdown(socket.SHUT_RDWR)


def _line(descriptor: int) -> socket.socket:
    return socket.socket(fileno=os.dup(descriptor))

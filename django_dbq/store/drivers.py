"""What the drivers say of a connection and of an error, each in its own way."""

from __future__ import annotations

import selectors
from collections.abc import Sequence
from typing import Any

# The states of a connection, as libpq numbers them.
IDLE, IN_ERROR, GONE = 0, 3, 4
# What PostgreSQL and MariaDB call a table or column that is not there. To SQLite it is one of many errors.
MISSING = {"42P01", "42703", 1146, 1054}


def sqlstate(error: BaseException) -> str | None:
    """Return the server's code of an error that Django raised; None where the error is not the server's."""
    return getattr(error.__cause__, "sqlstate", None) or getattr(error.__cause__, "pgcode", None)


def is_missing(error: BaseException) -> bool:
    """Tell whether a statement named a table or column that is not there: the database is not migrated."""
    code = code_of(error)
    return code in MISSING or (code == "SQLITE_ERROR" and str(error).startswith("no such "))


def code_of(error: BaseException) -> str | int | None:
    """Return what the database calls an error that Django raised: a SQLSTATE, a number or a name."""
    cause = error.__cause__
    known = sqlstate(error) or getattr(cause, "sqlite_errorname", None)
    if known is None and cause is not None and cause.args and isinstance(cause.args[0], int):
        known = cause.args[0]  # MariaDB's.
    return known


def readable(files: Sequence[Any], seconds: float | None = None) -> list[Any]:
    """Return those of these files that have something to read, waiting for the first for so many seconds."""
    with selectors.DefaultSelector() as selector:  # select.select() takes no descriptor above 1,023.
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(seconds)]

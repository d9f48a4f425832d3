"""What psycopg2 and psycopg 3 say alike of a connection and of an error."""

from __future__ import annotations

# The states of a connection, as libpq numbers them.
IDLE, IN_ERROR, GONE = 0, 3, 4


def sqlstate(error: BaseException) -> str | None:
    """Return the server's code of an error that Django raised; None where the error is not the server's."""
    return getattr(error.__cause__, "sqlstate", None) or getattr(error.__cause__, "pgcode", None)

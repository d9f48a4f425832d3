"""A task leaves its thread's connections as it found them, whatever it did to them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import Error, connections
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from django_dbq.exceptions import TransactionLeftOpen
from django_dbq.store.drivers import GONE, IDLE, IN_ERROR

Depths = dict[Any, int]  # How deep each connection of a thread is in atomic blocks.

_seen = threading.local()  # Its attributes are the aliases that this thread has connections for.


class _Thread(threading.local):
    """The connections that may be open in a thread, as far as it was looked at; None: not at all.

    Most quick tasks open none, and to look the present ones up takes longer than such a task.
    A task may make some of its own: of those that it forgets nothing here is to keep them open.
    """

    known: list[weakref.ref[Any]] | None = None

    def open(self) -> list[Any]:
        found = [ref() for ref in self.known or ()]
        return [each for each in found if each is not None and each.connection is not None]

    def is_open(self) -> bool:
        return self.known is None or bool(self.open())

    def know(self, connections: Iterable[Any]) -> None:
        self.known = [weakref.ref(each) for each in connections]


_thread = _Thread()


@receiver(connection_created)
def _opened(connection: Any, **kwargs: Any) -> None:
    if _thread.known is not None:
        _thread.know({*_thread.open(), connection})


def _present() -> list[Any]:
    """Return this thread's connections. Django's `all` looks each up twice: a tenth of a quick task."""
    seen, aliases = _seen.__dict__, connections.settings
    if not aliases.keys() <= seen.keys():
        seen.update({connection.alias: True for connection in connections.all(initialized_only=True)})
    return [connections[alias] for alias in aliases if alias in seen]


def depths() -> Depths:
    """Return how deep this thread's connections are."""
    return {connection: len(connection.atomic_blocks) for connection in _present()}


def refuse_open_transactions(before: Depths, who: str = "the task") -> None:
    """Raise TransactionLeftOpen where `who` has left this thread's connections deeper, or broken."""
    if not _thread.is_open():
        return
    present = _present()
    # One that a task has put aside, open, may be put in place later.
    _thread.know({*present, *_thread.open()})
    for connection in present:
        if connection.connection is None:
            continue
        depth = before.get(connection, 0)
        if len(connection.atomic_blocks) != depth or (depth == 0 and _in_transaction(connection)):
            raise TransactionLeftOpen(
                f"{who} left a transaction open on database {connection.alias!r};"
                " its writes there were rolled back"
            )
        if depth == 0:
            connection.close_if_unusable_or_obsolete()
        elif _broken(connection):
            raise TransactionLeftOpen(
                f"a statement failed in the transaction on database {connection.alias!r}, which"
                " cannot be committed any more; a nested transaction.atomic() would have kept it whole"
            )


def drop_open_transactions(before: Depths) -> None:
    for connection in _present():
        if connection.connection is None:
            continue
        if depth := before.get(connection, 0):
            while len(connection.atomic_blocks) > depth:
                # As the block itself does for an exception: back to its savepoint.
                connection.atomic_blocks[-1].__exit__(TransactionLeftOpen, None, None)
        elif connection.atomic_blocks or _in_transaction(connection):
            connection.in_atomic_block = False
            connection.atomic_blocks = []
            connection.closed_in_transaction = False
            connection.close()
        else:
            connection.close_if_unusable_or_obsolete()


def close_for_forks() -> None:
    """Close what the project opened while importing, pools too: forked processes must not share it."""
    connections.close_all()
    for connection in connections.all():
        # Only some databases of Django's have one, and it belongs to the process, not to a thread.
        if close_pool := getattr(connection, "close_pool", None):
            close_pool()


def _in_transaction(connection: Any) -> bool:
    if not connection.get_autocommit():
        return True
    raw = connection.connection
    if connection.vendor == "postgresql":
        if raw.info.transaction_status == GONE:
            connection.close()  # The next task gets a new one.
            return False
        return bool(raw.info.transaction_status != IDLE)
    try:
        if connection.vendor == "mysql":
            return _in_transaction_on_mariadb(raw)
        return bool(getattr(raw, "in_transaction", False))
    except connection.Database.Error:  # The task closed it, below Django.
        with suppress(Error):
            connection.close()
        return False


def _in_transaction_on_mariadb(raw: Any) -> bool:
    """Ask the server, past Django: a test may forbid or count its queries. MySQL itself does not tell."""
    if "MariaDB" not in raw.get_server_info():
        return False
    with raw.cursor() as cursor:
        cursor.execute("SELECT @@in_transaction")
        return bool(cursor.fetchone()[0])


def _broken(connection: Any) -> bool:
    """Whether the transaction that this connection is in refuses everything but a rollback."""
    if connection.needs_rollback or connection.vendor != "postgresql":
        return bool(connection.needs_rollback)
    return bool(connection.connection.info.transaction_status == IN_ERROR)


@contextmanager
def statement_errors_undone(before: Depths) -> Iterator[None]:
    """Keep a statement that failed from breaking a transaction around the block.

    A worker has none around a plain task. In a test there is one, and a hook may
    stand in that of its task: PostgreSQL would refuse every later statement in it,
    and Django on any database. Only PostgreSQL has to go back to undo that.
    """
    # The connection's own methods, because Django 6.1 renames one of django.db.transaction's.
    points = {
        connection: connection.savepoint() if connection.vendor == "postgresql" else None
        for connection, depth in before.items()
        if depth and not connection.needs_rollback
    }
    try:
        yield
    finally:
        for connection, point in points.items():
            if connection.connection is None or connection.closed_in_transaction:
                continue
            if len(connection.atomic_blocks) != before[connection]:
                continue  # The block that was left open is undone first.
            broken, connection.needs_rollback = _broken(connection), False
            if point is None:
                continue
            if broken:
                connection.savepoint_rollback(point)
            else:
                connection.savepoint_commit(point)

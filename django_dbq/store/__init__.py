"""The statements: the only code that changes a job's row after its insert."""

from __future__ import annotations

from functools import cache

from django.db import connections

from django_dbq.store.base import Store

__all__ = ["Store", "get_store"]


@cache
def get_store(using: str) -> Store:
    """Return the store of the database `using`."""
    if connections[using].vendor == "postgresql":
        from django_dbq.store.postgres import PostgresStore

        return PostgresStore(using)
    from django_dbq.store.portable import PortableStore

    return PortableStore(using)

"""Databases of a test's own, one for each kind that is at hand, with nothing in them."""

from __future__ import annotations

import secrets
from contextlib import contextmanager

from django.conf import settings
from django.core.management import call_command
from django.db import connections

# Kind -> the alias whose server it lives on.
SERVERS = {
    values["ENGINE"].rpartition(".")[2]: alias
    for alias, values in reversed(settings.DATABASES.items())
    if alias in ("default", "sqlite", "mariadb")
}
KINDS = sorted(SERVERS)


@contextmanager
def empty_database(kind, folder):
    """Make an empty database of this kind known to Django; yield its alias, and drop it at the end."""
    name = f"dbq_{secrets.token_hex(4)}"
    server = connections[SERVERS[kind]]
    values = dict(connections.settings[SERVERS[kind]])
    if kind == "sqlite3":
        values["NAME"] = str(folder / name)
    else:
        values["NAME"] = name
        encoding = " CHARACTER SET utf8mb4" if kind == "mysql" else ""
        with server._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}{encoding}")
    connections.settings[name] = values
    try:
        yield name
    finally:
        connections[name].close()
        del connections[name]
        del connections.settings[name]
        if kind != "sqlite3":
            force = " WITH (FORCE)" if kind == "postgresql" else ""
            with server._nodb_cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name}{force}")


@contextmanager
def connected(alias):
    """Yield a second connection to the database of `alias`."""
    connection = connections.create_connection(alias)
    # It may be closed by the test's thread while another uses it.
    connection.inc_thread_sharing()
    try:
        yield connection
    finally:
        connection.close()


def migrate(alias, target=None):
    call_command("migrate", *(["django_dbq", target] if target else []), database=alias, verbosity=0)


def rows(alias, sql, params=None):
    """Run a statement; return its rows, if it has any."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def schema(alias):
    """Return the job table as the database itself describes it: columns, indexes, constraints."""
    vendor = connections[alias].vendor
    if vendor == "postgresql":
        return rows(
            alias,
            "SELECT 'column', attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull"
            " THEN ' NOT NULL' ELSE '' END || COALESCE(' DEFAULT ' || pg_get_expr(adbin, adrelid), '')"
            " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
            " WHERE attrelid = to_regclass('django_dbq_job') AND attnum > 0 AND NOT attisdropped"
            " UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes"
            " WHERE tablename = 'django_dbq_job'"
            " UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = to_regclass('django_dbq_job') ORDER BY 1, 2",
        )
    if vendor == "sqlite":
        return rows(
            alias, "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = 'django_dbq_job' ORDER BY 2"
        )
    found = rows(alias, "SHOW TABLES LIKE 'django_dbq_job'")
    return rows(alias, "SHOW CREATE TABLE django_dbq_job") if found else []


__all__ = ["KINDS", "connected", "empty_database", "migrate", "rows", "schema"]

"""Changes that a table with live workers can stand."""

import re
import time

from django.db import OperationalError, migrations, transaction

LOCK_SECONDS = 1  # The longest that others wait behind a migration that waits for the table.
PATIENCE_SECONDS = 600


class LockBriefly(migrations.operations.base.Operation):
    """Lock a table for the rest of the migration, without a queue forming behind a long transaction.

    On PostgreSQL whoever waits for a table's lock holds up everyone who comes after. This
    waits a second, lets the others pass, and tries again. It stands first for the way
    forwards and last for the way back.
    """

    reversible = True

    def __init__(self, model_name):
        self.model_name = model_name

    def deconstruct(self):
        return self.__class__.__qualname__, [self.model_name], {}

    def state_forwards(self, app_label, state):
        pass

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        self._lock(app_label, schema_editor, from_state)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        self._lock(app_label, schema_editor, from_state)

    def describe(self):
        return f"Lock the table of {self.model_name}, a second at a time"

    def _lock(self, app_label, schema_editor, state):
        connection = schema_editor.connection
        model = state.apps.get_model(app_label, self.model_name)
        if connection.vendor != "postgresql" or not self.allow_migrate_model(connection.alias, model):
            return
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = 0.1
        while not self._locked(schema_editor, model, may_fail=time.monotonic() > deadline):
            time.sleep(pause)
            pause = min(2 * pause, LOCK_SECONDS)

    def _locked(self, schema_editor, model, may_fail):
        table = schema_editor.quote_name(model._meta.db_table)
        try:
            with transaction.atomic(using=schema_editor.connection.alias):
                schema_editor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'", None)
                schema_editor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", None)
            return True
        except OperationalError as error:
            if may_fail or type(error.__cause__).__name__ != "LockNotAvailable":
                raise
            return False


class NativeUUID(migrations.operations.base.Operation):
    """Give a UUID column MariaDB's own type, where Django expects it.

    Django 5.0 began to use it from MariaDB 10.7 on and leaves columns that older
    versions made as char(32), in which it then finds no row. Older Django can read
    and write the new type. Elsewhere this does nothing.
    """

    reversible = True

    def __init__(self, model_name, name):
        self.model_name = model_name
        self.name = name

    def deconstruct(self):
        return self.__class__.__qualname__, [self.model_name, self.name], {}

    def state_forwards(self, app_label, state):
        pass

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        connection = schema_editor.connection
        model = from_state.apps.get_model(app_label, self.model_name)
        if connection.vendor != "mysql" or not connection.features.has_native_uuid_field:
            return
        if not self.allow_migrate_model(connection.alias, model):
            return
        table, column = model._meta.db_table, model._meta.get_field(self.name).column
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE()"
                " AND table_name = %s AND column_name = %s AND data_type = 'char'",
                [table, column],
            )
            if cursor.fetchone():
                quote = schema_editor.quote_name
                schema_editor.execute(
                    f"ALTER TABLE {quote(table)} MODIFY {quote(column)} uuid NOT NULL", None
                )

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        pass

    def describe(self):
        return f"Store {self.name} of {self.model_name} as MariaDB's uuid"


class AddIndexOnline(migrations.AddIndex):
    """Add an index, on PostgreSQL concurrently.

    A migration that uses it is not atomic, and may have to run again after it was cut
    off: what is there is kept, and an index whose build was cut off is built anew.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self._applies(schema_editor, model):
            return
        how = {"concurrently": True} if _concurrently(schema_editor) else {}
        statement = self.index.create_sql(model, schema_editor, **how)
        _create(schema_editor, model._meta.db_table, self.index.name, statement)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        if not self._applies(schema_editor, model):
            return
        table = model._meta.db_table
        found = [index for index in _indexes(schema_editor, table) if index.name == self.index.name]
        _drop(schema_editor, table, found, [self.index.name])

    def _applies(self, schema_editor, model):
        connection = schema_editor.connection
        able = connection.features.supports_expression_indexes or not self.index.contains_expressions
        # Without its condition an index on the key would be a second one on the same rows, and whoever locks
        # them through the one might wait in a circle with who locks them through the other.
        if self.index.condition is not None and self.index.fields == [model._meta.pk.name]:
            able = connection.features.supports_partial_indexes
        return able and self.allow_migrate_model(connection.alias, model)


class DropFieldIndex(migrations.AlterField):
    """Take `db_index` off a field, and its indexes from the table while workers use it.

    Only those that Django made go; a project's own stay. MariaDB and MySQL have no
    partial indexes: there the original's are what a claim uses, and all stay.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        if not self._applies(schema_editor, model):
            return
        table, field = model._meta.db_table, model._meta.get_field(self.name)
        # Before Django 2.0 the column was no part of the name.
        made_by_django = re.compile(rf"{table}_({field.column}_)?[0-9a-f]{{8}}(_like)?")
        found = [
            index
            for index in _indexes(schema_editor, table)
            if index.column == field.column and made_by_django.fullmatch(index.name)
        ]
        names = [name for name, _ in self._definitions(schema_editor, table, field)]
        _drop(schema_editor, table, found, names)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self._applies(schema_editor, model):
            return
        table, quote = model._meta.db_table, schema_editor.quote_name
        how = _concurrently(schema_editor)
        for name, columns in self._definitions(schema_editor, table, model._meta.get_field(self.name)):
            statement = f"CREATE INDEX {how}{quote(name)} ON {quote(table)} ({columns})"
            _create(schema_editor, table, name, statement)

    def _definitions(self, schema_editor, table, field):
        """Return the indexes that `db_index` means, as Django makes them: names and columns."""
        column = schema_editor.quote_name(field.column)
        made = [(schema_editor._create_index_name(table, [field.column], suffix=""), column)]
        if schema_editor.connection.vendor == "postgresql" and field.get_internal_type() == "CharField":
            name = schema_editor._create_index_name(table, [field.column], suffix="_like")
            made.append((name, f"{column} varchar_pattern_ops"))
        return made

    def _applies(self, schema_editor, model):
        connection = schema_editor.connection
        return connection.vendor in ("postgresql", "sqlite") and self.allow_migrate_model(
            connection.alias, model
        )


class _Index:
    def __init__(self, name, quoted, valid, column):
        self.name = name
        self.quoted = quoted  # With its schema, where the search path would find another.
        self.valid = valid
        self.column = column  # Of a plain index on one column, else None.


def _indexes(schema_editor, table):
    """Return the indexes of the table that the search path leads to."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT class.relname, class.oid::regclass::text, index.indisvalid,"
                " CASE WHEN index.indnatts = 1 AND index.indpred IS NULL AND NOT index.indisunique"
                " THEN attribute.attname END"
                " FROM pg_index AS index JOIN pg_class AS class ON class.oid = index.indexrelid"
                " LEFT JOIN pg_attribute AS attribute"
                " ON attribute.attrelid = index.indrelid AND attribute.attnum = index.indkey[0]"
                " WHERE index.indrelid = to_regclass(%s)",
                [schema_editor.quote_name(table)],
            )
            return [_Index(*row) for row in cursor.fetchall()]
        if table not in connection.introspection.table_names(cursor):
            return []
        found = connection.introspection.get_constraints(cursor, table)
    plain = {
        name: what["columns"][0]
        for name, what in found.items()
        if what["index"] and not what["unique"] and len(what["columns"]) == 1
    }
    return [_Index(name, schema_editor.quote_name(name), True, plain.get(name)) for name in found]


def _create(schema_editor, table, name, statement):
    """Create an index, unless it is there; what an interrupted build left of it goes first."""
    found = [index for index in _indexes(schema_editor, table) if index.name == name]
    if schema_editor.collect_sql or not any(index.valid for index in found):
        _drop(schema_editor, table, [index for index in found if not index.valid])
        schema_editor.execute(statement, None)


def _drop(schema_editor, table, found, names=()):
    """Drop the indexes `found`; sqlmigrate, on a database without them, shows those that `names` tells."""
    quoted = [index.quoted for index in found]
    if schema_editor.collect_sql and not quoted:
        quoted = [schema_editor.quote_name(name) for name in names]
    for index in quoted:
        if schema_editor.connection.vendor == "mysql":
            statement = f"DROP INDEX {index} ON {schema_editor.quote_name(table)}"
        else:
            statement = f"DROP INDEX {_concurrently(schema_editor)}IF EXISTS {index}"
        schema_editor.execute(statement, None)


def _concurrently(schema_editor):
    """Return the keyword, where it exists and no transaction (of a test, say) forbids it."""
    connection = schema_editor.connection
    online = connection.vendor == "postgresql" and not connection.in_atomic_block
    return "CONCURRENTLY " if online else ""

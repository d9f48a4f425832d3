"""Index changes that a table with live workers can stand."""

from django.db import migrations


class AddIndexOnline(migrations.AddIndex):
    """Add an index; on PostgreSQL concurrently, and again when an earlier try was cut off.

    A migration that uses it is not atomic.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor != "postgresql":
            return super().database_forwards(app_label, schema_editor, from_state, to_state)
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            # What an interrupted build leaves behind is an invalid index under this name.
            schema_editor.remove_index(model, self.index, concurrently=True)
            schema_editor.add_index(model, self.index, concurrently=True)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor != "postgresql":
            return super().database_backwards(app_label, schema_editor, from_state, to_state)
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.remove_index(model, self.index, concurrently=True)


class DropFieldIndex(migrations.AlterField):
    """Take `db_index` off a field, and its indexes from the table while workers use it.

    MariaDB and MySQL have no partial indexes: there the original's single-column
    ones are what a claim uses, and they stay.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        if not self._applies(schema_editor, model):
            return
        connection = schema_editor.connection
        column = model._meta.get_field(self.name).column
        with connection.cursor() as cursor:
            found = connection.introspection.get_constraints(cursor, model._meta.db_table)
        for name, what in found.items():
            # This app's own indexes carry names of their own and are left.
            if what["columns"] == [column] and what["index"] and not name.startswith("dbq_"):
                self._drop(schema_editor, name)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self._applies(schema_editor, model):
            return
        field = model._meta.get_field(self.name)
        table, quote = model._meta.db_table, schema_editor.quote_name
        postgresql = schema_editor.connection.vendor == "postgresql"
        # For text Django makes a second one on PostgreSQL, for LIKE.
        suffixes = ["", "_like"] if postgresql and field.get_internal_type() == "CharField" else [""]
        for suffix in suffixes:
            name = schema_editor._create_index_name(table, [field.column], suffix=suffix)
            self._drop(schema_editor, name)
            how = "CONCURRENTLY " if postgresql else ""
            operators = " varchar_pattern_ops" if suffix else ""
            schema_editor.execute(
                f"CREATE INDEX {how}{quote(name)} ON {quote(table)} ({quote(field.column)}{operators})"
            )

    def _applies(self, schema_editor, model):
        connection = schema_editor.connection
        return connection.vendor in ("postgresql", "sqlite") and self.allow_migrate_model(
            connection.alias, model
        )

    def _drop(self, schema_editor, name):
        how = "CONCURRENTLY " if schema_editor.connection.vendor == "postgresql" else ""
        schema_editor.execute(f"DROP INDEX {how}IF EXISTS {schema_editor.quote_name(name)}")

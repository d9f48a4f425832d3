"""What the contenders that are Django apps share."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from benchmarks.contender import Contender


class DjangoBench(Contender):
    environ: ClassVar = {"DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
    tables: ClassVar[tuple[str, ...]] = ()  # To be emptied.

    def __init__(self) -> None:
        super().__init__()
        import django

        django.setup()

    def prepare(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        self.sql("CREATE TABLE bench_written (id bigserial PRIMARY KEY, text text)")

    def reset(self) -> None:
        self.sql(f"TRUNCATE {', '.join(self.tables)}, bench_written")
        self.sql("CHECKPOINT")

    def sql(self, statement: str, *values: Any) -> Any:
        """Run a statement; return its rows, if it has any."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else None

    def command(self, *args: str) -> list[str]:
        """Return how to run a management command."""
        return [sys.executable, "-m", "django", *args]

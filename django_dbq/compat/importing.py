"""What the importers of other packages' rows share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, models

BATCH = 1_000


@dataclass(slots=True)
class Moved:
    """What an importer has moved, and what it has left where it was."""

    text: str
    left: list[str] = field(default_factory=list)  # Row, or rows, and reason.


def has_table(model: type[models.Model], using: str) -> bool:
    """Tell whether a database has the table of a model."""
    return model._meta.db_table in connections[using].introspection.table_names()


def pages(rows: models.QuerySet[Any]) -> Iterator[list[Any]]:
    """Yield rows in the order of their ids, not all at once."""
    last = None
    while page := list((rows if last is None else rows.filter(pk__gt=last)).order_by("pk")[:BATCH]):
        yield page
        last = page[-1].pk


def counted(what: str, by_function: Counter[str]) -> Iterator[str]:
    """Yield how many there are, of each function."""
    yield f"{what}={by_function.total()}"
    for name, number in sorted(by_function.items()):
        yield f"  {name} {number}"

"""What the parts of a store that are the same for every database build on."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

from django.db import transaction


class Part(ABC):
    """One database, its clock and its transactions."""

    def __init__(self, using: str) -> None:
        self.using = using

    @abstractmethod
    def clock(self) -> datetime.datetime:
        """Return the time by the database's clock."""

    def write(self) -> AbstractContextManager[Any]:
        """Return a transaction that is going to write."""
        return transaction.atomic(using=self.using)

    def announce(self, queue_names: Collection[str]) -> None:
        """Wake the workers of these queues once the present transaction commits."""

"""Times as a project's rows hold them, whatever its USE_TZ says."""

from __future__ import annotations

import datetime
from typing import TypeVar

from django.conf import settings
from django.utils import timezone

T = TypeVar("T", datetime.datetime, datetime.datetime | None)


def aware(moment: datetime.datetime) -> datetime.datetime:
    """Return a time of a row as one with a zone."""
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


def stored(moment: T) -> T:
    """Return a time with a zone as rows hold it."""
    return moment if moment is None or settings.USE_TZ else timezone.make_naive(moment)

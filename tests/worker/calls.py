"""Functions that the workers of the tests call."""

from __future__ import annotations

from tests.models import Row


def leave(text):
    Row.objects.create(text=text)


def count(prefix):
    """Return how many rows of this prefix there are, and leave one that tells."""
    found = Row.objects.filter(text__startswith=f"{prefix} ").count()
    Row.objects.create(text=f"{prefix}: {found}")
    return found


def fail_until_mended(text):
    if not Row.objects.filter(text="mended").exists():
        raise ValueError("uh oh")
    leave(text)

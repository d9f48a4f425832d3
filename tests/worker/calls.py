"""Functions that the workers of the tests call."""

from __future__ import annotations

from tests.models import Row


def leave(text):
    Row.objects.create(text=text)


def count(prefix):
    """Leave a row, and return how many of this prefix there were before."""
    # Written first: on SQLite a transaction that has read may find that it can no longer write.
    Row.objects.create(text=f"{prefix}: counted")
    return Row.objects.filter(text__startswith=f"{prefix} ").count()


def fail_until_mended(text):
    if not Row.objects.filter(text="mended").exists():
        raise ValueError("uh oh")
    leave(text)

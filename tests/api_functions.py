"""Functions that the HTTP API's tests open, and what lies beside them."""

import os  # Found here too, by who looks for it.
from os import system

from tests.models import Row

NUMBER = 5


class Broke(Exception):
    pass


class Till:
    bought = os

    @staticmethod
    def close():
        pass

    @classmethod
    def named(cls):
        return cls.__name__


class _Hidden:
    @staticmethod
    def close():
        pass


by_name = system  # Whoever opens this by its path means it.


def anything(*args, **kwargs):
    pass


def add(left, right):
    return left + right


def _private():
    pass


_failed = []


def fail_once():
    if not _failed:
        _failed.append(True)
        raise ValueError("the first time")


def write_and_fail(job):
    Row.objects.create(text="written by the hook")
    raise RuntimeError("the secret of the hook")

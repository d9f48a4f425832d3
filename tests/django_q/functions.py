"""Functions that the tests call as tasks."""

from __future__ import annotations

import datetime
import decimal
import uuid

from tests.models import Row

HERE = "tests.django_q.functions"

ENDED = []  # What hooks were given.


def note(task):
    ENDED.append(task)


def note_group(task):
    ENDED.append((task.group_count(), task.group_count(failures=True), task.group_result()))


def broken_hook(task):
    Row.objects.create(text="of the hook")
    raise ValueError("the hook is broken")


def fail(*args, **kwargs):
    raise ValueError("uh oh")


def write(text):
    Row.objects.create(text=text)
    return text


def add(*numbers):
    return sum(numbers)


def echo(*args, **kwargs):
    return args, kwargs


def typed():
    return (
        datetime.date(2026, 1, 2),
        decimal.Decimal("1.10"),
        uuid.UUID(int=5),
        {"$": [1, (2,)]},
    )


def unkeepable():
    return {1, 2}


def fail_once():
    if not Row.objects.exists():
        Row.objects.create(text="failed")
        raise ValueError("not yet")
    return "at last"


class Kept:
    @staticmethod
    def double(number):
        return 2 * number

    @classmethod
    def name(cls):
        return cls.__name__

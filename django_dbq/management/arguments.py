"""Types of arguments that several commands take."""

from __future__ import annotations

from argparse import ArgumentTypeError

AGE_MAX = 300_000  # Of days: no database has to look at times before the year 1000.


def positive(text: str) -> int:
    """Return a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def age(text: str) -> int:
    """Return a whole number from 0 on, of hours or days."""
    if not text.isdecimal() or int(text) > AGE_MAX:
        raise ArgumentTypeError(f"must be a whole number from 0 to {AGE_MAX}, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError(f"must be a number of seconds from 0 on, not {text!r}")
    return number

"""Arguments and results of calls as JSON, from which they come back as what they were.

JSON's own values stand as they are. A value of another known type is an object with
the one key "$" and a pair: {"$": ["decimal", "1.10"]}. An object of the caller's that
has that key is written the same way, as {"$": ["dict", …]}. What is of a subclass of
text, of numbers or of dates (a SafeString, a member of TextChoices) comes back as one
of the class itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

TAG = "$"
NESTING_MAX = 100  # A worker, deeper in its stack than the caller, has to read it.
BITS_MAX = 14_000  # Python reads back integers of 4,300 digits, and no longer ones.


class NotEncodable(ValueError):
    """Raised for a value that JSON cannot hold; the message begins with where it stands."""


def encode(value: Any, where: str) -> Any:
    """Return `value` as what JSON holds. Raises NotEncodable, naming the place within `where`."""
    return _encode(value, where, 0)


def decode(value: Any) -> Any:
    """Return what `encode` was given. Raises ValueError for what it did not write."""
    if isinstance(value, list):
        return [decode(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {TAG}:
        return {key: decode(part) for key, part in value.items()}
    kind, text = value[TAG]
    if kind not in _READ:
        raise ValueError(f"an argument is of the unknown type {kind!r}; it was written by a newer version")
    return _READ[kind](text)


def _encode(value: Any, where: str, depth: int) -> Any:
    value = _plain(value)
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        if value.bit_length() > BITS_MAX:
            raise NotEncodable(f"{where} is an integer of too many digits to be read back")
        return value
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise NotEncodable(f"{where} is {value}, which JSON does not have")
        return value
    if depth > NESTING_MAX:
        raise NotEncodable(f"{where[:80]}…: nested more than {NESTING_MAX} deep, or holds itself")
    if kind is list:
        return [_encode(part, f"{where}[{index}]", depth + 1) for index, part in enumerate(value)]
    if kind is tuple:
        return {TAG: ["tuple", _encode(list(value), where, depth)]}
    if kind is dict:
        return _encode_dict(value, where, depth)
    for known, (name, write) in _WRITE.items():
        if isinstance(value, known):
            return {TAG: [name, write(value)]}
    raise NotEncodable(
        f"{where} is a {kind.__module__}.{kind.__qualname__} ({_shown(value)}), which {_advice(value)}"
    )


def _plain(value: Any) -> Any:
    """Return what is of a subclass of a class that JSON or this module knows as one of that class."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return value


def _encode_dict(value: dict[Any, Any], where: str, depth: int) -> Any:
    for key in value:
        if type(key) is not str:
            raise NotEncodable(f"{where} has the key {key!r}, which is not a string")
    plain = {key: _encode(part, f"{where}[{key!r}]", depth + 1) for key, part in value.items()}
    return {TAG: ["dict", plain]} if plain.keys() == {TAG} else plain


def _shown(value: Any) -> str:
    try:
        return repr(value)[:80]
    except Exception:
        return "without a repr"


def _advice(value: Any) -> str:
    if hasattr(value, "_meta") and hasattr(value, "pk"):
        return "is a row: pass its key, and load it in the function"
    return "JSON does not hold: pass what it can be made from"


_WRITE: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
}

_READ: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda value: timedelta(*value),
    "decimal": Decimal,
    "uuid": UUID,
    "tuple": lambda value: tuple(decode(value)),
    "dict": lambda value: {key: decode(part) for key, part in value.items()},
}

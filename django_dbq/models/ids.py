"""The ids of jobs: time-ordered, so that the newest rows and index entries stand together."""

from __future__ import annotations

import os
import threading
import time
import uuid

_uuid7_lock = threading.Lock()
_uuid7_last = 0


def _begin_anew() -> None:
    """Forget the parent's last id: its children would count up from it to the same ones."""
    global _uuid7_lock, _uuid7_last
    _uuid7_lock, _uuid7_last = threading.Lock(), 0  # Another thread of the parent may have held the lock.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def read_uuid(text: str) -> uuid.UUID:
    """Return the UUID that a database has written, as UUID(text) does in twice the time."""
    found = uuid.UUID.__new__(uuid.UUID)
    object.__setattr__(found, "int", int(text.replace("-", ""), 16))
    object.__setattr__(found, "is_safe", uuid.SafeUUID.unknown)
    return found


def uuid7() -> uuid.UUID:
    """Return a time-ordered UUID (RFC 9562, version 7), growing within this process."""
    global _uuid7_last
    fresh = (time.time_ns() // 1_000_000) << 74 | int.from_bytes(os.urandom(10), "big") >> 6
    with _uuid7_lock:
        # Within a millisecond, or when the clock was set back a little, count up instead.
        behind = _uuid7_last - fresh
        if 0 <= behind < 10_000 << 74:
            fresh = _uuid7_last + 1
        _uuid7_last = fresh
    stamp, rest = fresh >> 74, fresh & ((1 << 74) - 1)
    return uuid.UUID(int=stamp << 80 | 0x7 << 76 | (rest >> 62) << 64 | 0b10 << 62 | rest & ((1 << 62) - 1))

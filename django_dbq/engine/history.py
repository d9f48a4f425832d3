"""What a workspace was before and after each attempt, rebuilt from the changes that each noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Value:
    """What stood under a key: a value, nothing, or what nobody has noted."""

    kind: str  # "known", "absent", "unknown" (something stood there) or "perhaps" (or nothing).
    value: Any = None


ABSENT = Value("absent")
UNKNOWN = Value("unknown")
PERHAPS = Value("perhaps")

Workspace = dict[str, Value]


@dataclass(slots=True)
class Step:
    """A workspace before and after one attempt."""

    before: Workspace
    after: Workspace
    changed: list[str]  # The keys that the attempt set or unset.


def rebuild(
    changes: Sequence[Mapping[str, Any] | None], end: Mapping[str, Any]
) -> tuple[list[Step], list[str]]:
    """Return a step for each of the attempts' changes, oldest first, and the keys that do not add up.

    `end` is the workspace as it now is. A key that no attempt noted has stood there all the
    time. Where a key does not end as the last attempt to note it says, somebody has saved the
    workspace besides: such keys are named, and what is told of them is what the attempts noted.
    """
    notes = [
        (dict((change or {}).get("set", {})), list((change or {}).get("unset", ()))) for change in changes
    ]
    keys = [*dict.fromkeys([*end, *(key for put, gone in notes for key in (*put, *gone))])]
    steps = [Step({}, {}, [*put, *gone]) for put, gone in notes]
    contradicted = []
    for key in keys:
        now = Value("known", end[key]) if key in end else ABSENT
        value = _first(key, notes, now)
        for step, (put, gone) in zip(steps, notes, strict=True):
            step.before[key] = value
            value = Value("known", put[key]) if key in put else ABSENT if key in gone else value
            step.after[key] = value
        if value != now:
            contradicted.append(key)
    return steps, contradicted


def _first(key: str, notes: Sequence[tuple[dict[str, Any], list[str]]], now: Value) -> Value:
    """Return what stood under a key before the first attempt."""
    for put, gone in notes:
        if key in gone:
            return UNKNOWN
        if key in put:
            return PERHAPS
    return now

"""A workspace as JSON text: written strictly, with the key at fault named, and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from django_dbq.exceptions import WorkspaceError

_SUSPECT = re.compile(r"\\u(?:0000|d[89a-f])", re.IGNORECASE)
_NESTING_MAX = 1_000  # Of what is searched for a fault; the encoder's own limit is near.


@cache
def _encoder(kind: type[json.JSONEncoder]) -> json.JSONEncoder:
    return kind(allow_nan=False)


def encode(
    value: Any,
    *,
    encoder: type[json.JSONEncoder],
    bytes_max: int,
    what: str = "workspace",
) -> str:
    """Return `value` as ASCII JSON text.

    Raises WorkspaceError, naming the key, for what the encoder cannot write, for
    NaN and infinity, for NUL and lone surrogates (no database here stores them as
    JSON), and for text over `bytes_max`.
    """
    try:
        text = _encoder(encoder).encode(value)  # type: ignore[arg-type]  # A class can be hashed.
    except Exception as error:  # An encoder asks values for their text: a lazy one may raise anything.
        for path, part in _leaves(value, what):
            try:
                json.dumps(part, cls=encoder, allow_nan=False)
            except Exception as fault:
                raise WorkspaceError(f"{path}: {fault}") from error
        raise WorkspaceError(f"{what}: {error or type(error).__name__}") from error
    if len(text) > bytes_max:
        raise WorkspaceError(
            f"{what} is {len(text):,} bytes as JSON; at most {bytes_max:,} are kept"
            ' (DBQ["WORKSPACE_BYTES_MAX"]). Store the data elsewhere and keep its key here.'
        )
    if "\\u" in text and _SUSPECT.search(text):
        for path, part in _leaves(value, what):
            if not isinstance(part, (str, int, float, type(None))):
                part = json.loads(json.dumps(part, cls=encoder))  # A lazy string, say.
            if isinstance(part, str) and not storable(part):
                raise WorkspaceError(
                    f"{path}: holds a NUL or half a surrogate pair, which JSON columns refuse"
                )
    return text


def storable(text: str) -> bool:
    """Tell whether a database can keep `text`: no NUL, no lone surrogate."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def printable(text: str) -> str:
    """Return `text` with what no database can keep replaced by a question mark."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")


def changes(before: Any, after: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a task did to the top level of its workspace, or None for nothing.

    The form is {"set": {key: new value}, "unset": [key]}, either part left out when empty.
    What was no dictionary before had no keys.
    """
    before = before if isinstance(before, dict) else {}
    put = {k: v for k, v in after.items() if k not in before or before[k] != v}
    gone = [k for k in before if k not in after]
    found = {"set": put} if put else {}
    return {**found, "unset": gone} if gone else found or None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what is neither list nor dictionary, with its path; raise WorkspaceError for a bad key.

    Not recursive, and strict about circles: it walks what the encoder could not.
    """
    parts: list[Iterator[tuple[str, Any]]] = [iter([(path, value)])]
    above: list[int] = []
    while parts:
        found = next(parts[-1], None)
        if found is None:
            parts.pop()
            del above[len(parts) - 1 :]
            continue
        path, value = found
        if not isinstance(value, (dict, list, tuple)):
            yield path, value
            continue
        if id(value) in above:
            raise WorkspaceError(f"{path}: holds itself, which JSON cannot show")
        if len(above) > _NESTING_MAX:
            raise WorkspaceError(f"{path[:80]}…: nested more than {_NESTING_MAX:,} deep")
        above.append(id(value))
        parts.append(_parts(value, path))


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield from ((f"{path}[{index}]", part) for index, part in enumerate(value))
        return
    for key, part in value.items():
        if not isinstance(key, (str, int, float, bool, type(None))):
            raise WorkspaceError(f"{path}: the key {key!r} is not a string")
        if isinstance(key, str) and not storable(key):
            raise WorkspaceError(f"{path}: the key {key!r} holds a NUL or half a surrogate pair")
        yield f"{path}[{key!r}]", part

"""Which functions DBQ["API_FUNCTIONS"] opens to those who only write a path.

The right to add jobs or schedules is not the right to run whatever the server has, `os.system` among it.
So nothing is imported that the setting does not open.
"""

from __future__ import annotations

from django_dbq import calls, conf


def refusal_of(path: str, edge: str) -> str | None:
    """Return why a function is not open to `edge`, such as "the HTTP API"; None where it is.

    Raises CallError for a path below an open prefix that leads to no function.
    """
    prefixes = _prefixes(path)
    if (refusal := refusal_by_name(path, edge)) is not None or not prefixes:
        return refusal
    # What a module imports is found in it too: a prefix opens what is defined below it.
    found = calls.resolve(calls.path_of(path))
    home = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
    if home.startswith(prefixes):
        return None
    return _closed(path, edge, f" ({prefixes[0]}* opens what is defined there, and this is not)")


def refusal_by_name(path: str, edge: str) -> str | None:
    """Return what `refusal_of` says of a path before it imports anything: for an exception, that is all."""
    if path in conf.options().API_FUNCTIONS:
        return None
    if not (prefixes := _prefixes(path)):
        return _closed(path, edge)
    if any(part.startswith("_") for part in path.removeprefix(max(prefixes, key=len)).split(".")):
        return _closed(path, edge, f" ({prefixes[0]}* opens no private names)")
    return None


def _prefixes(path: str) -> tuple[str, ...]:
    """Return the prefixes that a path is below; none where it is open by itself."""
    paths = conf.options().API_FUNCTIONS
    if path in paths:
        return ()
    return tuple(entry[:-1] for entry in paths if entry.endswith(".*") and path.startswith(entry[:-1]))


def _closed(path: str, edge: str, why: str = "") -> str:
    return f'{path!r} is not open to {edge}{why}. Whoever runs the server can add it to DBQ["API_FUNCTIONS"].'

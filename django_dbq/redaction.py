"""Values that nobody is to read: what stands under a key that DBQ["REDACT"] names is shown as stars."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from django_dbq import conf

MASK = "********"


def redact(value: Any) -> Any:
    """Return a copy of `value` with what stands under a secret's key replaced by stars, at any depth.

    A key is a secret's when it contains one of DBQ["REDACT"], in upper or lower case.
    """
    patterns = _lowered(conf.options().REDACT)
    return _redact(value, patterns) if patterns else value


def redact_text(text: str) -> str:
    """Return `text` with the values masked that it gives as `key=value`, `key: value` or `"key": "value"`.

    What a text says in any other way is not found: it has no keys.
    """
    patterns = _lowered(conf.options().REDACT)
    return _written(patterns).sub(_masked, text) if patterns else text


def mask_traceback(record: logging.LogRecord) -> bool:
    """Mask what a log record tells of errors. A filter of a logger.

    A traceback in which something was masked is all that is left of the error: a formatter or
    a reporter of errors that reads the exception itself would show what it says.
    """
    if isinstance(record.args, tuple):
        record.args = tuple(
            redact_text(str(arg)) if isinstance(arg, BaseException) else arg for arg in record.args
        )
    if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
        told = logging.Formatter().formatException(record.exc_info)
        record.exc_text = redact_text(told)
        if record.exc_text != told:
            record.exc_info = None
    return True


def restore(value: Any, original: Any) -> Any:
    """Return `value`, as it came back from somebody who was shown `redact(original)`, with its secrets."""
    if value == MASK:
        return original
    if isinstance(value, dict) and isinstance(original, dict):
        return {key: restore(part, original.get(key, part)) for key, part in value.items()}
    if isinstance(value, list) and isinstance(original, (list, tuple)):
        return [
            restore(part, original[index]) if index < len(original) else part
            for index, part in enumerate(value)
        ]
    return value


def is_masked(value: Any) -> bool:
    """Tell whether stars stand anywhere in `value`."""
    if isinstance(value, dict):
        return any(map(is_masked, value.values()))
    return any(map(is_masked, value)) if isinstance(value, (list, tuple)) else bool(value == MASK)


def _lowered(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(pattern.lower() for pattern in patterns)


def _is_secret(key: Any, patterns: tuple[str, ...]) -> bool:
    lowered = str(key).lower()
    return any(pattern in lowered for pattern in patterns)


def _redact(value: Any, patterns: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {
            key: MASK if _is_secret(key, patterns) else _redact(part, patterns) for key, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_redact(part, patterns) for part in value]
    return value


@lru_cache(maxsize=8)
def _written(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds a secret's key with its value in a text.

    A key ends where a value begins, so KeyError: 'name' would look like one; names of errors do not count.
    """
    names = "|".join(map(re.escape, patterns))
    return re.compile(
        rf"""(?P<key>(?<![\w.-])(?P<quote>["']?)(?![\w.-]*(?:error|exception|warning)\b)"""
        rf"""[\w.-]*(?:{names})[\w.-]*(?P=quote)\s*(?:=>|[=:])\s*)"""
        r"""(?:"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?|(?:(?:basic|bearer|token)\s+)?[^\s,;&)\]}"']+)""",
        re.IGNORECASE,
    )


def _masked(found: re.Match[str]) -> str:
    return f"{found['key']}{MASK}"

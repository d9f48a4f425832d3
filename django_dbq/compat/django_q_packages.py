"""Reads what django-q has in its queue: a pickle, signed.

Nothing is unpickled before its signature holds, and nothing is imported or called then
but the few types below: every other function or class becomes its dotted path.
"""

from __future__ import annotations

import datetime
import io
import pickle
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.core import signing

from django_dbq.compat.django_q_settings import signer_name
from django_dbq.exceptions import CallError


def read(payload: str) -> dict[str, Any]:
    """Return the task of a row of django-q's queue. Raises CallError for what this project did not sign."""
    try:
        task = signing.loads(payload, salt=signer_name(), serializer=_Serializer)  # type: ignore[arg-type]
    except signing.BadSignature as error:
        raise CallError(
            "its signature does not hold, so it was not read: SECRET_KEY (or one of SECRET_KEY_FALLBACKS)"
            " and Q_CLUSTER['name'] have to be what they were when it was queued"
        ) from error
    except Exception as error:  # Of a pickle that is signed but broken, or from another version.
        raise CallError(f"it cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(task, dict):
        raise CallError(f"it is no task, but {task!r:.80}")
    return task


def path_of(value: Any) -> Any:
    """Return the dotted path of a function that was pickled; anything else as it is."""
    return str(value) if isinstance(value, Reference) else value


class _Serializer:  # Only to read with.
    def loads(self, data: bytes) -> Any:
        return _Unpickler(io.BytesIO(data)).load()


class Reference(type):
    """A function or class by its path. What a pickle makes by calling it is an instance: a stand-in."""

    def __new__(cls, module: str, name: str) -> Reference:
        return super().__new__(cls, name, (_StandIn,), {"__module__": module, "__qualname__": name})

    def __init__(cls, module: str, name: str) -> None:
        super().__init__(name, (_StandIn,), {})

    def __repr__(cls) -> str:
        return f"{cls.__module__}.{cls.__qualname__}"


class _StandIn:
    """In place of an object that was not made; it takes and forgets what a pickle would do to it."""

    _args: tuple[Any, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = args

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self._args!r}"

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get(f"{module}.{name}") or Reference(module, name)


def _attribute(owner: Any, name: str) -> Any:
    """In place of getattr(), by which a class method is pickled."""
    if not isinstance(owner, Reference) or not isinstance(name, str):
        return Reference("builtins", "getattr")(owner, name)
    return _KNOWN.get(f"{owner!r}.{name}") or Reference(owner.__module__, f"{owner.__qualname__}.{name}")


def _zone(key: str, from_cache: bool) -> ZoneInfo:
    return ZoneInfo(key)


_KNOWN: dict[str, Callable[..., Any]] = {
    "builtins.getattr": _attribute,
    "collections.OrderedDict": dict,
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.time": datetime.time,
    "datetime.timedelta": datetime.timedelta,
    "datetime.timezone": datetime.timezone,
    "decimal.Decimal": Decimal,
    "django.utils.safestring.SafeString": str,
    "uuid.UUID": uuid.UUID,
    "zoneinfo.ZoneInfo._unpickle": _zone,
}

"""The JSON columns of a job: as text, by the limits of the settings, and as what a row may hold instead."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from django_dbq import conf
from django_dbq.engine.workspace import encode
from django_dbq.exceptions import WorkspaceError


def encode_workspace(workspace: Any, what: str = "workspace") -> str:
    """Return `workspace` as JSON text. Raises WorkspaceError naming what is wrong."""
    if not isinstance(workspace, dict):
        kind = type(workspace).__name__
        raise WorkspaceError(f"{what} must be a dictionary (a JSON object), not {kind}")
    if not workspace:
        return "{}"
    bytes_max = conf.options().WORKSPACE_BYTES_MAX
    return encode(workspace, encoder=DjangoJSONEncoder, bytes_max=bytes_max, what=what)


def encode_result(result: Any) -> str:
    """Return a job's result as JSON text. Raises WorkspaceError naming what is wrong."""
    return encode(
        result,
        encoder=DjangoJSONEncoder,
        bytes_max=conf.options().WORKSPACE_BYTES_MAX,
        what="result",
    )


def decode_workspace(text: str | None) -> Any:
    """Return the workspace that `text` holds; a row without one has an empty workspace."""
    if not text or text == "{}":
        return {}
    return decode(text) or {}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands for JSON that Python cannot read: a number of 5,000 digits, written by somebody's SQL.

    It can be shown, and replaced. It is never written.
    """

    text: str
    why: str

    def __str__(self) -> str:
        return f"cannot be read ({self.why})"


def decode(text: str) -> Any:
    """Return the value of JSON text, or what says that it cannot be read. One row must not stop a worker."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return Unreadable(text, str(error).partition(";")[0])


class JSONField(models.JSONField):
    """Django's own, to migrations too, but for values that cannot be read."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        try:
            return super().from_db_value(value, expression, connection)
        except (ValueError, RecursionError):
            return decode(value)

    def deconstruct(self) -> Any:
        name, _, *rest = super().deconstruct()
        return name, "django.db.models.JSONField", *rest

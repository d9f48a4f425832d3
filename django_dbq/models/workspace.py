"""The JSON columns of a job as text, by the limits of the settings."""

from __future__ import annotations

import json
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

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


def decode_workspace(text: str | None) -> dict[str, Any]:
    """Return the workspace that `text` holds; a row without one has an empty workspace."""
    if not text or text == "{}":
        return {}
    return json.loads(text) or {}

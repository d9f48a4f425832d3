"""How values are shown: JSON, durations, times, states."""

from __future__ import annotations

import datetime
import json
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html

from django_dbq.engine.arguments import decode
from django_dbq.engine.lifecycle import UNSUCCESSFUL, State
from django_dbq.models import Unreadable
from django_dbq.redaction import redact, redact_text

VALUE_MAX = 2_000  # Characters of one value.
WHOLE_MAX = 20_000  # And of a whole workspace, result or error.

TONES: dict[str, str] = {
    State.COMPLETE: "good",
    State.FAILED: "bad",
    State.PROCESSING: "busy",
    State.STOPPING: "busy",
}
OUTCOME_TONES = {"done": "good", "finish": "good", "goto": "good", **dict.fromkeys(UNSUCCESSFUL, "bad")}


def as_json(value: Any, most: int = WHOLE_MAX) -> str:
    """Return a value as JSON text for people, its secrets masked, cut where it is long."""
    if isinstance(value, Unreadable):
        return cut(f"It {value}:\n{redact_text(value.text)}", most)
    return cut(json.dumps(redact(value), indent=2, ensure_ascii=False, default=str), most)


def as_values(value: Any) -> str:
    """Return what a call was given, or has returned, as JSON text for people: a date as its text."""
    try:
        return as_json(decode(value))
    except (ValueError, TypeError, ArithmeticError):  # Not written by this project.
        return as_json(value)


def cut(text: str, most: int = WHOLE_MAX) -> str:
    """Return a text, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def duration(seconds: float | None) -> str:
    """Return a number of seconds as people say it."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(value: datetime.datetime | None) -> str:
    """Return a time to the second, in the reader's zone; the admin's own format drops the seconds."""
    if value is None:
        return "-"
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return date_format(local, "Y-m-d H:i:s")


def brief(value: datetime.datetime | None) -> str:
    """Return a time for a column: of today the hour alone; the whole of it is in its title."""
    if value is None:
        return "-"
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    now = timezone.localtime() if settings.USE_TZ else timezone.now()
    short = "H:i:s" if now.date() == local.date() else "M j, H:i" if now.year == local.year else "Y-m-d"
    return format_html(
        '<span class="dbq-time" title="{}">{}</span>', moment(value), date_format(local, short)
    )


def badge(text: str, tone: str | None = None) -> str:
    """Return a state or outcome as a coloured word."""
    return format_html('<span class="dbq-badge dbq-{}">{}</span>', tone or TONES.get(text, "plain"), text)

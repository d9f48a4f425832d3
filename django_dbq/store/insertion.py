"""One job's INSERT on PostgreSQL, put together without the ORM: that takes longer than to run it."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, NamedTuple

from django.db import DatabaseError, Error, connections, models
from django.db.models.signals import post_save

from django_dbq.engine.lifecycle import DUE_STATES
from django_dbq.models import Job
from django_dbq.models.workspace import encode_workspace
from django_dbq.redaction import redact_text
from django_dbq.store.drivers import IDLE, sqlstate

logger = logging.getLogger("django_dbq")

# What differs from job to job. The rest is sent where it is not what the database fills in by itself.
_ALWAYS = frozenset(
    ("id", "created", "modified", "name", "state", "next_task", "workspace", "queue_name", "priority", "plan")
)
_ENCODED: dict[str, Callable[[Any], str]] = {"workspace": encode_workspace, "plan": json.dumps}
# Values of these types go to the driver as they are; Django would come to the same, slower.
_PLAIN: dict[type[models.Field[Any, Any]], type] = {
    models.BooleanField: bool,
    models.CharField: str,
    models.IntegerField: int,
    models.SmallIntegerField: int,
    models.TextField: str,
    models.UUIDField: uuid.UUID,
}


class _Column(NamedTuple):
    name: str
    field: models.Field[Any, Any]
    plain: type | None
    encode: Callable[[Any], str] | None
    default: Any


@cache
def _columns() -> list[_Column]:
    return [
        _Column(
            field.attname,
            field,
            _PLAIN.get(type(field)),
            _ENCODED.get(field.attname),
            object() if field.attname in _ALWAYS else field.get_default(),
        )
        for field in Job._meta.concrete_fields
    ]


@lru_cache(maxsize=256)
def _statement(names: tuple[str, ...], channel: str | None) -> str:
    insert = f"INSERT INTO django_dbq_job ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})"
    if channel is None:
        return f"/* dbq:insert */ {insert}"
    # Within the INSERT's transaction the NOTIFY would make all commits that notify wait for each other.
    return f"/* dbq:insert */ BEGIN; {insert}; COMMIT; NOTIFY {channel}, %s"


def insert(using: str, job: Job, channel: str) -> bool | None:
    """Insert a new job; tell whether the channel was told of its queue, or None if Django has to insert it.

    Where the job is a transaction of its own, one message to the server inserts, commits and tells.
    """
    connection: Any = connections[using]
    row = job.__dict__
    names, values = [], []
    for name, field, plain, encode, default in _columns():
        if name not in row:
            return None  # It was deferred.
        value = row[name]
        if value == default:
            continue
        if type(value) is not plain:
            if encode is None or value is None:
                value = field.pre_save(job, True)
                if hasattr(value, "resolve_expression"):
                    return None
                value = field.get_db_prep_save(value, connection)
            else:
                value = encode(value)
        names.append(name)
        values.append(value)
    told = _stands_alone(connection, job) and bool(job.staged) and job.state in DUE_STATES
    with connection.cursor() as cursor:
        # Somebody may have sent a BEGIN that Django knows nothing of.
        if not told or connection.connection.info.transaction_status != IDLE:
            cursor.execute(_statement(tuple(names), None), values)
            return False
        queue_name = values[names.index("queue_name")]
        try:
            cursor.execute(_statement(tuple(names), channel), [*values, queue_name])
        except BaseException as error:
            if not _committed(using, job, error):
                raise
            logger.warning(
                "Job %s is created, but queue %r was not told of it; a worker will find it by looking: %s",
                *(job.pk, str(queue_name), redact_text(str(error).strip())),
            )
    return True


def _stands_alone(connection: Any, job: Job) -> bool:
    """Tell whether a job is a transaction of its own, with nothing to come before its queue is told."""
    return (
        connection.get_autocommit()
        and not connection.features.uses_server_side_binding
        and not post_save.has_listeners(type(job))
    )


def _committed(using: str, job: Job, error: BaseException) -> bool:
    """Leave no transaction open after an error; tell whether it came after the commit."""
    connection = connections[using]
    with suppress(Error), connection.cursor() as cursor:
        if connection.connection.info.transaction_status != IDLE:
            cursor.execute("ROLLBACK")
        elif (
            isinstance(error, DatabaseError) and sqlstate(error) is not None
        ):  # Else nothing may have been sent.
            return bool(Job.objects.using(using).filter(pk=job.pk).exists())
    return False

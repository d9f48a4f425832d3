"""The HTTP API: the queue's health, how far a group has come, a new job. JSON in, and JSON out always."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, NoReturn

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.core.signals import got_request_exception
from django.db import connections, router
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.middleware.csrf import CsrfViewMiddleware
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.crypto import constant_time_compare
from django.utils.dateparse import parse_datetime
from django.utils.log import log_response
from django.views.decorators.csrf import csrf_exempt

from django_dbq import allowlist, conf
from django_dbq.compat import django_async
from django_dbq.engine.workflow import QUEUE_NAME_MAX, SMALLINT_MAX, TASK_PATH_MAX
from django_dbq.engine.workspace import storable
from django_dbq.exceptions import CallError, GroupError, UnknownJob, WorkspaceError, nearest
from django_dbq.models import Group, Job
from django_dbq.models.times import stored
from django_dbq.store import get_store

ADD_JOB = "django_dbq.add_job"
NESTING_MAX = 30  # MariaDB keeps 32.

_EDGE = "the HTTP API"
_NAMED = ("name", "workspace", "queue_name", "priority", "run_after")
_CALLED = ("function", "args", "kwargs", "meta", "priority", "run_after", "group")


# What every view has in common.


class _Refused(Exception):
    """Ends a request with a status and a message."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = _error(status, message, headers)


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, which gives the reason in JSON instead of on a page."""

    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        return _error(
            403,
            f"CSRF check failed: {reason} A request with a session needs the CSRF cookie, and its value in"
            " the header X-CSRFToken (or as CSRF_HEADER_NAME says); one with the API's token needs neither.",
        )


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JsonResponse:
    return JsonResponse({"error": message}, status=status, headers=headers)


def _endpoint(method: str, permission: str | None = None) -> Callable[..., Callable[..., HttpResponse]]:
    """Make a view answer `method` for those who may ask, and in JSON whatever happens.

    It is exempt from Django's CSRF check and login redirect because it does both itself:
    a request with a token needs no CSRF token, and nobody here reads a login page.
    """

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @csrf_exempt
        @login_not_required
        @wraps(view)
        def endpoint(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            try:
                response = _answer(request, view, method, permission, kwargs)
            except _Refused as refused:
                response = refused.response
            except Exception as error:
                # As Django does it, but for the page.
                got_request_exception.send(sender=None, request=request)
                response = _error(500, "The server failed; the cause is in its django.request log.")
                log_response(
                    "Internal Server Error: %s",
                    request.path,
                    response=response,
                    request=request,
                    exception=error,
                )
            if response.status_code >= 400:
                _roll_back()
            add_never_cache_headers(response)
            return response

        return endpoint

    return decorate


def _answer(
    request: HttpRequest,
    view: Callable[..., HttpResponse],
    method: str,
    permission: str | None,
    kwargs: dict[str, Any],
) -> HttpResponse:
    allowed = ("GET", "HEAD") if method == "GET" else (method,)
    if request.method not in allowed:
        raise _Refused(
            405, f"{request.method} is not possible here, {method} is.", {"Allow": ", ".join(allowed)}
        )
    by_session = not _has_token(request)
    if by_session:
        _check_user(request, permission)
    if method == "POST":
        if request.content_type != "application/json":
            # Before the CSRF check, which would read a form.
            given = request.content_type or "none"
            raise _Refused(415, f"The body must be of the type application/json, not {given}.")
        if by_session:
            check = _CsrfCheck(lambda _: HttpResponse())
            if (rejected := check.process_view(request, view, (), {})) is not None:
                return rejected
    return view(request, **kwargs)


def _roll_back() -> None:
    """Keep ATOMIC_REQUESTS from committing what an exception would have rolled back."""
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["ATOMIC_REQUESTS"] and connection.in_atomic_block:
            connection.set_rollback(True)


def _has_token(request: HttpRequest) -> bool:
    """Tell whether the request carries the token. Refuses one that carries another."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    known = conf.options().API_TOKEN
    if not known or not constant_time_compare(token.strip(), known):
        _refuse_nobody('This token is not the one in DBQ["API_TOKEN"].')
    return True


def _check_user(request: HttpRequest, permission: str | None) -> None:
    user = getattr(request, "user", None)  # Not there without django.contrib.auth.
    if user is None or not user.is_authenticated:
        _refuse_nobody(
            'Log in as staff, or send "Authorization: Bearer <token>" with the token of DBQ["API_TOKEN"].'
        )
    if not user.is_active or not getattr(user, "is_staff", False):
        raise _Refused(403, f"{user} is not active staff.")
    if permission is not None and not user.has_perm(permission):
        raise _Refused(403, f"{user} lacks the permission {permission}.")


def _refuse_nobody(message: str) -> NoReturn:
    raise _Refused(401, message, {"WWW-Authenticate": 'Bearer realm="django_dbq"'})


# GET


@_endpoint("GET")
def health(request: HttpRequest) -> HttpResponse:
    """Answer with what `health()` returns."""
    return JsonResponse(django_async.health())


@_endpoint("GET")
def group(request: HttpRequest, reference: str) -> HttpResponse:
    """Answer with how far the newest group under a reference has come."""
    found = Group.objects.filter(reference=reference).first() if storable(reference) else None
    if found is None:
        raise _Refused(404, f"There is no group under the reference {reference!r}.")
    progress = found.progress()
    ended = progress.executed + progress.cancelled
    return JsonResponse(
        {
            "group": {
                "reference": found.reference,
                "created": found.created,
                "total_jobs": progress.total,
                "executed_jobs": progress.executed,
                "cancelled_jobs": progress.cancelled,
                "unexecuted_jobs": progress.total - ended,
                "error_jobs": progress.with_errors,
                "current_errors": progress.current_errors,
                "latest_job_completed": progress.latest_completed,
                "consumed_seconds": progress.consumed_seconds,
                "remaining_seconds": progress.remaining_seconds,
                "done": 0 < progress.total == ended,
            }
        }
    )


# POST


@_endpoint("POST", ADD_JOB)
def jobs(request: HttpRequest) -> HttpResponse:
    """Create the job that the body describes: one of JOBS, or the call of a function."""
    given = _fields(_body(request))
    try:
        with get_store(router.db_for_write(Job)).write():
            job = _call(given) if "function" in given else _named(given)
    except (CallError, GroupError, UnknownJob, WorkspaceError) as error:
        raise _Refused(400, str(error)) from error
    shown = {"id": job.id, "name": job.name, "state": job.state, "queue_name": job.queue_name}
    return JsonResponse({"job": shown}, status=201)


def _body(request: HttpRequest) -> Any:
    bytes_max = conf.options().WORKSPACE_BYTES_MAX
    too_big = f'The body has more than {bytes_max:,} bytes (DBQ["WORKSPACE_BYTES_MAX"]).'
    try:
        # Told before it is read, where the request says it.
        if int(request.META.get("CONTENT_LENGTH") or 0) > bytes_max:
            raise _Refused(413, too_big)
        body = request.body
    except RequestDataTooBig:
        limit = f"{settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,}"
        raise _Refused(413, f"The body has more than {limit} bytes (DATA_UPLOAD_MAX_MEMORY_SIZE).") from None
    except (UnreadablePostError, ValueError) as error:
        raise _Refused(400, f"The body cannot be read: {error}") from error
    if len(body) > bytes_max:
        raise _Refused(413, too_big)
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _Refused(400, f"The body is not JSON: {error}") from error
    _check_nesting(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _check_nesting(value: Any) -> None:
    level = [value]
    for _ in range(NESTING_MAX):
        wholes = [part.values() if isinstance(part, dict) else part for part in level if _is_whole(part)]
        level = [part for whole in wholes for part in whole]
    if any(map(_is_whole, level)):
        raise _Refused(400, f"The body is nested more than {NESTING_MAX} deep.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, (dict, list))


def _fields(body: Any) -> dict[str, Any]:
    """Return the fields of a body whose names are right."""
    if not isinstance(body, dict):
        raise _Refused(400, f"The body must be a JSON object, not {type(body).__name__}.")
    if ("name" in body) == ("function" in body):
        raise _Refused(400, 'Give either "name", a name in JOBS, or "function", a dotted path.')
    kind, known = ("a job of JOBS", _NAMED) if "name" in body else ("a function call", _CALLED)
    for key in body:
        if key not in known:
            hint = nearest(key, known)
            extra = f"Did you mean {hint!r}?" if hint else f"Known: {', '.join(known)}."
            if "name" in body and key in ("args", "kwargs"):
                extra = "A call has its path in 'function'."  # In Slumber's it was the name.
            raise _Refused(400, f"For {kind} there is no {key!r}. {extra}")
    # Null is as if the field was left out, but for what tells the two kinds apart.
    given = {k: v for k, v in body.items() if v is not None or k in ("name", "function")}
    if "run_after" in given:
        given["run_after"] = _time(given["run_after"])
    return given


def _time(value: Any) -> datetime.datetime:
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
    except ValueError as error:
        raise _Refused(400, f"run_after {value!r}: {error}") from error
    if moment is None:
        raise _Refused(400, f"run_after must be an ISO 8601 time such as 2026-01-31T18:00:00Z, not {value!r}")
    if timezone.is_naive(moment):
        raise _Refused(400, f"run_after {value!r} has no zone; end it with Z or an offset such as +01:00")
    try:
        moment = moment.astimezone(datetime.UTC)
    except OverflowError as error:
        raise _Refused(400, f"run_after {value!r}: {error}") from error
    return stored(moment)


def _named(given: dict[str, Any]) -> Job:
    name, workspace = given["name"], given.get("workspace", {})
    if not isinstance(name, str):
        raise _Refused(400, f"name must be a name in JOBS, not {name!r}")
    if not isinstance(workspace, dict):  # Before the creation hook meets it.
        raise _Refused(400, f"workspace must be a JSON object, not {type(workspace).__name__}")
    if "priority" in given:
        _check_priority(given["priority"])
    if "queue_name" in given:
        _check_queue_name(given["queue_name"])
    job: Job = Job.objects.create(**given)
    return job


def _check_priority(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Refused(400, f"priority must be a whole number, not {value!r}")
    if not -SMALLINT_MAX - 1 <= value <= SMALLINT_MAX:
        raise _Refused(400, f"priority must be from {-SMALLINT_MAX - 1} to {SMALLINT_MAX}, not {value}")


def _check_queue_name(value: Any) -> None:
    if not isinstance(value, str) or not value or not storable(value):
        raise _Refused(400, f"queue_name must be a queue's name, not {value!r}")
    if len(value) > QUEUE_NAME_MAX:
        raise _Refused(400, f"queue_name is {len(value)} characters long; at most {QUEUE_NAME_MAX}")


def _call(given: dict[str, Any]) -> Job:
    path = given.pop("function")
    if not isinstance(path, str) or len(path) > TASK_PATH_MAX:
        wanted = f"a dotted path of at most {TASK_PATH_MAX} characters"
        raise _Refused(400, f"function must be {wanted}, not {path!r:.80}")
    _check_function(path)
    meta = given.get("meta")
    for exception in _exceptions(meta):
        if (refusal := allowlist.refusal_by_name(exception, _EDGE)) is not None:
            raise _Refused(403, refusal)
    if isinstance(meta, dict) and isinstance(meta.get("hook"), str):
        _check_function(meta["hook"])
    return django_async.schedule(path, **given)


def _check_function(path: str) -> None:
    if (refusal := allowlist.refusal_of(path, _EDGE)) is not None:
        raise _Refused(403, refusal)


def _exceptions(meta: Any) -> Iterator[str]:
    """Yield the exception paths in `meta` that a worker would import; schedule() checks its form."""
    retry = meta.get("retry") if isinstance(meta, dict) else None
    for key in ("on", "not_on"):
        paths = retry.get(key) if isinstance(retry, dict) else None
        for path in paths if isinstance(paths, list) else ():
            if isinstance(path, str) and "." in path:
                yield path

"""The HTTP API: who may ask what, what is answered to each fault, and what a right to add jobs cannot do."""

from __future__ import annotations

import io
import json
import sys
import uuid
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection, connections
from django.test import AsyncRequestFactory, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_dbq import Group, Job, schedule, views
from django_dbq.compat import django_async
from django_dbq.testing import run_jobs
from tests.models import Row
from tests.workflows import JOBS

pytestmark = pytest.mark.django_db

TOKEN = "a-token-for-the-tests-only"
PREFIX = "tests.api_functions.*"
NAMED = {"name": "nothing"}
CALLED = {"function": "tests.api_functions.add", "args": [1, 2]}


@pytest.fixture(autouse=True)
def dbq(settings):
    settings.DBQ = {"API_TOKEN": TOKEN, "API_FUNCTIONS": [PREFIX, "tests.api_functions.by_name"]}
    return settings.DBQ


@pytest.fixture
def group():
    return Group.objects.create(reference="import")


def client_of(user=None, **options):
    client = Client(raise_request_exception=False, **options)
    if user:
        client.force_login(user)
    return client


def a_user(*, is_staff=True, may_add=False, **values):
    user = User.objects.create(username=uuid.uuid4().hex, is_staff=is_staff, **values)
    if may_add:
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label="django_dbq", codename="add_job")
        )
    return user


def bearer(token=TOKEN, scheme="Bearer"):
    return {"Authorization": f"{scheme} {token}"}


def post(body, client=None, headers=None, content_type="application/json", **options):
    """Send a job, with the token unless a client is given."""
    if headers is None:
        headers = bearer() if client is None else {}
    text = body if isinstance(body, (bytes, str)) else json.dumps(body)
    client = client or client_of(enforce_csrf_checks=True)
    return checked(client.post("/dbq/jobs/", text, content_type, headers=headers, **options))


def get(path, client=None, headers=None):
    """Ask, with the token unless a client is given."""
    if headers is None:
        headers = bearer() if client is None else {}
    return checked((client or client_of()).get(f"/dbq/{path}", headers=headers))


def checked(response):
    """Return a response that is JSON and is kept nowhere, as every one is."""
    assert response["Content-Type"] == "application/json"
    assert {"no-store", "private"} <= set(response["Cache-Control"].replace(" ", "").split(","))
    if response.status_code >= 400:
        assert set(response.json()) == {"error"}
    return response


def error(response, status):
    assert response.status_code == status, response.content
    return response.json()["error"]


# Who may.

STAFF_SEES = {"health/": 200, "groups/import/": 200}


@pytest.mark.parametrize("path", STAFF_SEES)
@pytest.mark.parametrize(
    "user, status",
    [
        (None, 401),
        ({"is_staff": False}, 403),
        ({"is_staff": False, "may_add": True}, 403),
        ({"is_staff": False, "is_superuser": True}, 403),
        ({}, 200),
        ({"is_superuser": True}, 200),
    ],
)
def test_staff_may_look(path, user, status, group):
    client = client_of(None if user is None else a_user(**user))
    assert get(path, client).status_code == status


@pytest.mark.parametrize("body", [NAMED, CALLED])
@pytest.mark.parametrize(
    "user, status",
    [
        (None, 401),
        ({}, 403),
        ({"is_staff": False, "may_add": True}, 403),
        ({"is_staff": False, "is_superuser": True}, 403),
        ({"may_add": True}, 201),
        ({"is_superuser": True}, 201),
    ],
)
def test_staff_with_the_permission_may_add_jobs(body, user, status):
    client = client_of(None if user is None else a_user(**user))
    assert post(body, client).status_code == status
    assert Job.objects.count() == (status == 201)


def test_somebody_who_is_no_longer_active_may_not(settings, group):
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    client = client_of(a_user(is_active=False, is_superuser=True))
    assert "not active staff" in error(get("health/", client), 403)
    assert "not active staff" in error(post(NAMED, client), 403)


def test_the_answer_says_which_permission_is_lacking():
    assert "lacks the permission django_dbq.add_job" in error(post(NAMED, client_of(a_user())), 403)


@pytest.mark.parametrize("path", ["health/", "groups/import/", "groups/none/"])
def test_nobody_is_told_how_to_log_in_and_nothing_else(path, group):
    response = get(path, client_of())
    assert response["WWW-Authenticate"] == 'Bearer realm="django_dbq"'
    assert "Authorization: Bearer" in error(response, 401)


def test_nobody_adds_nothing():
    response = post(NAMED, client_of(enforce_csrf_checks=True))
    assert response["WWW-Authenticate"] == 'Bearer realm="django_dbq"'
    assert error(response, 401) and not Job.objects.exists()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_opens_everything(scheme, group):
    headers = bearer(scheme=scheme)
    assert get("health/", headers=headers).status_code == 200
    assert get("groups/import/", headers=headers).status_code == 200
    assert post(NAMED, headers=headers).status_code == 201


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é" * 20, f"{TOKEN} {TOKEN}"])
def test_another_token_opens_nothing(token):
    headers = bearer(token)
    assert get("health/", headers=headers)["WWW-Authenticate"].startswith("Bearer")
    assert "is not the one" in error(get("health/", headers=headers), 401)
    assert "is not the one" in error(post(NAMED, headers=headers), 401)


@pytest.mark.parametrize("token", ["", " ", "None"])
def test_without_the_setting_no_token_opens_anything(settings, token):
    settings.DBQ = {}
    assert error(get("health/", headers=bearer(token)), 401)
    assert error(post(NAMED, headers=bearer(token)), 401)


def test_a_wrong_token_is_refused_whoever_is_logged_in():
    client = client_of(a_user(is_superuser=True))
    assert error(get("health/", client, bearer("something-else-entirely")), 401)


def test_what_a_proxy_authenticates_by_does_not_get_in_the_way_of_a_session():
    client = client_of(a_user())
    assert get("health/", client, {"Authorization": "Basic dXNlcjpwYXNz"}).status_code == 200


def test_without_users_the_token_is_what_opens(settings):
    settings.MIDDLEWARE = []
    assert error(get("health/", client_of()), 401)
    assert get("health/").status_code == 200
    assert post(NAMED).status_code == 201


def test_nobody_is_sent_to_a_login_page(settings):
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert error(get("health/", client_of()), 401)
    assert error(post(NAMED, client_of()), 401)
    assert get("health/").status_code == 200


def test_a_cache_of_the_whole_site_gives_nothing_to_nobody(settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.MIDDLEWARE = [
        "django.middleware.cache.UpdateCacheMiddleware",
        *settings.MIDDLEWARE,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    assert get("health/").status_code == 200
    assert error(get("health/", client_of()), 401)


# CSRF.


def csrf_client():
    client = client_of(a_user(may_add=True), enforce_csrf_checks=True)
    client.cookies["csrftoken"] = "c" * 32
    return client


def test_a_session_needs_the_csrf_token():
    client = csrf_client()
    assert "CSRF token missing" in error(post(NAMED, client), 403)
    assert "incorrect" in error(post(NAMED, client, {"X-CSRFToken": "d" * 32}), 403)
    assert not Job.objects.exists()
    assert post(NAMED, client, {"X-CSRFToken": "c" * 32}).status_code == 201


def test_a_session_needs_the_csrf_cookie():
    client = client_of(a_user(may_add=True), enforce_csrf_checks=True)
    assert "CSRF cookie not set" in error(post(NAMED, client, {"X-CSRFToken": "c" * 32}), 403)


def test_a_session_needs_the_right_origin(settings):
    headers = {"X-CSRFToken": "c" * 32, "Origin": "https://shop.example"}
    assert "https://shop.example" in error(post(NAMED, csrf_client(), headers), 403)
    settings.CSRF_TRUSTED_ORIGINS = ["https://shop.example"]
    assert post(NAMED, csrf_client(), headers).status_code == 201


def test_a_session_needs_the_csrf_token_without_the_middleware_too(settings):
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name]
    assert "CSRF" in error(post(NAMED, csrf_client()), 403)
    assert post(NAMED, csrf_client(), {"X-CSRFToken": "c" * 32}).status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json",
    ],
)
def test_what_a_foreign_page_can_make_a_browser_send_adds_nothing(content_type):
    # It sends the cookies along, and a form's fields or text, but no header.
    client = csrf_client()
    response = post(json.dumps(NAMED), client, {"Origin": "https://evil.example"}, content_type)
    assert error(response, 403 if content_type == "application/json" else 415)
    assert not Job.objects.exists()


def test_the_api_s_token_needs_no_csrf_token_though_the_browser_has_a_session():
    assert post(NAMED, csrf_client(), bearer()).status_code == 201


# Methods and bodies.


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", STAFF_SEES)
def test_what_is_for_looking_at_takes_get_alone(path, method):
    response = checked(client_of().generic(method, f"/dbq/{path}", headers=bearer()))
    assert error(response, 405) and response["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_jobs_takes_post_alone(method):
    response = checked(client_of().generic(method, "/dbq/jobs/", headers=bearer()))
    assert error(response, 405) and response["Allow"] == "POST"


@pytest.mark.parametrize("path", STAFF_SEES)
def test_head_is_get_without_the_body(path, group):
    response = client_of().head(f"/dbq/{path}", headers=bearer())
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/json", "multipart/form-data; boundary=x"])
def test_a_body_is_application_json(content_type):
    assert "must be of the type application/json" in error(post(NAMED, content_type=content_type), 415)


def test_the_type_of_a_body_may_have_parameters():
    assert post(NAMED, content_type="Application/JSON; charset=utf-8").status_code == 201


def test_a_body_has_at_most_workspace_bytes_max(settings, dbq):
    settings.DBQ = {**dbq, "WORKSPACE_BYTES_MAX": 1_000}
    body = {**NAMED, "workspace": {"text": ""}}
    room = 1_000 - len(json.dumps(body))
    body["workspace"]["text"] = "x" * room
    assert post(body).status_code == 201
    body["workspace"]["text"] += "x"
    assert 'more than 1,000 bytes (DBQ["WORKSPACE_BYTES_MAX"])' in error(post(body), 413)


def test_a_body_that_is_too_long_is_not_read():
    body = io.BytesIO(b" " * 2_000_000)
    options = {"wsgi.input": body, "CONTENT_LENGTH": "2000000"}
    assert error(post(b" ", **options), 413) and body.tell() == 0


def test_a_body_that_hides_its_length_has_no_more(settings, dbq):
    settings.DBQ = {**dbq, "WORKSPACE_BYTES_MAX": 50}
    request = AsyncRequestFactory().post("/dbq/jobs/", b" " * 51, "application/json", headers=bearer())
    del request.META["CONTENT_LENGTH"]
    response = views.jobs(request)
    assert response.status_code == 413 and b"more than 50 bytes" in response.content


def test_a_body_has_at_most_what_django_takes(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    body = {**NAMED, "workspace": {"text": "x" * 100}}
    assert "more than 100 bytes (DATA_UPLOAD_MAX_MEMORY_SIZE)" in error(post(body), 413)


@pytest.mark.parametrize(
    "body, message",
    [
        (b" ", "The body is not JSON: Expecting value"),
        (b"{", "The body is not JSON: Expecting property name"),
        (b'{"name": "nothing",}', "The body is not JSON"),
        (b'{"name": "nothing", "workspace": {"a": NaN}}', "NaN is no number of JSON"),
        (b'{"name": "nothing", "workspace": {"a": -Infinity}}', "-Infinity is no number of JSON"),
        (b'{"name": "n\xff"}', "The body is not JSON: 'utf-8' codec"),
        (b"[" * 100_000, "The body is not JSON"),
        (b'{"name": "nothing", "priority": %s}' % (b"9" * 5_000), "The body is not JSON: Exceeds the limit"),
        (b"[]", "The body must be a JSON object, not list"),
        (b"null", "The body must be a JSON object, not NoneType"),
        (b"{}", 'Give either "name"'),
        ({**NAMED, **CALLED}, 'Give either "name"'),
        ({**NAMED, "priorty": 1}, "For a job of JOBS there is no 'priorty'. Did you mean 'priority'?"),
        ({**NAMED, "args": []}, "For a job of JOBS there is no 'args'. A call has its path in 'function'."),
        (
            {**NAMED, "kwargs": {}},
            "For a job of JOBS there is no 'kwargs'. A call has its path in 'function'.",
        ),
        (
            {**NAMED, "zzz": None},
            "there is no 'zzz'. Known: name, workspace, queue_name, priority, run_after.",
        ),
        ({**CALLED, "kwarg": {}}, "For a function call there is no 'kwarg'. Did you mean 'kwargs'?"),
        ({**CALLED, "queue_name": "q"}, "For a function call there is no 'queue_name'."),
        ({"name": "nothin"}, "JOBS has no job named 'nothin'. Did you mean 'nothing'?"),
        ({"name": ["nothing"]}, "name must be a name in JOBS, not ['nothing']"),
        ({"name": None}, "name must be a name in JOBS, not None"),
        ({**NAMED, "workspace": []}, "workspace must be a JSON object, not list"),
        ({**NAMED, "workspace": {"a": "\0"}}, "workspace['a']: holds a NUL"),
        ({**NAMED, "workspace": {"a": "\ud800"}}, "workspace['a']: holds a NUL or half a surrogate pair"),
        (b'{"name": "nothing", "workspace": {"a": 1e999}}', "workspace['a']"),
        ({**NAMED, "queue_name": ""}, "queue_name must be a queue's name, not ''"),
        ({**NAMED, "queue_name": 5}, "queue_name must be a queue's name, not 5"),
        ({**NAMED, "queue_name": "q\0"}, "queue_name must be a queue's name"),
        ({**NAMED, "queue_name": "q" * 101}, "queue_name is 101 characters long; at most 100"),
        ({**NAMED, "priority": "1"}, "priority must be a whole number, not '1'"),
        ({**NAMED, "priority": True}, "priority must be a whole number, not True"),
        ({**NAMED, "priority": 1.0}, "priority must be a whole number, not 1.0"),
        ({**NAMED, "priority": 32768}, "priority must be from -32768 to 32767, not 32768"),
        ({**CALLED, "priority": 32768}, "priority must be from -32768 to 32767, not 32768"),
        ({**CALLED, "priority": "high"}, "priority must be a whole number, not 'high'"),
        ({**NAMED, "run_after": 5}, "run_after must be an ISO 8601 time such as 2026-01-31T18:00:00Z, not 5"),
        ({**CALLED, "run_after": "soon"}, "run_after must be an ISO 8601 time"),
        ({**NAMED, "run_after": "2026-01-31T18:00:00"}, "has no zone; end it with Z or an offset"),
        ({**CALLED, "run_after": "2026-01-31"}, "has no zone; end it with Z or an offset"),
        ({**NAMED, "run_after": "2026-02-30T18:00:00Z"}, "run_after '2026-02-30T18:00:00Z': day"),
        ({**NAMED, "run_after": "9999-12-31T23:59:59-14:00"}, "run_after '9999-12-31T23:59:59-14:00': "),
        ({**NAMED, "run_after": "0001-01-01T00:00:00+14:00"}, "run_after '0001-01-01T00:00:00+14:00': "),
        ({"function": 5}, "function must be a dotted path of at most 255 characters, not 5"),
        ({"function": None}, "function must be a dotted path of at most 255 characters, not None"),
        ({"function": "tests.api_functions." + "x" * 236}, "a dotted path of at most 255 characters"),
        ({"function": "tests.api_functions.gone"}, "'tests.api_functions.gone' does not import"),
        ({"function": "tests.api_functions.NUMBER"}, "'tests.api_functions.NUMBER' is not callable, but int"),
        ({**CALLED, "args": "ab"}, "args of tests.api_functions.add must be a list"),
        ({**CALLED, "kwargs": []}, "kwargs of tests.api_functions.add must be a dictionary"),
        (b'{"function": "tests.api_functions.add", "args": [1, 1e999]}', "args[1]"),
        ({**CALLED, "meta": []}, "meta must be a dictionary, not list"),
        ({**CALLED, "meta": {"timeout": 5}}, "has no option 'timeout'. Did you mean 'timeout_seconds'?"),
        ({**CALLED, "meta": {"retry": 3}}, "meta['retry']: must be a dictionary"),
        ({**CALLED, "meta": {"retry": {"on": "OSError"}}}, "meta['retry']['on']: must be a list"),
        ({**CALLED, "meta": {"queue_name": "q\0"}}, "meta['queue_name']: must be a queue's name"),
        ({**CALLED, "group": 5}, "group must be a Group or its reference, not 5"),
        ({**CALLED, "group": ""}, "a group's reference is text of 1 to 255 characters"),
        ({**CALLED, "group": "g" * 256}, "a group's reference is text of 1 to 255 characters"),
        ({**CALLED, "group": "g\0"}, "'g\\x00' cannot be a group's reference"),
        ({**CALLED, "group": "g\ud800"}, "cannot be a group's reference"),
    ],
)
def test_a_fault_in_the_body_is_named_and_nothing_written(body, message):
    assert message in error(post(body), 400)
    assert not Job.objects.exists() and not Group.objects.exists()


def nested(field, depth):
    """Return a body that is nested so deep, within that field."""
    value = "[" * (depth - 2) + "]" * (depth - 2)
    body = NAMED if field == "workspace" else {"function": "tests.api_functions.anything"}
    return f'{json.dumps(body)[:-1]}, "{field}": ' + (
        f"[{value}]}}" if field == "args" else f'{{"a": {value}}}}}'
    )


@pytest.mark.parametrize("field", ["workspace", "args", "kwargs"])
def test_a_body_may_be_nested_30_deep(field):
    assert post(nested(field, 30)).status_code == 201
    for depth in (31, 100, 500, 900):
        assert error(post(nested(field, depth)), 400) == "The body is nested more than 30 deep."


def test_a_length_that_is_no_number_is_refused():
    assert "cannot be read" in error(post(NAMED, CONTENT_LENGTH="many"), 400)


def test_a_group_that_has_begun_takes_in_no_more():
    assert post({**CALLED, "group": "import"}).status_code == 201
    assert post({**CALLED, "group": "import"}).status_code == 201
    run_jobs(limit=1)
    assert "group 'import' has begun" in error(post({**CALLED, "group": "import"}), 400)
    assert Job.objects.count() == 2


# A new job.


def test_a_job_of_jobs_is_created():
    response = post({"name": "other_queue", "workspace": {"n": 1}})
    job = Job.objects.get()
    assert response.status_code == 201 and "Location" not in response
    assert response.json() == {
        "job": {"id": str(job.id), "name": "other_queue", "state": "NEW", "queue_name": "other"}
    }
    assert (job.workspace, job.priority, job.run_after) == ({"n": 1}, 3, None)


def test_a_job_of_jobs_takes_what_the_body_says():
    response = post(
        {
            "name": "other_queue",
            "workspace": {},
            "queue_name": "schön",
            "priority": -5,
            "run_after": "2030-01-31T18:00:00+01:00",
        }
    )
    job = Job.objects.get()
    assert response.json()["job"]["queue_name"] == job.queue_name == "schön"
    assert (job.priority, job.run_after) == (-5, datetime(2030, 1, 31, 17, tzinfo=UTC))


def test_a_time_is_taken_where_the_project_has_no_zones(settings):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    assert post({**NAMED, "run_after": "2030-01-31T18:00:00Z"}).status_code == 201
    assert Job.objects.get().run_after == datetime(2030, 1, 31, 19)


def test_null_is_as_if_the_field_was_left_out():
    nothing = {"workspace": None, "queue_name": None, "priority": None, "run_after": None}
    assert post({"name": "other_queue", **nothing}).status_code == 201
    job = Job.objects.get()
    assert (job.workspace, job.queue_name, job.priority) == ({}, "other", 3)


def test_a_function_call_is_created_and_runs():
    response = post(
        {
            "function": "tests.api_functions.add",
            "args": [1],
            "kwargs": {"right": 2},
            "meta": {"queue_name": "sums", "retry": {"max_attempts": 2, "on": ["ValueError"]}},
            "priority": 7,
            "run_after": "2020-01-31T18:00:00Z",
            "group": "sums",
        }
    )
    job = Job.objects.get()
    assert response.status_code == 201
    assert response.json() == {
        "job": {"id": str(job.id), "name": "tests.api_functions.add", "state": "NEW", "queue_name": "sums"}
    }
    assert (job.priority, job.group.reference) == (7, "sums")
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.result) == ("COMPLETE", 3)


def test_what_a_creation_hook_raises_is_json_too_and_writes_nothing(settings, caplog):
    settings.JOBS = {"a": {"tasks": JOBS["nothing"], "creation_hook": "tests.api_functions.write_and_fail"}}
    message = error(post({"name": "a"}), 500)
    assert "django.request" in message and "secret" not in message
    assert not Row.objects.exists() and not Job.objects.exists()
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.name == "django.request" and "the secret of the hook" in str(record.exc_info[1])


def test_django_s_signal_tells_of_what_a_creation_hook_raises(settings):
    settings.JOBS = {"a": {"tasks": JOBS["nothing"], "creation_hook": "tests.api_functions.write_and_fail"}}
    client = Client()  # Which raises what the signal brings.
    with pytest.raises(RuntimeError, match="the secret of the hook"):
        client.post("/dbq/jobs/", {"name": "a"}, "application/json", headers=bearer())


@pytest.mark.django_db(databases=["default", "jobs"])
def test_atomic_requests_keep_nothing_of_a_request_that_failed(settings, monkeypatch):
    settings.DATABASE_ROUTERS = ["tests.routers.JobsRouter"]
    settings.JOBS = {"a": {"tasks": JOBS["nothing"], "creation_hook": "tests.api_functions.write_and_fail"}}
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    assert error(post({"name": "a"}), 500)
    assert not Row.objects.exists() and not Job.objects.exists()


def test_settings_that_cannot_be_used_are_json_too(settings):
    settings.DBQ = {"API_TOKEN": "short"}
    assert error(get("health/"), 500)


# Which functions.


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "builtins.exec",
        "tests.api_function.add",
        "tests.api_functionsx.add",
        "tests.api_functions",
        "tests.models.Row",
        "",
        " tests.api_functions.add",
    ],
)
def test_a_function_that_is_not_open_is_refused_and_told_how_to_open_it(path):
    message = error(post({"function": path}), 403)
    assert (
        'is not open to the HTTP API. Whoever runs the server can add it to DBQ["API_FUNCTIONS"].' in message
    )
    assert not Job.objects.exists()


@pytest.mark.parametrize("settings_of_functions", [{}, {"API_FUNCTIONS": []}])
def test_without_the_setting_no_function_is_open_but_jobs_are(settings, settings_of_functions):
    settings.DBQ = {"API_TOKEN": TOKEN, **settings_of_functions}
    assert error(post(CALLED), 403)
    assert post(NAMED).status_code == 201


def test_a_superuser_too_calls_what_is_open_alone():
    assert error(post({"function": "os.system", "args": ["true"]}, client_of(a_user(is_superuser=True))), 403)


@pytest.mark.parametrize(
    "path",
    [
        "tests.api_functions.os.system",
        "tests.api_functions.system",
        "tests.api_functions.Till.bought.system",
        "tests.api_functions.Till.mro",
        "tests.api_functions.Row.from_db",
        "tests.api_functions.Row.objects.all",
    ],
)
def test_a_prefix_does_not_open_what_its_module_imports(path):
    assert "tests.api_functions.* opens what is defined there, and this is not" in error(
        post({"function": path}), 403
    )
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "path",
    [
        "tests.api_functions._private",
        "tests.api_functions.add.__globals__.clear",
        "tests.api_functions.Till.__init__",
        "tests.api_functions.__builtins__",
        "tests.api_functions.__loader__.load_module",
    ],
)
def test_a_prefix_does_not_open_private_names(path):
    assert "opens no private names" in error(post({"function": path}), 403)


@pytest.mark.parametrize(
    "path",
    ["tests.api_functions.anything", "tests.api_functions.Till.close", "tests.api_functions.Till.named"],
)
def test_a_prefix_opens_what_is_defined_below_it(path):
    assert post({"function": path}).status_code == 201


@pytest.mark.parametrize("path", ["tests.api_functions.by_name", "tests.api_functions._private"])
def test_a_path_opens_whatever_it_leads_to(settings, dbq, path):
    settings.DBQ = {**dbq, "API_FUNCTIONS": [path]}
    args = ["true"] if path.endswith("by_name") else []
    assert post({"function": path, "args": args}).status_code == 201


def test_a_prefix_may_itself_be_private(settings, dbq):
    settings.DBQ = {**dbq, "API_FUNCTIONS": ["tests.api_functions._Hidden.*"]}
    assert post({"function": "tests.api_functions._Hidden.close"}).status_code == 201


def test_nothing_is_imported_that_is_not_open():
    for body in ({"function": "tests.never_imported.f"}, {"function": "tests.never_imported.sub.f"}):
        assert error(post(body), 403)
    meta = {"retry": {"on": ["tests.never_imported.Error"]}}
    assert "'tests.never_imported.Error' is not open" in error(post({**CALLED, "meta": meta}), 403)
    assert "tests.never_imported" not in sys.modules


def test_a_hook_has_to_be_open():
    response = post({**CALLED, "meta": {"hook": "os.system"}})
    assert response.status_code == 403 and not Job.objects.exists()
    assert "'os.system' is not open to the HTTP API" in response.json()["error"]
    assert post({**CALLED, "meta": {"hook": CALLED["function"]}}).status_code == 201


def test_the_exceptions_of_a_retry_policy_have_to_be_open(settings, dbq):
    retry = {"not_on": ["django.db.DatabaseError"], "on": ["tests.api_functions.Broke", "OSError"]}
    body = {**CALLED, "meta": {"retry": retry}}
    assert "'django.db.DatabaseError' is not open to the HTTP API" in error(post(body), 403)
    settings.DBQ = {**dbq, "API_FUNCTIONS": [PREFIX, "django.db.DatabaseError"]}
    assert post(body).status_code == 201


# How far a group has come.


def shown(reference):
    response = get(f"groups/{quote(reference)}/")
    assert response.status_code == 200
    return response.json()["group"]


def test_a_group_without_jobs_is_not_done(group):
    assert shown("import") == {
        "reference": "import",
        "created": group.created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "total_jobs": 0,
        "executed_jobs": 0,
        "cancelled_jobs": 0,
        "unexecuted_jobs": 0,
        "error_jobs": 0,
        "current_errors": 0,
        "latest_job_completed": None,
        "consumed_seconds": None,
        "remaining_seconds": None,
        "done": False,
    }


def test_a_group_is_told_as_it_goes():
    jobs = [schedule("tests.api_functions.add", [1, n], group="import") for n in (1, "x", 3, 4)]
    numbers = ("total_jobs", "executed_jobs", "cancelled_jobs", "unexecuted_jobs")
    errors = ("error_jobs", "current_errors")

    def seen(names):
        return [shown("import")[name] for name in names]

    assert seen(numbers) == [4, 0, 0, 4]
    jobs[2].cancel()
    run_jobs()
    assert seen(numbers) == [4, 2, 1, 1] and seen(errors) == [1, 1]
    now = shown("import")
    jobs[3].refresh_from_db()
    assert datetime.fromisoformat(now["latest_job_completed"]).timestamp() == pytest.approx(
        jobs[3].finished.timestamp(), abs=0.01
    )
    assert now["consumed_seconds"] > 0 and now["remaining_seconds"] > 0 and now["done"] is False

    jobs[1].cancel()
    assert seen(numbers) == [4, 2, 2, 0] and seen(errors) == [1, 0]
    assert shown("import")["done"] is True and shown("import")["remaining_seconds"] == 0
    assert shown("import")["latest_job_completed"] == now["latest_job_completed"]


def test_an_error_that_was_overcome_is_no_current_one(settings):
    settings.JOBS = JOBS
    job = schedule("tests.api_functions.fail_once", group="import", meta={"retry": {"delay_seconds": 0}})
    run_jobs()
    job.refresh_from_db()
    assert job.state == "COMPLETE"
    now = shown("import")
    assert (now["error_jobs"], now["current_errors"], now["done"]) == (1, 0, True)


def test_the_newest_group_under_a_reference_is_shown():
    schedule("tests.api_functions.add", [1, 2], group="import")
    run_jobs()
    schedule("tests.api_functions.add", [1, 2], group="import")
    assert Group.objects.filter(reference="import").count() == 2
    now = shown("import")
    assert (now["total_jobs"], now["executed_jobs"]) == (1, 0)


REFERENCES = ["a/b", "a b", "größe/猫", "a//b/", "100%", "a?b#c", "..", "g" * 255]


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_reference_is_any_text(reference):
    Group.objects.create(reference=reference)
    assert shown(reference)["reference"] == reference
    address = reverse("django_dbq:group", kwargs={"reference": reference})
    assert checked(client_of().get(address, headers=bearer())).json()["group"]["reference"] == reference


@pytest.mark.parametrize("reference", ["none", "importx", "import/x", "import\0", "g" * 300, "猫"])
def test_an_unknown_group_is_not_found(reference, group):
    assert "There is no group under the reference" in error(get(f"groups/{quote(reference)}/"), 404)


def queries_for_a_group_of(number):
    group = Group.objects.create(reference=f"of {number}")
    Job.objects.bulk_create(Job(name="nothing", group=group) for _ in range(number))
    client = client_of(a_user())
    with CaptureQueriesContext(connection) as queries:
        response = get(f"groups/of%20{number}/", client)
    assert response.json()["group"]["total_jobs"] == number
    return len(queries)


def test_the_number_of_queries_does_not_grow_with_the_group():
    assert queries_for_a_group_of(10) == queries_for_a_group_of(1_000) == 3  # User, group, its jobs.


# Health.


def test_health_is_that_of_health():
    schedule("tests.api_functions.add", [1, 2])
    answered, found = get("health/").json(), json.loads(json.dumps(django_async.health()))
    assert answered["queue"].pop("oldest-due-age") <= found["queue"].pop("oldest-due-age")
    assert answered == found and found["queue"]["remaining"] == 1


def test_the_addresses_have_names():
    assert reverse("django_dbq:health") == "/dbq/health/"
    assert reverse("django_dbq:jobs") == "/dbq/jobs/"
    assert reverse("django_dbq:group", args=["a/b"]) == "/dbq/groups/a/b/"

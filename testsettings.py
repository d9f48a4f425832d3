"""Settings of the tests. DATABASE_URL decides the database; unset, the tests bring a PostgreSQL."""

import json
import os
from pathlib import Path

import dj_database_url
import django

from tests.workflows import JOBS  # noqa: F401

CACHE = Path(__file__).parent / ".cache"
CACHE.mkdir(exist_ok=True)

if "DATABASE_URL" not in os.environ:
    from tests.embedded import start_postgresql

    # In the environment, for the workers that tests start.
    os.environ["DATABASE_URL"] = start_postgresql()


def database(url, name=None):
    """Return the settings of the database at `url`, or of the one called `name` beside it."""
    settings = dj_database_url.parse(url)
    if settings["ENGINE"].endswith("sqlite3"):
        # A file, because the workers that tests start are other processes; one for each run of the tests.
        path = f"{settings['NAME']}.{name}" if name else settings["NAME"]
        return settings | {
            "NAME": path,
            "TEST": {"NAME": f"{path}.{os.getpid()}.test"},
            "OPTIONS": {"timeout": 30},
        }
    if settings["ENGINE"].endswith("mysql"):
        settings["TEST"] = {"CHARSET": "utf8mb4"}  # Servers of Debian's still begin with latin1.
    return settings | ({"NAME": name} if name else {})


DATABASES = {
    "default": database(os.environ["DATABASE_URL"]),
    # A second database, where a project keeps its jobs apart.
    "jobs": database(os.environ["JOBS_DATABASE_URL"])
    if "JOBS_DATABASE_URL" in os.environ
    else database(os.environ["DATABASE_URL"], "jobs"),
    # One conformance suite runs over every store that is at hand.
    "sqlite": database(f"sqlite:///{CACHE}/conformance.sqlite3"),
}
if os.environ.get("TEST_MARIADB_URL"):
    DATABASES["mariadb"] = database(os.environ["TEST_MARIADB_URL"])

SECRET_KEY = "tests-only"
USE_TZ = True
TIME_ZONE = "UTC"
# The HTTP API and the admin have users; sessions need no table.
INSTALLED_APPS = [
    *("django.contrib.admin", "django.contrib.contenttypes", "django.contrib.auth"),
    *("django.contrib.messages", "django.contrib.staticfiles", "django_dbq", "tests"),
]
STATIC_URL = "static/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
if django.VERSION < (6, 0):
    INSTALLED_APPS.append("django_tasks")  # The backport of django.tasks.
TASKS = {
    "default": {"BACKEND": "django_dbq.backend.JobBackend", "QUEUES": ["default", "reports"]},
    "tuned": {
        "BACKEND": "django_dbq.backend.JobBackend",
        "QUEUES": [],
        "OPTIONS": {
            "atomic": True,
            "timeout_seconds": 0.2,
            "retry": {"max_attempts": 3, "delay_seconds": 0},
        },
    },
    "apart": {"BACKEND": "django_dbq.backend.JobBackend", "OPTIONS": {"database": "jobs"}},
}
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# For the workers that tests start.
DBQ = json.loads(os.environ.get("TEST_DBQ", "{}"))
Q_CLUSTER = json.loads(os.environ.get("TEST_Q_CLUSTER", "{}"))
DATABASE_ROUTERS = json.loads(os.environ.get("TEST_ROUTERS", "[]"))

if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}

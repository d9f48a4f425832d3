"""Settings of the workers that the chaos tests start. The environment decides what a test varies."""

import json
import os

import dj_database_url
from django.db.backends.signals import connection_created

DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
# In plain text, so that the proxy sees the tags of statements; a test may add options of its own.
DATABASES["default"]["OPTIONS"] = {
    "sslmode": "disable",
    "gssencmode": "disable",
    **json.loads(os.environ.get("CHAOS_OPTIONS", "{}")),
}

SECRET_KEY = "tests-only"
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = ["django_dbq"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DBQ = {"LEASE_SECONDS": 2, "POLL_INTERVAL_SECONDS": 0.1, **json.loads(os.environ.get("CHAOS_DBQ", "{}"))}

from tests.chaos import workflows  # noqa: E402

JOBS = {**workflows.JOBS, **json.loads(os.environ.get("CHAOS_JOBS", "{}"))}
for gone in json.loads(os.environ.get("CHAOS_JOBS_GONE", "[]")):
    del JOBS[gone]


def name_session(connection, **kwargs):
    """Tell the database which process asks: the oracle compares it with the holder of the row."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET application_name = 'worker {os.getpid()}'")


connection_created.connect(name_session, dispatch_uid="chaos")

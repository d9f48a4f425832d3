"""A project that uses the queue. It runs on the original package and on this one, unchanged."""

import os

import dj_database_url

DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {"timeout": 30}
SECRET_KEY = "tests-only"
USE_TZ = True
INSTALLED_APPS = ["django_dbq"]
JOBS = {
    "three": {"tasks": ["jobs.first", "jobs.second", "jobs.third"]},
    "hangs": {"tasks": ["jobs.hang", "jobs.third"]},
    "fails": {"tasks": ["jobs.boom", "jobs.third"], "failure_hook": "jobs.note_failure"},
    "forgets": {"tasks": ["jobs.forget", "jobs.first"]},
}

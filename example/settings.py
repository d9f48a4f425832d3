"""A Django project that runs jobs needs three things: the app, a database and JOBS."""

import os
from pathlib import Path

import dj_database_url

HERE = Path(__file__).parent

SECRET_KEY = "for-the-example-only"
INSTALLED_APPS = ["django_dbq"]
USE_TZ = True
TIME_ZONE = "UTC"

DATABASES = {"default": dj_database_url.parse(os.environ.get("DATABASE_URL") or "sqlite:///demo.db")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # SQLite has one writer at a time: the worker, its tasks and this project wait for one another.
        "timeout": 30,
        # A transaction that begins as a reader and then writes would fail at once instead of waiting.
        "transaction_mode": "IMMEDIATE",
        # Readers, such as the display that follows a job, go on while the worker writes.
        "init_command": "PRAGMA journal_mode=WAL",
    }

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [HERE / "census" / "templates"],
        "OPTIONS": {"builtins": ["django.contrib.humanize.templatetags.humanize"]},
    }
]

JOBS = {
    "stdlib_census": {
        "queue_name": "census",
        "tasks": [
            "example.census.jobs.find_modules",
            {
                "task": "example.census.jobs.parse_modules",
                "timeout_seconds": 600,
                "retry": {"max_attempts": 2, "delay_seconds": 1},
            },
            "example.census.jobs.rank_packages",
            "example.census.jobs.write_report",
        ],
    },
}

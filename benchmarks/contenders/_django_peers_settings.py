"""Settings of the contenders that are Django apps with workers of their own; each reads what is its own."""

import os

import dj_database_url

SECRET_KEY = "benchmarks-only"
USE_TZ = True
INSTALLED_APPS = [os.environ["BENCH_APP"]]
# They close what is too old around each task: with Django's default that is every connection.
DATABASES = {"default": {**dj_database_url.parse(os.environ["BENCH_DATABASE_URL"]), "CONN_MAX_AGE": None}}
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
Q_CLUSTER = {
    "name": "bench",
    "orm": "default",
    "workers": int(os.environ.get("BENCH_WORKERS", 1)),
    "bulk": 100,
    "queue_limit": 200,
    "poll": 0.01,
    "recycle": 1_000_000,
    "save_limit": -1,
    "timeout": 90,
    "retry": 120,
    "log_level": "WARNING",
}

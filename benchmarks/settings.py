"""Settings of the benchmarks: one PostgreSQL with its default durability, nothing logged."""

import os

import dj_database_url

SECRET_KEY = "benchmarks-only"
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = ["django_dbq"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
LOGGING = {
    "version": 1,
    "loggers": {"django_dbq": {"handlers": ["none"], "level": "WARNING"}},
    "handlers": {"none": {"class": "logging.NullHandler"}},
}
JOBS = {
    "nothing": ["benchmarks.tasks.nothing"],
    "five_steps": ["benchmarks.tasks.step"] * 5,
    "stamp": ["benchmarks.tasks.stamp"],
}

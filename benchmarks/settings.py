"""Settings of the benchmarks: one PostgreSQL with its default durability, nothing logged."""

import os

import dj_database_url

SECRET_KEY = "benchmarks-only"
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = [
    *("django.contrib.admin", "django.contrib.contenttypes", "django.contrib.auth"),
    *("django.contrib.messages", "django.contrib.staticfiles", "django_dbq"),
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
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
ROOT_URLCONF = "benchmarks.urls"
STATIC_URL = "static/"
ALLOWED_HOSTS = ["testserver"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": dj_database_url.parse(os.environ.get("BENCH_DATABASE_URL") or os.environ["DATABASE_URL"])
}
LOGGING = {
    "version": 1,
    "loggers": {"django_dbq": {"handlers": ["none"], "level": "WARNING"}},
    "handlers": {"none": {"class": "logging.NullHandler"}},
}
JOBS = {
    "nothing": {"tasks": ["benchmarks.tasks.nothing"]},
    "steps": {"tasks": ["benchmarks.tasks.step"] * 5},
    "stamp": {"tasks": ["benchmarks.tasks.stamp"]},
    "slow": {"tasks": ["benchmarks.tasks.slow"]},
    "write": {"tasks": ["benchmarks.tasks.write"], "atomic": True},
    "payload": {"tasks": ["benchmarks.tasks.payload"]},
}

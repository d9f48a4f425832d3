"""The HTTP API: path("dbq/", include("django_dbq.urls"))."""

from __future__ import annotations

from django.urls import path

from django_dbq import views

app_name = "django_dbq"

urlpatterns = [
    path("health/", views.health, name="health"),
    path("groups/<path:reference>/", views.group, name="group"),
    path("jobs/", views.jobs, name="jobs"),
]

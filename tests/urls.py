"""The addresses of the tests' project."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("dbq/", include("django_dbq.urls")), path("admin/", admin.site.urls)]

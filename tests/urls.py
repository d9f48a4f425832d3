"""The addresses of the tests' project."""

from django.urls import include, path

urlpatterns = [path("dbq/", include("django_dbq.urls"))]

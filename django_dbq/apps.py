"""The app: its label is that of the original package, so the table is too."""

from django.apps import AppConfig


class DjangoDBQConfig(AppConfig):
    name = "django_dbq"
    verbose_name = "Job queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_dbq import checks  # noqa: F401  Registers the system checks.

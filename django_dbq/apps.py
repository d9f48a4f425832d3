"""The app: its label is that of the original package, so the table is too."""

from django.apps import AppConfig


class DjangoDBQConfig(AppConfig):
    name = "django_dbq"
    verbose_name = "Job queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        import logging

        from django_dbq.redaction import mask_traceback

        logging.getLogger("django_dbq.worker").addFilter(mask_traceback)
        # They register the system checks.
        from django_dbq import checks  # noqa: F401
        from django_dbq.compat import django_q_settings  # noqa: F401

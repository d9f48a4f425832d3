"""A router of a project that keeps its jobs in a database of their own."""


class JobsRouter:
    def db_for_read(self, model, **hints):
        return "jobs" if model._meta.app_label == "django_dbq" else None

    db_for_write = db_for_read

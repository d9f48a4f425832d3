"""A router of a project that keeps its jobs in a database of their own."""


class JobsRouter:
    def db_for_read(self, model, **hints):
        return "jobs" if model._meta.app_label == "django_dbq" else None

    db_for_write = db_for_read


class ReplicaRouter:
    """Reads of jobs go to a replica, which here holds nothing."""

    def db_for_read(self, model, **hints):
        return "jobs" if model._meta.app_label == "django_dbq" else None

    def db_for_write(self, model, **hints):
        return "default" if model._meta.app_label == "django_dbq" else None

    def allow_relation(self, one, two, **hints):
        return True

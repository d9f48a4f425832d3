from django.db import migrations, models

from django_dbq.migrations._operations import AddIndexOnline


class Migration(migrations.Migration):
    """What finds calls by their identity, jobs by their group, and finished jobs by when they ended."""

    atomic = False  # Built concurrently, while workers run.

    dependencies = [("django_dbq", "0009_calls_and_groups")]

    operations = [
        AddIndexOnline(
            "job",
            models.Index(
                fields=["identity"],
                name="dbq_job_identity",
                condition=models.Q(identity__isnull=False, state__in=["NEW", "READY", "WAITING"]),
            ),
        ),
        AddIndexOnline(
            "job",
            models.Index(
                fields=["group", "state"], name="dbq_job_group", condition=models.Q(group__isnull=False)
            ),
        ),
        AddIndexOnline(
            "job",
            models.Index(
                fields=["state", "finished"],
                name="dbq_job_finished",
                condition=models.Q(finished__isnull=False),
            ),
        ),
        AddIndexOnline(
            "job",
            models.Index(fields=["id"], name="dbq_job_waiting", condition=models.Q(state="WAITING")),
        ),
    ]

from django.db import migrations, models

from django_dbq.migrations._operations import AddIndexOnline


class Migration(migrations.Migration):
    """What finds jobs by the names that their callers gave them."""

    atomic = False  # Built concurrently, while workers run.

    dependencies = [("django_dbq", "0011_schedules")]

    operations = [
        AddIndexOnline(
            "job",
            models.Index(fields=["title"], name="dbq_job_title", condition=models.Q(title__isnull=False)),
        ),
        AddIndexOnline(
            "job",
            models.Index(
                fields=["label", "state"], name="dbq_job_label", condition=models.Q(label__isnull=False)
            ),
        ),
    ]

from django.db import migrations, models
from django.db.models.functions import Coalesce

from django_dbq.migrations._operations import AddIndexOnline, DropFieldIndex

STATES = ["NEW", "READY", "PROCESSING", "STOPPING", "WAITING", "COMPLETE", "FAILED", "CANCELLED"]


class Migration(migrations.Migration):
    """Three narrow partial indexes take the place of four broad ones (ADR 0003)."""

    atomic = False  # Built concurrently, while workers run.

    dependencies = [("django_dbq", "0007_durable_jobs")]

    operations = [
        AddIndexOnline(
            "job",
            models.Index(
                models.F("staged"),
                models.F("queue_name"),
                models.F("priority").desc(),
                Coalesce("run_after", "created"),
                models.F("id"),
                name="dbq_job_claim",
                condition=models.Q(state__in=["NEW", "READY"]),
            ),
        ),
        AddIndexOnline(
            "job",
            models.Index(fields=["run_after"], name="dbq_job_stage", condition=models.Q(staged=False)),
        ),
        AddIndexOnline(
            "job",
            models.Index(
                fields=["lease_until"], name="dbq_job_lease", condition=models.Q(lease_until__isnull=False)
            ),
        ),
        DropFieldIndex(
            "job",
            "state",
            models.CharField(max_length=20, default="NEW", choices=[(s, s.title()) for s in STATES]),
        ),
        DropFieldIndex("job", "queue_name", models.CharField(max_length=100, default="default")),
        DropFieldIndex("job", "priority", models.SmallIntegerField(default=0)),
        DropFieldIndex("job", "run_after", models.DateTimeField(null=True, blank=True)),
    ]

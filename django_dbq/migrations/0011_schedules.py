import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from django_dbq.migrations._operations import LockBriefly

KINDS = [
    ("once", "Once"),
    ("minutes", "Minutes"),
    ("hourly", "Hourly"),
    ("daily", "Daily"),
    ("weekly", "Weekly"),
    ("biweekly", "Every other week"),
    ("monthly", "Monthly"),
    ("bimonthly", "Every other month"),
    ("quarterly", "Quarterly"),
    ("yearly", "Yearly"),
    ("cron", "Cron"),
]


class Migration(migrations.Migration):
    """Nullable columns and three tables: workers of earlier versions go on beside it."""

    dependencies = [("django_dbq", "0010_calls_and_groups_indexes")]

    operations = [
        LockBriefly("job"),
        migrations.AddField("job", "title", models.CharField(max_length=255, null=True, blank=True)),
        migrations.AddField("job", "label", models.CharField(max_length=255, null=True, blank=True)),
        migrations.AddField("workerprocess", "tasks_done", models.BigIntegerField(default=0, db_default=0)),
        migrations.AddField("workerprocess", "tasks_failed", models.BigIntegerField(default=0, db_default=0)),
        migrations.AddField("workerprocess", "rss_bytes", models.BigIntegerField(null=True)),
        migrations.CreateModel(
            name="PausedQueue",
            fields=[
                ("name", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("paused", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.CreateModel(
            name="Schedule",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(blank=True, max_length=255)),
                ("declared", models.CharField(editable=False, max_length=100, null=True, unique=True)),
                ("path", models.CharField(max_length=255)),
                ("call", models.TextField(blank=True, editable=False, null=True)),
                ("signature", models.CharField(blank=True, editable=False, max_length=128, null=True)),
                ("workspace", models.JSONField(blank=True, default=dict)),
                ("queue_name", models.CharField(blank=True, max_length=100)),
                ("kind", models.CharField(choices=KINDS, default="once", max_length=20)),
                ("minutes", models.PositiveIntegerField(blank=True, null=True)),
                ("cron", models.CharField(blank=True, max_length=100)),
                ("time_zone", models.CharField(blank=True, max_length=64)),
                ("anchor", models.DateTimeField(editable=False)),
                ("next_run", models.DateTimeField(default=django.utils.timezone.now, null=True)),
                ("repeats", models.IntegerField(default=-1)),
                ("date_keyword", models.CharField(blank=True, max_length=100)),
                ("catch_up", models.BooleanField(default=True)),
                ("no_overlap", models.BooleanField(default=False)),
                ("enabled", models.BooleanField(default=True)),
                ("failures", models.IntegerField(default=0, editable=False)),
                ("next_try", models.DateTimeField(editable=False, null=True)),
                ("error", models.TextField(blank=True, editable=False, null=True)),
            ],
            options={
                "ordering": ["next_run", "id"],
                "indexes": [
                    models.Index(
                        fields=["next_run"], name="dbq_schedule_due", condition=models.Q(enabled=True)
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ScheduleRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("slot", models.DateTimeField()),
                (
                    "job",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="django_dbq.job",
                    ),
                ),
                (
                    "schedule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="runs",
                        to="django_dbq.schedule",
                    ),
                ),
            ],
            options={
                "ordering": ["schedule", "-slot"],
                "constraints": [
                    models.UniqueConstraint(fields=["schedule", "slot"], name="dbq_schedulerun_once")
                ],
            },
        ),
        LockBriefly("job"),
    ]

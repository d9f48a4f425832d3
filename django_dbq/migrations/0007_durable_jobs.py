import django.db.models.deletion
from django.core.serializers.json import DjangoJSONEncoder
from django.db import migrations, models
from django.db.models.functions import Length

import django_dbq.models
from django_dbq.migrations._operations import LockBriefly, NativeUUID

WIDTHS_BEFORE = {"next_task": 100, "queue_name": 20}


def refuse_what_would_not_fit(apps, schema_editor):
    """Say on the way back, before anything is changed, which jobs the narrower columns cannot hold."""
    jobs = apps.get_model("django_dbq", "Job").objects.using(schema_editor.connection.alias)
    for name, width in WIDTHS_BEFORE.items():
        count = jobs.annotate(width=Length(name)).filter(width__gt=width).count()
        if count:
            raise ValueError(
                f"{count} jobs have a {name} of more than {width} characters, which the column held before"
                " 0007. They came while it was undone: migrate forwards, and back again, as 0015 then says."
            )


class Migration(migrations.Migration):
    """Columns with database defaults, so that a worker of the original can still insert."""

    dependencies = [("django_dbq", "0006_alter_job_state")]

    operations = [
        LockBriefly("job"),
        NativeUUID("job", "id"),
        migrations.AddField("job", "staged", models.BooleanField(default=True, db_default=True)),
        migrations.AddField("job", "position", models.IntegerField(default=0, db_default=0)),
        migrations.AddField("job", "plan", models.JSONField(null=True, blank=True)),
        migrations.AddField("job", "attempt", models.IntegerField(default=0, db_default=0)),
        migrations.AddField("job", "lost_attempts", models.IntegerField(default=0, db_default=0)),
        migrations.AddField("job", "claim", models.BigIntegerField(default=0, db_default=0)),
        migrations.AddField("job", "claimed_by", models.CharField(max_length=120, null=True, blank=True)),
        migrations.AddField("job", "lease_until", models.DateTimeField(null=True, blank=True)),
        migrations.AddField("job", "cancel_requested", models.BooleanField(default=False, db_default=False)),
        migrations.AddField("job", "started", models.DateTimeField(null=True, blank=True)),
        migrations.AddField("job", "finished", models.DateTimeField(null=True, blank=True)),
        migrations.AddField(
            "job", "result", models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
        ),
        migrations.AddField("job", "error", models.TextField(null=True, blank=True)),
        migrations.AlterField("job", "next_task", models.CharField(max_length=255, blank=True)),
        migrations.AlterField(
            "job", "queue_name", models.CharField(max_length=100, default="default", db_index=True)
        ),
        migrations.CreateModel(
            name="TaskRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "job",
                    models.ForeignKey(
                        to="django_dbq.job",
                        on_delete=django.db.models.deletion.CASCADE,
                        db_constraint=False,
                        db_index=False,
                        related_name="runs",
                    ),
                ),
                ("claim", models.BigIntegerField()),
                ("task", models.CharField(max_length=255)),
                ("position", models.IntegerField()),
                ("attempt", models.IntegerField()),
                ("worker", models.CharField(max_length=120)),
                ("started", models.DateTimeField()),
                ("finished", models.DateTimeField()),
                ("outcome", models.CharField(max_length=20)),
                ("error", models.TextField(null=True)),
                ("changes", models.JSONField(null=True)),
            ],
            options={
                "ordering": ["job", "claim"],
                "constraints": [models.UniqueConstraint(fields=["job", "claim"], name="dbq_taskrun_once")],
            },
        ),
        # What follows is known to Django alone; no column changes.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    "job",
                    "id",
                    models.UUIDField(
                        primary_key=True, default=django_dbq.models.uuid7, editable=False, serialize=False
                    ),
                ),
                migrations.AlterField(
                    "job", "workspace", models.JSONField(null=True, encoder=DjangoJSONEncoder)
                ),
            ],
        ),
        migrations.RunPython(migrations.RunPython.noop, refuse_what_would_not_fit),
        LockBriefly("job"),
    ]

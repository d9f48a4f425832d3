import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Length

from django_dbq.migrations._operations import LockBriefly

NAME_BEFORE = 100


def refuse_what_would_not_fit(apps, schema_editor):
    """Say on the way back, before anything is changed, which jobs the narrower column cannot hold."""
    jobs = apps.get_model("django_dbq", "Job").objects.using(schema_editor.connection.alias)
    count = jobs.annotate(width=Length("name")).filter(width__gt=NAME_BEFORE).count()
    if count:
        raise ValueError(
            f"{count} jobs have a name of more than {NAME_BEFORE} characters, which the column held before"
            " 0009. They came while it was undone: migrate forwards, and back again, as 0015 then says."
        )


class Migration(migrations.Migration):
    """Nullable columns and two tables: workers of earlier versions go on beside it."""

    dependencies = [("django_dbq", "0008_indexes")]

    operations = [
        LockBriefly("job"),
        migrations.AlterField("job", "name", models.CharField(max_length=255)),
        migrations.AddField("job", "call", models.TextField(null=True, blank=True, editable=False)),
        migrations.AddField(
            "job", "signature", models.CharField(max_length=128, null=True, blank=True, editable=False)
        ),
        migrations.AddField(
            "job", "identity", models.CharField(max_length=64, null=True, blank=True, editable=False)
        ),
        migrations.CreateModel(
            name="Group",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("reference", models.CharField(db_index=True, max_length=255)),
                ("newest", models.CharField(editable=False, max_length=255, null=True, unique=True)),
                ("description", models.TextField(blank=True, null=True)),
                ("created", models.DateTimeField(auto_now_add=True)),
                (
                    "final",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="ends",
                        to="django_dbq.job",
                    ),
                ),
            ],
            options={"ordering": ["-created", "-id"]},
        ),
        migrations.AddField(
            "job",
            "group",
            models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="jobs",
                to="django_dbq.group",
            ),
        ),
        migrations.CreateModel(
            name="WorkerProcess",
            fields=[
                ("name", models.CharField(max_length=120, primary_key=True, serialize=False)),
                ("host", models.CharField(max_length=255)),
                ("pid", models.IntegerField()),
                ("queue_names", models.JSONField()),
                ("threads", models.IntegerField()),
                ("started", models.DateTimeField()),
                ("seen", models.DateTimeField()),
            ],
            options={"ordering": ["started", "name"], "verbose_name_plural": "worker processes"},
        ),
        migrations.RunPython(migrations.RunPython.noop, refuse_what_would_not_fit),
        LockBriefly("job"),
    ]

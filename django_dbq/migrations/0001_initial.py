import uuid

from django.db import migrations, models

STATES = ["NEW", "READY", "PROCESSING", "FAILED", "COMPLETE"]


class Migration(migrations.Migration):
    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False, serialize=False),
                ),
                ("created", models.DateTimeField(auto_now_add=True, db_index=True)),
                ("modified", models.DateTimeField(auto_now=True)),
                ("name", models.CharField(max_length=100)),
                (
                    "state",
                    models.CharField(
                        max_length=20, default="NEW", db_index=True, choices=[(s, s) for s in STATES]
                    ),
                ),
                ("next_task", models.CharField(max_length=100, blank=True)),
                ("workspace", models.TextField(null=True)),
                ("queue_name", models.CharField(max_length=20, default="default", db_index=True)),
            ],
            options={"ordering": ["-created"]},
        ),
    ]

from django.db import migrations, models

STATES = ["NEW", "READY", "PROCESSING", "STOPPING", "FAILED", "COMPLETE"]


class Migration(migrations.Migration):
    dependencies = [("django_dbq", "0005_job_run_after")]

    operations = [
        migrations.AlterField(
            model_name="job",
            name="state",
            field=models.CharField(
                max_length=20, default="NEW", db_index=True, choices=[(s, s.title()) for s in STATES]
            ),
        ),
    ]

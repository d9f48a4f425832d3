import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Django deletes a schedule's run with its job: the database is not touched."""

    dependencies = [("django_dbq", "0013_admin_proxies")]

    operations = [
        migrations.AlterField(
            model_name="schedulerun",
            name="job",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="django_dbq.job",
            ),
        ),
    ]

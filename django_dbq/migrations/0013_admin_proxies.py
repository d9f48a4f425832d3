from django.db import migrations


def proxy(name: str, verbose_name: str) -> migrations.CreateModel:
    return migrations.CreateModel(
        name=name,
        fields=[],
        options={
            "verbose_name": verbose_name,
            "proxy": True,
            "default_permissions": (),
            "indexes": [],
            "constraints": [],
        },
        bases=("django_dbq.job",),
    )


class Migration(migrations.Migration):
    """The admin's lists of jobs: the database is not touched."""

    dependencies = [("django_dbq", "0012_title_and_label_indexes")]

    operations = [
        proxy("FailedJob", "failed job"),
        proxy("QueuedJob", "queued job"),
        proxy("SuccessfulJob", "successful job"),
    ]

from django.db import migrations, models
from django.db.models.functions import Length

FINISHED = ["COMPLETE", "FAILED", "CANCELLED"]
WIDTHS_BEFORE = {"name": 100, "next_task": 100, "queue_name": 20}


def refuse_what_would_be_lost(apps, schema_editor):
    """Say what the way back would destroy or stumble over, while nothing of it has been undone."""
    using = schema_editor.connection.alias
    jobs = apps.get_model("django_dbq", "Job").objects.using(using)
    reasons = []
    for name, width in WIDTHS_BEFORE.items():
        if count := jobs.annotate(width=Length(name)).filter(width__gt=width).count():
            reasons.append(
                f"{count} jobs have a {name} of more than {width} characters, which the column held before."
                " Let them finish and delete them (manage.py delete_old_jobs --hours 0)."
            )
    unfinished = jobs.exclude(state__in=FINISHED)
    called = unfinished.filter(call__isnull=False)
    if count := unfinished.filter(models.Q(call__isnull=False) | models.Q(state="WAITING")).count():
        names = called.order_by("name").values_list("name", flat=True).distinct()[:10]
        how = ", ".join(["--state WAITING", *(f"--name {name}" for name in names)])
        reasons.append(
            f"{count} function calls, or final jobs of groups, have not finished, and nothing would ever run"
            f" them. Let workers finish them, or cancel them: manage.py cancel_jobs, once with each of {how}."
        )
    schedules = apps.get_model("django_dbq", "Schedule").objects.using(using)
    if count := schedules.filter(declared=None).count():
        reasons.append(
            f"{count} schedules stand in no entry of JOBS and would be gone. Note them down (manage.py"
            " schedules) and delete them."
        )
    if reasons:
        raise ValueError("\n".join(["Nothing has been undone. Mend this, then migrate again:", *reasons]))


class Migration(migrations.Migration):
    """What would keep an earlier one from being undone, asked before any of them is.

    It stays the last one until its release: each migration is undone and committed by itself.
    """

    dependencies = [("django_dbq", "0014_runs_go_with_jobs")]

    operations = [migrations.RunPython(migrations.RunPython.noop, refuse_what_would_be_lost)]

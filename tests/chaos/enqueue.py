"""A caller of its own: creates a job in a transaction, and waits there while `hold-enqueue` stands."""

from __future__ import annotations

import sys
import time

import django

if __name__ == "__main__":
    django.setup()
    from django.db import connection, transaction

    from django_dbq import Job
    from tests.chaos.workflows import folder

    with transaction.atomic():
        job = Job(name="enqueued", **({"id": sys.argv[1]} if len(sys.argv) > 1 else {}))
        job.save()
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO chaos_effect (job_id, position) VALUES (%s, -1)", [job.id])
        (folder() / "created").touch()
        while (folder() / "hold-enqueue").exists():
            time.sleep(0.005)

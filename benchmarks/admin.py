"""How long the admin's pages take beside a long past: a million finished jobs with their history.

Run with `python -m benchmarks.admin`.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks import harness, health

PAGES = {
    "jobs": "job/",
    "jobs, page 100": "job/?p=100",
    "jobs, oldest first": "job/?o=4",
    "complete": "job/?state=COMPLETE",
    "failed": "job/?state=FAILED",
    "held": "job/?state=PROCESSING",
    "waiting": "job/?state=WAITING",
    "new": "job/?state=NEW",
    "past day": "job/?age=day",
    "a queue": "job/?queue=default",
    "a queue without jobs": "job/?queue=none",
    "a name": "job/?name=shop.jobs.bill",
    "failed, of a name": "job/?state=FAILED&name=shop.jobs.bill",
    "search: a name": "job/?q=shop.jobs.sh",
    "search: a name that none has": "job/?q=nothing",
    "search: digits of an id": "job/?q={prefix}",
    "successful": "successfuljob/",
    "failed jobs": "failedjob/",
    "queued jobs": "queuedjob/",
    "one job": "job/{job}/change/",
    "workers": "workerprocess/",
}
# As those of a queue in use: ids grow with the time of creation.
ID = (
    "(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')"
    " || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid"
)


def fill(finished: int, waiting: int) -> None:
    """Make the tables as a long past leaves them."""
    from django.db import connection

    harness.empty_tables()
    with connection.cursor() as cursor:
        cursor.execute(health.FILL.replace("gen_random_uuid()", ID), {"count": finished})
        cursor.execute(health.FILL_HISTORY)
        cursor.execute(health.FILL_WAITING, {"count": waiting})
        cursor.execute("ANALYZE django_dbq_job, django_dbq_taskrun")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=1_000)
    parser.add_argument("--samples", type=int, default=10)
    options = parser.parse_args()
    harness.prepare()
    print(harness.versions(), flush=True)
    fill(options.finished, options.waiting)
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from django_dbq import Job

    client = Client()
    client.force_login(User.objects.get_or_create(username="boss", is_staff=True, is_superuser=True)[0])
    job = Job.objects.filter(state="FAILED").first()
    for name, page in PAGES.items():
        address = f"/admin/django_dbq/{page.format(job=job.pk, prefix=job.pk.hex[:10])}"
        taken = []
        for _ in range(options.samples):
            began = time.perf_counter()
            response = client.get(address)
            taken.append(1000 * (time.perf_counter() - began))
            assert response.status_code == 200, (address, response.status_code)
        with CaptureQueriesContext(connection) as queries:
            client.get(address)
        print(
            f"{name:32} median {statistics.median(taken):6.1f} ms ({min(taken):.1f} to {max(taken):.1f}),"
            f" {len(queries)} queries",
            flush=True,
        )
    print("(wanted: under 300 ms and at most 12 queries)")


if __name__ == "__main__":
    main()

"""The connections of tasks: kept while there is work, given up by a thread that has none."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.conftest import wait_until
from tests.worker.conftest import ASLEEP

pytestmark = pytest.mark.postgresql


def open_sessions(*numbers):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)", [list(numbers)])
        return {pid for (pid,) in cursor.fetchall()}


@pytest.mark.parametrize("way", [[], ["--threads", "2"]])
def test_tasks_share_a_session_that_an_idle_thread_gives_up(one_bench, way):
    jobs = [one_bench.create("session") for _ in range(20)]
    worker = one_bench.worker(*way, dbq=ASLEEP)
    wait_until(lambda: one_bench.jobs(state="COMPLETE").count() == len(jobs), "all are complete")
    used = {job.workspace["session"] for job in one_bench.jobs()}
    assert len(used) <= max(1, len(way)), "no more than one a thread"
    wait_until(lambda: not open_sessions(*used), "the sessions are closed")
    assert worker.popen.poll() is None, worker.log()
    later = one_bench.create("session")
    one_bench.wait_for(later)
    assert one_bench.jobs(pk=later.pk).get().workspace["session"] not in used

"""The soak: thousands of jobs under several workers and supervisors, while everything is broken at random.

Expected: after a quiet period every job is COMPLETE, each task recorded once, each atomic effect there
once, and no row was written by a process that did not hold it. SEED chooses the faults and their order.
"""

import os
import random
from functools import partial

import pytest
from django.db import DatabaseError, InterfaceError

from django_dbq import Job
from tests.chaos.cluster import ALIAS
from tests.chaos.nemesis import Nemesis
from tests.conftest import wait_until

SMALL = {"kill": 15, "kill_supervisor": 1, "terminate": 4, "restart": 1, "freeze": 2, "reset": 2, "cut": 6}
SMALL["blackhole"] = 1
WHOLE = {"kill": 100, "kill_supervisor": 4, "terminate": 20, "restart": 4, "freeze": 6, "reset": 6, "cut": 20}
WHOLE["blackhole"] = 4


@pytest.mark.parametrize(
    ("jobs", "plan"),
    [
        pytest.param(300, SMALL, id="small", marks=pytest.mark.chaos("ci")),
        pytest.param(2_000, WHOLE, id="whole", marks=pytest.mark.chaos("all")),
    ],
)
def test_nothing_is_lost_twice_or_torn(chaos, capsys, jobs, plan):
    seed = int(os.environ.get("SEED", "1"))
    proxies = [chaos.proxy(), chaos.proxy()]
    # A job may lose many workers here without being at fault.
    start = partial(chaos.worker, ready=False, LOST_ATTEMPTS_MAX=1_000, DATABASE_RETRY_SECONDS=60)
    staff = [
        partial(start, "--processes", "2"),
        partial(start, "--processes", "2", through=proxies[0]),
        start,
        partial(start, through=proxies[1]),
    ]
    nemesis = Nemesis(chaos, seed, plan, staff)
    nemesis.proxies = proxies
    feed = Feed(chaos, seed, jobs, len(nemesis.faults))
    nemesis.run(between=feed)
    feed.rest()
    for proxy in proxies:
        proxy.heal()
    chaos.fault("quiet")

    def finished():
        nemesis.restaff()
        return not chaos.rows("SELECT 1 FROM django_dbq_job WHERE finished IS NULL LIMIT 1")

    wait_until(finished, "every job to finish in the quiet period", 180)
    assert nemesis.done == plan
    verdict = chaos.judge()
    with capsys.disabled():
        print(f"\nseed {seed}: {sum(plan.values())} faults {plan}\n{verdict}")
    assert len(chaos.created) == jobs
    assert not verdict.guilty(), str(verdict)


class Feed:
    """Creates the jobs in steps as the faults go on, so that there is always work to break."""

    def __init__(self, chaos, seed, jobs, steps):
        self.chaos = chaos
        self.random = random.Random(seed)
        self.left = jobs
        self.each = -(-jobs // steps)

    def __call__(self):
        self.create(min(self.each, self.left))

    def rest(self):
        self.create(self.left)

    def create(self, count):
        self.left -= count
        jobs = [
            Job(name="patient", workspace={"seconds": self.random.choice([0, 0.01, 0.05, 0.2])})
            for _ in range(count)
        ]

        def insert():
            try:
                # Again with the same ids when the answer was lost: what stands is left as it is.
                Job.objects.using(ALIAS).bulk_create(jobs, ignore_conflicts=True)
            except (DatabaseError, InterfaceError):
                self.chaos.rows("SELECT 1")  # Connects anew.
                return False
            return True

        wait_until(insert, "jobs to be created")
        self.chaos.created.update({str(job.id): job.name for job in jobs})

"""K11: killed in rescue, stage or prune, at each tag.

Expected: each is one statement: all or none; another worker continues; nothing is rescued or staged
twice. (Schedules do not exist yet.)
"""

import datetime

import pytest
from django.utils import timezone

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("when", ["before", "after"])
def test_rescue(chaos, when):
    job = chaos.create("plain")
    chaos.rows(
        "UPDATE django_dbq_job SET state = 'PROCESSING', claim = 1, attempt = 1, claimed_by = 'gone:1:x',"
        " lease_until = now() - interval '1 minute'"
    )
    proxy = chaos.proxy()
    trap = proxy.hold("rescue", when)
    worker = chaos.worker(through=proxy, ready=False)
    trap.wait()
    worker.kill()
    proxy.reset()
    assert chaos.state(job) == {"before": "PROCESSING", "after": "READY"}[when]
    chaos.worker()
    chaos.wait_state(job)
    assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    assert [note["attempt"] for note in chaos.ledger.begun(job)] == [2]
    chaos.assert_kept()


@pytest.mark.parametrize("when", ["before", "after"])
def test_stage(chaos, when):
    job = chaos.create("plain", run_after=timezone.now() + datetime.timedelta(seconds=0.2))
    wait_until(lambda: chaos.value(job, "run_after < now()"), "its time to come")
    proxy = chaos.proxy()
    trap = proxy.hold("stage", when)
    worker = chaos.worker(through=proxy, ready=False)
    trap.wait()
    worker.kill()
    proxy.reset()
    assert chaos.value(job, "staged") is (when == "after")
    chaos.worker()
    chaos.wait_state(job)
    assert len(chaos.ledger.begun(job)) == 1
    chaos.assert_kept()


@pytest.mark.parametrize("when", ["before", "after"])
def test_prune(chaos, when):
    for _ in range(30):
        chaos.create("plain")
    chaos.worker("--burst", ready=False).wait()
    proxy = chaos.proxy()
    trap = proxy.hold("prune", when)
    command = ["manage.py", "delete_old_jobs", "--hours", "0"]
    pruner = chaos.start(command, through=proxy)
    trap.wait()
    pruner.kill()
    proxy.reset()
    left = 30 if when == "before" else 0
    wait_until(lambda: not chaos.cluster.sessions(chaos.name), "its backend to end")
    assert chaos.rows("SELECT count(*) FROM django_dbq_job") == [(left,)]
    assert chaos.rows("SELECT count(*) FROM django_dbq_taskrun") == [(left,)]
    assert chaos.start(command).wait() == 0
    assert chaos.rows("SELECT count(*) FROM django_dbq_job") == [(0,)]
    assert chaos.rows("SELECT count(*) FROM django_dbq_taskrun") == [(0,)]

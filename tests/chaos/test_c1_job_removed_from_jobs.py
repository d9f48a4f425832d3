"""C1: a deploy removes a job's name from JOBS.

Expected: queued jobs and those half way stay, marked; workers that do not know the name do not fail
them, and an old worker still finishes them.
"""

import json
import signal

from tests.conftest import wait_until


def test_new_workers_park_what_old_ones_can_still_finish(chaos):
    chaos.hold()
    half_way, waiting = chaos.create("letters"), chaos.create("letters")
    old = chaos.worker()
    chaos.wait_begun(half_way)
    old.signal(signal.SIGTERM)
    wait_until(lambda: chaos.state(half_way) == "STOPPING", "the old worker to stop")
    chaos.let_go()
    assert old.wait() == 0
    new = chaos.worker(env={"CHAOS_JOBS_GONE": json.dumps(["letters"])}, PARK_SECONDS=0.5)
    for job, state in [(half_way, "READY"), (waiting, "NEW")]:
        chaos.wait_parked(job)
        wait_until(lambda job=job, state=state: chaos.state(job) == state, "the job to wait")
        assert "JOBS has no job named 'letters'" in chaos.value(job, "error")
    assert chaos.runs(waiting) == []
    others = chaos.create("plain")
    chaos.wait_state(others)
    chaos.worker(PARK_SECONDS=0.5)
    for job in (half_way, waiting):
        chaos.wait_state(job)
        assert chaos.runs(job) == [(0, "done"), (1, "done"), (2, "done")]
        assert [note["attempt"] for note in chaos.ledger.begun(job)] == [1, 1, 1]
    assert new.alive()
    chaos.assert_kept()

"""P1: a task that always kills its process.

Expected: attempts are counted when claimed, so the job is FAILED after LOST_ATTEMPTS_MAX; its neighbours
are unaffected; the failure hook runs in another process.
"""


def test_the_job_fails_after_three_workers_and_its_neighbours_complete(chaos):
    poison = chaos.create("poison", workspace={"how": "os._exit"})
    neighbours = [chaos.create("plain") for _ in range(20)]
    supervisor = chaos.worker("--processes", "2", ready=False)
    chaos.wait_state(poison, "FAILED", seconds=30)
    for job in neighbours:
        chaos.wait_state(job)
    del chaos.created[str(poison.id)]
    dead = [note["pid"] for note in chaos.ledger.begun(poison)]
    assert len(dead) == len(set(dead)) == 3
    [hook] = chaos.ledger.notes("failure_hook", poison)
    assert hook["pid"] not in dead
    assert chaos.value(poison, "workspace ->> 'failed_with'") == "WorkerLost"
    assert "WorkerLost" in chaos.value(poison, "error")
    assert [outcome for _, outcome in chaos.runs(poison)] == ["lost"] * 3
    assert supervisor.alive()
    for job in neighbours:
        assert len(chaos.ledger.begun(job)) == 1
        assert chaos.runs(job)[-1] == (0, "done")


def test_without_a_supervisor_the_next_worker_takes_it_up(chaos):
    poison = chaos.create("poison", workspace={"how": "os._exit"})
    for _ in range(3):
        chaos.worker(ready=False, LEASE_SECONDS=1).wait()
    assert chaos.state(poison) == "PROCESSING"
    last = chaos.worker(ready=False, LEASE_SECONDS=1)
    chaos.wait_state(poison, "FAILED")
    assert [note["pid"] for note in chaos.ledger.notes("failure_hook")] == [last.pid]
    assert last.alive()

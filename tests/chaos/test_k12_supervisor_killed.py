"""K12: the supervisor is killed with -9.

Expected: its workers see that it is gone, finish what runs and exit; none goes on without it.
"""

from tests.chaos.harness import is_worker
from tests.conftest import wait_until


def test_what_they_had_yet_to_claim_waits_for_others(chaos):
    supervisor = chaos.worker("--processes", "2")
    for _ in range(300):
        chaos.create("plain_three", workspace={"seconds": 0.002})
    wait_until(chaos.ledger.ended, "work to begin")
    children = supervisor.children()
    supervisor.kill()
    wait_until(lambda: not any(map(is_worker, children)), "the workers to exit")
    held = "SELECT count(*) FROM django_dbq_job WHERE claimed_by IS NOT NULL"
    assert chaos.rows(held) == [(0,)]
    chaos.worker()
    chaos.wait_all()
    assert chaos.assert_kept().again == 0


def test_its_workers_finish_what_runs_and_exit(chaos):
    chaos.hold()
    supervisor = chaos.worker("--processes", "2")
    job = chaos.create("plain")
    [begun] = chaos.wait_begun(job)
    children = supervisor.children()
    supervisor.kill()
    chaos.fault(f"killed the supervisor {supervisor.pid} of {children}")
    idle = next(pid for pid in children if pid != begun["pid"])
    wait_until(lambda: not is_worker(idle), "the idle worker to exit")
    wait_until(lambda: supervisor.log().count("Supervisor gone, stopping") == 2, "both to have noticed")
    assert is_worker(begun["pid"])
    later = chaos.create("plain")
    chaos.let_go()
    wait_until(lambda: not is_worker(begun["pid"]), "the busy worker to exit")
    assert chaos.runs(job) == [(0, "done")]
    assert chaos.state(later) == "NEW"
    chaos.worker()
    chaos.wait_state(later)
    assert len(chaos.ledger.begun()) == 2
    chaos.assert_kept()

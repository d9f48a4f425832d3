"""K16: a task calls sys.exit, os._exit or os.abort, raises BaseException, or crashes the interpreter.

Expected: what can be caught is a failure of the task; the death of the process is K5; the pool heals.
"""

import pytest

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("how", ["sys.exit", "BaseException"])
def test_what_can_be_caught_fails_the_task_and_the_worker_lives(chaos, how):
    worker = chaos.worker()
    job = chaos.create("poison", workspace={"how": how})
    chaos.wait_state(job, "FAILED")
    assert [outcome for _, outcome in chaos.runs(job)] == ["failed"]
    later = chaos.create("plain")
    chaos.wait_state(later)
    assert chaos.ledger.begun(later)[0]["pid"] == chaos.ledger.begun(job)[0]["pid"] == worker.pid


@pytest.mark.parametrize("how", ["os._exit", "os.abort", "segfault"])
def test_what_cannot_costs_a_process_and_the_pool_heals(chaos, how):
    supervisor = chaos.worker("--processes", "2", LOST_ATTEMPTS_MAX=2)
    job = chaos.create("poison", workspace={"how": how})
    chaos.wait_state(job, "FAILED")
    assert [outcome for _, outcome in chaos.runs(job)] == ["lost", "lost"]
    assert supervisor.log().count("Worker fell") == 2
    later = [chaos.create("plain") for _ in range(4)]
    for other in later:
        chaos.wait_state(other)
    assert supervisor.alive()
    assert not chaos.trespasses()

"""Z1: a worker is frozen for longer than its lease, another finishes its job, and it thaws.

Expected: what the thawed worker records changes nothing: workspace untouched, no hooks; its process
goes on serving others.
"""

import os
import signal

from tests.chaos.harness import freeze
from tests.conftest import wait_until


def test_a_thawed_worker_changes_nothing_and_serves_on(chaos):
    chaos.hold()
    job = chaos.create("hooked")
    zombie = chaos.worker()
    chaos.wait_begun(job)
    zombie.freeze()
    chaos.fault(f"frozen {zombie.pid}")
    other = chaos.worker()
    chaos.let_go()
    chaos.wait_state(job)
    before = chaos.value(job, "to_jsonb(django_dbq_job)")
    other.kill()
    zombie.thaw()
    chaos.fault("thawed")
    wait_until(lambda: zombie.said("Lease lost, outcome dropped"), "the zombie to find out")
    assert chaos.value(job, "to_jsonb(django_dbq_job)") == before
    assert chaos.runs(job) == [(0, "lost"), (0, "done")]
    assert [note["pid"] for note in chaos.ledger.notes("post_task_hook")] == [other.pid]
    later = chaos.create("hooked")
    chaos.wait_state(later)
    assert chaos.ledger.begun(later)[0]["pid"] == zombie.pid
    chaos.assert_kept()


def test_a_zombie_supervisor_and_its_children_too(chaos):
    chaos.hold()
    jobs = [chaos.create("plain") for _ in range(2)]
    supervisor = chaos.worker("--processes", "2")
    for job in jobs:
        chaos.wait_begun(job)
    children = supervisor.children()
    for pid in [supervisor.pid, *children]:
        freeze(pid)
    other = chaos.worker()
    chaos.let_go()
    for job in jobs:
        chaos.wait_state(job)
    other.kill()
    for pid in [supervisor.pid, *children]:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: supervisor.log().count("Lease lost, outcome dropped") == 2, "both to find out")
    later = chaos.create("plain")
    chaos.wait_state(later)
    assert chaos.ledger.begun(later)[0]["pid"] in children
    chaos.assert_kept()

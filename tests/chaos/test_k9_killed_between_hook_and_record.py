"""K9: killed between the hooks that follow a task and its record.

Chosen: hooks run before the record, so that what they change is kept. A worker that dies between the two
makes the task and its hooks run again: at least once. After the record they never do.
"""

import pytest

pytestmark = pytest.mark.chaos("ci")


@pytest.mark.parametrize("name", ["hooked", "hooked_boom"])
def test_before_the_record_hooks_run_at_least_once(chaos, name):
    proxy = chaos.proxy()
    trap = proxy.hold("record", "before")
    job = chaos.create(name)
    worker = chaos.worker(through=proxy, ready=False)
    trap.wait()
    worker.kill()
    proxy.reset()
    other = chaos.worker()
    chaos.wait_state(job, "COMPLETE" if name == "hooked" else "FAILED")
    hooks = {"hooked": "post_task_hook", "hooked_boom": "failure_hook"}
    assert [note["pid"] for note in chaos.ledger.notes(hooks[name])] == [worker.pid, other.pid]
    assert not chaos.trespasses()


@pytest.mark.parametrize("name", ["hooked", "hooked_boom"])
def test_after_the_record_they_do_not_run_again(chaos, name):
    proxy = chaos.proxy()
    trap = proxy.hold("record", "after")
    job = chaos.create(name)
    worker = chaos.worker(through=proxy, ready=False)
    trap.wait()
    worker.kill()
    proxy.reset()
    chaos.wait_state(job, "COMPLETE" if name == "hooked" else "FAILED")
    chaos.worker()
    later = chaos.create("plain")
    chaos.wait_state(later)
    assert [note["pid"] for note in chaos.ledger.notes("post_task_hook")] == [worker.pid]
    if name == "hooked_boom":
        assert [note["pid"] for note in chaos.ledger.notes("failure_hook")] == [worker.pid]
        assert chaos.value(job, "workspace ->> 'failed_with'") == "ValueError"
    assert not chaos.trespasses()

"""What a task that failed leaves behind in its worker."""

from __future__ import annotations

import pytest

from django_dbq import Job
from django_dbq.store import get_store
from django_dbq.worker.executor import Executor


@pytest.mark.parametrize("name", ["stop_half_way", "stop_half_way_twice", "stop_half_way_atomic"])
def test_a_task_that_fails_while_it_reads_is_recorded_and_the_worker_goes_on(one_bench, name):
    failed = one_bench.create(name)
    worker = one_bench.worker()
    one_bench.wait_for(failed, "FAILED")
    one_bench.wait_for(one_bench.create("nothing"))
    assert "half way" in worker.log()


def attempt_at(name):
    job = Job.objects.create(name=name)
    (claimed,) = get_store("default").claim_by_id([job.pk], worker="w", lease_seconds=60)
    return Executor("default", "w").run(claimed)


def locals_of(error):
    """Return the local variables of the frame that raised."""
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_locals


@pytest.mark.django_db(transaction=True)
def test_what_a_task_held_that_is_tried_again_is_free(settings):
    settings.JOBS = {"fails": {"tasks": [f"{__name__}.fail"], "retry": {"max_attempts": 2}}}
    error = attempt_at("fails").error
    assert locals_of(error) == {} == locals_of(error.__cause__)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_handlers_of_logs_see_what_a_task_held_that_failed_for_good(settings):
    settings.JOBS = {"fails": [f"{__name__}.fail"]}
    assert locals_of(attempt_at("fails").error)["held"] == "large"


def fail(job):
    held = "large"
    try:
        int(held)
    except ValueError as error:
        raise RuntimeError(held) from error

"""What a task that failed leaves behind in its worker."""

from __future__ import annotations

import sys

import pytest
from django.db import connection, transaction

from django_dbq import Job, schedule
from django_dbq.store import get_store
from django_dbq.worker.errors import TRACEBACK_CHARS_MAX, let_go, line_of, stack_of, traceback_of
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
def test_what_a_task_held_that_is_tried_again_is_free_before_it_is_recorded(settings):
    settings.JOBS = {"fails": {"tasks": [f"{__name__}.fail"], "retry": {"max_attempts": 2}}}
    attempt = attempt_at("fails")
    assert locals_of(attempt.error)["held"] == "large"  # For who runs a task where it stands.
    Executor("default", "w").let_go(attempt)
    assert locals_of(attempt.error) == {} == locals_of(attempt.error.__cause__)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_handlers_of_logs_see_what_a_task_held_that_failed_for_good(settings):
    settings.JOBS = {"fails": [f"{__name__}.fail"]}
    attempt = attempt_at("fails")
    Executor("default", "w").let_go(attempt)
    assert locals_of(attempt.error)["held"] == "large"


@pytest.mark.django_db(transaction=True)
def test_a_call_that_fails_within_a_generator_s_transaction_is_recorded():
    job = schedule(f"{__name__}.fail_half_way")
    with pytest.raises(ValueError, match="half way") as caught:
        job.execute()
    assert (job.attempt, job.error) == (1, "ValueError: half way")
    assert not connection.in_atomic_block
    let_go(caught.value)  # Before the garbage collector does, in a test that has no database.


@pytest.mark.parametrize("group", [False, True])
def test_a_generator_that_caught_the_error_goes_on(group):
    def service():
        for number in range(2):
            try:
                raise ValueError(number)
            except ValueError as error:
                yield error

    running = service()
    error = next(running)
    let_go(ExceptionGroup("both", [error]) if group else error)
    assert str(next(running)) == "1"


def test_an_error_in_one_line_leaves_out_what_was_noted_of_it():
    error = ValueError("half way")
    error.add_note("of row 5")
    assert line_of(error) == "ValueError: half way"
    assert "of row 5" in traceback_of(error)


def test_however_deep_a_thread_stands_its_error_has_the_message_and_the_end_of_the_stack():
    error = TimeoutError("no end")
    error.add_note(descend(500))
    text = traceback_of(error)
    assert text.startswith("TimeoutError: no end\n[") and "characters cut]" in text
    assert "return stack_of(sys._getframe())" in text and len(text) < TRACEBACK_CHARS_MAX


def descend(depth):
    """Return the stack from a depth, by turns through two lines: Python folds equal ones."""
    if not depth:
        return stack_of(sys._getframe())
    if depth % 2:
        return descend(depth - 1)
    return descend(depth - 1)


def locked_rows():
    with transaction.atomic():
        yield from Job.objects.select_for_update()


def fail_half_way():
    rows = locked_rows()
    next(rows)
    raise ValueError("half way")


def fail(job):
    held = "large"
    try:
        int(held)
    except ValueError as error:
        raise RuntimeError(held) from error


def test_a_worker_without_its_tables_stops_at_once_and_says_what_to_do(manage, tmp_path):
    worker = manage("worker", "--burst", DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    assert worker.wait() == 1
    assert "Worker stops: run manage.py migrate: no such table: django_dbq_" in worker.log()
    assert "trying again" not in worker.log()

"""Thousands of virtual faults keep the promises, and real stores do as the model does.

`SIMULATION_SCALE=50 pytest tests/simulation` plays fifty times as many stories, each time others.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from django_dbq.engine.lifecycle import Done, Failed
from tests.simulation.machine import JOBS, QUEUES, Simulation
from tests.simulation.model import LOST_ATTEMPTS_MAX
from tests.simulation.replay import ALIASES, replay

on_every_store = pytest.mark.django_db(databases=ALIASES)
SCALE = float(os.environ.get("SIMULATION_SCALE", "1"))


def play(machine, stories, steps):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(1, int(stories * SCALE)),
            stateful_step_count=steps,
            deadline=None,
            derandomize=SCALE == 1,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
        ),
    )


@pytest.fixture(autouse=True)
def workflows(settings):
    settings.JOBS = JOBS


def test_every_promise_holds_after_every_event_of_every_story():
    Simulation.seen.clear()
    play(Simulation, stories=300, steps=80)
    # What makes the promises hard to keep has happened.
    assert Simulation.seen.keys() >= {"crash with a job", "rescue", "retry", "spent job", "stale record"}


def begin():
    """A story of two workers and one job of two tasks, which the first worker holds."""
    Simulation.seen.clear()
    story = Simulation()
    story.start(workers=2, names=["pair"])
    one, two = story.workers
    story.claim_as(one, 1, QUEUES)
    return story, one, two


def end(story):
    """Look at the promises, let the story come to its end, and let every store do as the model did."""
    story.every_promise_holds()
    story.teardown()
    for alias in ALIASES:
        replay(alias, story.trace)
    return story.seen


@on_every_store
def test_a_worker_that_thaws_records_nothing():
    story, one, _ = begin()
    story.run_as(one, 0, Done())
    story.freeze(index=0, other=0, thaws=True)
    story.record_as(one)
    seen = end(story)
    assert (seen["rescue"], seen["stale record"]) == (1, 1)


@on_every_store
def test_a_worker_that_begins_after_its_job_was_taken_saves_nothing():
    story, _, _ = begin()
    story.freeze(index=0, other=0, thaws=True)
    assert end(story)["stale save"] == 1


@on_every_store
def test_a_worker_that_thaws_hears_at_its_heartbeat_what_it_has_lost():
    story, one, _ = begin()
    story.freeze(index=0, other=0, thaws=False)
    one.paused = False
    story.heartbeat(one)
    assert not one.held and end(story)["heartbeat tells that a job is lost"] == 1


@on_every_store
def test_a_worker_whose_record_was_written_recognises_it_when_it_tries_again():
    story, one, _ = begin()
    story.run_as(one, 0, Done(), keep=True)
    story.answer_to_record_is_lost(index=0, arrives="at once", again=True)
    (job,) = one.held.values()
    assert (job.claim, job.position) == (2, 1), "it goes on with the next task"
    assert end(story)["own success"] == 1


@on_every_store
def test_a_record_that_arrives_after_it_was_sent_again_changes_nothing():
    story, one, _ = begin()
    story.run_as(one, 0, Done())
    story.answer_to_record_is_lost(index=0, arrives="late", again=True)
    story.late_record_arrives(index=0, again=True)
    story.late_record_arrives(index=0, again=False)
    assert end(story)["stale record"] == 2


@on_every_store
def test_a_task_that_fails_whenever_it_runs_has_no_more_attempts_than_its_policy_says():
    story, one, two = begin()
    (pk,) = story.live
    for worker in (one, two):
        story.run_as(worker, 0, Failed("ValueError: no"))
        story.record_as(worker)
        story.time_passes(20)
        story.stage()
        story.claim_as(two, 1, QUEUES)
    end(story)
    assert story.model.rows[pk].state == "FAILED" and not two.held


@on_every_store
def test_a_job_that_kills_its_workers_is_failed_by_the_last_of_those_that_rescue_it():
    story, _, _ = begin()
    (pk,) = story.live
    for _ in range(LOST_ATTEMPTS_MAX):
        story.crash(index=0, in_flight=False)
        story.supervisor_tells_who_died()
        story.rescue_as(story.workers[0])
        story.claim_as(story.workers[0], 1, QUEUES)
    assert end(story)["spent job"] == 1
    assert story.model.rows[pk].state == "FAILED"


@on_every_store
@pytest.mark.parametrize("alias", ALIASES)
def test_a_store_does_as_the_model_does(alias):
    class Replayed(Simulation):
        def told(self):
            replay(alias, self.trace)

    play(Replayed, stories=25, steps=60)

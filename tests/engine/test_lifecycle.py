"""The transition table, row by row."""

from dataclasses import dataclass
from typing import get_args

import pytest

from django_dbq.engine.lifecycle import (
    DUE_STATES,
    FINISHED_STATES,
    HELD_STATES,
    CutOff,
    Done,
    Failed,
    Finished,
    GivenBack,
    Lost,
    Outcome,
    Parked,
    Snoozed,
    State,
    Transition,
    WentTo,
    decide,
)
from django_dbq.engine.retry import RetryPolicy

PLAN = ("app.first", "app.middle", "app.last")
ONCE = RetryPolicy()
TWICE = RetryPolicy(max_attempts=2, delay_seconds=8, jitter=False)


@dataclass
class Job:
    """A held job in the middle of its plan, at the first attempt of that task."""

    id: int = 7
    claim: int = 4
    name: str = "job"
    next_task: str = "app.middle"
    position: int = 1
    attempt: int = 1
    lost_attempts: int = 0
    priority: int = 0
    prior_state: str = State.READY


def at(index, **values):
    return Job(next_task=PLAN[index], position=index, **values)


def row(transition):
    """The columns of a transition that say where the job goes."""
    return (
        transition.state,
        transition.next_task,
        transition.position,
        transition.attempt,
        transition.delay_seconds,
        transition.error,
    )


# A held job was NEW or READY before; the outcome of its attempt decides alone, except
# where nothing ran: then it is again what it was.
TABLE = [
    # prior, at, outcome, policy, (state, next_task, position, attempt, delay_seconds, error)
    ("NEW", 0, Done(), ONCE, ("READY", "app.middle", 1, 0, None, None)),
    ("READY", 1, Done(), ONCE, ("READY", "app.last", 2, 0, None, None)),
    ("READY", 2, Done(), ONCE, ("COMPLETE", "", 2, 1, None, None)),
    ("NEW", 0, Finished(), ONCE, ("COMPLETE", "", 0, 1, None, None)),
    ("READY", 2, Finished(), ONCE, ("COMPLETE", "", 2, 1, None, None)),
    ("NEW", 0, WentTo("app.last"), ONCE, ("READY", "app.last", 2, 0, None, None)),
    ("READY", 2, WentTo("app.first"), ONCE, ("READY", "app.first", 0, 0, None, None)),
    ("READY", 1, WentTo("app.middle"), ONCE, ("READY", "app.middle", 1, 0, None, None)),
    (
        "READY",
        1,
        WentTo("app.gone"),
        TWICE,
        (
            "FAILED",
            "app.middle",
            1,
            1,
            None,
            "GoTo('app.gone'): this job's tasks are app.first, app.middle, app.last",
        ),
    ),
    ("NEW", 0, Snoozed(30), ONCE, ("READY", "app.first", 0, 0, 30, None)),
    ("READY", 1, Snoozed(30), ONCE, ("READY", "app.middle", 1, 0, 30, None)),
    ("NEW", 0, Failed("no"), ONCE, ("FAILED", "app.first", 0, 1, None, "no")),
    ("READY", 1, Failed("no"), TWICE, ("READY", "app.middle", 1, 1, 8, "no")),
    ("READY", 1, Failed("no", may_retry=False), TWICE, ("FAILED", "app.middle", 1, 1, None, "no")),
    ("READY", 1, Failed("no", delay_seconds=3), TWICE, ("READY", "app.middle", 1, 1, 3, "no")),
    ("READY", 1, Failed("no", delay_seconds=0), TWICE, ("READY", "app.middle", 1, 1, 0, "no")),
    ("READY", 1, Failed("no", delay_seconds=3), ONCE, ("FAILED", "app.middle", 1, 1, None, "no")),
    ("NEW", 0, Lost("gone"), TWICE, ("FAILED", "app.first", 0, 1, None, "gone")),
    ("READY", 1, Lost("gone"), TWICE, ("FAILED", "app.middle", 1, 1, None, "gone")),
    ("NEW", 0, Parked("what?", 60), ONCE, ("NEW", "app.first", 0, 0, 60, "what?")),
    ("READY", 1, Parked("what?", 60), ONCE, ("READY", "app.middle", 1, 0, 60, "what?")),
    ("NEW", 0, GivenBack(), ONCE, ("NEW", "app.first", 0, 0, None, None)),
    ("READY", 1, GivenBack(), ONCE, ("READY", "app.middle", 1, 0, None, None)),
    ("NEW", 0, CutOff("gone"), ONCE, ("READY", "app.first", 0, 1, None, "gone")),
    ("READY", 1, CutOff("gone"), ONCE, ("READY", "app.middle", 1, 1, None, "gone")),
]


def title(line):
    prior, index, outcome, retry, expected = line
    return f"{prior} at {index}: {outcome} of {retry.max_attempts} -> {expected[0]}"


@pytest.mark.parametrize("line", TABLE, ids=title)
def test_an_outcome_leads_where_the_table_says(line):
    prior, index, outcome, retry, expected = line
    job = at(index, prior_state=prior)
    transition = decide(job, outcome, PLAN, retry, 0.5)
    assert row(transition) == expected
    assert (transition.job_id, transition.claim, transition.outcome) == (7, 4, outcome.kind)


def test_the_table_has_every_outcome():
    assert {type(outcome) for _, _, outcome, _, _ in TABLE} == set(get_args(Outcome))


@pytest.mark.parametrize("prior", DUE_STATES)
@pytest.mark.parametrize("index", range(len(PLAN)))
@pytest.mark.parametrize("retry", [ONCE, TWICE], ids=["once", "twice"])
@pytest.mark.parametrize(
    "outcome",
    [
        Done(),
        Finished(),
        WentTo("app.first"),
        WentTo("app.gone"),
        Snoozed(1),
        Failed("no"),
        Failed("no", may_retry=False),
        Lost("gone"),
        Parked("what?", 60),
        GivenBack(),
        CutOff("gone"),
    ],
    ids=str,
)
def test_no_outcome_leaves_a_job_held_or_without_a_place(prior, index, outcome, retry):
    transition = decide(at(index, prior_state=prior), outcome, PLAN, retry, 0.5)
    assert transition.state not in HELD_STATES
    assert transition.finished == (transition.state in FINISHED_STATES)
    assert not transition.hold and transition.run is None
    assert transition.workspace is None and transition.result is None
    if transition.state is State.COMPLETE:
        assert transition.next_task == ""
    else:
        assert PLAN[transition.position] == transition.next_task
    if transition.finished:
        assert transition.delay_seconds is None
    if transition.state is State.NEW:
        assert prior == State.NEW and outcome.kind in ("parked", "given_back")


def test_every_state_is_due_held_waiting_or_finished():
    assert [*DUE_STATES, *HELD_STATES, State.WAITING, *FINISHED_STATES] == [*State]


# Attempts.


def test_the_next_task_starts_with_no_attempts_and_no_losses():
    transition = decide(at(0, attempt=5, lost_attempts=2), Done(), PLAN, ONCE, 0.5)
    assert (transition.attempt, transition.lost_attempts) == (0, 0)


def test_going_to_the_same_task_counts_as_a_new_task():
    transition = decide(at(1, attempt=5, lost_attempts=2), WentTo("app.middle"), PLAN, ONCE, 0.5)
    assert (transition.position, transition.attempt, transition.lost_attempts) == (1, 0, 0)


def test_an_attempt_that_was_cut_off_is_a_lost_one():
    transition = decide(at(1, attempt=3, lost_attempts=1), CutOff("gone"), PLAN, ONCE, 0.5)
    assert (transition.attempt, transition.lost_attempts) == (3, 2)


@pytest.mark.parametrize("outcome", [Parked("what?", 60), GivenBack()], ids=str)
def test_what_used_no_attempt_gives_it_back_and_keeps_the_losses(outcome):
    transition = decide(at(1, attempt=3, lost_attempts=2), outcome, PLAN, ONCE, 0.5)
    assert (transition.attempt, transition.lost_attempts) == (2, 2)


def test_a_task_that_has_put_itself_off_is_not_what_its_workers_died_of():
    transition = decide(at(1, attempt=4, lost_attempts=2), Snoozed(1), PLAN, ONCE, 0.5)
    assert (transition.attempt, transition.lost_attempts) == (1, 0)


def test_a_lost_attempt_is_no_failure_of_the_task():
    # Three starts, two of them lost: this failure is the first of two.
    transition = decide(at(1, attempt=3, lost_attempts=2), Failed("no"), PLAN, TWICE, 0.5)
    assert (transition.state, transition.delay_seconds) == (State.READY, 8)
    assert (transition.attempt, transition.lost_attempts) == (3, 2)


def test_the_last_failure_of_the_policy_fails_the_job():
    transition = decide(at(1, attempt=4, lost_attempts=2), Failed("no"), PLAN, TWICE, 0.5)
    assert (transition.state, transition.attempt) == (State.FAILED, 4)


def test_the_chance_given_is_the_jitter():
    jittered = RetryPolicy(max_attempts=2, delay_seconds=8)
    assert decide(Job(), Failed("no"), PLAN, jittered, 0.25).delay_seconds == 2


# A task that stands more than once.


@pytest.mark.parametrize(("position", "expected"), [(0, 2), (1, 2), (2, 3), (3, 0)])
def test_going_to_a_task_that_stands_often_means_the_next_one_or_else_the_first(position, expected):
    plan = ("app.a", "app.b", "app.a", "app.a")
    job = Job(next_task=plan[position], position=position)
    assert decide(job, WentTo("app.a"), plan, ONCE, 0.5).position == expected


def test_a_task_in_the_list_five_times_runs_five_times():
    plan, job, runs = ("app.a",) * 5, Job(next_task="app.a", position=0), 0
    while True:
        transition, runs = decide(job, Done(), plan, ONCE, 0.5), runs + 1
        if transition.state is State.COMPLETE:
            break
        job = Job(next_task=transition.next_task, position=transition.position)
    assert runs == 5


# Holding a job.


def transition_to(state, delay_seconds=None):
    return Transition(7, 4, state, "app.a", 0, 2, 0, "done", delay_seconds=delay_seconds)


@pytest.mark.parametrize("state", [*State])
@pytest.mark.parametrize("delay_seconds", [None, 0.0, 5.0])
def test_only_a_ready_job_without_a_delay_goes_on(state, delay_seconds):
    expected = state is State.READY and delay_seconds != 5.0
    assert transition_to(state, delay_seconds).goes_on == expected


def test_keeping_a_job_counts_its_next_attempt_under_the_same_worker():
    transition = transition_to(State.READY)
    transition.keep()
    assert (transition.hold, transition.state, transition.attempt) == (True, State.PROCESSING, 3)
    assert not transition.finished

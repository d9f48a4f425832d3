"""Attempt number -> delay."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_dbq.engine.lifecycle import (
    CutOff,
    Done,
    Failed,
    Finished,
    GivenBack,
    Lost,
    Parked,
    Snoozed,
    decide,
)
from django_dbq.engine.retry import RetryPolicy
from django_dbq.engine.workflow import SMALLINT_MAX

FAILURES_MAX = 10_000

numbers = st.floats(min_value=0, max_value=1e9) | st.integers(min_value=0, max_value=10**9)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.just(FAILURES_MAX + 2),
    delay_seconds=numbers,
    backoff=st.floats(min_value=1, max_value=1e300) | st.integers(min_value=1, max_value=1_000),
    max_delay_seconds=numbers,
    jitter=st.booleans(),
)
chances = st.floats(min_value=0, max_value=1, exclude_max=True)
failures = st.integers(min_value=1, max_value=FAILURES_MAX)


@given(policies, failures, chances)
def test_a_delay_is_never_negative_nor_over_the_maximum(policy, failure, chance):
    assert 0 <= policy.delay(failure, chance) <= policy.max_delay_seconds


@given(policies, st.integers(min_value=1, max_value=20), st.integers(min_value=1, max_value=20), chances)
def test_the_policy_gives_up_exactly_after_its_last_attempt(policy, attempts, failure, chance):
    delay = replace(policy, max_attempts=attempts).delay(failure, chance)
    assert (delay is None) == (failure >= attempts)


@given(policies, failures, chances)
def test_jitter_draws_from_the_whole_range_below_the_delay(policy, failure, chance):
    whole = replace(policy, jitter=False).delay(failure, chance)
    jittered = replace(policy, jitter=True)
    assert jittered.delay(failure, 0.0) == 0
    assert jittered.delay(failure, chance) == whole * chance


@given(policies, failures, chances, chances)
def test_without_jitter_chance_has_no_say(policy, failure, one, other):
    plain = replace(policy, jitter=False)
    assert plain.delay(failure, one) == plain.delay(failure, other)


@given(policies, failures)
def test_without_jitter_delays_never_shrink(policy, failure):
    plain = replace(policy, jitter=False)
    assert plain.delay(failure, 0.0) <= plain.delay(failure + 1, 0.0)


@given(policies, failures)
def test_no_delay_stays_no_delay_however_often_it_is_multiplied(policy, failure):
    assert replace(policy, delay_seconds=0).delay(failure, 0.5) == 0


def test_the_delay_doubles_up_to_its_maximum():
    policy = RetryPolicy(max_attempts=9, delay_seconds=2, backoff=2.0, max_delay_seconds=20, jitter=False)
    assert [policy.delay(failure, 0.5) for failure in range(1, 7)] == [2, 4, 8, 16, 20, 20]


def test_by_default_a_failure_is_final():
    assert RetryPolicy().delay(1, 0.5) is None


# Without end, and with a power.

without_end = st.builds(
    RetryPolicy,
    max_attempts=st.none(),
    delay_seconds=numbers,
    power=st.none() | st.floats(min_value=0, max_value=100),
    max_delay_seconds=numbers,
    jitter=st.booleans(),
)
powers = st.floats(min_value=0, max_value=100)


@given(without_end, st.integers(min_value=1, max_value=10**12), chances)
def test_without_a_last_attempt_there_is_always_a_next_one(policy, failure, chance):
    delay = policy.delay(failure, chance)
    assert delay is not None and 0 <= delay <= policy.max_delay_seconds


@given(policies, powers, failures)
def test_a_power_replaces_the_backoff(policy, power, failure):
    powered = replace(policy, power=power, jitter=False)
    assert powered.delay(failure, 0.5) == replace(powered, backoff=1.0).delay(failure, 0.5)
    expected = min(powered.max_delay_seconds, powered.delay_seconds * failure**power) if power < 50 else None
    assert expected is None or powered.delay(failure, 0.5) == expected


@given(policies, powers, failures)
def test_with_a_power_delays_never_shrink(policy, power, failure):
    powered = replace(policy, power=power, jitter=False)
    assert powered.delay(failure, 0.0) <= powered.delay(failure + 1, 0.0)


@given(policies, powers, st.integers(min_value=1, max_value=20), st.integers(min_value=1, max_value=20))
def test_with_a_power_the_policy_gives_up_as_without_one(policy, power, attempts, failure):
    delay = replace(policy, power=power, max_attempts=attempts).delay(failure, 0.5)
    assert (delay is None) == (failure >= attempts)


def test_the_delay_grows_with_a_power_of_the_failures_up_to_its_maximum():
    policy = RetryPolicy(max_attempts=None, delay_seconds=60, power=1.6, max_delay_seconds=600, jitter=False)
    found = [policy.delay(failure, 0.5) for failure in range(1, 7)]
    assert found == [60, 60 * 2**1.6, 60 * 3**1.6, 60 * 4**1.6, 600, 600]


def test_a_power_too_large_to_be_computed_is_the_maximum():
    policy = RetryPolicy(max_attempts=None, delay_seconds=1, power=100.0, max_delay_seconds=50, jitter=False)
    assert policy.delay(10**12, 0.5) == 50
    assert replace(policy, delay_seconds=0).delay(10**12, 0.5) == 0


# The priority after a failure.


class Job:
    """What the rules read of a job that has failed for the first time."""

    id, claim, next_task, position, attempt, lost_attempts, prior_state = 1, 1, "app.task", 0, 1, 0, "NEW"

    def __init__(self, priority):
        self.priority = priority


def priority_after(outcome, priority, step, **policy):
    retry = RetryPolicy(priority_step=step, jitter=False, **{"max_attempts": None, **policy})
    return decide(Job(priority), outcome, ("app.task",), retry, 0.5).priority


priorities = st.integers(min_value=-SMALLINT_MAX - 1, max_value=SMALLINT_MAX)


@given(priorities, st.integers(min_value=-10, max_value=10).filter(bool))
def test_a_failure_moves_the_priority_by_its_step_within_what_the_column_holds(priority, step):
    after = priority_after(Failed("no"), priority, step)
    assert after == min(SMALLINT_MAX, max(-SMALLINT_MAX - 1, priority + step))


@given(priorities)
def test_without_a_step_the_priority_is_left_as_it_is(priority):
    assert priority_after(Failed("no"), priority, 0) is None


@pytest.mark.parametrize(
    "outcome",
    [Done(), Finished(), Snoozed(5), Lost("gone"), Parked("what?", 60), GivenBack(), CutOff("gone")],
    ids=lambda outcome: outcome.kind,
)
def test_what_is_no_failure_leaves_the_priority(outcome):
    assert priority_after(outcome, 5, -1) is None


def test_a_failure_for_good_leaves_the_priority():
    assert priority_after(Failed("no"), 5, -1, max_attempts=1) is None
    assert priority_after(Failed("no", may_retry=False), 5, -1) is None


def test_a_failure_with_a_delay_of_its_own_moves_the_priority_too():
    assert priority_after(Failed("no", delay_seconds=3), 5, -1) == 4

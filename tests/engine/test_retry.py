"""Attempt number -> delay."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from django_dbq.engine.retry import RetryPolicy

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

"""Workspaces rebuilt from what each attempt noted that it changed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from django_dbq.engine.history import ABSENT, PERHAPS, UNKNOWN, Value, rebuild
from django_dbq.engine.workspace import changes


def known(value):
    return Value("known", value)


def test_what_no_attempt_changed_stood_there_all_the_time():
    [step], odd = rebuild([None], {"a": 1})
    assert (step.before, step.after, step.changed, odd) == ({"a": known(1)}, {"a": known(1)}, [], [])


def test_before_the_first_attempt_that_sets_a_key_nobody_knows_of_it():
    first, second = rebuild([{"set": {"a": 1}}, {"set": {"a": 2}}], {"a": 2})[0]
    assert (first.before["a"], first.after["a"]) == (PERHAPS, known(1))
    assert (second.before["a"], second.after["a"]) == (known(1), known(2))


def test_what_an_attempt_removed_had_been_there():
    [step], _ = rebuild([{"unset": ["a"]}], {})
    assert (step.before["a"], step.after["a"]) == (UNKNOWN, ABSENT)


def test_a_key_that_does_not_end_as_noted_is_named():
    assert rebuild([{"set": {"a": 1}}], {"a": 9})[1] == ["a"]
    assert rebuild([{"set": {"a": 1}}], {})[1] == ["a"]


workspaces = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


@given(st.lists(workspaces, min_size=1, max_size=6))
def test_what_is_told_as_known_is_what_was(history):
    notes = [changes(before, after) for before, after in pairwise(history)]
    steps, odd = rebuild(notes, history[-1])
    assert odd == []
    for step, before, after in zip(steps, history, history[1:], strict=False):
        for told, was in ((step.before, before), (step.after, after)):
            for key, value in told.items():
                if value.kind == "known":
                    assert was[key] == value.value
                elif value.kind != "perhaps":
                    assert (key in was) == (value == UNKNOWN)

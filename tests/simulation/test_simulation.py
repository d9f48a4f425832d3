"""Thousands of virtual faults keep the promises, and real stores do as the model does.

`SIMULATION_SCALE=50 pytest tests/simulation` plays fifty times as many stories, each time others.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import JOBS, Simulation
from tests.simulation.replay import ALIASES, replay

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
    assert Simulation.seen.keys() >= {
        "crash with a job",
        "heartbeat tells that a job is lost",
        "late record",
        "own success",
        "rescue",
        "retry",
        "spent job",
        "stale record",
        "stale save",
    }


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.django_db(databases=ALIASES)
def test_a_store_does_as_the_model_does(alias):
    class Replayed(Simulation):
        def told(self):
            replay(alias, self.trace)

    play(Replayed, stories=25, steps=60)

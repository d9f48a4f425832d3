"""P3: a task's path does not import, is not callable, or its import raises or exits.

Expected: its jobs wait with an error that names the path, and no attempt used, since a deploy may mend
it; others run; `manage.py check` finds it first.
"""

import json

import pytest

from tests.chaos import workflows
from tests.chaos.workflows import HERE

pytestmark = pytest.mark.chaos("ci")

PATHS = {
    "no module": "tests.chaos.there_is_none.task",
    "no function": f"{HERE}.there_is_none",
    "not callable": f"{HERE}.not_callable",
    "import raises": "tests.chaos.broken.raises.task",
    "import exits": "tests.chaos.broken.exits.task",
}


@pytest.mark.parametrize("why", PATHS)
def test_its_jobs_wait_and_others_run(chaos, settings, why):
    entry = {"bad": [PATHS[why]]}
    env = {"CHAOS_JOBS": json.dumps(entry)}
    settings.JOBS = {**workflows.JOBS, **entry}
    check = chaos.start(["manage.py", "check"], env=env)
    assert check.wait() == 1
    assert PATHS[why] in check.log()
    bad = chaos.create("bad")
    worker = chaos.worker(env=env)
    good = chaos.create("plain")
    chaos.wait_state(good)
    chaos.wait_parked(bad)
    assert PATHS[why] in chaos.value(bad, "error")
    assert chaos.state(bad) == "NEW"
    assert chaos.value(bad, "attempt") == 0
    assert chaos.runs(bad) == []
    assert worker.alive()

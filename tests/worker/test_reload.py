"""worker --reload: in development, code that has changed is loaded again."""

from __future__ import annotations

import itertools
import os

from django_dbq import Job
from tests.conftest import ROOT, wait_until

SETTINGS = """
from testsettings import *
import watched
JOBS = {"watched": ["watched.task"], "hold": ["tests.workflows.hold", "tests.workflows.count"]}
"""
TASK = """
def task(job):
    job.workspace["version"] = {version}
"""


def test_a_code_change_restarts_the_worker(one_bench, settings, tmp_path):
    (tmp_path / "watching.py").write_text(SETTINGS)
    code = tmp_path / "watched.py"
    code.write_text(TASK.format(version=1))
    settings.JOBS = {**settings.JOBS, "watched": ["watched.task"]}
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    worker = one_bench.worker("--reload", DJANGO_SETTINGS_MODULE="watching", PYTHONPATH=path)
    one_bench.wait_for(one_bench.create("watched"))
    held = one_bench.create("hold")
    [before] = one_bench.wait_until_begun(held)
    code.write_text(TASK.format(version=2))
    times = itertools.count(1_900_000_000)

    def restarted():
        # Saved again and again: a change before the reloader's first look at a module is none to it.
        os.utime(code, (next(times),) * 2)
        return len(one_bench.wait_until_begun(held)) == 2

    # Its task was running: given back, it runs again in the worker that follows.
    wait_until(restarted, "the worker has started again")
    one_bench.go_on()
    one_bench.wait_for(held)
    second = one_bench.create("watched")
    one_bench.wait_for(second)
    versions = (
        Job.objects.filter(name="watched").order_by("created").values_list("workspace__version", flat=True)
    )
    assert list(versions) == [1, 2]
    assert one_bench.runs(held, "outcome", "attempt") == [("done", 1), ("done", 1)]
    assert worker.popen.poll() is None and before

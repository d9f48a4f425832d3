"""The tests' settings, with an entry of JOBS that declares a schedule."""

import os

from testsettings import *  # noqa: F403
from testsettings import JOBS as UNSCHEDULED

JOBS = dict(UNSCHEDULED)
if cron := os.environ.get("TEST_CRON"):
    JOBS["nothing"] = {"tasks": ["tests.workflows.nothing"], "schedule": cron}

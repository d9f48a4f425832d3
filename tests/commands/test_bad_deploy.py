"""What the commands do while a deploy is broken: what is needed at night works, whatever checks say."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command, load_command_class

from django_dbq import paused_queues
from tests.commands.test_database import NAMES

pytestmark = pytest.mark.django_db


def run(name, *args):
    """Run a command as manage.py does, which checks what the command asks for; return what it says."""
    out = StringIO()
    call_command(name, *args, stdout=out, skip_checks=False)
    return out.getvalue()


@pytest.mark.parametrize(
    "command",
    [
        ("cancel_jobs", "--queue", "default"),
        ("create_job", "good"),
        ("delete_old_jobs",),
        ("monitor", "--json"),
        ("pause_queue", "default"),
        ("qinfo",),
        ("queue_depth",),
        ("queue_health",),
        ("retry_jobs",),
        ("schedules",),
    ],
    ids=lambda command: command[0],
)
def test_a_task_that_does_not_import_stops_no_other_command(command, settings):
    settings.JOBS = {"good": ["tests.workflows.nothing"], "bad": ["tests.workflows.nowhere"]}
    assert run(*command)


def test_a_queue_is_paused_and_resumed_whatever_a_check_would_say(settings):
    settings.JOBS = {"bad": ["tests.workflows.nowhere"]}
    run("pause_queue", "default")
    assert paused_queues() == ["default"]
    run("resume_queue", "default")
    assert paused_queues() == []


@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_skip_checks_as_those_of_django_do(name):
    parser = load_command_class("django_dbq", name).create_parser("manage.py", name)
    assert "--skip-checks" in parser._option_string_actions


@pytest.mark.parametrize(
    "command", [("create_job", "nothing"), ("monitor", "--json"), ("qinfo",), ("queue_health",)]
)
def test_settings_that_cannot_be_used_are_told_without_a_traceback(command, settings):
    settings.DBQ = {"LEASE_SECOND": 5}
    settings.JOBS = {"nothing": 5}
    with pytest.raises(CommandError, match=r"JOBS|DBQ") as told:
        run(*command)
    assert type(told.value) is CommandError

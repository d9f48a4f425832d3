"""What every command says of a database that it cannot use: one line, with the name and what to do."""

from __future__ import annotations

from pkgutil import iter_modules

import pytest
from django.core.management import CommandError, call_command, load_command_class

from django_dbq.management import commands

NAMES = [module.name for module in iter_modules(commands.__path__)]
NEEDED = {
    "create_job": ["nothing"],
    "import_jobs": ["--from=django_q"],
    "pause_queue": ["default"],
    "resume_queue": ["default"],
}
SOME = pytest.mark.parametrize("command", [("create_job", "nothing"), ("queue_health",), ("flush_queue",)])


def last_line(process):
    assert process.wait() == 1
    assert "Traceback" not in process.log()
    return process.log().strip().splitlines()[-1]


@SOME
def test_one_that_does_not_answer_is_named(command, manage):
    process = manage(*command, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert process.wait() == 1
    assert "CommandError: The database 'default' does not answer: " in process.log()
    assert "Traceback" not in process.log()


@SOME
def test_one_without_the_tables_is_to_be_migrated(command, manage, tmp_path):
    process = manage(*command, DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    assert last_line(process).startswith("CommandError: Run manage.py migrate: on 'default', no such table: ")


@pytest.mark.parametrize("name", NAMES)
def test_one_that_no_setting_has_is_told_with_those_that_are_there(name):
    command = load_command_class("django_dbq", name)
    with pytest.raises(CommandError, match="--database nope: DATABASES has default, "):
        call_command(command, *NEEDED.get(name, ()), database="nope")

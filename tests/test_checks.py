"""manage.py check: every fault of JOBS and DBQ under its id, with the place and the nearest name."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from django_dbq import conf
from tests.workflows import JOBS

TASK = "tests.workflows.nothing"
NOT_CALLABLE = "tests.workflows.JOBS"


def found():
    return [(message.id, message.msg) for message in run_checks(tags=["django_dbq"])]


def test_settings_that_can_be_used_have_no_faults(settings):
    settings.JOBS = {
        **JOBS,
        "all": {
            "tasks": [
                TASK,
                {
                    "task": TASK,
                    "timeout_seconds": 0.5,
                    "atomic": False,
                    "retry": {"max_attempts": 5, "backoff": 1},
                },
            ],
            "queue_name": "q" * 100,
            "priority": -32768,
            "creation_hook": TASK,
            "pre_task_hook": TASK,
            "post_task_hook": None,
            "failure_hook": TASK,
            "retry": {
                "delay_seconds": 0,
                "max_delay_seconds": 60,
                "jitter": False,
                "on": ["OSError", "django.db.utils.DatabaseError"],
                "not_on": ("django_dbq.Abort",),
            },
            "timeout_seconds": None,
            "atomic": True,
        },
        "tuple": (TASK,),
    }
    settings.DBQ = {
        "LEASE_SECONDS": 5,
        "ATOMIC_TASKS": True,
        "POLL_INTERVAL_SECONDS": 0.5,
        "API_TOKEN": "x" * 16,
        "API_FUNCTIONS": ["shop.calls.remind", "shop.*"],
    }
    assert found() == []
    settings.DBQ = {"API_TOKEN": "", "API_FUNCTIONS": ()}
    assert found() == []
    del settings.JOBS, settings.DBQ
    assert found() == []


JOBS_FAULTS = [
    # E001: a value of the wrong type.
    ([], "E001", "JOBS: must be a dictionary of job names, not list"),
    ({"a": TASK}, "E001", f"JOBS['a']: must be a list of tasks or a dictionary, not str ('{TASK}')"),
    ({"a": None}, "E001", "JOBS['a']: must be a list of tasks or a dictionary, not None"),
    ({1: [TASK]}, "E001", "JOBS[1]: a job's name must be a string"),
    ({"": [TASK]}, "E003", "JOBS['']: a job's name must not be empty"),
    ({"a": {"tasks": [TASK], "queue_name": " "}}, "E003", "JOBS['a']['queue_name']: ' ' begins or ends with"),
    ({"a": {"tasks": [TASK], "queue_name": "orders "}}, "E003", "'orders ' begins or ends with white space"),
    ({"a": {"tasks": TASK}}, "E001", "JOBS['a']['tasks']: must be a list of tasks, not str"),
    ({"a": [5]}, "E001", "JOBS['a'][0]: must be a dotted path as a string, not int (5)"),
    ({"a": [TASK, {"task": None}]}, "E001", "JOBS['a'][1]['task']: must be a dotted path as a string"),
    ({"a": {"tasks": [TASK], "priority": "high"}}, "E001", "JOBS['a']['priority']: must be a whole number"),
    ({"a": {"tasks": [TASK], "priority": True}}, "E001", "JOBS['a']['priority']: must be a whole number"),
    ({"a": {"tasks": [TASK], "queue_name": ""}}, "E001", "JOBS['a']['queue_name']: must be a queue's name"),
    ({"a": {"tasks": [TASK], "atomic": "yes"}}, "E001", "JOBS['a']['atomic']: must be True or False"),
    (
        {"a": {"tasks": [TASK], "failure_hook": print}},
        "E001",
        "JOBS['a']['failure_hook']: must be a dotted path",
    ),
    ({"a": {"tasks": [TASK], "retry": 3}}, "E001", "JOBS['a']['retry']: must be a dictionary, not int (3)"),
    (
        {"a": {"tasks": [TASK], "retry": {"on": "OSError"}}},
        "E001",
        "JOBS['a']['retry']['on']: must be a list",
    ),
    (
        {"a": {"tasks": [TASK], "retry": {"max_attempts": 1.5}}},
        "E001",
        "['max_attempts']: must be a whole number",
    ),
    # E002: an unknown option.
    (
        {"a": {"tasks": [TASK], "priorty": 1}},
        "E002",
        "JOBS['a']: has no option 'priorty'. Did you mean 'priority'?",
    ),
    (
        {"a": [{"task": TASK, "atomc": 1}]},
        "E002",
        "JOBS['a'][0]: has no option 'atomc'. Did you mean 'atomic'?",
    ),
    ({"a": {"tasks": [TASK], "retry": {"max_atempts": 1}}}, "E002", "Did you mean 'max_attempts'?"),
    ({"a": {"tasks": [TASK], "zzz": 1}}, "E002", "has no option 'zzz'. Known: atomic, creation_hook,"),
    # E003: a value that is not allowed.
    ({"a": []}, "E003", "JOBS['a']: is empty; a job needs at least one task"),
    ({"a": {}}, "E003", "JOBS['a']: needs the key \"tasks\""),
    ({"a": [{"atomic": True}]}, "E003", "JOBS['a'][0]: needs the key \"task\""),
    ({"a": ["nothing"]}, "E003", "JOBS['a'][0]: 'nothing' is not a dotted path"),
    ({"a": ["tests.not-a-name.f"]}, "E003", "JOBS['a'][0]: 'tests.not-a-name.f' is not a dotted path"),
    ({"a": ["t." + "x" * 254]}, "E003", "JOBS['a'][0]: is 256 characters long; at most 255"),
    ({"n" * 101: [TASK]}, "E003", "the name is 101 characters long; at most 100"),
    ({"a": {"tasks": [TASK], "queue_name": "q" * 101}}, "E003", "is 101 characters long; at most 100"),
    ({"a": {"tasks": [TASK], "priority": 32768}}, "E003", "must be from -32768 to 32767, not 32768"),
    (
        {"a": {"tasks": [TASK], "timeout_seconds": 0}},
        "E003",
        "JOBS['a']['timeout_seconds']: must be at least 0.001",
    ),
    (
        {"a": {"tasks": [TASK], "retry": {"max_attempts": 0}}},
        "E003",
        "['max_attempts']: must be at least 1, not 0",
    ),
    (
        {"a": {"tasks": [TASK], "retry": {"delay_seconds": float("inf")}}},
        "E003",
        "['delay_seconds']: must be from 0",
    ),
    ({"a": {"tasks": [TASK], "retry": {"backoff": 0.5}}}, "E003", "['backoff']: must be at least 1, not 0.5"),
    # E004: a path that does not import.
    (
        {"a": [TASK, "tests.workflows.nothingg"]},
        "E004",
        "JOBS['a']['tasks'][1]: 'tests.workflows.nothingg' does not import: ImportError: "
        'Module "tests.workflows" does not define a "nothingg" attribute/class.'
        " Did you mean 'tests.workflows.nothing'?",
    ),
    ({"a": ["tests.workflow.nothing"]}, "E004", "Did you mean 'tests.workflows.nothing'?"),
    (
        {"a": ["test.workflows.nothing"]},
        "E004",
        "JOBS['a']['tasks'][0]: 'test.workflows.nothing' does not import",
    ),
    ({"a": ["django_dbqq.tasks.x"]}, "E004", "Did you mean 'django_dbq.tasks.x'?"),
    ({"a": ["zzz.yyy.xxx"]}, "E004", "No module named 'zzz'"),
    (
        {"a": {"tasks": [TASK], "creation_hook": "tests.workflows.x"}},
        "E004",
        "JOBS['a']['creation_hook']: 'tests",
    ),
    (
        {"a": {"tasks": [TASK], "pre_task_hook": "tests.workflows.x"}},
        "E004",
        "JOBS['a']['pre_task_hook']: 'tests",
    ),
    (
        {"a": {"tasks": [TASK], "post_task_hook": "tests.workflows.x"}},
        "E004",
        "JOBS['a']['post_task_hook']: 'tes",
    ),
    (
        {"a": {"tasks": [TASK], "failure_hook": "tests.workflows.x"}},
        "E004",
        "JOBS['a']['failure_hook']: 'tests",
    ),
    (
        {"a": [{"task": TASK, "retry": {"on": ["ValueErorr"]}}]},
        "E004",
        "JOBS['a']['tasks'][0]['retry']['on']: 'ValueErorr' does not import",
    ),
    (
        {"a": [{"task": TASK, "retry": {"not_on": ["django_dbq.Abrot"]}}]},
        "E004",
        "Did you mean 'django_dbq.Abort'?",
    ),
    # E005, E006: a path to something else.
    ({"a": [NOT_CALLABLE]}, "E005", f"JOBS['a']['tasks'][0]: '{NOT_CALLABLE}' is not callable"),
    ({"a": {"tasks": [TASK], "failure_hook": NOT_CALLABLE}}, "E005", "JOBS['a']['failure_hook']: "),
    ({"a": {"tasks": [TASK], "retry": {"on": [TASK]}}}, "E006", f"'{TASK}' is not an exception class"),
]


@pytest.mark.parametrize("jobs, number, message", JOBS_FAULTS)
def test_a_fault_in_jobs_is_told_with_its_place(settings, jobs, number, message):
    settings.JOBS = jobs
    [(id, text)] = found()
    assert id == f"dbq.{number}" and message in text


@pytest.mark.parametrize(
    "entry",
    [
        ["nodot", "tests.workflows.x", {"task": "tests.workflows.y"}, TASK, 5],
        {
            "tasks": ["tests.workflows.x", {"task": "tests.workflows.y", "atomic": 5}],
            "failure_hook": TASK,
            "pre_task_hook": None,
        },
    ],
    ids=["list", "dictionary"],
)
def test_a_fault_hides_no_path_of_its_entry_that_does_not_import(settings, entry):
    settings.JOBS = {"a": entry}
    told = [text for id, text in found() if id == "dbq.E004"]
    assert len(told) == 2
    for path, text in zip(("tests.workflows.x", "tests.workflows.y"), told, strict=True):
        assert text.startswith("JOBS['a']['tasks'][") and f"{path!r} does not import" in text


def test_every_fault_is_told_at_once(settings):
    settings.JOBS = {"a": [], "b": {"tasks": [TASK], "x": 1, "priority": "p"}, "c": ["tests.workflows.x"]}
    settings.DBQ = {"LEASE": 1}
    assert [id for id, _ in found()] == ["dbq.E003", "dbq.E002", "dbq.E001", "dbq.E004", "dbq.E012"]


DBQ_FAULTS = [
    ([], "E011", "DBQ: must be a dictionary, not list"),
    ({"LEASE_SECONDS": "30"}, "E011", "DBQ['LEASE_SECONDS']: must be a number, not '30'"),
    ({"LEASE_SECONDS": True}, "E011", "DBQ['LEASE_SECONDS']: must be a number, not True"),
    ({"BACKLOG_MAX": 1.5}, "E011", "DBQ['BACKLOG_MAX']: must be a whole number, not 1.5"),
    ({"ATOMIC_TASKS": 1}, "E011", "DBQ['ATOMIC_TASKS']: must be True or False, not 1"),
    ({"LEASE_SECOND": 30}, "E012", "DBQ: has no option 'LEASE_SECOND'. Did you mean 'LEASE_SECONDS'?"),
    ({"zzz": 30}, "E012", "DBQ: has no option 'zzz'. Known: API_FUNCTIONS, "),
    ({"LEASE_SECONDS": 0}, "E013", "DBQ['LEASE_SECONDS']: must be at least 1, not 0"),
    (
        {"LEASE_SECONDS": 86_401},
        "E013",
        "DBQ['LEASE_SECONDS']: must be at most 86400, which is a day, not",
    ),
    ({"LEASE_SECONDS": float("inf")}, "E013", "DBQ['LEASE_SECONDS']: must be at most 86400, which is a day"),
    ({"LEASE_SECONDS": float("nan")}, "E013", "DBQ['LEASE_SECONDS']: must be at least 1, not nan"),
    ({"POLL_INTERVAL_SECONDS": float("inf")}, "E013", "DBQ['POLL_INTERVAL_SECONDS']: must be at least 0.01"),
    ({"WORKSPACE_BYTES_MAX": float("nan")}, "E011", "DBQ['WORKSPACE_BYTES_MAX']: must be a whole number"),
    ({"API_TOKEN": 1234567890123456}, "E011", "DBQ['API_TOKEN']: must be text, not int"),
    ({"API_TOKEN": None}, "E011", "DBQ['API_TOKEN']: must be text, not NoneType"),
    ({"API_TOKEN": "x" * 15}, "E013", "DBQ['API_TOKEN']: must be at least 16 characters long, not 15"),
    ({"API_TOKEN": "sixteen letters \u00e9"}, "E013", "DBQ['API_TOKEN']: may hold visible ASCII only"),
    ({"API_FUNCTIONS": "shop.calls.*"}, "E011", "DBQ['API_FUNCTIONS']: must be a list, not 'shop.calls.*'"),
    ({"API_FUNCTIONS": [print]}, "E011", "DBQ['API_FUNCTIONS'][0]: must be a dotted path as text"),
    ({"API_FUNCTIONS": ["shop.calls.*", "*"]}, "E013", "DBQ['API_FUNCTIONS'][1]: '*' is not a dotted path"),
    ({"API_FUNCTIONS": [".*"]}, "E013", "DBQ['API_FUNCTIONS'][0]: '.*' is not a dotted path"),
    ({"API_FUNCTIONS": ["shop"]}, "E013", "DBQ['API_FUNCTIONS'][0]: 'shop' is not a dotted path"),
    ({"API_FUNCTIONS": ["shop.c*"]}, "E013", "DBQ['API_FUNCTIONS'][0]: 'shop.c*' is not a dotted path"),
]


@pytest.mark.parametrize("dbq, number, message", DBQ_FAULTS)
def test_a_fault_in_dbq_is_told_with_its_place(settings, dbq, number, message):
    settings.DBQ = dbq
    [(id, text)] = found()
    assert id == f"dbq.{number}" and message in text


@pytest.mark.parametrize("token", ["too-short", 1234567890123456, "with a space in it"])
def test_a_faulty_token_is_not_shown(settings, token):
    settings.DBQ = {"API_TOKEN": token}
    [(_, text)] = found()
    assert str(token) not in text


def test_the_options_do_not_show_the_token(settings):
    settings.DBQ = {"API_TOKEN": "a-token-that-nobody-is-to-see"}
    assert "nobody" not in repr(conf.options())


def test_the_check_command_fails(settings):
    settings.JOBS = {"a": []}
    with pytest.raises(SystemCheckError, match=r"\(dbq\.E003\) JOBS\['a'\]: is empty"):
        call_command("check", stdout=StringIO(), stderr=StringIO())

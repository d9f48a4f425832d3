"""JOBS entries, read; and where a job stands in its plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_dbq.engine.retry import RetryPolicy
from django_dbq.engine.workflow import Declared, Task, Workflow, locate, parse

FULL = {
    "tasks": [
        "app.jobs.first",
        {
            "task": "app.jobs.second",
            "timeout_seconds": 1.5,
            "atomic": False,
            "retry": {
                "max_attempts": 5,
                "delay_seconds": 2,
                "backoff": 3.0,
                "max_delay_seconds": 600,
                "jitter": False,
                "on": ["ValueError", "app.errors.Busy"],
                "not_on": ["KeyError"],
            },
        },
    ],
    "queue_name": "reports",
    "priority": 5,
    "creation_hook": "app.hooks.creation",
    "pre_task_hook": "app.hooks.pre",
    "post_task_hook": "app.hooks.post",
    "failure_hook": "app.hooks.failure",
    "retry": {"max_attempts": 2},
    "timeout_seconds": 30,
    "atomic": True,
}


def faults(entry, name="cats"):
    found, problems = parse(name, entry)
    assert found is None
    return [(problem.kind, str(problem)) for problem in problems]


# What is read.


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_paths_is_enough(kind):
    found, problems = parse("cats", kind(["app.jobs.fetch", "app.jobs.save"]))
    assert not problems
    assert found == Workflow("cats", (Task("app.jobs.fetch"), Task("app.jobs.save")))
    assert found.plan == ("app.jobs.fetch", "app.jobs.save")


def test_a_list_may_hold_tasks_with_options():
    found, _ = parse("cats", ["app.jobs.fetch", {"task": "app.jobs.save", "atomic": True}])
    assert found.tasks == (Task("app.jobs.fetch"), Task("app.jobs.save", atomic=True))


def test_every_option_is_read():
    found, problems = parse("report", FULL)
    assert not problems
    assert found == Workflow(
        name="report",
        tasks=(
            Task("app.jobs.first", RetryPolicy(max_attempts=2), timeout_seconds=30, atomic=True),
            Task(
                "app.jobs.second",
                RetryPolicy(5, 2, 3.0, 600, False, ("ValueError", "app.errors.Busy"), ("KeyError",)),
                timeout_seconds=1.5,
                atomic=False,
            ),
        ),
        queue_name="reports",
        priority=5,
        creation_hook="app.hooks.creation",
        pre_task_hook="app.hooks.pre",
        post_task_hook="app.hooks.post",
        failure_hook="app.hooks.failure",
    )


def test_a_workflow_without_options_has_the_defaults_of_the_original():
    found, _ = parse("cats", {"tasks": ["app.jobs.fetch"]})
    assert (found.queue_name, found.priority) == ("default", 0)
    assert (found.creation_hook, found.pre_task_hook) == (None, None)
    assert (found.post_task_hook, found.failure_hook) == (None, None)
    assert found.tasks[0].retry.max_attempts == 1
    assert found.tasks[0].timeout_seconds is None and found.tasks[0].atomic is None


def test_a_task_may_undo_the_time_limit_of_its_job():
    entry = {"tasks": [{"task": "app.jobs.fetch", "timeout_seconds": None}], "timeout_seconds": 5}
    found, _ = parse("cats", entry)
    assert found.tasks[0].timeout_seconds is None


def test_a_hook_may_be_none():
    found, problems = parse("cats", {"tasks": ["app.jobs.fetch"], "failure_hook": None})
    assert not problems and found.failure_hook is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("queue_name", "q" * 100),
        ("priority", -32_768),
        ("priority", 32_767),
        ("timeout_seconds", 0.001),
        ("retry", {}),
        ("retry", {"max_attempts": 1, "delay_seconds": 0, "backoff": 1, "max_delay_seconds": 0, "on": []}),
        ("creation_hook", "a." + "b" * 253),
    ],
)
def test_a_value_at_its_bound_is_read(option, value):
    found, problems = parse("cats", {"tasks": ["app.jobs.fetch"], option: value})
    assert found is not None and not problems


def test_a_name_of_a_hundred_characters_is_read():
    assert parse("n" * 100, ["app.jobs.fetch"])[1] == []


# What is at fault.


@pytest.mark.parametrize(
    ("name", "entry", "kind", "message"),
    [
        ("cats", None, "type", "JOBS['cats']: must be a list of tasks or a dictionary, not None"),
        (
            "cats",
            "app.jobs.fetch",
            "type",
            "JOBS['cats']: must be a list of tasks or a dictionary, not str ('app.jobs.fetch')",
        ),
        ("cats", [], "value", "JOBS['cats']: is empty; a job needs at least one task"),
        ("cats", {}, "value", "JOBS['cats']: needs the key \"tasks\", a list of task paths"),
        ("cats", {"tasks": []}, "value", "JOBS['cats']['tasks']: is empty; a job needs at least one task"),
        (
            "cats",
            {"tasks": "app.jobs.fetch"},
            "type",
            "JOBS['cats']['tasks']: must be a list of tasks, not str ('app.jobs.fetch')",
        ),
        (7, ["app.jobs.fetch"], "type", "JOBS[7]: a job's name must be a string"),
        ("", ["app.jobs.fetch"], "value", "JOBS['']: a job's name must not be empty"),
        (
            "n" * 101,
            ["app.jobs.fetch"],
            "value",
            f"JOBS['{'n' * 101}']: the name is 101 characters long; at most 100",
        ),
    ],
)
def test_a_faulty_entry_is_named(name, entry, kind, message):
    assert faults(entry, name) == [(kind, message)]


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        (None, "type", "must be a dotted path as a string, not None"),
        (7, "type", "must be a dotted path as a string, not int (7)"),
        ("", "value", "'' is not a dotted path such as 'app.jobs.function'"),
        ("fetch", "value", "'fetch' is not a dotted path such as 'app.jobs.function'"),
        ("app..fetch", "value", "'app..fetch' is not a dotted path such as 'app.jobs.function'"),
        ("app.jobs fetch", "value", "'app.jobs fetch' is not a dotted path such as 'app.jobs.function'"),
        ("a." + "b" * 254, "value", "is 256 characters long; at most 255"),
    ],
)
@pytest.mark.parametrize(
    ("entry", "where"),
    [
        (lambda path: ["app.jobs.a", path], "JOBS['cats'][1]"),
        (lambda path: {"tasks": ["app.jobs.a", path]}, "JOBS['cats']['tasks'][1]"),
        (lambda path: {"tasks": [{"task": path}]}, "JOBS['cats']['tasks'][0]['task']"),
    ],
    ids=["list", "dictionary", "task"],
)
def test_a_faulty_path_is_named_with_its_place(path, kind, message, entry, where):
    assert faults(entry(path)) == [(kind, f"{where}: {message}")]


@pytest.mark.parametrize("hook", ["creation_hook", "pre_task_hook", "post_task_hook", "failure_hook"])
def test_a_faulty_hook_is_named(hook):
    assert faults({"tasks": ["app.jobs.a"], hook: 7}) == [
        ("type", f"JOBS['cats']['{hook}']: must be a dotted path as a string, not int (7)")
    ]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"queue_name": None}, "type", "['queue_name']: must be a queue's name, not None"),
        ({"queue_name": ""}, "type", "['queue_name']: must be a queue's name, not ''"),
        ({"queue_name": "q" * 101}, "value", "['queue_name']: is 101 characters long; at most 100"),
        ({"priority": "high"}, "type", "['priority']: must be a whole number, not 'high'"),
        ({"priority": 1.5}, "type", "['priority']: must be a whole number, not 1.5"),
        ({"priority": True}, "type", "['priority']: must be a whole number, not True"),
        ({"priority": 32_768}, "value", "['priority']: must be from -32768 to 32767, not 32768"),
    ],
)
def test_a_faulty_option_of_a_job_is_named(options, kind, message):
    assert faults({"tasks": ["app.jobs.a"], **options}) == [(kind, f"JOBS['cats']{message}")]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"atomic": 1}, "type", "['atomic']: must be True or False, not 1"),
        ({"timeout_seconds": "5"}, "type", "['timeout_seconds']: must be a number, not '5'"),
        ({"timeout_seconds": 0}, "value", "['timeout_seconds']: must be at least 0.001, not 0"),
        (
            {"timeout_seconds": float("nan")},
            "value",
            "['timeout_seconds']: must be at least 0.001, not nan",
        ),
        ({"retry": 5}, "type", "['retry']: must be a dictionary, not int (5)"),
        (
            {"retry": {"max_attempts": 0}},
            "value",
            "['retry']['max_attempts']: must be at least 1, not 0",
        ),
        (
            {"retry": {"max_attempts": 2.0}},
            "type",
            "['retry']['max_attempts']: must be a whole number, not 2.0",
        ),
        (
            {"retry": {"delay_seconds": -1}},
            "value",
            "['retry']['delay_seconds']: must be from 0 to 3155760000, not -1",
        ),
        (
            {"retry": {"max_delay_seconds": float("inf")}},
            "value",
            "['retry']['max_delay_seconds']: must be from 0 to 3155760000, not inf",
        ),
        ({"retry": {"backoff": 0.5}}, "value", "['retry']['backoff']: must be at least 1, not 0.5"),
        ({"retry": {"jitter": "no"}}, "type", "['retry']['jitter']: must be True or False, not 'no'"),
        (
            {"retry": {"on": "ValueError"}},
            "type",
            "['retry']['on']: must be a list of exception paths, not str ('ValueError')",
        ),
        (
            {"retry": {"not_on": ["ValueError", ValueError]}},
            "type",
            "['retry']['not_on'][1]: must be a dotted path as a string, not type (<class 'ValueError'>)",
        ),
        (
            {"retry": {"on": ["no such error"]}},
            "value",
            "['retry']['on'][0]: 'no such error' is not a dotted path such as 'app.jobs.function'",
        ),
    ],
)
def test_a_faulty_option_is_named_on_a_job_and_on_a_task(options, kind, message):
    on_job = {"tasks": ["app.jobs.a"], **options}
    on_task = {"tasks": [{"task": "app.jobs.a", **options}]}
    assert faults(on_job) == [(kind, f"JOBS['cats']{message}")]
    assert faults(on_task) == [(kind, f"JOBS['cats']['tasks'][0]{message}")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"tasks": ["app.jobs.a"], "queue": "x"},
            "JOBS['cats']: has no option 'queue'. Did you mean 'queue_name'?",
        ),
        (
            {"tasks": ["app.jobs.a"], "pre_hook": "x"},
            "JOBS['cats']: has no option 'pre_hook'. Did you mean 'pre_task_hook'?",
        ),
        (
            {"tasks": [{"task": "app.jobs.a", "timeout": 5}]},
            "JOBS['cats']['tasks'][0]: has no option 'timeout'. Did you mean 'timeout_seconds'?",
        ),
        (
            [{"task": "app.jobs.a", "atomc": True}],
            "JOBS['cats'][0]: has no option 'atomc'. Did you mean 'atomic'?",
        ),
        (
            {"tasks": ["app.jobs.a"], "retry": {"attempts_max": 3}},
            "JOBS['cats']['retry']: has no option 'attempts_max'. Did you mean 'max_attempts'?",
        ),
        (
            [{"task": "app.jobs.a", "zzz": 1}],
            "JOBS['cats'][0]: has no option 'zzz'. Known: atomic, retry, task, timeout_seconds.",
        ),
        (
            [{"task": "app.jobs.a", 7: 1}],
            "JOBS['cats'][0]: has no option 7. Known: atomic, retry, task, timeout_seconds.",
        ),
    ],
)
def test_an_unknown_option_is_named_with_the_nearest_known_one(entry, message):
    assert faults(entry) == [("unknown", message)]


def test_a_task_without_its_path_is_named():
    assert faults([{"atomic": True}]) == [
        ("value", "JOBS['cats'][0]: needs the key \"task\", the function's dotted path")
    ]


def test_every_fault_of_an_entry_is_told_at_once():
    entry = {"tasks": [7, {"task": "x"}, {}], "priority": "high", "colour": 1, "retry": {"on": [1, 2]}}
    assert len(faults(entry)) == 7


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("app.jobs.a"),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["tasks", "task", "retry", "on", "priority", "atomic"]) | st.integers(),
            inner,
        )
    ),
)


@given(junk, junk)
def test_whatever_stands_in_jobs_is_read_or_named_and_never_raises(name, entry):
    found, problems = parse(name, entry)
    assert (found is None) == bool(problems)
    assert all(str(problem).startswith("JOBS[") for problem in problems)


# The options of a job's present task.


def test_a_task_that_stands_twice_has_the_options_of_each_place():
    first, second = Task("app.a", timeout_seconds=1), Task("app.a", timeout_seconds=2)
    workflow = Workflow("cats", (first, Task("app.b"), second))
    assert workflow.task("app.a", 0) is first
    assert workflow.task("app.a", 2) is second


def test_a_task_that_was_moved_has_the_options_of_its_first_place():
    first = Task("app.a", timeout_seconds=1)
    workflow = Workflow("cats", (Task("app.b"), first, Task("app.a")))
    assert workflow.task("app.a", 0) is first
    assert workflow.task("app.a", 9) is first


def test_a_task_that_left_the_workflow_has_the_options_of_none():
    assert Workflow("cats", (Task("app.b"),)).task("app.a", 0) == Task("app.a")


# Where a job stands.


@pytest.mark.parametrize(
    ("plan", "position", "next_task", "expected"),
    [
        ("abc", 1, "b", 1),  # Where it was left.
        ("abc", 0, "b", 1),  # A worker of the original moved next_task alone.
        ("abc", 2, "b", 1),  # Moved towards the front.
        ("abc", 9, "b", 1),  # The list is shorter now.
        ("abc", 1, "x", None),
        ("", 0, "a", None),
        ("abaa", 0, "a", 0),
        ("abaa", 1, "a", 2),
        ("abaa", 2, "a", 2),
        ("abaa", 3, "a", 3),
        ("abab", 2, "b", 3),
        ("aabb", 3, "a", 0),
        ("abaa", 4, "a", 0),
    ],
)
def test_a_job_stands_at_its_next_task_from_its_position_on(plan, position, next_task, expected):
    assert locate(tuple(plan), position, next_task) == expected


@given(st.text("abc"), st.integers(min_value=0, max_value=9), st.sampled_from("abcd"))
def test_locate_finds_the_task_if_and_only_if_the_plan_has_it(plan, position, next_task):
    index = locate(tuple(plan), position, next_task)
    assert (index is None) == (next_task not in plan)
    if index is not None:
        assert plan[index] == next_task
        assert index >= position or next_task not in plan[position:]


# Schedules.


def test_a_schedule_is_a_cron_line():
    found, problems = parse("cats", {"tasks": ["app.jobs.fetch"], "schedule": "0 6 * * 1-5"})
    assert not problems
    assert found.schedule == Declared("0 6 * * 1-5")


def test_a_schedule_may_say_more():
    given = {
        "cron": "@daily",
        "time_zone": "Europe/Berlin",
        "catch_up": True,
        "no_overlap": True,
        "date_keyword": "day",
        "workspace": {"n": [1]},
    }
    found, problems = parse("cats", {"tasks": ["app.jobs.fetch"], "schedule": given})
    assert not problems
    assert found.schedule == Declared("@daily", "Europe/Berlin", True, True, "day", {"n": [1]})


@pytest.mark.parametrize(
    ("schedule", "kind", "message"),
    [
        (
            "0 25 * * *",
            "value",
            "JOBS['cats']['schedule']: cron line '0 25 * * *': column 3: '25' is no hour",
        ),
        ("0 6 * *", "value", "has 4 fields; five are read"),
        ("0 0 1 1 *" + " " * 100, "value", "is 109 characters long; at most 100"),
        (6, "type", "must be a cron line such as '0 6 * * 1-5', not int (6)"),
        ({}, "value", 'needs the key "cron"'),
        ({"cron": "* * 0 * *"}, "value", "['schedule']['cron']: cron line '* * 0 * *': column 5"),
        (
            {"cron": "@daily", "timezone": "UTC"},
            "unknown",
            "has no option 'timezone'. Did you mean 'time_zone'?",
        ),
        ({"cron": "@daily", "time_zone": "Europe/Rom"}, "value", "there is no time zone 'Europe/Rom'"),
        ({"cron": "@daily", "time_zone": 1}, "type", "must be the name of a time zone"),
        ({"cron": "@daily", "catch_up": "yes"}, "type", "must be True or False, not 'yes'"),
        ({"cron": "@daily", "date_keyword": 5}, "type", "must be text of at most 100 characters, not 5"),
        ({"cron": "@daily", "workspace": []}, "type", "must be a dictionary"),
        ({"cron": "@daily", "workspace": {"a": {1}}}, "value", "is not JSON: Object of type set"),
        ({"cron": "@daily", "workspace": {1: 1}}, "value", "it would come back as something else"),
    ],
)
def test_a_schedule_that_cannot_be_read_is_a_fault(schedule, kind, message):
    ((found, text),) = faults({"tasks": ["app.jobs.fetch"], "schedule": schedule})
    assert found == kind and message in text

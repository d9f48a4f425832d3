"""From django-db-queue 3.3.0 to this package, with jobs in every state, and both side by side."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from django_dbq import Job, TaskRun
from tests.conftest import ROOT, test_database_url, wait_until
from tests.databases import KINDS, empty_database, migrate, rows, schema
from tests.environments import environment, run
from tests.test_migrations import OLD_COLUMNS, RELEASED

PROJECT = Path(__file__).parent / "project"


@pytest.fixture(scope="session")
def original_python():
    driver = ["mysqlclient"] if "mysql" in KINDS else []
    return environment(
        "original", "django-db-queue==3.3.0", "Django==5.2.*", "dj-database-url", "psycopg2-binary", *driver
    )


@pytest.fixture(params=KINDS)
def database(request, tmp_path, django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), empty_database(request.param, tmp_path) as alias:
        yield alias


class Original:
    """The project on the original package."""

    def __init__(self, python, alias, folder):
        self.python = python
        self.env = {"DATABASE_URL": test_database_url(alias), "BEGAN": str(folder / "began")}

    def manage(self, *args):
        env = {**self.env, "DJANGO_SETTINGS_MODULE": "project_settings", "PYTHONPATH": str(PROJECT)}
        return run([self.python, "-m", "django", *args], cwd=PROJECT, env=env)

    def __call__(self, verb, **values):
        command = [self.python, "original.py", verb, json.dumps(values)]
        return json.loads(run(command, cwd=PROJECT, env=self.env))

    def begin(self, verb, **values):
        return subprocess.Popen(
            [str(self.python), "original.py", verb, json.dumps(values)], cwd=PROJECT, env=self.env
        )


class Successor:
    """The project on this package."""

    def __init__(self, alias):
        self.env = {
            "DATABASE_URL": test_database_url(alias),
            "DJANGO_SETTINGS_MODULE": "project_settings",
            "PYTHONPATH": f"{ROOT}:{PROJECT}",
        }

    def manage(self, *args):
        return run([sys.executable, "-m", "django", *args], cwd=PROJECT, env=self.env)

    def work(self, *queues):
        return self.manage("worker", *queues, "--burst")

    def work_one_task(self, queue, has_run):
        # The rate limit keeps the worker from the next task until it is told to stop.
        worker = subprocess.Popen(
            [sys.executable, "-m", "django", "worker", queue, "--rate_limit", "3600"],
            cwd=PROJECT,
            env={**os.environ, **self.env},
        )
        try:
            wait_until(has_run, "one task has run")
            worker.terminate()
            assert worker.wait(timeout=30) == 0
        finally:
            worker.kill()
            worker.wait()


@pytest.fixture
def original(original_python, database, tmp_path):
    return Original(original_python, database, tmp_path)


@pytest.fixture
def successor(database):
    return Successor(database)


def old_rows(alias):
    columns = ", ".join(sorted(OLD_COLUMNS))
    return {row[1]: row for row in rows(alias, f"SELECT {columns} FROM django_dbq_job ORDER BY id")}


def ran(job):
    return [tuple(entry) for entry in job.workspace["ran"]]


BY_ORIGINAL = [("first", "original"), ("second", "original"), ("third", "original")]
BY_SUCCESSOR = [("first", "successor"), ("second", "successor"), ("third", "successor")]


def test_the_released_migrations_make_the_schema_that_the_original_s_make(
    database, original, request, tmp_path, original_python
):
    kind = request.node.callspec.params["database"]
    with empty_database(kind, tmp_path) as other:
        theirs = Original(original_python, other, tmp_path)
        for migration in RELEASED:
            theirs.manage("migrate", "django_dbq", migration)
            migrate(database, migration)
            made = schema(database)
            assert len(str(made)) > 500
            assert made == schema(other), migration
    assert "No changes detected" in original.manage("makemigrations", "--check", "--dry-run")


def test_waiting_and_half_done_jobs_finish_after_the_swap_and_the_rest_is_left(database, original, successor):
    original.manage("migrate")
    left = original("leave_everything")
    assert len(left) == 10
    before = old_rows(database)
    successor.manage("migrate")
    assert old_rows(database) == before

    successor.work("new", "half", "almost", "complete", "failed", "forgot", "later", "x" * 20)
    successor.work("processing", "stopping")
    jobs = {label: Job.objects.using(database).get(pk=pk) for label, pk in left.items()}
    workspace = {
        "text": "ä\u2028\U0001f600",
        "number": 12345678901234567890,
        "half": 0.1,
        "deep": [None, {"a": []}],
    }
    for label, by_original in {"new": 0, "half": 1, "almost": 2, "was later": 0}.items():
        job = jobs[label]
        expected = BY_ORIGINAL[:by_original] + BY_SUCCESSOR[by_original:]
        assert (job.state, job.next_task, ran(job)) == ("COMPLETE", "", expected), label
        assert job.workspace == {**workspace, "ran": job.workspace["ran"]}, label
        positions = list(TaskRun.objects.using(database).filter(job=job).values_list("position", flat=True))
        assert positions == [*range(by_original, 3)], label
        assert job.finished and job.claimed_by is job.lease_until is None, label
    assert jobs["new"].priority == 7 and jobs["half"].priority == -2

    assert jobs["forgot"].state == "COMPLETE" and jobs["forgot"].workspace == {
        "ran": [["first", "successor"]]
    }

    after = old_rows(database)
    for label in ("complete", "failed", "later", "processing", "stopping"):
        assert after[old_key(jobs[label], after)] == before[old_key(jobs[label], after)], label
        assert jobs[label].claim == 0, label
    assert ran(jobs["complete"]) == BY_ORIGINAL
    assert (jobs["failed"].state, jobs["failed"].workspace["failure"]) == ("FAILED", "uh oh")
    assert (jobs["later"].state, jobs["processing"].state, jobs["stopping"].state) == (
        "NEW",
        "PROCESSING",
        "STOPPING",
    )

    jobs["later"].run_after = jobs["later"].created
    jobs["later"].save(using=database)
    successor.work("later")
    jobs["later"].refresh_from_db()
    assert (jobs["later"].state, ran(jobs["later"])) == ("COMPLETE", BY_SUCCESSOR)


def old_key(job, among):
    """Return the id as this database's raw rows hold it."""
    [key] = [key for key in among if str(key).replace("-", "") == job.pk.hex]
    return key


def test_the_original_still_creates_and_runs_jobs_on_the_new_schema(database, original, successor):
    successor.manage("migrate")
    for_us = original("create", queue_name="ours", workspace={"by": "original"}, priority=3)
    for_them = successor_creates(successor, "theirs")
    successor.work("ours")
    original("work", queue="theirs", tasks=3)
    ours, theirs = (Job.objects.using(database).get(pk=pk) for pk in (for_us, for_them))
    assert (ours.state, ran(ours), ours.workspace["by"]) == ("COMPLETE", BY_SUCCESSOR, "original")
    assert (theirs.state, ran(theirs), theirs.workspace["by"]) == ("COMPLETE", BY_ORIGINAL, "successor")


@pytest.mark.parametrize("turns", [["original", "successor"] * 2, ["successor", "original"] * 2])
def test_a_job_passes_between_the_packages_task_by_task(database, original, successor, turns):
    successor.manage("migrate")
    if turns[0] == "original":
        pk = successor_creates(successor, "shared")
    else:
        pk = original("create", queue_name="shared", workspace={"by": "original"})
    tasks = ["jobs.first", "jobs.second", "jobs.third"]
    for done, (turn, task) in enumerate(zip(turns[:3], tasks, strict=True), start=1):
        if turn == "original":
            original("work", queue="shared", tasks=1)
        else:
            successor.work_one_task("shared", TaskRun.objects.using(database).filter(task=task).exists)
        job = Job.objects.using(database).get(pk=pk)
        assert len(ran(job)) == done
    assert job.state == "COMPLETE"
    assert ran(job) == [*zip(["first", "second", "third"], turns, strict=False)]
    by_us = [index for index, turn in enumerate(turns[:3]) if turn == "successor"]
    assert list(job.runs.values_list("position", flat=True)) == by_us
    assert set(job.runs.values_list("attempt", flat=True)) == {1}


def test_the_original_deletes_old_jobs_that_have_a_history(database, original, successor):
    successor.manage("migrate")
    successor_creates(successor, "default")
    successor.work()
    assert TaskRun.objects.using(database).count() == 3
    kept = successor_creates(successor, "kept")
    successor.work("kept")
    Job.objects.using(database).filter(pk=kept).update(state="NEW")  # Which the original leaves alone.
    original("delete_old")
    assert Job.objects.using(database).count() == 1
    # It knows of no history; the page has what removes that.
    assert TaskRun.objects.using(database).count() == 6
    page = (ROOT / "docs/coming-from-django-db-queue.md").read_text()
    [statements] = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for statement in filter(str.strip, statements.split(";")):
        rows(database, statement)
    assert {str(pk) for pk in TaskRun.objects.using(database).values_list("job", flat=True)} == {kept}
    assert TaskRun.objects.using(database).count() == 3


# And on MariaDB beside it. On SQLite the original's own workers lock each other out.
@pytest.mark.postgresql
@pytest.mark.parametrize("database", [kind for kind in KINDS if kind != "sqlite3"], indirect=True)
def test_both_drain_one_queue_and_every_task_runs_once(database, original, successor):
    successor.manage("migrate")
    url = successor.env["DATABASE_URL"]
    script = (
        "import django; django.setup(); from django_dbq import Job;"
        "Job.objects.bulk_create([Job(name='three', queue_name='shared') for _ in range(300)])"
    )
    run([sys.executable, "-c", script], cwd=PROJECT, env=successor.env)
    assert Job.objects.using(database).count() == 300, url
    other = original.begin("drain", queue="shared")
    try:
        wait_until(Path(original.env["BEGAN"]).exists, "the original's worker runs")
        unfinished = Job.objects.using(database).exclude(state="COMPLETE")
        wait_until(lambda: unfinished.count() < 300, "the original's worker finished a job")
        while unfinished.exists():
            successor.work("shared")
        assert other.wait(timeout=30) == 0
    finally:
        if other.poll() is None:
            other.kill()
            other.wait()
    by = {"original": 0, "successor": 0}
    for job in Job.objects.using(database):
        assert [task for task, _ in ran(job)] == ["first", "second", "third"]
        for _, package in ran(job):
            by[package] += 1
    assert by["original"] and by["successor"] and sum(by.values()) == 900
    assert TaskRun.objects.using(database).filter(outcome="done").count() == by["successor"]


def successor_creates(successor, queue):
    args = ["create_job", "three", "--queue_name", queue, "--workspace", '{"by": "successor"}']
    return successor.manage(*args).strip()

"""Migrations: reversible, repeatable, and bearable for a table with live workers."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import DatabaseError
from django.test import override_settings

import django_dbq.migrations
from django_dbq import Job, TaskRun, calls
from django_dbq.models import Group, Schedule, WorkerProcess
from django_dbq.testing import run_jobs
from tests.conftest import wait_until
from tests.databases import KINDS, connected, empty_database, migrate, rows, schema

RELEASED = [
    "0001_initial",
    "0002_auto_20151016_1027",
    "0003_auto_20180713_1000",
    "0004_auto_20210818_0247",
    "0005_job_run_after",
    "0006_alter_job_state",
]
OLD_COLUMNS = {
    *("id", "created", "modified", "name", "state", "next_task"),
    *("workspace", "queue_name", "priority", "run_after"),
}
ALL = sorted(path.stem for path in Path(django_dbq.migrations.__file__).parent.glob("[0-9]*.py"))
NEW = ALL[len(RELEASED) :]

pytestmark = pytest.mark.usefixtures("databases_unblocked")


@pytest.fixture
def databases_unblocked(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        yield


@pytest.fixture(params=KINDS)
def database(request, tmp_path):
    with empty_database(request.param, tmp_path) as alias:
        yield alias


@pytest.fixture
def postgresql(tmp_path):
    with empty_database("postgresql", tmp_path) as alias:
        yield alias


def job_at(alias, migration):
    """Return the model of a job as it was at `migration`."""
    state = MigrationExecutor(connections[alias]).loader.project_state(("django_dbq", migration))
    return state.apps.get_model("django_dbq", "Job").objects.using(alias)


def columns(alias):
    with connections[alias].cursor() as cursor:
        return connections[alias].introspection.get_table_description(cursor, "django_dbq_job")


def indexes(alias):
    with connections[alias].cursor() as cursor:
        found = connections[alias].introspection.get_constraints(cursor, "django_dbq_job")
    return {name for name, what in found.items() if what["index"]}


# There and back.


def test_every_migration_can_be_undone_and_redone_with_rows_in_the_table(database):
    migrate(database)
    fresh = schema(database)
    job = Job.objects.using(database).create(
        name="five", workspace={"count": 0, "ä": [None, 1.5]}, priority=3
    )
    run_jobs(database=database)
    waiting = Job.objects.using(database).create(name="five", workspace={"count": 40})
    group = Group.objects.using(database).create(reference="x")
    Group.objects.using(database).filter(pk=group.pk).update(final=waiting)
    Job.objects.using(database).filter(pk=job.pk).update(group=group)
    WorkerProcess.objects.using(database).create(
        name="one", host="here", pid=1, queue_names=[], threads=1, started=job.created, seen=job.created
    )
    for migration in reversed(ALL):
        migrate(database, migration)
        assert job_at(database, migration).count() == 2
    for migration in ALL:
        migrate(database, migration)
    assert schema(database) == fresh
    job.refresh_from_db()
    assert (job.state, job.workspace) == ("COMPLETE", {"count": 5, "ä": [None, 1.5]})
    assert run_jobs(database=database) == 1
    waiting.refresh_from_db()
    assert (waiting.state, waiting.workspace) == ("COMPLETE", {"count": 45})


def test_after_zero_and_back_the_table_is_as_new(database):
    migrate(database)
    fresh = schema(database)
    Job.objects.using(database).create(name="five")
    run_jobs(database=database)
    migrate(database, "zero")
    assert schema(database) == []
    left = connections[database].introspection.table_names()
    assert [name for name in left if name.startswith("django_dbq")] == []
    migrate(database)
    assert schema(database) == fresh
    assert not Job.objects.using(database).exists()


def test_what_would_hinder_the_way_back_is_asked_by_the_last_migration():
    # The others are undone one by one, each committed before the next.
    assert ALL[-1] == "0015_the_way_back"


def wide(column):
    def make(alias):
        width = {"name": 101, "next_task": 101, "queue_name": 21}[column]
        job = Job.objects.using(alias).create(name="five")
        Job.objects.using(alias).filter(pk=job.pk).update(**{column: "ä" * width})

    return make


def waiting_call(alias):
    Job(**calls.call_columns("math.sqrt", [4], {}, {})).save(using=alias)


def final_job(alias):
    group = Group.objects.using(alias).create(reference="x")
    jobs = [Job.objects.using(alias).create(name="nothing", group=each) for each in (group, None)]
    group.on_completion(jobs[1])


def schedule_by_hand(alias):
    Schedule(path="five", kind="daily").save(using=alias)


IN_THE_WAY = {
    "1 jobs have a name of more than 100 characters": wide("name"),
    "1 jobs have a next_task of more than 100 characters": wide("next_task"),
    "1 jobs have a queue_name of more than 20 characters": wide("queue_name"),
    "1 function calls, or final jobs of groups, have not finished": waiting_call,
    "1 function calls, or final jobs of groups, have not": final_job,
    "1 schedules stand in no entry of JOBS": schedule_by_hand,
}


def everything(alias):
    """Return what the database holds of this app: its tables, and their rows but for the migrations'."""
    tables = sorted(name for name in connections[alias].introspection.table_names() if "django_dbq" in name)
    quote = connections[alias].ops.quote_name
    return schema(alias), {table: rows(alias, f"SELECT * FROM {quote(table)}") for table in tables}


@pytest.mark.parametrize("target", ["0006_alter_job_state", "zero"])
@pytest.mark.parametrize("reason", IN_THE_WAY)
def test_the_way_back_says_what_is_in_the_way_before_anything_is_undone(database, reason, target):
    migrate(database)
    IN_THE_WAY[reason](database)
    before = everything(database)
    with pytest.raises(ValueError, match=f"Nothing has been undone.*\n{reason}") as raised:
        migrate(database, target)
    assert len(str(raised.value).splitlines()) == 2
    assert everything(database) == before
    applied = MigrationRecorder(connections[database]).applied_migrations()
    assert {name for app, name in applied if app == "django_dbq"} == {*ALL}


def test_the_way_back_names_everything_in_its_way_at_once_and_is_free_when_that_is_done(database):
    migrate(database)
    for make in IN_THE_WAY.values():
        make(database)
    with pytest.raises(ValueError, match="Nothing has been undone") as raised:
        migrate(database, "0006_alter_job_state")
    said = str(raised.value)
    assert said.count("\n") == 5 and "2 function calls" in said
    # As it tells.
    Job.objects.using(database).filter(name="ä" * 101).update(name="five")
    Job.objects.using(database).filter(next_task="ä" * 101).update(next_task="tests.workflows.count")
    run_jobs(database=database)
    call_command("worker", "ä" * 21, burst=True, database=database, verbosity=0)
    call_command("delete_old_jobs", hours=0, database=database, stdout=io.StringIO())
    Schedule.objects.using(database).all().delete()
    migrate(database, "0006_alter_job_state")


def test_what_nothing_would_ever_run_is_cancelled_as_the_way_back_tells(database):
    migrate(database)
    waiting_call(database)
    final_job(database)
    choices = ["--state WAITING", "--name math.sqrt"]
    with pytest.raises(ValueError, match=f"manage.py cancel_jobs, once with each of {', '.join(choices)}\\."):
        migrate(database, "0006_alter_job_state")
    for choice in choices:
        call_command("cancel_jobs", *choice.split(), database=database, stdout=io.StringIO())
    migrate(database, "0006_alter_job_state")


def test_finished_calls_and_declared_schedules_let_the_way_back_go(database):
    migrate(database)
    waiting_call(database)
    assert run_jobs(database=database) == 1
    Schedule(path="five", kind="daily", declared="five").save(using=database)
    migrate(database, "0006_alter_job_state")
    assert job_at(database, "0006_alter_job_state").get().name == "math.sqrt"


@pytest.mark.parametrize(
    "column, width, known, before",
    [
        ("queue_name", 20, "0007_durable_jobs", "0006_alter_job_state"),
        ("next_task", 100, "0007_durable_jobs", "0006_alter_job_state"),
        ("name", 100, "0009_calls_and_groups", "0008_indexes"),
    ],
)
def test_a_value_that_came_while_it_was_undone_is_told_by_the_migration_that_it_does_not_fit(
    database, column, width, known, before
):
    migrate(database, known)
    for times in (0, 1):
        job_at(database, known).create(**{"name": "five", column: "ä" * (width + times)}, workspace={})
    there = everything(database)
    with pytest.raises(ValueError, match=f"1 jobs have a {column} of more than {width} .*migrate forwards"):
        migrate(database, before)
    assert everything(database) == there
    migrate(database)
    assert Job.objects.using(database).filter(**{column: "ä" * (width + 1)}).count() == 1


def test_the_models_have_no_changes_without_a_migration():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("name", ["call", "signature", "identity", "group_id"])
def test_what_0009_adds_is_gone_after_it_is_undone_and_empty_after_it_is_redone(database, name):
    migrate(database)
    job = Job.objects.using(database).create(name="five")
    Job.objects.using(database).update(state="COMPLETE", call="{}", signature="s", identity="i", group=7)
    migrate(database, "0008_indexes")
    assert name not in {column.name for column in columns(database)}
    migrate(database)
    assert name in {column.name for column in columns(database)}
    assert Job.objects.using(database).values_list(name, flat=True).get(pk=job.pk) is None


# What an old worker needs.


@pytest.mark.parametrize("state", ["NEW", "READY"])
@pytest.mark.parametrize("migration", RELEASED)
def test_a_job_left_on_a_released_schema_finishes_on_the_newest(database, migration, state):
    migrate(database, migration)
    workspace = '{"count": 41, "kept": ["\u00e4", null, 0.1]}'
    if migration >= "0004":
        workspace = {"count": 41, "kept": ["\u00e4", None, 0.1]}
    task = "tests.workflows.count" if state == "READY" else "tests.workflows.nothing"
    name = "nothing_then_count"
    old = job_at(database, migration).create(name=name, state=state, next_task=task, workspace=workspace)
    done = job_at(database, migration).create(name=name, state="COMPLETE", next_task="", workspace=workspace)
    held = job_at(database, migration).create(
        name=name, state="PROCESSING", next_task=task, workspace=workspace
    )
    migrate(database)
    assert run_jobs(database=database) == 1
    job = Job.objects.using(database).get(pk=old.pk)
    assert (job.state, job.next_task) == ("COMPLETE", "")
    assert job.workspace == {"count": 42, "kept": ["\u00e4", None, 0.1]}
    tasks = list(TaskRun.objects.using(database).values_list("task", flat=True))
    assert tasks == (["tests.workflows.nothing"] if state == "NEW" else []) + ["tests.workflows.count"]
    left = Job.objects.using(database).in_bulk([done.pk, held.pk])
    assert (left[done.pk].state, left[done.pk].workspace["count"]) == ("COMPLETE", 41)
    assert (left[held.pk].state, left[held.pk].workspace["count"], left[held.pk].claim) == (
        "PROCESSING",
        41,
        0,
    )


@pytest.mark.parametrize("known", [RELEASED[-1], "0008_indexes"])
def test_what_an_older_worker_does_not_write_has_a_default_in_the_database(database, known):
    migrate(database)
    made = job_at(database, known).create(
        name="five", next_task="tests.workflows.count", workspace={"count": 1}
    )
    job = Job.objects.using(database).get(pk=made.pk)
    assert (job.staged, job.position, job.attempt, job.lost_attempts, job.claim) == (True, 0, 0, 0, 0)
    assert job.plan is job.claimed_by is job.lease_until is job.finished is job.result is None
    assert job.call is job.signature is job.identity is job.group is None
    assert run_jobs(database=database) == 1


@pytest.mark.postgresql
def test_the_statements_of_new_columns_carry_their_defaults(postgresql):
    out = io.StringIO()
    for migration in NEW:
        call_command("sqlmigrate", "django_dbq", migration, database=postgresql, stdout=out)
    added = [line for line in out.getvalue().splitlines() if '"django_dbq_job" ADD COLUMN' in line]
    new = {field.column for field in Job._meta.fields} - OLD_COLUMNS
    assert {line.split('"')[3] for line in added} == new
    assert [line for line in added if "NOT NULL" in line and "DEFAULT" not in line] == []


@pytest.mark.parametrize("way", [[], ["--backwards"]])
@pytest.mark.parametrize("migrated", [True, False])
@pytest.mark.parametrize("migration, index", [("0008", "dbq_job_lease"), ("0010", "dbq_job_finished")])
def test_the_statements_of_indexes_can_be_read_with_and_without_the_table(
    database, way, migrated, migration, index
):
    if migrated:
        migrate(database)
    out = io.StringIO()
    call_command("sqlmigrate", "django_dbq", migration, *way, database=database, stdout=out)
    lines = [line for line in out.getvalue().splitlines() if index in line and "INDEX" in line]
    assert [line.split()[0] for line in lines] == ["DROP" if way else "CREATE"]


# Run again after an interruption.


@pytest.mark.postgresql
def test_an_index_whose_build_was_killed_is_built_anew(postgresql, manage):
    migrate(postgresql, "0007_durable_jobs")
    job_at(postgresql, "0007_durable_jobs").create(name="five")
    with connected(postgresql) as other, transaction_of(other) as cursor:
        cursor.execute("UPDATE django_dbq_job SET modified = now()")
        process = manage("migrate", alias=postgresql)
        building = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE 'CREATE INDEX CONCURRENTLY %%'"
        )
        [(pid,)] = wait_until(lambda: rows(postgresql, building), "the build waits for the open transaction")
        rows(postgresql, "SELECT pg_terminate_backend(%s)", [pid])
        assert process.wait() == 1
    assert "dbq_job_claim" in invalid(postgresql)
    assert manage("migrate", alias=postgresql).wait() == 0
    assert invalid(postgresql) == []
    assert {"dbq_job_claim", "dbq_job_stage", "dbq_job_lease"} <= indexes(postgresql)


@pytest.mark.postgresql
def test_an_invalid_index_under_a_name_of_ours_is_replaced_on_either_way(postgresql):
    migrate(postgresql, "0007_durable_jobs")
    backwards = sorted(name for name in indexes(postgresql) if "queue_name" in name)
    for _ in range(2):
        job_at(postgresql, "0007_durable_jobs").create(name="five")
    leave_invalid(postgresql, "dbq_job_claim")
    migrate(postgresql, "0009_calls_and_groups")
    leave_invalid(postgresql, "dbq_job_group")
    migrate(postgresql)
    assert invalid(postgresql) == []
    [(definition,)] = rows(postgresql, "SELECT indexdef FROM pg_indexes WHERE indexname = 'dbq_job_claim'")
    assert "staged, queue_name, priority DESC, COALESCE(run_after, created), id" in definition
    migrate(postgresql, "0008_indexes")
    leave_invalid(postgresql, backwards[0])
    migrate(postgresql, "0007_durable_jobs")
    assert invalid(postgresql) == []
    assert sorted(name for name in indexes(postgresql) if "queue_name" in name) == backwards


@pytest.mark.parametrize(
    "migration, index",
    [("0008_indexes", "dbq_job_lease"), ("0010_calls_and_groups_indexes", "dbq_job_finished")],
)
def test_half_done_indexes_are_finished_when_the_migration_is_run_again(database, migration, index):
    migrate(database, migration)
    whole = schema(database)
    connection = connections[database]
    with connection.cursor() as cursor:
        at = f" ON {connection.ops.quote_name('django_dbq_job')}" if connection.vendor == "mysql" else ""
        cursor.execute(f"DROP INDEX {index}{at}")
        cursor.execute("DELETE FROM django_migrations WHERE app = 'django_dbq' AND name = %s", [migration])
    assert schema(database) != whole
    migrate(database, migration)
    assert schema(database) == whole


# While workers work.


@pytest.mark.postgresql
@pytest.mark.parametrize("before", ["0006_alter_job_state", "0008_indexes"])
def test_jobs_are_created_while_new_columns_wait_for_a_long_transaction(postgresql, manage, before):
    migrate(postgresql, before)
    jobs = job_at(postgresql, before)
    jobs.create(name="five", next_task="tests.workflows.count", workspace={})
    waiting = (
        "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        " AND relation = 'django_dbq_job'::regclass"
    )
    with connected(postgresql) as other, transaction_of(other) as cursor:
        cursor.execute("SELECT * FROM django_dbq_job FOR UPDATE")
        process = manage("migrate", alias=postgresql)
        rows(postgresql, "SET lock_timeout = '10s'")
        for _ in range(3):
            wait_until(lambda: rows(postgresql, waiting), "the migration waits for the table")
            # Fails by its timeout if it has to wait for the long transaction.
            jobs.create(name="five", next_task="tests.workflows.count", workspace={})
        assert process.popen.poll() is None, process.log()
    assert process.wait() == 0, process.log()
    assert run_jobs(database=postgresql) == 4


@pytest.mark.postgresql
@pytest.mark.parametrize("before", ["0007_durable_jobs", "0009_calls_and_groups"])
def test_jobs_are_created_while_new_indexes_wait_for_a_long_transaction(postgresql, manage, before):
    migrate(postgresql, before)
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query LIKE '%% INDEX CONCURRENTLY %%'"
    )
    with connected(postgresql) as other, transaction_of(other) as cursor:
        cursor.execute("SELECT pg_current_xact_id()")
        cursor.execute("LOCK TABLE django_dbq_job IN ROW EXCLUSIVE MODE")
        process = manage("migrate", alias=postgresql)
        wait_until(lambda: rows(postgresql, waiting), "the migration waits for the open transaction")
        rows(postgresql, "SET lock_timeout = '1s'")
        job_at(postgresql, before).create(name="five", next_task="tests.workflows.count", workspace={})
        assert process.popen.poll() is None, process.log()
    assert process.wait() == 0, process.log()
    assert run_jobs(database=postgresql) == 1


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "before, after",
    [("0006_alter_job_state", "0007_durable_jobs"), ("0008_indexes", "0009_calls_and_groups")],
)
def test_new_columns_rewrite_neither_the_table_nor_an_index(postgresql, before, after):
    migrate(postgresql, before)
    files = (
        "SELECT relname, pg_relation_filenode(oid) FROM pg_class WHERE oid = 'django_dbq_job'::regclass"
        " OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'django_dbq_job'::regclass) ORDER BY 1"
    )
    had = rows(postgresql, files)
    migrate(postgresql, after)
    assert rows(postgresql, files) == had


@pytest.mark.postgresql
def test_a_migration_gives_up_waiting_for_the_table_with_the_database_s_error(postgresql, monkeypatch):
    migrate(postgresql, "0006_alter_job_state")
    monkeypatch.setattr("django_dbq.migrations._operations.PATIENCE_SECONDS", -1)
    rows(postgresql, "SET statement_timeout = '20s'")
    with connected(postgresql) as other, transaction_of(other) as cursor:
        cursor.execute("LOCK TABLE django_dbq_job IN ACCESS SHARE MODE")
        with pytest.raises(DatabaseError, match="lock timeout"):
            migrate(postgresql)
    migrate(postgresql)


# Other people's databases.


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mysql"])
def test_indexes_that_django_1_named_go_and_a_project_s_own_stay(kind, tmp_path):
    with empty_database(kind, tmp_path) as alias:
        migrate(alias, "0007_durable_jobs")
        born_with_it = {name for name in indexes(alias) if "state" in name or "priority" in name}
        for name, columns in {
            "django_dbq_job_9ed39e2e": "(state)",
            "django_dbq_job_0fa1c2d3_like": "(queue_name)",
            "project_by_state": "(state)",
            "django_dbq_job_by_state": "(state)",
            "django_dbq_job_11111111": "(state) WHERE state = 'FAILED'" if kind == "postgresql" else "(name)",
            "django_dbq_job_22222222": "(state, name)",
        }.items():
            rows(alias, f"CREATE INDEX {name} ON django_dbq_job {columns}")
        # SQLite changes a column by making the table anew, without a project's indexes: 0009 does.
        migrate(alias, None if kind == "postgresql" else "0008_indexes")
        left = indexes(alias)
        assert left.isdisjoint(born_with_it) and born_with_it
        assert left.isdisjoint({"django_dbq_job_9ed39e2e", "django_dbq_job_0fa1c2d3_like"})
        assert {
            "project_by_state",
            "django_dbq_job_by_state",
            "django_dbq_job_11111111",
            "django_dbq_job_22222222",
        } <= left


@pytest.mark.postgresql
def test_indexes_of_the_same_name_in_another_schema_are_left_alone(postgresql):
    migrate(postgresql, "0006_alter_job_state")
    [(theirs,)] = rows(
        postgresql,
        "SELECT indexname FROM pg_indexes"
        " WHERE indexname LIKE 'django_dbq_job_state%%' AND indexname !~ '_like'",
    )
    rows(postgresql, "CREATE SCHEMA first")
    rows(postgresql, "CREATE TABLE first.unrelated (id int)")
    for name in ("dbq_job_claim", theirs):
        rows(postgresql, f"CREATE INDEX {name} ON first.unrelated (id)")
    # The unrelated schema is found first by every name that is not qualified.
    options = connections[postgresql].settings_dict["OPTIONS"]
    options["options"] = "-c search_path=first,public"
    connections[postgresql].close()
    kept = "SELECT indexname FROM pg_indexes WHERE tablename = 'unrelated' ORDER BY 1"
    try:
        migrate(postgresql)
        assert {"dbq_job_claim", "dbq_job_stage"} <= indexes(postgresql) and theirs not in indexes(postgresql)
        assert rows(postgresql, kept) == [("dbq_job_claim",), (theirs,)]
        migrate(postgresql, "0006_alter_job_state")
        assert theirs in indexes(postgresql) and "dbq_job_claim" not in indexes(postgresql)
        assert rows(postgresql, kept) == [("dbq_job_claim",), (theirs,)]
    finally:
        del options["options"]


@pytest.mark.postgresql
def test_migrations_run_inside_a_transaction(postgresql):
    with transaction.atomic(using=postgresql):
        migrate(postgresql)
        migrate(postgresql, "0006_alter_job_state")
        migrate(postgresql)
    assert {"dbq_job_claim", "dbq_job_stage", "dbq_job_lease"} <= indexes(postgresql)


class NoJobsHere:
    def allow_migrate(self, db, app_label, **hints):
        return app_label != "django_dbq"


def test_a_database_that_holds_no_jobs_is_left_without_them(database):
    with override_settings(DATABASE_ROUTERS=[NoJobsHere()]):
        migrate(database)
        assert schema(database) == []
        migrate(database, "zero")


if "mysql" in KINDS:

    def test_no_index_on_mariadb_is_a_second_way_to_lock_rows_by_their_key(tmp_path):
        with empty_database("mysql", tmp_path) as alias:
            migrate(alias)
            with connections[alias].cursor() as cursor:
                found = connections[alias].introspection.get_constraints(cursor, "django_dbq_job")
            assert [name for name, what in found.items() if what["columns"] == ["id"]] == ["PRIMARY"]
            migrate(alias, "0009_calls_and_groups")  # What was never made is not missed.

    def test_ids_that_an_older_django_stored_as_text_on_mariadb_are_found(tmp_path):
        with empty_database("mysql", tmp_path) as alias:
            migrate(alias, "0006_alter_job_state")
            rows(alias, "ALTER TABLE django_dbq_job MODIFY id char(32) NOT NULL")
            rows(
                alias,
                "INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, workspace,"
                " queue_name, priority) VALUES ('0f0e0d0c0b0a49080706050403020100', now(), now(), 'five',"
                " 'READY', 'tests.workflows.count', '{\"count\": 1}', 'default', 0)",
            )
            migrate(alias)
            assert run_jobs(database=alias) == 1
            job = Job.objects.using(alias).get(pk="0f0e0d0c-0b0a-4908-0706-050403020100")
            assert (job.state, job.workspace) == ("COMPLETE", {"count": 6})
            assert job.runs.using(alias).count() == 5


# Helpers.


class transaction_of:
    """A transaction on a connection of its own, ended with the block."""

    def __init__(self, connection):
        self.connection = connection

    def __enter__(self):
        self.connection.set_autocommit(False)
        return self.connection.cursor()

    def __exit__(self, *error):
        self.connection.rollback()
        self.connection.set_autocommit(True)


def invalid(alias):
    return [
        name
        for (name,) in rows(
            alias, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"
        )
    ]


def leave_invalid(alias, name):
    """Leave what a build that failed leaves: here, of a unique index over rows that are not."""
    with pytest.raises(DatabaseError):
        rows(alias, f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON django_dbq_job (name)")
    assert name in invalid(alias)

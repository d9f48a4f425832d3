"""One job is inserted as Django would insert it, and told of in the same message where it stands alone."""

import copy
import datetime
from decimal import Decimal

import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    models,
    transaction,
)
from django.db.models.functions import Lower
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils import timezone
from django.utils.functional import lazystr

from django_dbq.models import Job
from django_dbq.store.drivers import IDLE
from tests.store.helpers import columns

is_psycopg3 = connection.vendor == "postgresql" and connection.Database.__name__ == "psycopg"
pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

NOON = datetime.datetime(2031, 1, 2, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
VALUES = [
    {},
    {"workspace": {"text": 'it\'s \\ 100 % "é"', "number": Decimal("1.50"), "at": NOON}},
    {"queue_name": lazystr("mail"), "title": lazystr("lazy")},
    {"priority": "-7"},
    {"priority": True},
    {"name": "nothing", "title": 5, "label": ""},
    {"run_after": NOON},
    {"created": NOON},
    {"id": "01890a5d-ac96-774b-bcce-b302099a8057"},
    {"state": Job.STATES.FAILED, "error": "of old", "finished": NOON, "result": [1, None]},
    {
        "state": "PROCESSING",
        "claim": 7,
        "claimed_by": "w",
        "lease_until": NOON,
        "attempt": 2,
        "started": NOON,
    },
    {"lost_attempts": 3, "cancel_requested": True, "identity": "x" * 64, "position": 0},
    {"result": "text"},
    {"result": {}},
    {"group_id": None, "call": None},
]


def ready(**values):
    job = Job(**{"name": "nothing", **values})
    job._make_ready()
    return job


def test_a_row_is_as_django_would_have_made_it(store):
    for values in VALUES:
        ours = ready(**values)
        theirs = copy.deepcopy(ours)
        ours.save(using=store.using)
        inserted = columns(store, ours)
        Job.objects.using(store.using).filter(pk=ours.pk).delete()
        theirs.created, theirs.modified = ours.created, ours.modified
        theirs.save_base(raw=True, force_insert=True, using=store.using)
        assert columns(store, theirs) == inserted


def test_its_times_are_those_of_its_creation(store):
    before = timezone.now()
    job = Job.objects.using(store.using).create(name="nothing")
    row = columns(store, job)
    assert row["created"] == job.created and row["modified"] == job.modified
    assert before <= job.created <= job.modified <= timezone.now()


def test_a_value_may_be_an_expression(store):
    job = Job.objects.using(store.using).create(name="nothing", title=Lower(models.Value("ABC")))
    assert columns(store, job)["title"] == "abc"


@pytest.mark.postgresql
def test_a_job_goes_to_another_database_with_what_was_not_loaded_of_it():
    Job.objects.using("sqlite").create(name="nothing", title="kept")
    job = Job.objects.using("sqlite").defer("title").get()
    job.save(using="default", force_insert=True)
    assert Job.objects.using("default").get().title == "kept"


@isolate_apps("tests")
def test_an_instance_of_a_proxy_is_inserted_as_a_job(store):
    class Errand(Job):
        class Meta:
            proxy = True
            app_label = "tests"

    job = Errand(name="nothing")
    job.save(using=store.using)
    assert columns(store, job)["name"] == "nothing"


def test_post_save_is_sent_once_the_row_is_there(store):
    seen = []

    def look(instance, created, using, **kwargs):
        seen.append((created, Job.objects.using(using).filter(pk=instance.pk).exists()))

    models.signals.post_save.connect(look, sender=Job)
    try:
        Job.objects.using(store.using).create(name="nothing")
    finally:
        models.signals.post_save.disconnect(look, sender=Job)
    assert seen == [(True, True)]


# On PostgreSQL.


def status():
    return connection.connection.info.transaction_status


def statements_of(create):
    with CaptureQueriesContext(connection) as queries:
        create()
    return [each["sql"] for each in queries]


@pytest.fixture
def replaced():
    """Return, on call, what has the server run a part of the statements as something else."""

    def replace(part, by):
        def run(execute, sql, params, many, context):
            return execute(sql.replace(part, by), params, many, context)

        return connection.execute_wrapper(run)

    return replace


@pytest.mark.postgresql
def test_a_job_that_stands_alone_is_one_message_to_the_server():
    (statement,) = statements_of(lambda: Job.objects.create(name="nothing"))
    assert statement.index("COMMIT") < statement.index("NOTIFY")


@pytest.mark.postgresql
def test_columns_that_the_database_fills_in_are_not_sent():
    (statement,) = statements_of(lambda: Job.objects.create(name="nothing"))
    assert "lease_until" not in statement and "group_id" not in statement


@pytest.mark.postgresql
def test_a_job_that_is_not_due_is_no_transaction_of_its_own():
    later = timezone.now() + datetime.timedelta(hours=1)
    (statement,) = statements_of(lambda: Job.objects.create(name="nothing", run_after=later))
    assert "COMMIT" not in statement and "NOTIFY" not in statement


@pytest.mark.postgresql
def test_in_the_transaction_of_the_caller_nothing_is_committed():
    with transaction.atomic():
        statements = statements_of(lambda: Job.objects.create(name="nothing"))
        transaction.set_rollback(True)
    assert not any("COMMIT" in each or "NOTIFY" in each for each in statements)
    assert not Job.objects.exists()


@pytest.mark.postgresql
def test_in_a_transaction_that_django_knows_nothing_of_nothing_is_committed():
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        Job.objects.create(name="nothing")
        cursor.execute("ROLLBACK")
    assert not Job.objects.exists()


@pytest.mark.postgresql
def test_receivers_of_post_save_come_before_the_workers():
    ran = []

    def look(**kwargs):
        ran.append("receiver")

    def note(execute, sql, *args):
        ran.append("told" if "notify" in sql.lower() else "inserted")
        return execute(sql, *args)

    models.signals.post_save.connect(look, sender=Job)
    try:
        with connection.execute_wrapper(note):
            Job.objects.create(name="nothing")
    finally:
        models.signals.post_save.disconnect(look, sender=Job)
    assert ran == ["inserted", "receiver", "told"]


@pytest.mark.postgresql
@pytest.mark.skipif(not is_psycopg3, reason="psycopg2 never binds on the server")
def test_a_driver_that_binds_on_the_server_gets_one_statement_at_a_time():
    options = {**connection.settings_dict.get("OPTIONS", {}), "server_side_binding": True}
    bound = connection.copy()
    bound.settings_dict = {**bound.settings_dict, "OPTIONS": options}
    assert bound.features.uses_server_side_binding
    kept, connections["default"] = connections["default"], bound
    try:
        job = Job.objects.create(name="nothing", workspace={"a": 1})
        assert Job.objects.get().pk == job.pk
    finally:
        connections["default"] = kept
        bound.close()


@pytest.mark.postgresql
def test_an_insert_that_fails_leaves_no_transaction_open():
    job = Job.objects.create(name="nothing")
    with pytest.raises(IntegrityError):
        Job.objects.create(name="nothing", id=job.id)
    assert status() == IDLE
    assert Job.objects.count() == 1


@pytest.mark.postgresql
def test_a_statement_that_was_never_sent_is_an_error_though_the_id_is_taken():
    def refuse(execute, sql, *args):
        if "INSERT" in sql:
            raise DatabaseError("no")
        return execute(sql, *args)

    job = Job.objects.create(name="nothing")
    with connection.execute_wrapper(refuse), pytest.raises(DatabaseError, match="no"):
        Job.objects.create(name="nothing", id=job.id)
    assert Job.objects.count() == 1


@pytest.mark.postgresql
def test_a_commit_that_fails_is_an_error_and_there_is_no_job():
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE integrity_constraint_violation; END $$;"
            " CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON django_dbq_job"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        try:
            with pytest.raises(IntegrityError):
                Job.objects.create(name="nothing")
            assert status() == IDLE
            assert not Job.objects.exists()
        finally:
            cursor.execute("DROP FUNCTION refuse CASCADE")


@pytest.mark.postgresql
def test_a_queue_that_cannot_be_told_is_no_error_as_the_job_is_there(replaced, caplog):
    with replaced("NOTIFY django_dbq, %s", "SELECT 1 / length(replace(%s, 'default', ''))"):
        job = Job.objects.create(name="nothing")
    assert Job.objects.get() == job
    assert status() == IDLE
    assert f"Job {job.pk} is created, but queue 'default' was not told of it" in caplog.text
    assert "division by zero" in caplog.text


@pytest.mark.postgresql
def test_who_is_interrupted_while_it_is_inserted_leaves_no_transaction_open(replaced):
    def interrupted(execute, *args):
        execute(*args)
        raise KeyboardInterrupt

    stopped = replaced("COMMIT", "SELECT 1"), connection.execute_wrapper(interrupted)
    with stopped[0], stopped[1], pytest.raises(KeyboardInterrupt):
        Job.objects.create(name="nothing")
    assert status() == IDLE
    assert not Job.objects.exists()


@pytest.mark.postgresql
def test_a_connection_that_is_lost_meanwhile_is_the_error_that_the_caller_sees(replaced):
    ended = "SELECT pg_terminate_backend(pg_backend_pid())"
    try:
        with replaced("COMMIT", ended), pytest.raises(OperationalError):
            Job.objects.create(name="nothing")
    finally:
        connection.close()
    assert not Job.objects.exists()

"""Who is told of new jobs, and when: after the commit, once for each queue."""

import datetime
from enum import Enum

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.functional import lazystr

from django_dbq.models import Job
from django_dbq.store import get_store
from django_dbq.store.postgres import CHANNEL
from tests.conftest import wait_until

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

END = "the end of the test"


class Undone(Exception):
    """Raised to roll a transaction back."""


@pytest.fixture
def heard():
    """Return, on call, what a second connection was told since the last call."""
    listener = connections.create_connection("default")

    def received():
        raw = listener.connection
        if hasattr(raw, "pgconn"):  # psycopg 3
            raw.pgconn.consume_input()
            while (notice := raw.pgconn.notifies()) is not None:
                yield notice.extra.decode()
            return
        raw.poll()
        yield from (notice.payload for notice in raw.notifies)
        raw.notifies.clear()

    def hear():
        # What was sent before arrives before.
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}, '{END}'")
        found = []
        wait_until(lambda: found.extend(received()) or END in found, "the last notice")
        assert found.pop() == END
        return sorted(found)

    with listener.cursor() as cursor:
        cursor.execute(f"LISTEN {CHANNEL}")
    # What tests that rolled back left over.
    get_store("default").announce([])
    hear()
    yield hear
    listener.close()


def test_many_created_at_once_are_announced_once(heard):
    Job.objects.enqueue_many("nothing", [{}] * 3, queue_name="mail")
    assert heard() == ["mail"]


def test_a_job_is_announced_to_its_queue(heard):
    Job.objects.create(name="nothing", queue_name="mail")
    assert heard() == ["mail"]


class Queue(str, Enum):  # noqa: UP042  # As those are that existed before StrEnum.
    MAIL = "mail"


@pytest.mark.parametrize("name", ["it's 100 % \\ é", lazystr("mail"), Queue.MAIL])
def test_a_queue_is_told_by_the_name_that_its_jobs_have(heard, name):
    Job.objects.create(name="nothing", queue_name=name)
    assert heard() == [Job.objects.get().queue_name]


def test_a_transaction_announces_each_queue_once(heard):
    with transaction.atomic():
        for _ in range(5):
            Job.objects.create(name="nothing", queue_name="mail")
            Job.objects.create(name="nothing", queue_name="it's 100 % é")
        Job.objects.bulk_create([Job(name="nothing", queue_name="mail") for _ in range(5)])
    assert heard() == ["it's 100 % é", "mail"]


def test_many_jobs_created_at_once_are_announced_once(heard):
    Job.objects.bulk_create([Job(name="nothing", queue_name="mail") for _ in range(5)])
    assert heard() == ["mail"]


def test_each_transaction_announces_for_itself(heard):
    for _ in range(2):
        Job.objects.create(name="nothing", queue_name="mail")
    assert heard() == ["mail", "mail"]


def test_nothing_is_sent_from_inside_the_transaction_of_the_caller():
    with CaptureQueriesContext(connection) as inside, transaction.atomic():
        Job.objects.create(name="nothing")
        before_commit = len(inside.captured_queries)
    statements = [query["sql"] for query in inside.captured_queries]
    assert not any("notify" in sql.lower() for sql in statements[:before_commit])
    assert statements[-1].startswith("/* dbq:announce */") and statements[-2] == "COMMIT"
    assert sum("notify" in sql.lower() for sql in statements) == 1


def test_a_transaction_that_rolled_back_announces_nothing(heard):
    with pytest.raises(Undone), transaction.atomic():
        Job.objects.create(name="nothing", queue_name="mail")
        raise Undone
    assert heard() == []


def test_what_a_rollback_left_over_is_harmless(heard):
    with pytest.raises(Undone), transaction.atomic():
        Job.objects.create(name="nothing", queue_name="mail")
        raise Undone
    Job.objects.create(name="nothing", queue_name="other")
    # A worker of "mail" may be woken for nothing, once.
    assert set(heard()) - {"mail"} == {"other"}
    Job.objects.create(name="nothing", queue_name="other")
    assert heard() == ["other"]


def test_a_savepoint_that_rolled_back_silences_nobody_else(heard):
    with transaction.atomic():
        Job.objects.create(name="nothing", queue_name="kept")
        with pytest.raises(Undone), transaction.atomic():
            Job.objects.create(name="nothing", queue_name="mail")
            raise Undone
    assert "kept" in heard()
    with transaction.atomic():
        with pytest.raises(Undone), transaction.atomic():
            Job.objects.create(name="nothing", queue_name="mail")
            raise Undone
        Job.objects.create(name="nothing", queue_name="kept")
    assert "kept" in heard()


def test_a_job_that_is_not_due_is_not_announced(heard):
    Job.objects.create(name="nothing", run_after=timezone.now() + datetime.timedelta(hours=1))
    assert heard() == []


def test_queues_can_be_announced_without_a_job(heard):
    get_store("default").announce(["a", "b", "a"])
    assert heard() == ["a", "b"]


def test_an_announcement_waits_for_no_disk():
    def flushed_after(statement):
        statement()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn()")
            return cursor.fetchone()[0]

    # The server may flush at any moment of its own accord, but hardly thrice.
    assert not all(flushed_after(lambda: get_store("default").announce(["a"])) for _ in range(3))
    assert any(flushed_after(lambda: Job.objects.create(name="nothing").delete()) for _ in range(3))


def test_a_wake_up_that_cannot_be_sent_does_not_reach_who_created_the_job():
    """The job is there: the commit came before."""

    def cut_off(execute, sql, *args):
        if "pg_notify" in sql:
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, *args)

    with connection.execute_wrapper(cut_off), transaction.atomic():
        job = Job.objects.create(name="nothing")
    assert Job.objects.filter(pk=job.pk).exists()

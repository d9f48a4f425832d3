import pytest
from django.db import connections
from freezegun import freeze_time

from django_dbq.models import WorkerProcess
from tests.store.helpers import ALIASES, SERVERS, clock, seconds, together

pytestmark = pytest.mark.django_db(databases=ALIASES)


def a_process(store, name="one", **values):
    columns = {"host": "here", "pid": 42, "queue_names": ["default", "ä"], "threads": 3}
    return WorkerProcess(name=name, started=clock(store), **{**columns, **values})


def rows(store):
    return WorkerProcess.objects.using(store.using)


def last_seen(store, name, ago):
    """Report a process and make it look as if that was `ago` seconds before now."""
    store.report(a_process(store, name))
    rows(store).filter(name=name).update(seen=clock(store) - seconds(ago))


def names(store):
    return sorted(rows(store).values_list("name", flat=True))


def test_a_process_that_reports_has_a_row(store):
    process = a_process(store)
    before = clock(store)
    store.report(process)
    found = rows(store).get(name="one")
    assert before <= found.seen <= clock(store)
    facts = (found.host, found.pid, found.queue_names, found.threads, found.started)
    assert facts == ("here", 42, ["default", "ä"], 3, process.started)


def test_a_later_report_changes_nothing_but_when_it_was_seen(store):
    process = a_process(store)
    store.report(process)
    rows(store).update(seen=clock(store) - seconds(60))
    [before] = rows(store).values()
    store.report(process)
    [after] = rows(store).values()
    assert after.pop("seen") >= before.pop("seen") + seconds(60)
    assert after == before


@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_it_is_seen_by_the_database_s_clock(store):
    with freeze_time("2001-02-03"):  # This machine's clock is wrong.
        store.report(a_process(store))
    assert clock(store) - rows(store).get().seen < seconds(60)


def test_a_process_whose_row_was_deleted_has_it_again(store):
    process = a_process(store)
    store.report(process)
    rows(store).delete()
    store.report(process)
    assert names(store) == ["one"]


def test_who_leaves_has_no_row_and_the_others_keep_theirs(store):
    for name in ("one", "two"):
        store.report(a_process(store, name))
    store.leave("one")
    assert names(store) == ["two"]
    store.leave("one")
    assert names(store) == ["two"]


def test_who_has_not_been_seen_for_a_day_is_forgotten_when_another_leaves(store):
    store.report(a_process(store))
    last_seen(store, "just under a day", 24 * 3600 - 60)
    last_seen(store, "over a day", 24 * 3600 + 1)
    store.leave("one")
    assert names(store) == ["just under a day"]


def test_who_has_not_been_seen_for_a_day_is_forgotten_when_another_begins(store):
    process = a_process(store)
    store.report(process)
    last_seen(store, "over a day", 24 * 3600 + 1)
    store.report(process)
    assert names(store) == ["one", "over a day"]  # It is no new one.
    store.report(a_process(store, "two"))
    assert names(store) == ["one", "two"]


def test_a_report_is_one_statement_and_but_for_postgresql_a_look_at_the_clock(
    store, django_assert_max_num_queries
):
    process = a_process(store)
    store.report(process)
    connection = connections[store.using]
    with django_assert_max_num_queries(1 if connection.vendor == "postgresql" else 2, connection=connection):
        store.report(process)


@pytest.mark.django_db(databases=ALIASES, transaction=True)
@pytest.mark.parametrize("store", SERVERS, indirect=True)
def test_many_report_and_leave_at_once(store):
    def live(number):
        process = a_process(store, str(number))
        for _ in range(10):
            store.report(process)
        if number % 2:
            store.leave(str(number))

    last_seen(store, "over a day", 24 * 3600 + 1)
    together(4, live)
    assert names(store) == ["0", "2"]

"""What the keeper makes of an error of its database."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3

import pytest
from django.db import DatabaseError, OperationalError, ProgrammingError, connections

from django_dbq.store import get_store
from django_dbq.store.drivers import is_missing
from django_dbq.worker.session import Session, passes
from django_dbq.worker.watchdog import Watchdog
from tests.conftest import wait_until


def raised(error, cause):
    """Return an error as Django raises it, for that of a driver."""
    error.__cause__ = cause
    return error


def of_sqlite(statement):
    try:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(statement)
    except sqlite3.Error as error:
        return raised(OperationalError(*error.args), error)


class OfPostgres(Exception):
    def __init__(self, sqlstate):
        self.sqlstate = sqlstate


class OfMariaDB(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        of_sqlite("SELECT * FROM cats"),
        of_sqlite("SELECT cat"),
        raised(ProgrammingError(), OfPostgres("42P01")),
        raised(ProgrammingError(), OfPostgres("42703")),
        raised(ProgrammingError(), OfMariaDB(1146, "no table")),
        raised(OperationalError(), OfMariaDB(1054, "no column")),
    ],
    ids=repr,
)
def test_a_table_or_column_that_is_not_there_will_not_come_by_waiting(error):
    assert is_missing(error) and not passes(error)


@pytest.mark.parametrize(
    "error",
    [raised(OperationalError(), OfMariaDB(2006, "gone")), OperationalError(), DatabaseError()],
    ids=repr,
)
def test_a_connection_that_was_lost_may_come_back(error):
    assert passes(error) and not is_missing(error)


@pytest.fixture
def session():
    return Session("default", 30, 30, Watchdog(30))


def settled_when_tried_again(session, error):
    """Have a statement fail once, with this error; return what it finds the second time."""
    errors = [error]

    def statement():
        if errors:
            raise errors.pop()
        return session.settled

    return session.run(statement)


@pytest.mark.django_db(transaction=True)
def test_an_outage_is_told_of_and_is_not_settled_before_others_can_be_back(session, caplog):
    caplog.set_level(logging.INFO, "django_dbq.worker")
    assert session.settled
    assert not settled_when_tried_again(session, OperationalError("server closed the connection"))
    assert "trying again: database=default gives_up_in=30s server closed" in caplog.text
    wait_until(lambda: session.settled, "others to be back")
    assert "Database is back: seconds=0." in caplog.text and "database=default" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "cause", [OfPostgres("40P01"), OfPostgres("55P03"), OfMariaDB(1213, "deadlock")], ids=repr
)
def test_a_deadlock_is_no_outage(session, cause, caplog):
    caplog.set_level(logging.INFO, "django_dbq.worker")
    assert settled_when_tried_again(session, raised(OperationalError("deadlock"), cause))
    assert "Database is back" not in caplog.text


def application_name(session):
    """Return what the server calls the session of a worker that connects anew."""
    connections["default"].close()

    def statement():
        with connections["default"].cursor() as cursor:
            cursor.execute("SHOW application_name")
            return cursor.fetchone()[0]

    return session.run(statement)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_the_server_knows_a_worker_by_its_process_unless_the_project_names_it(session, monkeypatch):
    connection = connections["default"]
    monkeypatch.setattr(connection, "settings_dict", connection.settings_dict)  # Undone afterwards.
    assert application_name(session) == f"django_dbq {os.getpid()}"
    options = {**connection.settings_dict["OPTIONS"], "application_name": "shop"}
    connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
    assert application_name(session) == "shop"


@pytest.mark.postgresql
def test_whatever_the_lease_the_system_takes_what_a_connection_asks_of_it(monkeypatch):
    connection = connections["default"]
    monkeypatch.setattr(connection, "settings_dict", {**connection.settings_dict, "OPTIONS": {}})
    get_store("default").prepare_connection(1_000_000)
    options = connection.settings_dict["OPTIONS"]
    assert (options["keepalives_idle"], options["keepalives_interval"]) == (32_767, 32_767)


@pytest.fixture
def pool(monkeypatch):
    """A pool that this driver does not have, or that is not installed: to take anything from it raises."""
    connection = connections["default"]
    connection.close()
    options = {**connection.settings_dict["OPTIONS"], "pool": {"min_size": 0, "max_size": 0}}
    monkeypatch.setattr(connection, "settings_dict", {**connection.settings_dict, "OPTIONS": options})
    yield options
    connection.close()


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_the_keeper_takes_no_connection_of_a_pool_because_it_changes_its_session(pool, session):
    assert application_name(session) == f"django_dbq {os.getpid()}"


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_who_waits_for_jobs_listens_on_no_connection_of_a_pool(pool):
    with get_store("default").listening([]) as pause:
        assert callable(pause)


@pytest.mark.postgresql
def test_a_task_takes_its_connections_of_the_pool_that_the_project_has(pool):
    get_store("default").prepare_connection(30, pooled=True)
    assert connections["default"].settings_dict["OPTIONS"]["pool"] == pool["pool"]

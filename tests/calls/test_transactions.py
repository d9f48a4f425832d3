"""A call is scheduled in its caller's transaction, and what the function leaves for later is its own's."""

from __future__ import annotations

import contextlib
import logging

import pytest
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from django_dbq import Job, TaskRun, deschedule, schedule
from tests.calls import functions
from tests.models import Row

outside = pytest.mark.django_db(transaction=True)


def texts():
    return sorted(Row.objects.values_list("text", flat=True))


def scheduled():
    """Return the first arguments of the calls that wait."""
    return sorted(Job.objects.filter(state="NEW").values_list("priority", flat=True))


class Undo(Exception):
    """Rolls a block back."""


@outside
def test_a_call_scheduled_in_a_block_that_is_rolled_back_never_existed(drain):
    with contextlib.suppress(Undo), transaction.atomic():
        functions.write("caller")
        schedule(functions.write)
        assert Job.objects.count() == 1
        raise Undo
    assert not Job.objects.exists()
    drain()
    assert texts() == []


@outside
def test_a_call_scheduled_in_a_block_exists_when_that_commits(drain):
    with transaction.atomic():
        schedule(functions.write)
    drain()
    assert texts() == ["written"]


@outside
def test_inner_blocks_take_with_them_what_was_scheduled_in_them():
    with transaction.atomic():
        schedule(functions.write, priority=1)
        with contextlib.suppress(Undo), transaction.atomic():
            schedule(functions.write, priority=2)
            with transaction.atomic():
                schedule(functions.write, priority=3)
            raise Undo
        with transaction.atomic():
            schedule(functions.write, priority=4)
            with contextlib.suppress(Undo), transaction.atomic():
                schedule(functions.write, priority=5)
                raise Undo
    assert scheduled() == [1, 4]


@outside
def test_a_group_that_is_new_is_rolled_back_with_its_call():
    with contextlib.suppress(Undo), transaction.atomic():
        assert schedule(functions.write, group="group").group.reference == "group"
        raise Undo
    job = schedule(functions.write, group="group")
    assert [job.group.pk] == [*Job.objects.values_list("group", flat=True)]


@outside
def test_a_descheduling_is_rolled_back_with_its_block():
    schedule(functions.write)
    with contextlib.suppress(Undo), transaction.atomic():
        assert deschedule(functions.write) == 1
        raise Undo
    assert Job.objects.get().state == "NEW"


@outside
@pytest.mark.django_db(databases=["default", "jobs"], transaction=True)
def test_calls_live_in_the_database_of_the_router(settings):
    settings.DATABASE_ROUTERS = ["tests.routers.JobsRouter"]
    job = schedule(functions.write)
    assert schedule(functions.nothing, group="group").group._state.db == "jobs"
    assert Job.objects.using("jobs").count() == 2 and not Job.objects.using("default").exists()
    assert job.execute() == "written"
    assert TaskRun.objects.using("jobs").get().outcome == "done"
    assert Row.objects.using("default").count() == 1
    assert deschedule(functions.nothing) == 1


# Views under ATOMIC_REQUESTS.


def view(request, how):
    functions.write("view")
    schedule(functions.write)
    if how == "raise":
        raise Undo
    if how == "execute":
        Job.objects.get().execute()
    return HttpResponse(how)


urlpatterns = [path("<how>/", view)]


@pytest.fixture
def client(settings, monkeypatch):
    """A client of views that are atomic."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    settings.ROOT_URLCONF = __name__
    settings.ALLOWED_HOSTS = ["testserver"]
    return Client(raise_request_exception=False)


@outside
def test_a_view_that_returns_has_scheduled_its_call(client, drain):
    assert client.get("/return/").status_code == 200
    assert Job.objects.get().state == "NEW"
    drain()
    assert texts() == ["view", "written"]


@outside
@pytest.mark.parametrize("how", ["raise", "execute"])
def test_a_view_that_raises_has_scheduled_nothing(client, how, caplog):
    with caplog.at_level(logging.CRITICAL, "django.request"):
        assert client.get(f"/{how}/").status_code == 500
    assert not Job.objects.exists() and texts() == []


# What the function leaves to be called on commit.


@outside
def test_what_a_call_leaves_for_the_commit_is_called_after_it_once(drain):
    job = drain(schedule(functions.write_and_later))
    assert job.state == "COMPLETE" and functions.LATER == ["later"]


@outside
def test_what_a_failing_call_leaves_for_the_commit_is_never_called(drain):
    job = drain(schedule(functions.write_later_and_fail))
    assert job.state == "READY" and functions.LATER == []
    drain(schedule(functions.nothing))
    assert functions.LATER == []


@outside
def test_what_raises_after_the_commit_is_logged_and_changes_nothing(drain, caplog):
    with caplog.at_level(logging.WARNING, "django_dbq"):
        job = drain(schedule(functions.write_and_fail_later))
    assert (job.state, job.error, texts()) == ("COMPLETE", None, ["written"])
    assert [*TaskRun.objects.values_list("outcome", "error")] == [("done", None)]
    (line,) = caplog.records
    assert line.levelno == logging.ERROR
    assert line.message == f"On commit failed: job={job.pk} name={job.name} task={job.name}"
    assert "ValueError: too late" in caplog.text

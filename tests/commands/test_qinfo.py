"""manage.py qinfo: a summary, and the settings with their secrets masked."""

from __future__ import annotations

import datetime
import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_dbq import Job, WorkerProcess, __version__, pause_queue

pytestmark = pytest.mark.django_db


def said(*args):
    out = StringIO()
    call_command("qinfo", *args, stdout=out)
    return out.getvalue()


def some_work():
    now = timezone.now()
    for name, age in (("one", 0), ("two", 0), ("three", 3600)):
        WorkerProcess.objects.create(
            name=name,
            host="h" if name == "one" else "i",
            pid=1,
            queue_names=["default"],
            threads=1,
            started=now - datetime.timedelta(hours=2),
            seen=now - datetime.timedelta(seconds=age),
            tasks_done=5,
            tasks_failed=1,
        )
    Job.objects.create(name="nothing")
    Job.objects.create(name="nothing", queue_name="mail", state="FAILED", finished=now)
    pause_queue("mail")


def test_the_summary_counts_workers_and_jobs():
    some_work()
    found = json.loads(said("--json"))
    assert found["django_dbq"] == __version__
    assert found["hosts"] == 2
    assert found["workers"] == {"idle": 2, "busy": 0, "stopping": 0, "gone": 1}
    assert (found["tasks_done"], found["tasks_failed"]) == (10, 2)
    assert found["queues"] == {
        "default": {"due": 1, "later": 0, "running": 0, "failed_24h": 0, "paused": False},
        "mail": {"due": 0, "later": 0, "running": 0, "failed_24h": 1, "paused": True},
    }


def test_it_is_text_unless_json_is_asked_for():
    some_work()
    lines = said().splitlines()
    assert lines[0] == f"django_dbq: {__version__}"
    at = lines.index("  mail:")
    assert lines[at : at + 6] == [
        "  mail:",
        "    due: 0",
        "    later: 0",
        "    running: 0",
        "    failed_24h: 1",
        "    paused: True",
    ]


def test_the_settings_are_those_that_the_engine_reads(settings):
    settings.DBQ = {"LEASE_SECONDS": 12}
    settings.Q_CLUSTER = {"name": "site", "timeout": 60, "ALT_CLUSTERS": {"long": {"timeout": 3000}}}
    found = json.loads(said("--config", "--json"))
    assert found["DBQ"]["LEASE_SECONDS"] == 12
    assert found["DBQ"]["POLL_INTERVAL_SECONDS"] == 1.0
    assert "nothing" in found["JOBS"]
    assert (found["Q_CLUSTER"]["site"]["timeout"], found["Q_CLUSTER"]["long"]["timeout"]) == (60, 3000)
    assert "  LEASE_SECONDS: 12" in said("--config").splitlines()


@pytest.mark.parametrize("redact", [["token"], []])
@pytest.mark.parametrize("args", [(), ("--json",)])
def test_secrets_are_masked_whatever_is_to_be_redacted(settings, redact, args):
    settings.DBQ = {"API_TOKEN": "a-token-that-nobody-is-to-see", "REDACT": redact}
    settings.Q_CLUSTER = {"redis": {"password": "hunter2"}}
    text = said("--config", *args)
    assert "nobody" not in text and "hunter2" not in text
    assert "********" in text


def test_a_token_that_is_not_set_is_shown_as_not_set():
    assert json.loads(said("--config", "--json"))["DBQ"]["API_TOKEN"] == ""


def test_settings_at_fault_are_told(settings):
    settings.Q_CLUSTER = {"workers": "many"}
    with pytest.raises(CommandError, match=r"Settings are at fault:\nQ_CLUSTER\['workers'\]: must be"):
        said("--config")


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_may_be_named():
    Job.objects.using("jobs").create(name="nothing", queue_name="apart")
    assert list(json.loads(said("--json", "--database=jobs"))["queues"]) == ["apart"]

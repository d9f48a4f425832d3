"""The admin: lists that stay quick, a job's page, what can be done to jobs, and who may."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from django_dbq import Group, Job, TaskRun, WorkerProcess, paused_queues, schedule
from django_dbq.admin import job_page, lists
from django_dbq.admin import jobs as job_pages
from django_dbq.compat import django_q
from django_dbq.models import Schedule, ScheduleRun
from django_dbq.store import get_store
from django_dbq.testing import run_jobs
from tests.django_q import functions
from tests.django_q.functions import HERE, echo

pytestmark = pytest.mark.django_db

QUERIES_MAX = 12
NOTHING = {"tasks": ["tests.workflows.nothing"]}
NAMES = ["nothing", "boom", "five"]


@pytest.fixture
def boss(client):
    """A browser of somebody who may do everything."""
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def ended_tasks():
    """What hooks were given."""
    functions.ENDED.clear()
    return functions.ENDED


def browser_of(client, *permissions):
    """Return a browser of somebody with these permissions only."""
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def url(page, *args, **query):
    address = reverse(f"admin:django_dbq_{page}", args=args)
    return f"{address}?{'&'.join(f'{key}={value}' for key, value in query.items())}" if query else address


def listed(browser, page="job_changelist", **query):
    """Return the ids of the jobs that a list shows, in order."""
    response = browser.get(url(page, **query))
    assert response.status_code == 200, response.get("Location")
    return [job.pk for job in response.context["cl"].result_list]


def text_of(browser, job, **query):
    response = browser.get(url("job_change", job.pk, **query))
    assert response.status_code == 200
    return response.content.decode()


def put(job, **columns):
    """Set columns of a job that no caller can, and return it."""
    Job.objects.filter(pk=job.pk).update(**columns)
    return Job.objects.get(pk=job.pk)


def ended(state="COMPLETE", name="nothing", **columns):
    return put(Job.objects.create(name=name), **{"state": state, "finished": timezone.now(), **columns})


def act(browser, action, *jobs, page="job_changelist", **more):
    data = {"action": action, "_selected_action": [str(job.pk) for job in jobs], **more}
    return browser.post(url(page), data, follow=True)


def said(response):
    return [str(message) for message in response.context["messages"]]


# Lists.


def test_the_newest_job_is_listed_first(boss):
    jobs = [Job.objects.create(name="nothing") for _ in range(3)]
    assert listed(boss) == [job.pk for job in reversed(jobs)]


@pytest.mark.parametrize("state", Job.STATES.values)
def test_jobs_are_filtered_by_state(boss, state):
    held = {"lease_until": timezone.now(), "claimed_by": "one"} if state in ("PROCESSING", "STOPPING") else {}
    over = {"finished": timezone.now()} if state in ("COMPLETE", "FAILED", "CANCELLED") else {}
    wanted = put(Job.objects.create(name="nothing"), state=state, **held, **over)
    put(Job.objects.create(name="nothing"), state="NEW" if state != "NEW" else "READY")
    assert listed(boss, state=state) == [wanted.pk]


def test_jobs_that_the_original_package_held_or_ended_are_filtered_apart(boss):
    old = [put(Job.objects.create(name="nothing"), state=state) for state in ("PROCESSING", "COMPLETE")]
    ended()
    assert {*listed(boss, state="unnoted")} == {job.pk for job in old}
    assert listed(boss, state="PROCESSING") == []


@pytest.mark.parametrize(("key", "value"), [("queue", "other"), ("name", "other_queue"), ("q", "other_q")])
def test_jobs_are_filtered_by_queue_and_name(boss, key, value):
    wanted = Job.objects.create(name="other_queue")
    Job.objects.create(name="nothing")
    assert listed(boss, **{key: value}) == [wanted.pk]


def test_jobs_are_filtered_by_group(boss):
    group = Group.latest_group_by_reference("month end")
    job = schedule("builtins.len", [[1]], group=group)
    Job.objects.create(name="nothing")
    assert listed(boss, group=group.pk) == [job.pk]
    assert listed(boss, q="month%20end") == [job.pk]


@pytest.mark.parametrize("label", ["night's circles", "5"])
def test_jobs_are_filtered_by_the_label_that_django_q_calls_a_group(boss, label):
    job = Job.objects.get(pk=django_q.async_task("math.floor", 1.5, group=label))
    Job.objects.create(name="nothing")
    assert listed(boss, group=label.replace("'", "%27")) == [job.pk]
    (link,) = re.findall(r'href="([^"]*label=[^"]*)"', text_of(boss, job))
    assert [row.pk for row in boss.get(unescape(link)).context["cl"].result_list] == [job.pk]
    assert listed(boss, group="zzz") == listed(boss, group="%00") == []


def test_jobs_are_filtered_by_age(boss):
    put(Job.objects.create(name="nothing"), created=timezone.now() - datetime.timedelta(hours=2))
    young = Job.objects.create(name="nothing")
    assert listed(boss, age="hour") == [young.pk]
    assert len(listed(boss, age="day")) == 2


@pytest.mark.parametrize(
    "written", [str, lambda pk: pk.hex.upper(), lambda pk: pk.hex[:30], lambda pk: str(pk)[:35]]
)
def test_a_job_is_found_by_its_id_or_the_first_digits_of_it(boss, written):
    job = Job.objects.create(name="nothing")
    Job.objects.create(name="nothing", id=uuid.uuid4())
    assert listed(boss, q=written(job.pk)) == [job.pk]


@pytest.mark.parametrize("column", ["title", "label"])
def test_a_job_is_found_by_its_title_and_its_label(boss, column):
    job = put(Job.objects.create(name="nothing"), **{column: "Invoices of May"})
    Job.objects.create(name="nothing")
    assert listed(boss, q="Invoices%20of%20May") == [job.pk]


@pytest.mark.parametrize(
    "query", [{"q": "%00"}, {"queue": "%00"}, {"group": "x"}, {"state": "none"}, {"p": "99"}]
)
def test_a_query_of_nonsense_is_no_error(boss, query):
    Job.objects.create(name="nothing")
    assert boss.get(url("job_changelist", **query), follow=True).status_code == 200


def test_jobs_of_each_kind_have_a_page(boss):
    complete, failed = ended(), ended("FAILED")
    queued = Job.objects.create(name="nothing")
    assert listed(boss, "successfuljob_changelist") == [complete.pk]
    assert listed(boss, "failedjob_changelist") == [failed.pk]
    assert listed(boss, "queuedjob_changelist") == [queued.pk]


def test_a_job_that_has_moved_on_is_still_found_under_the_list_it_was_in(boss):
    job = ended()
    assert boss.get(url("queuedjob_change", job.pk)).status_code == 200


ALL_PAGES = (
    *("job", "successfuljob", "failedjob", "queuedjob"),
    *("schedule", "group", "workerprocess", "pausedqueue"),
)


@pytest.mark.parametrize(
    "lookup",
    [
        *("workspace__password__startswith", "call__contains", "signature__startswith", "error__contains"),
        *("result__password", "jobs__error__contains", "runs__error__contains", "label__startswith"),
    ],
)
@pytest.mark.parametrize("page", ALL_PAGES)
def test_a_list_is_filtered_by_its_filters_alone_so_that_nobody_guesses_what_is_masked(boss, page, lookup):
    assert boss.get(url(f"{page}_changelist", **{lookup: "h"})).status_code == 400


@pytest.mark.parametrize("page", ["job", "schedule"])
def test_the_search_looks_into_nothing_that_is_masked(boss, page):
    masked = {"workspace": {"password": "hunter2"}, "call": "hunter2", "error": "hunter2"}
    put(Job.objects.create(name="nothing"), result="hunter2", **masked)
    Schedule.objects.bulk_create([Schedule(path="nothing", anchor=timezone.now(), **masked)])
    assert boss.get(url(f"{page}_changelist", q="hunter2")).context["cl"].result_count == 0


def test_schedules_are_filtered_by_kind_and_whether_they_are_enabled(boss):
    wanted = Schedule.objects.create(path="nothing", kind="daily")
    Schedule.objects.create(path="nothing", kind="hourly")
    Schedule.objects.create(path="nothing", kind="daily", enabled=False)
    response = boss.get(url("schedule_changelist", kind__exact="daily", enabled__exact="1"))
    assert [row.pk for row in response.context["cl"].result_list] == [wanted.pk]


def test_the_failed_jobs_are_listed_with_their_errors_masked(boss):
    ended("FAILED", error="Traceback\n  line\nValueError: password=hunter2 is wrong\n")
    page = boss.get(url("failedjob_changelist")).content.decode()
    assert "ValueError: password=******** is wrong" in page


def test_a_list_of_any_length_takes_few_queries(boss):
    def queries(**query):
        with CaptureQueriesContext(connection) as found:
            listed(boss, **query)
        return len(found)

    Job.objects.create(name="nothing")
    few = queries()
    Job.objects.bulk_create([Job(name="nothing") for _ in range(40)])
    assert queries() == few <= QUERIES_MAX
    for query in [
        {"state": "NEW"},
        {"queue": "default"},
        {"name": "nothing"},
        {"q": "noth"},
        {"q": "0190abcd"},
    ]:
        assert queries(**query) <= QUERIES_MAX, query
    assert queries(page="failedjob_changelist") <= QUERIES_MAX


def test_more_jobs_than_are_counted_are_told_roughly(boss, monkeypatch):
    monkeypatch.setattr(lists, "COUNT_MAX", 100)
    Job.objects.bulk_create([Job(name="nothing") for _ in range(120)])
    changelist = boss.get(url("job_changelist")).context["cl"]
    assert (changelist.result_count, changelist.rough) == (120, True)  # By the store.
    assert changelist.paginator.num_pages == 2
    assert "The number is an estimate" in boss.get(url("job_changelist")).content.decode()
    Job.objects.update(label="x")
    for narrowing in ({"queue": "default"}, {"label": "x"}):  # What the store does not count.
        narrowed = boss.get(url("job_changelist", **narrowing)).context["cl"]
        assert (narrowed.result_count, narrowed.rough) == (100, True)


@pytest.mark.parametrize(("scan_max", "by_sorting"), [(5, False), (30, True), (100, False)])
@pytest.mark.parametrize("count_max", [10, 1_000])
def test_many_jobs_of_which_none_is_new_are_listed_in_order(
    boss, monkeypatch, scan_max, by_sorting, count_max
):
    monkeypatch.setattr(lists, "SCAN_MAX", scan_max)
    monkeypatch.setattr(lists, "FEW", 5)
    monkeypatch.setattr(lists, "COUNT_MAX", count_max)
    monkeypatch.setattr(job_pages.JobAdmin, "list_per_page", 5)
    between = [[Job.objects.create(name="nothing") for _ in range(number)] for number in (40, 20, 40)]
    Job.objects.filter(pk__in=[job.pk for job in between[1]]).update(label="x")
    found = [job.pk for job in between[1]]
    for query, expected in [({"q": "x"}, found[::-1]), ({"q": "x", "o": "4"}, found)]:
        with CaptureQueriesContext(connection) as ran:
            assert listed(boss, **query) == expected[:5]
        assert any("ORDER BY COALESCE" in one["sql"] for one in ran) == by_sorting
        assert len(ran) <= QUERIES_MAX
        assert listed(boss, p=2, **query) == expected[5:10]


@pytest.mark.parametrize(("order", "at_end"), [("-4", slice(80, 100)), ("4", slice(20))])
def test_those_that_are_new_are_found_without_sorting_the_others(boss, monkeypatch, order, at_end):
    monkeypatch.setattr(lists, "SCAN_MAX", 30)
    monkeypatch.setattr(lists, "FEW", 5)
    monkeypatch.setattr(job_pages.JobAdmin, "list_per_page", 5)
    jobs = [Job.objects.create(name="nothing").pk for _ in range(100)]
    Job.objects.filter(pk__in=jobs[at_end]).update(label="x")
    with CaptureQueriesContext(connection) as ran:
        shown = listed(boss, q="x", o=order)
    assert shown == (jobs[:5] if order == "4" else jobs[:-6:-1])
    assert not any("ORDER BY COALESCE" in one["sql"] for one in ran)


def test_what_no_index_finds_is_looked_for_among_the_newest(boss, monkeypatch):
    monkeypatch.setattr(lists, "SCAN_MAX", 3)
    jobs = [Job.objects.create(name="nothing") for _ in range(5)]
    assert listed(boss, queue="default") == [job.pk for job in jobs[:1:-1]]
    page = boss.get(url("job_changelist", queue="default")).content.decode()
    assert "Looked among the newest 3 jobs" in page


# A job's page.


@pytest.fixture
def with_history():
    """A job that failed at its second task."""
    with override_settings(
        JOBS={"cook": ["tests.test_admin.chop", "tests.test_admin.burn", "tests.test_admin.chop"]}
    ):
        job = Job.objects.create(name="cook", workspace={"guests": 4, "api_key": "hunter2", "knife": "blunt"})
        run_jobs()
        job.refresh_from_db()
        yield job


def chop(job):
    job.workspace["onions"] = job.workspace.get("onions", 0) + 2
    job.workspace.pop("knife", None)


def burn(job):
    raise ValueError("burnt")


def test_a_job_s_page_tells_its_history(boss, with_history):
    page = boss.get(url("job_change", with_history.pk))
    first, second = page.context["attempts"]
    assert first["task"] == "tests.test_admin.chop"
    assert first["changed"] == [
        ("onions", "(not known)", "2"),
        ("knife", "(something: nobody noted what)", "(nothing)"),
    ]
    assert json.loads(first["after"]) == {"guests": 4, "api_key": "********", "onions": 2}
    assert "Not known: onions, knife" in first["before"]
    assert second["error_line"] == "ValueError: burnt"
    assert "Traceback (most recent call last)" in second["error"]
    assert page.context["ahead_of_failed"] == ["tests.test_admin.chop"]
    assert "<details>" in page.content.decode()


def test_a_key_that_was_saved_besides_is_named(boss, with_history):
    with_history.workspace["onions"] = 99
    with_history.save()
    assert "Saved besides what the attempts noted: onions" in text_of(boss, with_history)


def test_no_secret_is_on_a_page(boss):
    job = schedule("builtins.dict", kwargs={"password": "hunter2", "nested": {"token": "hunter2"}})
    job = put(
        job, result={"secret": "hunter2"}, workspace={"key": "hunter2"}, error='{"password": "hunter2"}'
    )
    TaskRun.objects.create(
        job=job,
        claim=1,
        task="a.b",
        position=0,
        attempt=1,
        worker="one",
        started=timezone.now(),
        finished=timezone.now(),
        outcome="failed",
        error="password=hunter2",
        changes={"set": {"key": "hunter2"}},
    )
    page = text_of(boss, job)
    assert "hunter2" not in page
    assert page.count("********") >= 6


def test_a_call_s_page_shows_its_arguments_and_whether_they_are_signed(boss):
    job = schedule("builtins.len", [["tea"]])
    page = text_of(boss, job)
    assert "tea" in page
    assert "signature does not hold" not in page
    assert "signature does not hold" in text_of(boss, put(job, call=job.call.replace("tea", "gin")))
    assert "cannot be read" in text_of(boss, put(job, call="[]"))


def test_a_call_s_page_has_no_workspace_and_shows_values_as_what_they_are(boss):
    task_id = django_q.async_task(echo, decimal.Decimal("1.50"), day=datetime.date(2026, 1, 2), token=(1,))
    run_jobs()
    job = Job.objects.get(pk=task_id)
    page = text_of(boss, job)
    assert "&quot;1.50&quot;" in page and "&quot;2026-01-02&quot;" in page and "&quot;$&quot;" not in page
    assert "orkspace" not in page.partition('id="content-main"')[2]
    assert "&quot;token&quot;: &quot;********&quot;" in page
    assert "$" in text_of(boss, put(job, result={"$": ["unknown", 1]}))


def test_a_job_s_page_takes_few_queries_however_long_its_history(boss):
    def queries(job):
        with CaptureQueriesContext(connection) as found:
            text_of(boss, job)
        return len(found)

    short, long = ended(), ended()
    now = timezone.now()
    run = {
        "task": "a.b",
        "position": 0,
        "attempt": 1,
        "worker": "one",
        "started": now,
        "finished": now,
        "outcome": "snooze",
    }
    TaskRun.objects.bulk_create([TaskRun(job=long, claim=n, **run) for n in range(60)])
    assert queries(long) == queries(short) <= QUERIES_MAX
    page = boss.get(url("job_change", long.pk))
    assert len(page.context["attempts"]) == job_page.ATTEMPTS
    assert "There were earlier attempts" in page.content.decode()
    assert "There were earlier attempts" not in text_of(boss, long, attempts=500)


@override_settings(USE_THOUSAND_SEPARATOR=True)
def test_more_attempts_are_shown_when_asked_for_in_any_locale(boss):
    job, now = Job.objects.create(name="nothing"), timezone.now()
    TaskRun.objects.bulk_create(
        TaskRun(
            job=job,
            claim=claim,
            task="t",
            position=0,
            attempt=1,
            worker="w",
            started=now,
            finished=now,
            outcome="done",
        )
        for claim in range(600)
    )
    assert '"?attempts=1000"' in text_of(boss, job, attempts=500)


@override_settings(USE_TZ=False)
def test_a_running_job_is_shown_where_a_project_uses_no_time_zones(boss):
    now = timezone.now()
    started = now - datetime.timedelta(minutes=3)
    job = Job.objects.create(name="nothing")
    put(job, state="PROCESSING", claimed_by="w", lease_until=now, started=started)
    assert listed(boss) == [job.pk]
    assert "3 min " in text_of(boss, job)


def test_an_unknown_id_leads_back(boss):
    for wrong in (uuid.uuid4(), "nonsense"):
        assert boss.get(url("job_change", wrong)).status_code == 302


def test_what_a_row_holds_is_text_to_the_page(boss):
    job = put(Job.objects.create(name="nothing"), title="<script>x</script>", workspace={"<b>": "<i>"})
    assert "<script>x" not in text_of(boss, job)
    assert "<i>" not in text_of(boss, job)


# What can be done.


def test_a_failed_job_is_retried_from_the_failed_task_or_from_the_start(boss, with_history):
    act(boss, "retry", with_history)
    with_history.refresh_from_db()
    assert (with_history.state, with_history.position) == ("READY", 1)
    run_jobs()
    boss.post(url("job_change", with_history.pk), {"verb": "retry_from_start"})
    with_history.refresh_from_db()
    assert (with_history.state, with_history.position) == ("READY", 0)


def test_a_job_that_is_complete_has_no_failed_task_to_be_retried_from(boss):
    job = ended(next_task="")
    told = said(act(boss, "retry", job))
    boss.post(url("job_change", job.pk), {"verb": "retry"})  # Of a page that was open since it had failed.
    job.refresh_from_db()
    assert job.state == "COMPLETE"
    assert told == ["Retry from the failed task: none of them. A job has to have failed, or been cancelled."]
    act(boss, "retry_from_start", job)
    job.refresh_from_db()
    assert job.state == "READY"


def test_waiting_jobs_are_cancelled_and_others_told_of(boss):
    waiting, over = Job.objects.create(name="nothing"), ended()
    told = said(act(boss, "cancel", waiting, over))
    waiting.refresh_from_db()
    assert waiting.state == "CANCELLED"
    assert told == ["Cancel: 1 job. 1 left as they were: what has ended cannot be cancelled."]


def test_a_job_that_waits_for_its_time_is_run_now(boss):
    job = Job.objects.create(name="nothing", run_after=timezone.now() + datetime.timedelta(days=1))
    assert not job.staged
    act(boss, "run_now", job)
    job.refresh_from_db()
    assert (job.run_after, job.staged) == (None, True)
    run_jobs()
    job.refresh_from_db()
    assert job.state == "COMPLETE"


def test_queues_are_paused_and_resumed(boss):
    job = Job.objects.create(name="other_queue")
    act(boss, "pause_queues", job)
    assert paused_queues() == ["other"]
    assert "paused" in text_of(boss, job)
    act(boss, "resume_queues", job)
    assert paused_queues() == []


def test_the_page_of_paused_queues_pauses_and_resumes(boss):
    boss.post(url("pausedqueue_add"), {"name": "default"})
    assert paused_queues() == ["default"]
    boss.post(url("pausedqueue_delete", "default"), {"post": "yes"})
    assert paused_queues() == []


def test_chosen_jobs_are_deleted_with_their_history_once_that_is_confirmed(boss, with_history):
    kept = Job.objects.create(name="cook")
    page = act(boss, "delete_selected", with_history)
    assert "Are you sure" in page.content.decode()
    act(boss, "delete_selected", with_history, post="yes")
    assert list(Job.objects.all()) == [kept]
    assert not TaskRun.objects.exists()


def test_to_delete_many_jobs_takes_few_queries_to_ask(boss):
    jobs = Job.objects.bulk_create([Job(name="nothing") for _ in range(40)])
    with CaptureQueriesContext(connection) as found:
        act(boss, "delete_selected", *jobs)
    assert len(found) <= 15


@pytest.mark.parametrize("fields_max", [None, 13])
def test_of_all_jobs_of_a_list_those_are_deleted_and_noted_that_it_was_asked_for(
    boss, settings, monkeypatch, fields_max
):
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = fields_max  # A form that names more jobs would be refused.
    monkeypatch.setattr(job_pages, "ACTION_MAX", 3 if fields_max is None else 10_000)
    kept = [Job.objects.create(name="nothing") for _ in range(2)]
    chosen = [Job.objects.create(name="nothing") for _ in range(3)]
    page = act(boss, "delete_selected", kept[0], select_across="1")
    assert said(page) == ["This action deals with 3 jobs at most: the first ones."]
    asked = re.findall(r'name="_selected_action" value="([^"]+)"', page.content.decode())
    assert {*asked} == {str(job.pk) for job in chosen}
    kept.append(Job.objects.create(name="nothing"))  # Meanwhile.
    told = boss.post(
        url("job_changelist"),
        {"action": "delete_selected", "_selected_action": asked, "post": "yes"},
        follow=True,
    )
    assert said(told) == ["Successfully deleted 3 jobs."]
    assert {*Job.objects.all()} == {*kept}
    assert {*LogEntry.objects.values_list("object_id", flat=True)} == {*asked}


def test_a_site_that_takes_the_deletion_of_chosen_rows_away_takes_that_of_jobs_away(boss):
    Job.objects.create(name="nothing")
    admin.site.disable_action("delete_selected")
    try:
        page = boss.get(url("job_changelist")).content
    finally:
        admin.site.add_action(delete_selected)
    assert b"delete_selected" not in page and b"run_now" in page


@pytest.mark.parametrize("verb", ["retry", "retry_from_start", "run_now", "cancel"])
def test_what_was_done_to_some_of_the_chosen_jobs_is_noted_of_these_alone(boss, verb):
    waiting = Job.objects.create(name="nothing", run_after=timezone.now() + datetime.timedelta(days=1))
    failed, complete = ended("FAILED", next_task="tests.workflows.nothing"), ended(next_task="")
    done = {"retry": [failed], "retry_from_start": [failed, complete]}.get(verb, [waiting])
    act(boss, verb, waiting, failed, complete)
    assert {*LogEntry.objects.values_list("object_id", flat=True)} == {str(job.pk) for job in done}


def test_to_run_many_jobs_now_takes_few_queries(boss):
    later = timezone.now() + datetime.timedelta(days=1)
    jobs = Job.objects.bulk_create([Job(name="nothing", run_after=later) for _ in range(40)])
    with CaptureQueriesContext(connection) as ran:
        boss.post(url("job_changelist"), {"action": "run_now", "_selected_action": [job.pk for job in jobs]})
    assert not Job.objects.exclude(run_after=None, staged=True).exists()
    assert (
        len([one for one in ran if one["sql"].startswith("UPDATE") and "django_dbq_job" in one["sql"]]) <= 2
    )


def test_what_was_done_stands_in_the_history_of_the_job(boss):
    job = Job.objects.create(name="nothing")
    boss.post(url("job_change", job.pk), {"verb": "cancel"})
    assert "Cancel." in boss.get(url("job_history", job.pk)).content.decode()


def test_what_was_done_in_any_list_stands_in_the_one_history_of_the_job(boss):
    job = ended("FAILED")
    act(boss, "retry", job, page="failedjob_changelist")
    boss.post(url("failedjob_change", job.pk), {"verb": "cancel"})
    for page in ("job", "failedjob"):
        history = boss.get(url(f"{page}_change", job.pk)).context["history_url"]
        noted = [entry.get_change_message() for entry in boss.get(history).context["action_list"]]
        assert sorted(noted) == ["Cancel.", "Retry from the failed task."]


# Who may.


@pytest.mark.parametrize("page", ["job", "successfuljob", "failedjob", "queuedjob"])
def test_who_may_only_view_sees_and_does_nothing(client, page):
    browser = browser_of(client, "view_job")
    job = Job.objects.create(name="nothing")
    ended(), ended("FAILED")
    response = browser.get(url(f"{page}_changelist"))
    assert response.status_code == 200
    assert b'name="action"' not in response.content
    assert b'name="verb"' not in browser.get(url(f"{page}_change", job.pk)).content
    assert browser.post(url(f"{page}_change", job.pk), {"verb": "cancel"}).status_code == 403
    act(browser, "cancel", job, page=f"{page}_changelist")
    assert browser.post(url(f"{page}_delete", job.pk), {"post": "yes"}).status_code == 403
    job.refresh_from_db()
    assert job.state == "NEW"


def test_who_may_change_does_not_delete(client):
    browser = browser_of(client, "change_job")
    job = Job.objects.create(name="nothing")
    assert b"delete_selected" not in browser.get(url("job_changelist")).content
    assert b'name="verb"' in browser.get(url("job_change", job.pk)).content
    act(browser, "delete_selected", job, post="yes")
    assert Job.objects.filter(pk=job.pk).exists()


def test_who_may_change_jobs_does_not_pause_their_queues_unless_that_is_allowed(client):
    job = Job.objects.create(name="nothing")
    browser = browser_of(client, "change_job")
    act(browser, "pause_queues", job)
    assert paused_queues() == []
    user = User.objects.get(username="ann")
    user.user_permissions.add(Permission.objects.get(codename="add_pausedqueue"))
    act(browser, "pause_queues", job)
    act(browser, "resume_queues", job)
    assert paused_queues() == ["default"]


@pytest.mark.parametrize("page", ["job", "failedjob", "schedule", "group", "workerprocess", "pausedqueue"])
def test_who_has_no_permission_sees_nothing(client, page):
    assert browser_of(client).get(url(f"{page}_changelist")).status_code == 403


def test_nobody_adds_or_edits_a_job(boss):
    job = Job.objects.create(name="nothing")
    assert boss.get(url("job_add")).status_code == 403
    boss.post(url("job_change", job.pk), {"name": "boom", "state": "COMPLETE"})
    job.refresh_from_db()
    assert (job.name, job.state) == ("nothing", "NEW")


# Schedules.


def form(**values):
    return {
        "name": "",
        "path": "nothing",
        "args": "[]",
        "kwargs": "{}",
        "workspace": "{}",
        "queue_name": "",
        "kind": "daily",
        "minutes": "",
        "cron": "",
        "time_zone": "",
        "repeats": "-1",
        "date_keyword": "",
        "next_run_0": "2030-03-30",
        "next_run_1": "01:30:00",
        "enabled": "on",
        "catch_up": "on",
        **values,
    }


def preview(response):
    return response.context["preview"]["slots"]


def test_the_next_five_runs_are_shown_in_the_zone_before_anything_is_saved(boss):
    response = boss.post(url("schedule_add"), form(time_zone="Europe/Rome", _preview="1"))
    assert preview(response) == [
        "Sat 2030-03-30 02:30:00 CET",
        "Sun 2030-03-31 03:30:00 CEST",  # An hour that this day does not have.
        "Mon 2030-04-01 02:30:00 CEST",
        "Tue 2030-04-02 02:30:00 CEST",
        "Wed 2030-04-03 02:30:00 CEST",
    ]
    assert not Schedule.objects.exists()


def test_a_schedule_is_added_and_shown_with_its_next_runs(boss):
    response = boss.post(url("schedule_add"), form(name="Nightly", kind="cron", cron="0 6 * * 1-5"))
    assert response.status_code == 302
    made = Schedule.objects.get()
    assert (made.name, made.path, made.call) == ("Nightly", "nothing", None)
    assert preview(boss.get(url("schedule_change", made.pk)))[0] == "Mon 2030-04-01 06:00:00 UTC"


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"kind": "cron", "cron": "0 6 * * 9"}, "cron", "column 9"),
        ({"kind": "minutes"}, "minutes", "From 1"),
        ({"path": "nothink"}, "path", "not open"),
        ({"path": "os.system", "args": '["true"]'}, "path", "API_FUNCTIONS"),
        ({"workspace": "["}, "workspace", "valid JSON"),
        ({"workspace": "[]"}, "workspace", "an object"),
        ({"path": "os.system"}, "path", "is not open to the schedules of this form"),
        ({"hook": "math.floor"}, "hook", "JOBS"),
        ({"args": "[1]"}, "args", "has a workspace"),
        ({"time_zone": "Mars/Base"}, "time_zone", "valid choice"),
    ],
)
def test_what_could_not_run_is_refused_at_its_field(boss, wrong, field, words):
    for more in ({}, {"_preview": "1"}):
        response = boss.post(url("schedule_add"), form(**wrong, **more))
        assert words in " ".join(response.context["adminform"].form.errors[field])
    assert not Schedule.objects.exists()


@override_settings(DBQ={"API_FUNCTIONS": ["math.floor"]})
@pytest.mark.parametrize("wrong", [{"args": "[1.5, 2]"}, {"args": "[1.5]", "date_keyword": "day"}], ids=str)
def test_arguments_that_the_function_does_not_take_are_refused_at_their_field(boss, wrong):
    for more in ({}, {"_preview": "1"}):
        response = boss.post(url("schedule_add"), form(path="math.floor", **wrong, **more))
        told = " ".join(response.context["adminform"].form.errors["args"])
        assert "does not take these arguments" in told
    assert not Schedule.objects.exists()


@override_settings(DBQ={"API_FUNCTIONS": ["builtins.dict"]})
def test_a_function_that_is_open_can_be_scheduled_with_arguments(boss):
    response = boss.post(
        url("schedule_add"),
        form(path="builtins.dict", kwargs='{"password": "hunter2", "at": {"$": ["date", "2030-01-01"]}}'),
    )
    assert response.status_code == 302, response.context["adminform"].form.errors
    made = Schedule.objects.get()
    assert made.fire(timezone.now() + datetime.timedelta(days=3650)) >= 1
    run_jobs()
    assert Job.objects.first().result["at"] == "2030-01-01"


@override_settings(DBQ={"API_FUNCTIONS": ["math.floor", f"{HERE}.note"]})
def test_a_function_s_hook_is_set_shown_and_taken_away(boss, ended_tasks):
    def change(made, **values):
        response = boss.post(url("schedule_change", made.pk), form(path="math.floor", args="[2.5]", **values))
        made.refresh_from_db()
        return response

    boss.post(url("schedule_add"), form(path="math.floor", args="[1.5]", hook=f"{HERE}.note"))
    made = Schedule.objects.get()
    assert f'value="{HERE}.note"' in boss.get(url("schedule_change", made.pk)).content.decode()
    made.fire(timezone.now() + datetime.timedelta(days=3650))
    run_jobs()
    assert ended_tasks[0].func == "math.floor"
    refused = change(made, hook="os.system")
    assert "API_FUNCTIONS" in str(refused.context["adminform"].form.errors["hook"])
    assert change(made, hook="").status_code == 302
    assert "hook" not in json.loads(made.call)["options"]


@override_settings(
    DBQ={"API_FUNCTIONS": ["math.floor"]},
    Q_CLUSTER={
        "name": "site",
        "timeout": 7,
        "max_attempts": 3,
        "catch_up": False,
        "time_zone": "Europe/Rome",
    },
)
def test_a_function_of_a_project_with_q_cluster_gets_what_schedule_would_give_it(boss):
    django_q.schedule("math.floor", 1.5, schedule_type="D")
    opened = boss.get(url("schedule_add")).context["adminform"].form
    assert (opened["catch_up"].value(), opened["time_zone"].value()) == (False, "Europe/Rome")
    assert "site" in opened.fields["queue_name"].help_text
    boss.post(url("schedule_add"), form(path="math.floor", args="[1.5]"))
    boss.post(url("schedule_add"), form(path="math.floor", args="[1.5]", queue_name="other"))
    code, added, other = Schedule.objects.order_by("pk")
    assert (added.call, added.queue_name, other.queue_name) == (code.call, "site", "other")
    assert json.loads(added.call)["options"]["timeout_seconds"] == 7


def test_a_schedule_that_fails_and_one_that_runs_once_are_told_in_the_list(boss):
    failing = Schedule.objects.create(path="nothing", kind="minutes", minutes=1)
    for _ in range(3):
        failing.fail(ValueError("token=hunter2 <b>"), timezone.now(), pause_seconds=60, most=5)
    Schedule.objects.create(path="nothing", kind="once")
    page = boss.get(url("schedule_changelist")).content.decode()
    assert "could not run (3)" in page and "ValueError: token=******** &lt;b&gt;" in page
    assert "every minute<" in page and "no end" in page and page.count("no end") == 1


@override_settings(DBQ={"API_FUNCTIONS": ["builtins.dict"]})
def test_a_secret_in_the_form_is_stars_and_stays_what_it_was(boss):
    made = Schedule.of_call("builtins.dict", kwargs={"password": "hunter2", "n": 1})
    made.save()
    page = boss.get(url("schedule_change", made.pk))
    assert "hunter2" not in page.content.decode()
    shown = json.loads(page.context["adminform"].form["kwargs"].value())
    response = boss.post(
        url("schedule_change", made.pk), form(path="builtins.dict", kwargs=json.dumps({**shown, "n": 2}))
    )
    assert response.status_code == 302
    made.refresh_from_db()
    assert json.loads(made.call)["kwargs"] == {"password": "hunter2", "n": 2}


@override_settings(DBQ={"API_FUNCTIONS": ["builtins.dict", "builtins.print"]})
def test_another_function_is_not_given_the_secret_that_the_form_does_not_show(boss):
    made = Schedule.of_call("builtins.dict", kwargs={"password": "hunter2"})
    made.save()
    masked = {"kwargs": '{"password": "********"}'}
    for more in ({}, {"_preview": "1"}):
        told = boss.post(url("schedule_change", made.pk), form(path="builtins.print", **masked, **more))
        assert "type it anew" in str(told.context["adminform"].form.errors["kwargs"])
    made.refresh_from_db()
    assert (made.path, json.loads(made.call)["kwargs"]) == ("builtins.dict", {"password": "hunter2"})
    anew = {"kwargs": '{"sep": "hunter3"}'}
    assert boss.post(url("schedule_change", made.pk), form(path="builtins.print", **anew)).status_code == 302
    made.refresh_from_db()
    assert (made.path, json.loads(made.call)["kwargs"]) == ("builtins.print", {"sep": "hunter3"})


def test_another_job_is_not_given_the_secret_that_the_form_does_not_show(boss):
    made = Schedule.objects.create(path="nothing", kind="daily", workspace={"password": "hunter2"})
    masked = {"workspace": '{"password": "********"}'}
    told = boss.post(url("schedule_change", made.pk), form(path="boom", **masked))
    assert "type it anew" in str(told.context["adminform"].form.errors["workspace"])
    assert boss.post(url("schedule_change", made.pk), form(kind="weekly", **masked)).status_code == 302
    made.refresh_from_db()
    assert (made.path, made.kind, made.workspace) == ("nothing", "weekly", {"password": "hunter2"})


@override_settings(DBQ={"API_FUNCTIONS": ["math.floor"]})
def test_a_call_whose_result_keeps_its_type_still_does_with_other_arguments(boss):
    made = django_q.schedule("math.floor", 1.5, schedule_type="D")
    boss.post(url("schedule_change", made.pk), form(path="math.floor", args="[2.5]"))
    made.refresh_from_db()
    assert {"args": [2.5], "typed": True}.items() <= json.loads(made.call).items()


def test_a_form_that_was_open_while_a_worker_fired_does_not_set_the_schedule_back(boss):
    first = timezone.now().replace(microsecond=123456) - datetime.timedelta(minutes=5)
    made = Schedule.objects.create(path="nothing", kind="hourly", next_run=first, repeats=5)
    sent = form(name="renamed", kind="hourly")
    opened = boss.get(url("schedule_change", made.pk)).context["adminform"].form
    for name in ("next_run", "repeats"):
        inputs = re.findall(r'<input[^>]* name="([^"]+)"[^>]*? value="([^"]*)"', str(opened[name]))
        sent |= dict(inputs)
    assert get_store("default").fire().jobs == 1
    fired = Schedule.objects.get()
    assert boss.post(url("schedule_change", made.pk), sent).status_code == 302
    made.refresh_from_db()
    assert (made.name, made.next_run, made.repeats) == ("renamed", fired.next_run, 4)
    boss.post(url("schedule_change", made.pk), {**sent, "repeats": "7"})
    made.refresh_from_db()
    assert (made.next_run, made.repeats) == (fired.next_run, 7)


def test_a_function_that_code_scheduled_keeps_its_arguments(boss):
    made = Schedule.of_call("os.getcwd")
    made.save()
    assert (
        boss.post(url("schedule_change", made.pk), form(path="os.getcwd", kind="weekly")).status_code == 302
    )
    made.refresh_from_db()
    assert made.kind == "weekly"
    refused = boss.post(url("schedule_change", made.pk), form(path="os.getcwd", args="[1]"))
    assert "API_FUNCTIONS" in str(refused.context["adminform"].form.errors["path"])


@pytest.mark.parametrize("change", [{"date_keyword": "day"}, {"queue_name": "other"}], ids=str)
@pytest.mark.parametrize("opened", [[], ["builtins.dict"]], ids=["closed", "open"])
def test_what_a_function_is_given_and_where_it_runs_is_changed_only_where_it_is_open(boss, change, opened):
    ((name, value),) = change.items()
    made = Schedule.of_call("builtins.dict", kwargs={"day": "the first"}, queue_name="own")
    made.save()
    before = Schedule.objects.filter(pk=made.pk).values().get()
    sent = form(path="builtins.dict", kwargs='{"day": "the first"}', **{"queue_name": "own", **change})
    with override_settings(DBQ={"API_FUNCTIONS": opened}):
        shown = boss.get(url("schedule_change", made.pk)).context["adminform"].form[name]
        response = boss.post(url("schedule_change", made.pk), sent)
    made.refresh_from_db()
    if opened:
        assert "readonly" not in str(shown)
        assert (response.status_code, getattr(made, name)) == (302, value)
        assert made.job(timezone.now()).name == "builtins.dict", "its signature holds"
    else:
        assert "readonly" in str(shown)
        assert "API_FUNCTIONS" in str(response.context["adminform"].form.errors[name])
        assert Schedule.objects.filter(pk=made.pk).values().get() == before


def test_a_schedule_that_somebody_else_wrote_is_not_signed_by_saving_it(boss):
    made = Schedule.of_call("os.system", ["true"])
    made.save()
    Schedule.objects.filter(pk=made.pk).update(call=made.call.replace("true", "evil"))
    told = boss.post(url("schedule_change", made.pk), form(path="os.system", args='["evil"]'), follow=True)
    assert "its signature does not hold" in said(told)[0]
    made.refresh_from_db()
    with pytest.raises(Exception, match="does not hold"):
        made.job(timezone.now())


def test_schedules_are_listed_with_their_last_runs_in_few_queries(boss):
    for number in range(10):
        made = Schedule.objects.create(path="nothing", name=f"s{number}", kind="daily")
        ScheduleRun.objects.create(schedule=made, slot=timezone.now(), job=ended())
    with CaptureQueriesContext(connection) as found:
        page = boss.get(url("schedule_changelist"))
    assert page.content.decode().count("COMPLETE") >= 10
    assert len(found) <= QUERIES_MAX


def test_to_delete_a_schedule_of_many_runs_takes_few_queries_and_lines_to_ask(boss):
    made = Schedule.objects.create(path="nothing", kind="hourly")
    now = timezone.now()
    ScheduleRun.objects.bulk_create(
        ScheduleRun(schedule=made, slot=now + datetime.timedelta(hours=number)) for number in range(100)
    )
    with CaptureQueriesContext(connection) as found:
        page = boss.get(url("schedule_delete", made.pk)).content.decode()
    assert len(found) <= QUERIES_MAX
    assert "Slots that were fired: 100" in page and page.count(f"{now.year}-") < 10
    boss.post(url("schedule_delete", made.pk), {"post": "yes"})
    assert not Schedule.objects.exists() and not ScheduleRun.objects.exists()


def test_schedules_are_disabled_and_enabled(boss):
    made = Schedule.objects.create(path="nothing", kind="daily")
    for action, enabled in (("disable", False), ("enable", True)):
        act(boss, action, made, page="schedule_changelist")
        made.refresh_from_db()
        assert made.enabled is enabled


def test_a_job_of_a_schedule_is_created_now_and_its_slots_stay_as_they_are(boss):
    later = timezone.now() + datetime.timedelta(days=1)
    workspace = {"to": "ann", "password": "hunter2"}
    made = Schedule.objects.create(
        path="nothing", name="nightly", kind="daily", next_run=later, repeats=2, workspace=workspace
    )
    before = Schedule.objects.filter(pk=made.pk).values().get()
    assert said(act(boss, "create_job", made, page="schedule_changelist")) == ["Jobs created: 1."]
    job = Job.objects.get()
    assert (job.name, job.label, job.workspace, job.run_after) == ("nothing", "nightly", workspace, None)
    assert Schedule.objects.filter(pk=made.pk).values().get() == before
    assert not ScheduleRun.objects.exists()
    assert "A job was created." in boss.get(url("schedule_history", made.pk)).content.decode()


@pytest.mark.parametrize("opened", [[], ["math.floor"]], ids=["closed", "open"])
def test_a_job_of_a_function_is_created_now_only_where_that_is_open(boss, opened):
    made = Schedule.of_call("math.floor", [1.5])
    made.save()
    with override_settings(DBQ={"API_FUNCTIONS": opened}):
        told = said(act(boss, "create_job", made, page="schedule_changelist"))
    assert told[-1] == f"Jobs created: {len(opened)}."
    assert [job.name for job in Job.objects.all()] == opened
    assert "'math.floor' is not open to the schedules of this form" in told[0] or opened


def test_a_schedule_that_makes_no_job_keeps_no_other_from_it(boss):
    jobs = {"nothing": NOTHING, "leak": {**NOTHING, "creation_hook": "tests.workflows.leak"}}
    with override_settings(JOBS=jobs):
        made = [Schedule.objects.create(path=name, kind="daily") for name in ("leak", "nothing")]
        told = said(act(boss, "create_job", *made, page="schedule_changelist"))
    assert told == ["leak: ValueError: cannot log in with password=********", "Jobs created: 1."]
    assert [job.name for job in Job.objects.all()] == ["nothing"]


def test_what_jobs_declares_can_only_be_switched_off(boss):
    made = Schedule.objects.create(path="nothing", kind="daily", declared="nothing")
    assert boss.post(url("schedule_change", made.pk), form(path="boom", enabled="")).status_code == 302
    made.refresh_from_db()
    assert (made.path, made.enabled) == ("nothing", False)


def test_who_may_view_schedules_changes_none(client):
    made = Schedule.objects.create(path="nothing", kind="daily")
    browser = browser_of(client, "view_schedule")
    assert browser.get(url("schedule_change", made.pk)).status_code == 200
    act(browser, "create_job", made, page="schedule_changelist")
    assert not Job.objects.exists()
    for more in ({}, {"_preview": "1"}):
        assert browser.post(url("schedule_change", made.pk), form(**more)).status_code == 403


# Groups and workers.


def test_groups_are_listed_and_tell_how_far_they_have_come(boss):
    group = Group.latest_group_by_reference("month end")
    schedule("builtins.len", [[1]], group=group)
    assert b'alt="False"' in boss.get(url("group_changelist")).content
    run_jobs()
    assert b'alt="True"' in boss.get(url("group_changelist")).content
    assert b"1 of 1 jobs complete" in boss.get(url("group_change", group.pk)).content


def test_workers_are_listed_with_what_they_hold(boss):
    now = timezone.now()
    alive = {"host": "h", "pid": 1, "queue_names": ["default"], "threads": 2, "started": now}
    WorkerProcess.objects.create(name="one", seen=now, **alive)
    WorkerProcess.objects.create(name="two", seen=now - datetime.timedelta(hours=1), **alive)
    held = Job.objects.create(name="nothing")
    put(held, state="PROCESSING", claimed_by="one", lease_until=now)
    with CaptureQueriesContext(connection) as found:
        page = boss.get(url("workerprocess_changelist"))
    assert len(found) <= QUERIES_MAX
    assert [(w.name, w.held) for w in page.context["cl"].result_list] == [("one", 1), ("two", None)]
    assert page.content.count(b'alt="True"') == page.content.count(b'alt="False"') == 1
    assert boss.get(url("workerprocess_change", "one")).status_code == 200


def test_the_front_page_of_the_admin_has_all_of_it(boss):
    page = boss.get(reverse("admin:index")).content.decode()
    for name in (
        "Jobs",
        "Successful jobs",
        "Failed jobs",
        "Queued jobs",
        "Schedules",
        "Groups",
        "Paused queues",
    ):
        assert f">{name}<" in page, name

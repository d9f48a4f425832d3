"""What the original's README and page of examples show: mail, signals, reports, an index, groups, pools."""

from __future__ import annotations

import datetime
import math
import sys

import django
import freezegun
import pytest
from django.contrib.auth import get_user_model
from django.core import mail
from django.db.models.signals import post_delete, post_save, pre_save
from django.test import RequestFactory
from django.utils import timezone

from django_dbq import Job
from django_dbq.compat.django_q import (
    Iter,
    Schedule,
    async_iter,
    async_task,
    delete_group,
    fetch,
    result,
    result_group,
    schedule,
)
from django_dbq.testing import run_jobs
from tests.models import Row

pytestmark = pytest.mark.django_db

HERE = "tests.django_q.test_examples"


@pytest.fixture
def users():
    model = get_user_model()
    return [
        model.objects.create(username=name, email=f"{name}@example.com") for name in ("ann", "bob", "cid")
    ]


# The README.


def print_result(task):
    print(task.result)


def test_readme_a_task_by_path_or_by_reference_and_a_hook(capsys):
    by_path, by_reference = async_task("math.copysign", 2, -2), async_task(math.copysign, 2, -2)
    async_task("math.modf", 2.5, hook=f"{HERE}.print_result")
    assert result(by_path) is None
    run_jobs()
    assert result(by_path) == result(by_reference) == -2
    assert capsys.readouterr().out == "(0.5, 2.0)\n"


def test_readme_schedules(capsys):
    with freezegun.freeze_time("2026-01-01 18:00") as clock:
        schedule("math.copysign", 2, -2, hook=f"{HERE}.print_result", schedule_type=Schedule.DAILY)
        every_five = schedule(
            "math.hypot", 3, 4, schedule_type=Schedule.MINUTES, minutes=5, repeats=24, next_run=timezone.now()
        )
        by_cron = schedule("math.hypot", 3, 4, schedule_type=Schedule.CRON, cron="0 22 * * 1-5")
        for _ in range(30):
            run_jobs()
            clock.tick(datetime.timedelta(minutes=10))
    assert capsys.readouterr().out == "-2.0\n"
    assert (every_five.runs.count(), every_five.result()) == (24, 5.0)
    assert (by_cron.runs.count(), by_cron.result()) == (1, 5.0)


# Emails.


def welcome_mail(user):
    async_task("django.core.mail.send_mail", "Welcome", "To our site", "from@example.com", [user.email])
    schedule(
        "django.core.mail.send_mail",
        *("Follow up", "Some tips", "from@example.com", [user.email]),
        schedule_type=Schedule.ONCE,
        next_run=timezone.now() + datetime.timedelta(hours=1),
    )


def test_a_welcome_mail_goes_out_now_and_a_follow_up_in_an_hour(users):
    with freezegun.freeze_time("2026-01-01 12:00") as clock:
        welcome_mail(users[0])
        assert mail.outbox == []
        run_jobs()
        assert [(message.subject, message.to) for message in mail.outbox] == [
            ("Welcome", ["ann@example.com"])
        ]
        clock.tick(datetime.timedelta(hours=2))
        run_jobs()
        clock.tick(datetime.timedelta(days=400))
        run_jobs()
    assert [message.subject for message in mail.outbox] == ["Welcome", "Follow up"]


# Signals.


def email_changed(sender, instance, **kwargs):
    before = sender.objects.filter(pk=instance.pk).first()
    if before is not None and before.email != instance.email:
        async_task(inform_everyone, instance.pk, instance.email)


def inform_everyone(pk, email):
    """A row is loaded where it is needed; its key is what travels."""
    model = get_user_model()
    name = model.objects.get(pk=pk).username
    for user in model.objects.exclude(pk=pk):
        text = f"Dear {user.username}, {name} has a new address: {email}"
        async_task("django.core.mail.send_mail", "New email", text, "from@example.com", [user.email])


def welcome_new_user(sender, instance, created, **kwargs):
    if created:
        welcome_mail(instance)


@pytest.fixture
def handlers():
    model = get_user_model()
    pre_save.connect(email_changed, sender=model)
    post_save.connect(welcome_new_user, sender=model)
    yield
    pre_save.disconnect(email_changed, sender=model)
    post_save.disconnect(welcome_new_user, sender=model)


def test_a_changed_address_is_told_to_everyone_else(users, handlers):
    users[0].email = "new@example.com"
    users[0].save()
    users[1].save()
    run_jobs()
    assert sorted((message.to[0], message.body[:10]) for message in mail.outbox) == [
        ("bob@example.com", "Dear bob, "),
        ("cid@example.com", "Dear cid, "),
    ]


def test_a_new_user_is_welcomed(handlers):
    get_user_model().objects.create(username="dan", email="dan@example.com")
    run_jobs()
    assert [(message.subject, message.to) for message in mail.outbox] == [("Welcome", ["dan@example.com"])]


# Reports.


def create_report(request):
    async_task(f"{HERE}.create_html_report", request.user.pk, request.GET["of"], hook=f"{HERE}.email_report")


def create_html_report(pk, of):
    if of != "quarter":
        raise ValueError(f"no report of {of}")
    return "We had a great quarter!"


def email_report(task):
    if task.success:
        user = get_user_model().objects.get(pk=task.args[0])
        mail_to = [user.email]
        async_task("django.core.mail.send_mail", "Your report", task.result, "from@example.com", mail_to)
    else:
        async_task("django.core.mail.mail_admins", "Report generation failed", task.result)


def test_a_report_is_made_and_mailed_by_its_hook_and_admins_hear_of_a_failure(users, settings):
    root = "root@example.com"
    settings.ADMINS = [root] if django.VERSION >= (6, 0) else [("Root", root)]
    for of in ("quarter", "century"):
        request = RequestFactory().get("/", {"of": of})
        request.user = users[0]
        create_report(request)
    run_jobs()
    sent, told = sorted(mail.outbox, key=lambda message: message.to != ["ann@example.com"])
    assert (sent.subject, sent.body, sent.to) == (
        "Your report",
        "We had a great quarter!",
        ["ann@example.com"],
    )
    assert told.to == ["root@example.com"] and "ValueError: no report of century" in told.body


# An index, as of Haystack.

INDEX = {}


def index_row(pk):
    row = Row.objects.filter(pk=pk).first()
    if row is None:
        INDEX.pop(pk, None)
    else:
        INDEX[pk] = row.text.split()


def row_changed(sender, instance, **kwargs):
    async_task(index_row, instance.pk, save=False)


def test_an_index_follows_the_rows_without_leaving_results_behind():
    INDEX.clear()
    post_save.connect(row_changed, sender=Row)
    post_delete.connect(row_changed, sender=Row)
    try:
        row = Row.objects.create(text="one two")
        run_jobs()
        assert INDEX[row.pk] == ["one", "two"]
        row.text = "three"
        row.save()
        run_jobs()
        assert INDEX[row.pk] == ["three"]
        Row.objects.all().delete()
        run_jobs()
    finally:
        post_save.disconnect(row_changed, sender=Row)
        post_delete.disconnect(row_changed, sender=Row)
    assert INDEX == {} and not Job.objects.exists()


# Commands.


def test_a_program_and_a_management_command_run_as_tasks():
    task_id = async_task("subprocess.check_output", [sys.executable, "-c", "print('here')"], text=True)
    async_task("django.core.management.call_command", "clearsessions", task_name="clear")
    hourly = schedule(
        "django.core.management.call_command", "check", schedule_type="H", fail_level="CRITICAL"
    )
    run_jobs()
    assert result(task_id) == "here\n"
    assert fetch("clear").func == "django.core.management.call_command"
    assert hourly.last_run() is not None


def test_what_a_program_returned_as_an_object_is_told_to_be_no_result():
    task_id = async_task("subprocess.run", [sys.executable, "-c", ""])
    run_jobs()
    assert "result is a subprocess.CompletedProcess" in result(task_id)


# Groups, and a pool of tasks: estimates of a density (Parzen windows), collated.


def parzen_estimation(samples, point, width):
    inside = [
        all(abs(p - s) / width <= 0.5 for p, s in zip(point, sample, strict=True)) for sample in samples
    ]
    return width, sum(inside) / len(samples) / width ** len(point)


SAMPLES = [(x / 10, y / 10) for x in range(-10, 11) for y in range(-10, 11)]
WIDTHS = [1.0 + n / 50 for n in range(10)]
EXPECTED = [parzen_estimation(SAMPLES, (0, 0), width) for width in WIDTHS]


def test_a_group_of_estimates_is_collated():
    delete_group("parzen", cached=True)
    for width in WIDTHS:
        async_task(parzen_estimation, SAMPLES, (0, 0), width, group="parzen", cached=True)
    run_jobs()
    assert result_group("parzen", count=10, cached=True) == EXPECTED


def test_a_pool_of_estimates_has_one_result():
    task_id = async_iter(parzen_estimation, [(SAMPLES, (0, 0), width) for width in WIDTHS], cached=True)
    run_jobs()
    assert result(task_id, wait=10_000, cached=True) == EXPECTED
    pool = Iter(parzen_estimation)
    for width in WIDTHS:
        pool.append(SAMPLES, (0, 0), width)
    pool.run()
    run_jobs()
    assert pool.result() == EXPECTED

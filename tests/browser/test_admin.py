"""The admin as people use it: Debian's chromium, driven by Playwright, on a server with a real worker.

BROWSER=1 runs these; with SCREENSHOTS=1 they leave the pictures of the documentation in docs/images.
"""

from __future__ import annotations

import datetime
import os

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from django_dbq import Group, Job, schedule
from django_dbq.models import Schedule
from tests.conftest import ROOT
from tests.models import Row

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    # Playwright keeps an event loop in this thread, in which the tests use the database all the same.
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, live_server):
    """A page of somebody who has logged in, by the form, as people do."""
    User.objects.create_superuser("boss", password="open sesame")
    context = chromium.new_context(base_url=live_server.url, viewport=DESK)
    page = context.new_page()
    page.goto("/admin/")
    page.fill("#id_username", "boss")
    page.fill("#id_password", "open sesame")
    page.click("text=Log in")
    page.wait_for_selector("text=Site administration")
    yield page
    context.close()


@pytest.fixture
def plain_page(chromium, page, live_server):
    """The same without JavaScript."""
    context = chromium.new_context(
        base_url=live_server.url, java_script_enabled=False, storage_state=page.context.storage_state()
    )
    yield context.new_page()
    context.close()


def failed_job(manage):
    """Return a job that a worker has failed at its second task."""
    job = Job.objects.create(name="mendable", workspace={"customer": 42, "api_key": "hunter2"}, priority=5)
    assert manage("worker", "--burst").wait() == 0
    job.refresh_from_db()
    assert job.state == "FAILED"
    return job


def picture(page, name, **options):
    if os.environ.get("SCREENSHOTS"):
        page.screenshot(path=ROOT / f"docs/images/{name}.png", **options)


def test_a_failed_job_is_found_mended_retried_and_seen_to_complete(page, manage):
    job = failed_job(manage)
    Job.objects.create(name="nothing")

    page.click("#content-main >> text='Jobs'")
    page.click("#changelist-filter >> text='FAILED'")
    page.wait_for_url("**/?state=FAILED")
    assert page.locator("#result_list tbody tr").count() == 1
    page.click("#result_list >> text=mendable")
    assert page.locator(".dbq-timeline > li").count() == 3
    assert "the printer does not answer" in page.inner_text(".dbq-timeline")
    traceback = page.locator("details", has_text="Traceback").first
    assert not traceback.locator("pre").is_visible()
    traceback.locator("summary").click()
    assert "ConnectionError" in traceback.locator("pre").inner_text()
    assert "hunter2" not in page.content()

    Row.objects.create(text="mended")
    manage("worker")
    page.click("text=Retry from the failed task")
    page.wait_for_selector("text=Retry from the failed task: done.")
    for _ in range(600):
        if "COMPLETE" in page.inner_text("h1"):
            break
        page.wait_for_timeout(100)
        page.reload()
    assert "COMPLETE" in page.inner_text("h1")
    job.refresh_from_db()
    assert job.workspace == {"customer": 42, "api_key": "hunter2", "count": 2, "printed": True}
    # The first task did not run again.
    tasks = [heading.split()[0] for heading in page.locator(".dbq-timeline h3").all_inner_texts()]
    assert [task.rpartition(".")[2] for task in tasks] == ["count", "unless_mended", "unless_mended", "count"]


def test_a_schedule_is_previewed_and_created(page):
    page.goto("/admin/django_dbq/schedule/add/")
    page.fill("#id_name", "Every workday")
    page.fill("#id_path", "nothing")
    page.select_option("#id_kind", "cron")
    page.fill("#id_cron", "0 6 * * 1-9")
    page.select_option("#id_time_zone", "Europe/Rome")
    page.fill("#id_next_run_0", "2030-03-29")
    page.fill("#id_next_run_1", "00:00:00")
    page.click("text=Preview the next 5 runs")
    assert "column 9" in page.inner_text(".errorlist")
    page.fill("#id_cron", "0 6 * * 1-5")
    page.click("text=Preview the next 5 runs")
    page.wait_for_selector(".dbq-preview li")  # A click does not wait for the page that it asks for.
    assert page.locator(".dbq-preview li").all_inner_texts()[:2] == [
        "Fri 2030-03-29 06:00:00 CET",
        "Mon 2030-04-01 06:00:00 CEST",
    ]
    assert not Schedule.objects.exists()
    page.click("text='Save'")
    page.wait_for_selector("text=was added successfully")
    assert Schedule.objects.get().next_run.isoformat() == "2030-03-29T05:00:00+00:00"


def test_all_of_it_works_without_javascript(plain_page, manage):
    job = failed_job(manage)
    plain_page.goto("/admin/django_dbq/failedjob/")
    plain_page.check("#result_list input[name=_selected_action]")
    plain_page.select_option("select[name=action]", "cancel")
    plain_page.select_option("select[name=action]", "retry")
    plain_page.click("button[name=index]")
    plain_page.wait_for_selector("text=Retry from the failed task: 1 job.")
    job.refresh_from_db()
    assert job.state == "READY"
    plain_page.goto(f"/admin/django_dbq/job/{job.pk}/change/")
    plain_page.click("summary >> text=Traceback")
    assert "ConnectionError" in plain_page.inner_text("details[open] pre")
    plain_page.click("text='Cancel'")
    plain_page.wait_for_selector("text=Cancel: done.")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_no_page_is_wider_than_its_window(page, manage, theme, size):
    job = failed_job(manage)
    put_some_jobs()
    form = {"name": "Every workday", "path": "nothing", "kind": "cron", "cron": "0 6 * * 1-5"}
    made = Schedule.objects.create(**form, time_zone="Europe/Rome")
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size(size)
    pages = {
        "jobs": "/admin/django_dbq/job/",
        "failed-job": f"/admin/django_dbq/job/{job.pk}/change/",
        "schedule": f"/admin/django_dbq/schedule/{made.pk}/change/",
        "schedules": "/admin/django_dbq/schedule/",
        "workers": "/admin/django_dbq/workerprocess/",
    }
    for name, address in pages.items():
        page.goto(address)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], f"{name}: {width} pixels"
        if name in ("jobs", "failed-job", "schedule"):
            kind = theme if size is DESK else f"phone-{theme}"
            picture(page, f"admin-{name}-{kind}")


def put_some_jobs():
    """Leave jobs of every kind, for the pictures to show."""
    now = timezone.now()
    group = Group.latest_group_by_reference("month end")
    schedule("builtins.len", [["a", "b"]], group=group)
    Job.objects.create(name="five", priority=3, title="Invoices of May")
    Job.objects.create(name="nothing", run_after=now + datetime.timedelta(hours=6))
    for number in range(8):
        job = Job.objects.create(name=("five", "other_queue")[number % 2])
        began = now - datetime.timedelta(seconds=number**3 + 0.2)
        Job.objects.filter(pk=job.pk).update(state="COMPLETE", attempt=1, started=began, finished=now)
    running = Job.objects.create(name="five", title="Thumbnails")
    Job.objects.filter(pk=running.pk).update(
        state="PROCESSING",
        attempt=1,
        claimed_by="one",
        started=now,
        lease_until=now + datetime.timedelta(days=1),
    )

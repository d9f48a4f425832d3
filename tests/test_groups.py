"""Groups: who may join, when the final job runs, when the reference is free again, how far it has come."""

from __future__ import annotations

import datetime

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.utils import timezone

from django_dbq import Job, TaskRun, deschedule, schedule
from django_dbq.exceptions import GroupError
from django_dbq.models import Group
from django_dbq.models.group import REFERENCE_MAX
from django_dbq.store import get_store
from django_dbq.testing import run_jobs
from tests.conftest import wait_until
from tests.isolation.sessions import Session
from tests.models import Row
from tests.store.helpers import claim, record, together, transition

pytestmark = pytest.mark.django_db

IN_AN_HOUR = datetime.timedelta(hours=1)


def write(text):
    Row.objects.create(text=text)


def fail():
    raise ValueError("uh oh")


def fail_once(text):
    """Fail while the test has not written "mended"."""
    if not Row.objects.filter(text="mended").exists():
        raise ValueError("uh oh")
    write(text)


def texts():
    return [*Row.objects.order_by("pk").values_list("text", flat=True)]


def state(job):
    return Job.objects.values_list("state", flat=True).get(pk=job.pk)


def states(group):
    return sorted(group.jobs.values_list("state", flat=True))


def a_group(count=2, reference="x"):
    """Create a group of `count` jobs, with a final one; return it, the final one, and them."""
    with transaction.atomic():
        jobs = [schedule(write, [str(number)], group=reference) for number in range(count)]
        group = Group.objects.get(newest=reference)
        final = schedule(write, ["final"], priority=100)
        group.on_completion(final)
    return group, final, jobs


# Joining.


def test_jobs_join_by_reference_and_by_group():
    by_reference = schedule(write, ["a"], group="x")
    group = by_reference.group
    by_group = schedule(write, ["b"], group=group)
    assert [job.group for job in (by_reference, by_group)] == [group, group]
    assert (group.reference, {*group.jobs.all()}) == ("x", {by_reference, by_group})
    assert schedule(write, ["c"]).group is None


def test_other_references_are_other_groups():
    assert schedule(write, ["a"], group="x").group != schedule(write, ["a"], group="y").group


def test_a_group_is_made_with_a_description():
    group = Group.objects.create(reference="x", description="what for")
    assert Group.latest_group_by_reference("x").description == "what for"
    assert str(group) == "x"


def test_any_job_may_join():
    group = Group.objects.create(reference="x")
    one = Job.objects.create(name="nothing", group=group)
    two, three = Job.objects.bulk_create([Job(name="nothing", group=group), Job(name="nothing")])
    assert {*group.jobs.all()} == {one, two}
    assert three.group is None
    run_jobs()
    with pytest.raises(GroupError, match="has begun"):
        Job.objects.create(name="nothing", group=group)
    with pytest.raises(GroupError, match="has begun"):
        Job.objects.bulk_create([Job(name="nothing"), Job(name="nothing", group=group)])
    assert Job.objects.count() == 3


@pytest.mark.parametrize("reference", ["", "x" * (REFERENCE_MAX + 1)])
def test_a_reference_that_cannot_be_kept_is_refused_before_anything_is_written(reference):
    with pytest.raises(GroupError, match=f"text of 1 to {REFERENCE_MAX} characters"):
        schedule(write, ["a"], group=reference)
    with pytest.raises(GroupError, match=f"text of 1 to {REFERENCE_MAX} characters"):
        Group.objects.create(reference=reference)
    assert not Job.objects.exists() and not Group.objects.exists()


def test_the_longest_reference_is_kept():
    assert schedule(write, ["a"], group="ä" * REFERENCE_MAX).group.reference == "ä" * REFERENCE_MAX


@pytest.mark.parametrize("begun", ["READY", "PROCESSING", "STOPPING", "COMPLETE", "FAILED", "CANCELLED"])
def test_a_group_that_has_begun_takes_in_no_more_and_says_which_job_began(begun):
    group, _, [job, _] = a_group()
    Job.objects.filter(pk=job.pk).update(state=begun)
    for reference in ("x", group):
        with pytest.raises(GroupError, match=rf"'x' has begun \(job {job.pk} is {begun}\)"):
            schedule(write, ["late"], group=reference)
    assert group.jobs.count() == 3


def test_a_group_whose_final_job_is_due_takes_in_no_more():
    group = Group.objects.create(reference="x")
    final = schedule(write, ["final"])
    group.on_completion(final)
    assert get_store("default").wake() == 1
    with pytest.raises(GroupError, match=rf"'x' has begun \(job {final.pk} is READY\)"):
        schedule(write, ["late"], group=group)


def test_a_job_that_a_worker_gave_back_has_not_begun():
    group, _, _ = a_group()
    store = get_store("default")
    store.release(claim(store), worker="one")
    schedule(write, ["more"], group=group)
    assert group.jobs.count() == 4


@pytest.mark.parametrize("gone", [True, False])
def test_a_group_that_is_not_in_the_database_takes_in_nothing(gone):
    group = Group(reference="x")
    if gone:
        group = Group.objects.create(reference="x")
        Group.objects.get().delete()
    else:
        group.pk = 12345
    with pytest.raises(GroupError, match="'x' is not in the database: deleted, or never saved"):
        schedule(write, ["a"], group=group)
    with pytest.raises(GroupError, match="'x' is not in the database"):
        group.on_completion(schedule(write, ["final"]))
    assert Job.objects.count() == 1


def test_a_group_goes_with_the_transaction_that_began_it():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        schedule(write, ["a"], group="x")
        1 / 0  # noqa: B018
    assert not Group.objects.exists() and not Job.objects.exists()
    assert schedule(write, ["a"], group="x").group.newest == "x"


def test_a_job_that_cannot_be_called_begins_no_group():
    with pytest.raises(ValueError, match="does not import"):
        schedule("no.such.function", group="x")
    assert not Group.objects.exists()


# The final job.


def test_the_final_job_runs_last_though_it_is_the_most_urgent():
    group, final, _ = a_group(count=5)
    assert state(final) == "WAITING" and final.state == "WAITING"
    assert run_jobs() == 6
    assert sorted(texts()[:5]) == ["0", "1", "2", "3", "4"] and texts()[5:] == ["final"]
    assert group.has_completed()


def test_it_belongs_to_the_group():
    group, final, _ = a_group()
    group.refresh_from_db()
    assert group.final == final and final.group == group
    assert group.jobs.count() == 3


@pytest.mark.parametrize("end", ["COMPLETE", "CANCELLED"])
def test_set_when_the_others_have_ended_it_is_due_at_once(end):
    job = schedule(write, ["a"], group="x")
    job.cancel() if end == "CANCELLED" else run_jobs()
    assert state(job) == end
    with transaction.atomic():
        final = schedule(write, ["final"])
        job.group.on_completion(final)
    assert run_jobs() == 1
    assert texts()[-1] == "final"


def test_cancelled_and_descheduled_jobs_count_as_ended():
    group, _, jobs = a_group(count=3)
    jobs[0].cancel()
    assert deschedule(write, ["1"]) == 1
    assert run_jobs() == 2
    assert states(group) == ["CANCELLED", "CANCELLED", "COMPLETE", "COMPLETE"] and texts() == ["2", "final"]


def test_a_failed_job_keeps_it_waiting_and_its_retry_frees_it():
    job = schedule(fail_once, ["mended job"], meta={"retry": {"max_attempts": 1}}, group="x")
    schedule(write, ["other"], group="x")
    final = schedule(write, ["final"])
    job.group.on_completion(final)
    assert run_jobs() == 2
    assert (state(job), state(final), job.group.has_completed()) == ("FAILED", "WAITING", False)
    write("mended")
    job.refresh_from_db()
    assert job.retry()
    assert run_jobs() == 2
    assert texts() == ["other", "mended", "mended job", "final"]


def test_deleting_a_failed_job_frees_it():
    job = schedule(fail, meta={"retry": {"max_attempts": 1}}, group="x")
    final = schedule(write, ["final"])
    job.group.on_completion(final)
    run_jobs()
    assert (state(job), state(final)) == ("FAILED", "WAITING")
    job.delete()
    assert run_jobs() == 1
    assert texts() == ["final"]


def test_a_job_that_is_to_be_tried_again_keeps_it_waiting():
    job = schedule(fail, group="x")
    final = schedule(write, ["final"])
    job.group.on_completion(final)
    run_jobs()
    assert (state(job), state(final)) == ("READY", "WAITING")
    job.cancel()
    run_jobs()
    assert texts() == ["final"]


def test_a_job_that_has_begun_cannot_be_the_final_one():
    job = schedule(write, ["a"], group="x")
    for begun in ("READY", "PROCESSING", "STOPPING", "COMPLETE", "FAILED", "CANCELLED"):
        final = schedule(write, ["final"])
        Job.objects.filter(pk=final.pk).update(state=begun)
        with pytest.raises(GroupError) as raised:
            job.group.on_completion(final)
        assert f"job {final.pk} cannot be the final one of group 'x'" in str(raised.value)
        assert "within one transaction.atomic() block" in str(raised.value)
        assert state(final) == begun
    job.group.refresh_from_db()
    assert job.group.final is None


def test_a_second_final_job_is_refused_also_by_who_does_not_know_of_the_first():
    job = schedule(write, ["a"], group="x")
    unaware = Group.objects.get()
    final, second = schedule(write, ["final"]), schedule(write, ["second"])
    job.group.on_completion(final)
    for group in (job.group, unaware):
        with pytest.raises(GroupError, match=rf"has a final job already, {final.pk} \(WAITING\)"):
            group.on_completion(second)
    assert (state(final), state(second)) == ("WAITING", "NEW")


def test_setting_the_same_final_job_again_changes_nothing():
    group, final, _ = a_group()
    group.on_completion(final)
    run_jobs()
    assert texts()[-1] == "final"


def test_the_final_job_of_one_group_cannot_end_another():
    _, final, _ = a_group(reference="one")
    other = schedule(write, ["a"], group="other").group
    with pytest.raises(GroupError, match=f"{final.pk} is the final one of group 'one' already"):
        other.on_completion(final)
    final.refresh_from_db()
    assert final.group.reference == "one"


def test_once_the_final_job_is_deleted_another_can_be_set():
    group, final, _ = a_group()
    final.delete()
    group.refresh_from_db()
    assert group.final is None
    another = schedule(write, ["another"])
    group.on_completion(another)
    run_jobs()
    assert texts() == ["0", "1", "another"]


def test_a_cancelled_final_job_does_not_run_and_its_group_ends_without_it():
    group, final, _ = a_group()
    assert final.cancel()
    assert state(final) == "CANCELLED"
    assert run_jobs() == 2
    assert group.has_completed()
    assert "final" not in texts()


def test_a_cancelled_final_job_that_is_retried_waits_again():
    _, final, _ = a_group()
    final.cancel()
    assert final.retry()
    assert final.state == "WAITING"
    run_jobs()
    assert texts() == ["0", "1", "final"]


def test_a_failed_final_job_can_be_retried():
    job = schedule(write, ["a"], group="x")
    final = schedule(fail_once, ["final"], meta={"retry": {"max_attempts": 1}})
    job.group.on_completion(final)
    run_jobs()
    assert state(final) == "FAILED" and not job.group.has_completed()
    write("mended")
    assert final.retry() and final.state == "READY"
    run_jobs()
    assert texts() == ["a", "mended", "final"]
    assert job.group.has_completed()


def test_a_final_job_with_a_time_waits_for_both():
    job = schedule(write, ["a"], group="x")
    final = schedule(write, ["final"], run_after=timezone.now() + IN_AN_HOUR)
    job.group.on_completion(final)
    run_jobs()
    assert (texts(), state(final)) == (["a"], "READY")
    Job.objects.filter(pk=final.pk).update(run_after=timezone.now())
    run_jobs()
    assert texts() == ["a", "final"]


# The reference.


def test_the_reference_is_free_for_a_new_group_once_the_old_one_is_done():
    old, _, _ = a_group()
    run_jobs()
    new = schedule(write, ["new"], group="x").group
    assert new != old and new.reference == "x"
    old.refresh_from_db()
    assert (old.newest, new.newest) == (None, "x")
    assert old.jobs.count() == 3 and new.jobs.count() == 1


def test_the_new_group_keeps_the_description():
    group = Group.objects.create(reference="x", description="what for")
    schedule(write, ["a"], group=group)
    run_jobs()
    assert Group.latest_group_by_reference("x").description == "what for"


def test_before_it_is_done_the_reference_is_not_free():
    a_group()
    run_jobs(limit=1)
    with pytest.raises(GroupError, match=r"group 'x' is not done: 1 NEW, 1 WAITING\. Let it end, or cancel"):
        Group.objects.create(reference="x")
    with pytest.raises(GroupError, match="has begun"):
        schedule(write, ["a"], group="x")
    run_jobs()
    assert Group.objects.create(reference="x").newest == "x"


def test_a_failed_job_keeps_the_reference():
    schedule(fail, meta={"retry": {"max_attempts": 1}}, group="x")
    run_jobs()
    with pytest.raises(GroupError, match="not done: 1 FAILED"):
        Group.objects.create(reference="x")


def test_a_group_without_jobs_gives_way():
    empty = Group.objects.create(reference="x")
    new = Group.objects.create(reference="x")
    assert Group.latest_group_by_reference("x") == new != empty


def test_the_newest_group_is_found_and_else_made():
    made = Group.latest_group_by_reference("x")
    assert Group.latest_group_by_reference("x") == made
    schedule(write, ["a"], group=made)
    assert Group.latest_group_by_reference("x") == made
    run_jobs()
    assert Group.latest_group_by_reference("x") != made


def test_a_job_retried_in_a_group_that_is_done_runs_again_and_the_final_one_does_not():
    group, _, [one, _] = a_group()
    run_jobs()
    one.refresh_from_db()
    assert one.retry()
    assert not group.has_completed()
    run_jobs()
    assert texts() == ["0", "1", "final", "0"]
    assert group.has_completed()


def test_a_job_retried_in_an_old_group_leaves_the_new_one_alone():
    _, _, [one, _] = a_group()
    run_jobs()
    new, _, _ = a_group()
    one.refresh_from_db()
    one.retry()
    schedule(write, ["more"], group="x")
    run_jobs()
    assert new.jobs.count() == 4 and texts()[-1] == "final" and texts().count("final") == 2


# Progress.


def timed(group, created_ago, **ended_ago):
    """Make the group, and jobs by their id's name, look as if these seconds had passed."""
    now = timezone.now()
    Group.objects.filter(pk=group.pk).update(created=now - datetime.timedelta(seconds=created_ago))
    for pk, ago in ended_ago.items():
        Job.objects.filter(pk=pk).update(finished=now - datetime.timedelta(seconds=ago))
    group.refresh_from_db()


def test_of_a_group_that_has_not_begun_nothing_tells_the_time():
    progress = a_group()[0].progress()
    assert (progress.total, progress.executed, progress.cancelled, progress.with_errors) == (3, 0, 0, 0)
    assert progress.consumed_seconds is progress.remaining_seconds is None


def test_of_a_group_without_jobs_too():
    progress = Group.objects.create(reference="x").progress()
    assert (progress.total, progress.consumed_seconds, progress.remaining_seconds) == (0, None, None)


def test_half_way_the_pace_so_far_tells_what_remains():
    group, _, jobs = a_group(count=3)
    jobs[0].cancel()
    run_jobs(limit=1)
    timed(group, created_ago=60)
    progress = group.progress()
    assert (progress.total, progress.executed, progress.cancelled, progress.with_errors) == (4, 1, 1, 0)
    assert progress.consumed_seconds == pytest.approx(60, abs=5)
    assert progress.remaining_seconds == pytest.approx(60, abs=5)  # Two of four took as long.


def test_a_group_that_is_done_took_until_its_last_job_ended():
    group, final, [one, two] = a_group()
    run_jobs()
    timed(group, created_ago=100, **{str(one.pk): 70, str(two.pk): 50, str(final.pk): 40})
    progress = group.progress()
    assert (progress.total, progress.executed) == (3, 3)
    assert (progress.consumed_seconds, progress.remaining_seconds) == (pytest.approx(60), 0.0)
    assert group.latest_executed_job() == final


def test_jobs_of_which_an_attempt_failed_count_and_apart_those_that_have_not_succeeded_since():
    job = schedule(fail_once, ["mended job"], meta={"retry": {"delay_seconds": 0}}, group="x")
    failed = schedule(fail, meta={"retry": {"max_attempts": 1}}, group="x")
    group = failed.group
    run_jobs(limit=1)
    Job.objects.filter(pk=job.pk).update(run_after=None)
    while state(failed) != "FAILED":
        run_jobs(limit=1)
    assert (group.progress().with_errors, group.progress().current_errors) == (2, 2)
    write("mended")
    Job.objects.filter(pk=job.pk).update(run_after=None, staged=True)
    run_jobs()
    progress = group.progress()
    assert (progress.executed, progress.with_errors, progress.current_errors) == (1, 2, 1)
    assert progress.latest_completed == Job.objects.get(pk=job.pk).finished
    assert group.latest_executed_job() == job


def test_progress_is_one_query(django_assert_num_queries):
    group, _, _ = a_group()
    with django_assert_num_queries(1):
        group.progress()


def test_nothing_executed_is_none():
    assert a_group()[0].latest_executed_job() is None


def test_has_completed_can_leave_one_out():
    group, final, _ = a_group()
    assert not Group.objects.create(reference="empty").has_completed()
    run_jobs(limit=2)
    assert not group.has_completed()
    assert group.has_completed(exclude=final)


# Deleting.


@pytest.mark.parametrize("how", [Group.delete, lambda group: Group.objects.filter(pk=group.pk).delete()])
def test_a_group_is_deleted_with_its_jobs_and_their_history(how):
    group, _, _ = a_group()
    run_jobs()
    other = schedule(write, ["other"])
    run_jobs()
    assert TaskRun.objects.count() == 4
    how(group)
    assert not Group.objects.exists()
    assert [*Job.objects.all()] == [other]
    assert [run.job for run in TaskRun.objects.all()] == [other]


def test_the_rest_of_a_group_goes_on_without_a_deleted_job():
    _, _, [one, _] = a_group()
    one.delete()
    run_jobs()
    assert texts() == ["1", "final"]


def test_old_jobs_of_a_group_that_is_not_done_stay():
    group, _, _ = a_group()
    run_jobs(limit=1)
    call_command("delete_old_jobs", hours=0)
    assert group.jobs.count() == 3
    run_jobs()
    call_command("delete_old_jobs", hours=0)
    assert not Job.objects.exists()


# At once.


@pytest.mark.django_db(transaction=True)
def test_many_who_begin_a_reference_at_once_get_one_group():
    for number in range(5):
        groups = together(4, lambda _, n=number: Group.latest_group_by_reference(f"x{n}").pk)
        assert len({*groups}) == 1
    assert Group.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_many_who_begin_the_next_group_of_a_reference_at_once_get_one():
    a_group()
    run_jobs()
    jobs = together(4, lambda number: schedule(write, [str(number)], group="x"))
    assert len({job.group_id for job in jobs}) == 1
    assert Group.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_many_who_set_a_final_job_at_once_one_does():
    group = schedule(write, ["a"], group="x").group
    finals = [schedule(write, ["final"]) for _ in range(4)]

    def end(number):
        try:
            Group.objects.get(pk=group.pk).on_completion(finals[number])
            return True
        except GroupError:
            return False

    assert sorted(together(4, end)) == [False, False, False, True]
    group.refresh_from_db()
    assert sorted(map(state, finals)) == ["NEW", "NEW", "NEW", "WAITING"] and state(group.final) == "WAITING"


@pytest.fixture
def other(transactional_db):
    """Another session of the database, that does one step at a time."""
    session = Session("other", lambda: None)
    yield session
    session.close()


def waits(session):
    with connection.cursor() as cursor:
        cursor.execute("SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", [session.pid])
        return cursor.fetchone() == ("Lock",)


class InTransaction:
    """A transaction of a session, step by step."""

    def __init__(self, session):
        self.session = session
        self.block = transaction.atomic()
        session.begin(self.block.__enter__).result(20)

    def do(self, step):
        return self.session.begin(step).result(20)

    def commit(self):
        self.session.begin(lambda: self.block.__exit__(None, None, None)).result(20)

    def roll_back(self):
        error = ZeroDivisionError()
        self.session.begin(lambda: self.block.__exit__(type(error), error, None)).result(20)


@pytest.mark.postgresql
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("after", [None, "a group that is done"])
def test_who_begins_a_reference_waits_for_one_who_has_begun_it(other, committed, after):
    if after:
        a_group()
        run_jobs()
    beginning = InTransaction(other)
    theirs = beginning.do(lambda: schedule(write, ["a"], group="x").group)
    mine = Session("mine", lambda: None)
    try:
        answer = mine.begin(lambda: schedule(write, ["b"], group="x").group)
        wait_until(lambda: waits(mine), "the second waits")
        beginning.commit() if committed else beginning.roll_back()
        assert (answer.result(20) == theirs) == committed
    finally:
        mine.close()
    newest = Group.objects.get(newest="x")
    assert newest.jobs.count() == (2 if committed else 1)


@pytest.mark.postgresql
@pytest.mark.parametrize("committed", [True, False])
def test_a_final_job_does_not_run_before_one_that_is_being_added(other, committed):
    _, final, [job] = a_group(count=1)
    store = get_store("default")
    adding = InTransaction(other)
    added = adding.do(lambda: schedule(write, ["added"], group="x"))
    # Meanwhile the others end.
    [mine] = claim(store)
    record(store, transition(mine, "COMPLETE", next_task=""))
    assert (state(job), store.wake(), state(final)) == ("COMPLETE", 0, "WAITING")
    adding.commit() if committed else adding.roll_back()
    if committed:
        assert store.wake() == 0
        [mine] = claim(store)
        assert mine.id == added.pk
        record(store, transition(mine, "COMPLETE", next_task=""))
    assert (store.wake(), state(final)) == (1, "READY")


@pytest.mark.postgresql
def test_a_job_that_comes_while_the_final_one_is_being_woken_is_refused(other):
    group, final, _ = a_group(count=1)
    store = get_store("default")
    [mine] = claim(store)
    record(store, transition(mine, "COMPLETE", next_task=""))
    waking = InTransaction(other)
    assert waking.do(store.wake) == 1
    late = Session("late", lambda: None)
    try:
        answer = late.begin(lambda: schedule(write, ["late"], group=group))
        wait_until(lambda: waits(late), "it waits for the group")
        waking.commit()
        with pytest.raises(GroupError, match="has begun"):
            answer.result(20)
    finally:
        late.close()
    assert group.jobs.count() == 2 and state(final) == "READY"


@pytest.mark.postgresql
def test_jobs_are_added_to_other_groups_while_one_is_locked(other):
    adding = InTransaction(other)
    adding.do(lambda: schedule(write, ["a"], group="x"))
    with connections["default"].cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
    schedule(write, ["b"], group="y")
    schedule(write, ["c"])
    adding.commit()


@pytest.mark.postgresql
def test_waking_waits_for_nobody_who_deletes_the_final_job(other):
    """Who deletes it locks the job, then the group; waking has the group, and wants the job."""
    group, final, [job] = a_group(count=1)
    job.cancel()
    store = get_store("default")
    deleting = InTransaction(other)
    deleting.do(lambda: list(Job.objects.select_for_update().filter(pk=final.pk)))
    with connections["default"].cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
    assert store.wake() == 0
    deleting.do(lambda: Job.objects.get(pk=final.pk).delete())
    deleting.commit()
    assert store.wake() == 0
    group.refresh_from_db()
    assert group.final is None


@pytest.mark.postgresql
@pytest.mark.parametrize("how", [Job.delete, lambda job: Job.objects.filter(pk=job.pk).delete()])
def test_who_deletes_a_group_and_who_deletes_its_final_job_do_not_block_each_other(other, how):
    group, final, _ = a_group()
    deleting = InTransaction(other)
    deleting.do(lambda: list(Group.objects.select_for_update()))  # As far as `delete` may have come.
    mine = Session("mine", lambda: None)
    try:
        answer = mine.begin(lambda: how(final))
        wait_until(lambda: waits(mine), "it waits for the group")
        deleting.do(lambda: Group.objects.get(pk=group.pk).delete())
        deleting.commit()
        answer.result(20)
    finally:
        mine.close()
    assert not Group.objects.exists() and not Job.objects.exists()


@pytest.mark.postgresql
def test_pruning_passes_over_the_final_job_of_a_group_that_another_has_locked(other):
    group, final, _ = a_group()
    run_jobs()
    store = get_store("default")
    deleting = InTransaction(other)
    deleting.do(lambda: list(Group.objects.select_for_update()))
    with connections["default"].cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
    assert store.discard([final.pk]) == 0
    deleting.do(lambda: Group.objects.get(pk=group.pk).delete())
    deleting.commit()
    assert store.discard([final.pk]) == 0 and not Job.objects.exists()


@pytest.mark.postgresql
def test_a_group_that_is_being_added_to_is_deleted_with_what_was_added(other):
    group, _, _ = a_group()
    adding = InTransaction(other)
    adding.do(lambda: schedule(write, ["added"], group="x"))
    deleting = Session("deleting", lambda: None)
    try:
        answer = deleting.begin(group.delete)
        wait_until(lambda: waits(deleting), "it waits for the group")
        adding.commit()
        answer.result(20)
    finally:
        deleting.close()
    assert not Job.objects.exists() and not Group.objects.exists()


@pytest.mark.postgresql
def test_a_job_of_a_group_that_is_being_deleted_is_refused(other):
    group, _, _ = a_group()
    deleting = InTransaction(other)
    deleting.do(group.delete)
    group = Group.objects.get()
    late = Session("late", lambda: None)
    try:
        answer = late.begin(lambda: schedule(write, ["late"], group=group))
        wait_until(lambda: waits(late), "it waits for the group")
        deleting.commit()
        with pytest.raises(GroupError, match="not in the database: deleted"):
            answer.result(20)
    finally:
        late.close()
    assert not Job.objects.exists()

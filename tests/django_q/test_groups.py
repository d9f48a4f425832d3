"""Groups of tasks by their label, lists of calls, and chains."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_dbq import CallError, Job, results
from django_dbq.compat.django_q import (
    AsyncTask,
    Chain,
    Iter,
    Task,
    async_chain,
    async_iter,
    async_task,
    count_group,
    count_group_cached,
    delete_group,
    delete_group_cached,
    fetch,
    fetch_cached,
    fetch_group,
    fetch_group_cached,
    result,
    result_cached,
    result_group,
    result_group_cached,
)
from django_dbq.testing import run_jobs
from tests.django_q import functions
from tests.django_q.functions import HERE
from tests.models import Row

pytestmark = pytest.mark.django_db


# Labels.


@pytest.fixture
def group():
    for number in range(3):
        async_task(functions.add, number, group="g")
    async_task(functions.fail, group="g")
    async_task(functions.add, 10, group="other")
    run_jobs()
    async_task(functions.add, 9, group="g")
    return "g"


def test_a_groups_ended_tasks_are_told_in_the_order_of_their_creation(group):
    assert result_group(group) == [0, 1, 2]
    assert [task.success for task in fetch_group(group)] == [True, True, True, False]
    assert [task.result for task in fetch_group(group, failures=False)] == [0, 1, 2]
    assert len(result_group(group, failures=True)) == 4
    assert (count_group(group), count_group(group, failures=True)) == (4, 1)
    assert (result_group("none"), fetch_group("none"), count_group("none")) == ([], [], 0)


def test_what_the_original_asks_its_cache_or_its_table_for_is_found_too(group):
    assert result_group_cached(group, False, 0, None, None) == Task.get_result_group(group) == [0, 1, 2]
    everything = fetch_group(group)
    assert fetch_group_cached(group) == Task.get_task_group(group) == everything
    assert Task.get_task_group(group, failures=False) == everything[:3]
    assert len(Task.get_result_group(group, failures=True)) == 4
    assert (count_group_cached(group), Task.get_group_count(group)) == (4, 4)
    assert (count_group_cached(group, failures=True), Task.get_group_count(group, failures=True)) == (1, 1)
    second = everything[1]
    assert result_cached(second.id) == Task.get_result(second.id) == 1
    assert fetch_cached(second.id) == Task.get_task(second.id) == second
    assert (result_cached("none"), Task.get_result("none"), Task.get_task("none")) == (None, None, None)


def test_a_group_that_the_original_has_in_its_cache_is_gone_when_it_is_deleted_there(group):
    assert delete_group_cached(group) is None
    assert (count_group(group), Job.objects.filter(label=group).count()) == (0, 1)
    kept = Job.objects.filter(label="other")
    assert Task.delete_group("other") == 1 and not kept.exists() and Job.objects.count() == 2
    assert Task.delete_group(group, True) == 0


def test_a_group_of_so_many_is_waited_for(group):
    assert result_group(group, count=4) == [0, 1, 2]
    run_jobs()
    assert result_group(group, count=5) == [0, 1, 2, 9]


def test_a_group_of_failures_is_told_in_few_statements(django_assert_max_num_queries):
    for _ in range(20):
        async_task(functions.fail, group="g")
    run_jobs()
    with django_assert_max_num_queries(3):
        assert all("uh oh" in task.result for task in fetch_group("g", count=20))


@pytest.mark.django_db(transaction=True)
def test_a_wait_for_a_group_ends_after_its_time():
    async_task(functions.add, 1, group="g")
    assert result_group("g", wait=30, count=2) == [] and fetch_group("g", wait=30) == []


def test_a_group_is_taken_apart_or_deleted(group):
    assert delete_group(group) == 4
    assert (count_group(group), Job.objects.filter(label="g").count()) == (0, 1)
    assert (delete_group("other", tasks=True), Job.objects.filter(label="other").count()) == (1, 0)
    assert Job.objects.count() == 5


def test_a_task_knows_its_group(group):
    task = fetch_group(group)[0]
    assert (task.group_count(), task.group_count(failures=True), task.group_result()) == (4, 1, [0, 1, 2])
    assert task.group_delete() == 4
    alone = AsyncTask(functions.add, 1)
    alone.run()
    run_jobs()
    assert (alone.fetch().group_count(), alone.fetch().group_delete()) == (0, 0)


@pytest.mark.django_db(databases=["default", "jobs"])
def test_a_task_takes_its_group_apart_in_the_database_that_its_job_is_in():
    for using in ("default", "jobs"):
        Job.objects.using(using).create(name="nothing", label="g")
        run_jobs(database=using)
    task = results.of(Job.objects.using("jobs").get())
    assert (task.group_count(), task.group_delete(tasks=True)) == (1, 1)
    assert (Job.objects.using("default").count(), Job.objects.using("jobs").count()) == (1, 0)


# Lists of calls.


def test_a_list_of_calls_has_one_result_in_the_order_of_its_arguments():
    task_id = async_iter("math.floor", [number + 0.5 for number in range(100)])
    assert result(task_id) is None
    run_jobs()
    assert result(task_id) == list(range(100))
    assert fetch(task_id).success


def test_a_tuple_holds_the_arguments_of_a_call_anything_else_is_the_only_one(ended):
    task_id = async_iter(
        functions.echo, ((1, 2), [3, 4]), x=5, group="g", task_name="n", hook=functions.note, cached=True
    )
    run_jobs()
    assert result(task_id) == [((1, 2), {"x": 5}), (([3, 4],), {"x": 5})]
    assert result("n") == result_group("g")[0] == result(task_id)
    assert [task.id for task in ended] == [task_id]


def test_an_empty_list_of_calls_has_an_empty_result():
    task_id = async_iter(functions.echo, [])
    run_jobs()
    assert result(task_id) == []


def test_a_list_of_calls_fails_with_one_of_them_and_succeeds_once_that_is_retried():
    task_id = async_iter(f"{HERE}.fail_once", [(), ()])
    run_jobs()
    task = fetch(task_id)
    assert not task.success and "of the group failed" in task.result and "ValueError: not yet" in task.result
    assert Job.objects.get(state="FAILED").retry()
    run_jobs()
    assert result(task_id) == ["at last", "at last"]


def test_the_hook_of_a_list_is_told_of_a_call_that_failed_and_of_the_end(ended):
    task_id = async_iter(f"{HERE}.fail_once", [(), ()], ack_failure=True, hook=functions.note)
    run_jobs()
    (failure,) = ended
    assert (failure.func, failure.success, failure.id == task_id) == (f"{HERE}.fail_once", False, False)
    assert Job.objects.get(state="FAILED").retry()
    run_jobs()
    assert [(task.id, task.result) for task in ended[1:]] == [(task_id, ["at last", "at last"])]


def test_a_list_is_told_under_the_name_of_its_function(ended):
    task_id = async_iter("math.floor", [1.5, 2.5], hook=functions.note)
    run_jobs()
    for task in (fetch(task_id), *ended):
        assert (task.func, task.args, task.kwargs, task.result) == ("math.floor", (), {}, [1, 2])


def test_a_number_or_a_uuid_names_a_group_as_its_text_does():
    label = uuid.UUID(int=7)
    for name in (5, label):
        async_task(functions.add, 1, group=name, task_name=name)
    run_jobs()
    assert (result_group(5), result_group("5"), result_group(label), count_group(str(label))) == (
        [1],
        [1],
        [1],
        1,
    )


@pytest.mark.parametrize("items", [[1, {2}], [(1, {2})]])
def test_a_list_of_calls_with_a_bad_one_is_refused_as_a_whole(items):
    with pytest.raises(CallError, match=r"args\[\d\] is a builtins.set"):
        async_iter(functions.echo, items)
    assert not Job.objects.exists()


def test_a_call_that_runs_at_once_leaves_the_groups_of_others_alone():
    with CaptureQueriesContext(connection) as found:
        async_task(functions.add, 1, sync=True)
    assert not [query for query in found if "django_dbq_group" in query["sql"]]


def test_a_list_of_calls_runs_at_once():
    assert result(async_iter(functions.add, [], sync=True)) == []
    assert result(async_iter(functions.add, [1, (2, 3)], sync=True)) == [1, 5]
    with pytest.raises(ValueError, match="uh oh"):
        async_iter(functions.fail, [1, 2], sync=True)


def test_what_a_list_is_made_of_is_kept_until_it_is_whole_though_successes_are_not(settings, ended):
    settings.Q_CLUSTER = {"save_limit": -1}
    kept = async_iter(functions.add, [1, 2, 3], save=True)
    async_iter(functions.add, [4, 5], hook=functions.note)
    run_jobs()
    assert (result(kept), [task.result for task in ended]) == ([1, 2, 3], [[4, 5]])


def test_a_list_of_calls_is_created_in_few_statements(django_assert_max_num_queries):
    with django_assert_max_num_queries(60):
        async_iter(functions.add, range(500))
    assert Job.objects.count() == 501


def test_an_iter_is_put_together_item_by_item():
    calls = Iter("math.copysign", args=[(5, -1)])
    assert [calls.append(1, -1), calls.append(2, -1)] == [2, 3] and calls.result() is None
    calls.run()
    run_jobs()
    assert (calls.result(), calls.fetch().success, calls.length()) == ([-5, -1, -2], True, 3)
    calls.append(3, -1)
    assert calls.result() is None
    assert result(Iter(functions.add, [(1, 2)], sync=True).run()) == [3]
    with pytest.raises(CallError, match="Iter has no function"):
        Iter().run()


# Chains.


def test_a_chain_runs_one_after_the_other():
    links = [
        ("math.copysign", (1, -1)),
        ("math.floor", (1.5,)),
        functions.typed,
        (functions.echo, (), {"x": 1}),
    ]
    group = async_chain(links)
    assert len(links) == 4
    for ended in range(4):
        assert (count_group(group), Job.objects.count()) == (ended, ended + 1)
        run_jobs(limit=1)
    assert result_group(group, count=4) == [-1, 1, functions.typed(), ((), {"x": 1})]


def test_a_chain_stops_at_its_first_failure_and_tells_its_hook(ended):
    group = async_chain(
        [(functions.add, (1,)), functions.fail, (functions.write, ("x",))], hook=functions.note
    )
    run_jobs()
    (task,) = ended
    assert (task.func, task.success, task.group) == (f"{HERE}.fail", False, group)
    assert (result_group(group), count_group(group)) == ([1], 2)
    assert not Row.objects.exists()


def test_a_chain_that_is_through_tells_its_hook_once_and_links_tell_their_own(ended):
    async_chain([(functions.add, (1,), {"hook": functions.note}), (functions.add, (2,))], hook=functions.note)
    run_jobs()
    assert [task.result for task in ended] == [1, 2]


def test_results_pass_along_only_when_asked():
    links = [(functions.add, (1, 2)), (functions.add, (10,)), (functions.echo, ("end",))]
    group = async_chain(links, pass_result=True)
    run_jobs()
    assert result_group(group) == [3, 13, ((13, "end"), {})]
    group = async_chain([(functions.typed,), functions.echo], pass_result=True)
    run_jobs()
    assert result_group(group)[1] == ((functions.typed(),), {})


def test_what_is_not_saved_does_not_break_a_chain():
    group = async_chain(
        [(functions.write, (text,), {"save": False}) for text in "ab"] + [(functions.add, (3,))]
    )
    run_jobs()
    assert sorted(row.text for row in Row.objects.all()) == ["a", "b"]
    assert (result_group(group), Job.objects.count()) == ([3], 1)


def test_a_chain_of_what_is_not_saved_is_over_once_it_is_through():
    chain = Chain([(functions.add, (1,), {"save": False}), (functions.add, (2,))])
    chain.run()
    run_jobs()
    assert chain.result() == [2]  # In a transaction, in which it would refuse to wait.


def test_a_chain_whose_link_was_cancelled_is_over():
    chain = Chain([(functions.add, (1,)), (functions.add, (2,))])
    chain.run()
    run_jobs(limit=1)
    Job.objects.get(state="NEW").cancel()
    assert chain.result() == [1]


def test_a_link_that_runs_twice_is_followed_once():
    async_chain([(functions.add, (1,)), (functions.add, (2,))])
    run_jobs(limit=1)
    assert Job.objects.get(state="COMPLETE").retry()
    run_jobs()
    assert Job.objects.filter(state="COMPLETE").count() == 2


def test_a_chain_goes_on_once_its_failure_is_retried():
    group = async_chain([f"{HERE}.fail_once", (functions.add, (2,))])
    run_jobs()
    assert result_group(group) == []
    Job.objects.get().retry()
    run_jobs()
    assert result_group(group) == ["at last", 2]


def test_a_link_that_was_changed_in_the_table_is_refused_with_all_that_follow():
    group = async_chain([(functions.add, (1,)), (functions.add, (2,))])
    job = Job.objects.get()
    Job.objects.update(call=job.call.replace(f"{HERE}.add", f"{HERE}.write"))
    run_jobs()
    (task,) = fetch_group(group)
    assert "BadSignature" in task.result


def test_a_chain_runs_at_once():
    group = async_chain([(functions.add, (1,)), (functions.add, (2,))], sync=True, pass_result=True)
    assert result_group(group) == [1, 3]
    with pytest.raises(ValueError, match="uh oh"):
        async_chain([functions.fail, functions.echo], sync=True)


@pytest.mark.parametrize(
    "chain, message",
    [
        ([], "a chain needs at least one call"),
        ([()], "a link of a chain is"),
        ([(functions.add, 5)], "with args a tuple, not 5"),
        ([(functions.add, (), {}, 4)], "a link of a chain is"),
        ([functions.add, (functions.add, ({1},))], r"args\[0\] is a builtins.set"),
        ([functions.add, "tests.there_is_none"], "does not import"),
    ],
)
def test_a_chain_that_could_not_run_is_refused_as_a_whole(chain, message):
    with pytest.raises(CallError, match=message):
        async_chain(chain)
    assert not Job.objects.exists()


def test_a_chain_is_put_together_link_by_link():
    chain = Chain(cached=True)
    assert [chain.append("math.copysign", 1, -1), chain.append("math.floor", 1, save=True)] == [1, 2]
    assert (chain.result(), chain.fetch(), chain.current()) == (None, None, None)
    chain.run()
    assert chain.current() == 0
    run_jobs()
    assert (chain.result(), chain.current(), chain.length()) == ([-1, 1], 2, 2)
    assert [task.success for task in chain.fetch()] == [True, True]
    chain.append(functions.fail)
    assert chain.result() is None and count_group(chain.group) == 0
    chain.run()
    run_jobs()
    assert (chain.result(), [task.success for task in chain.fetch()]) == ([-1, 1], [True, True, False])

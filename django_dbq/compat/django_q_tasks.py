"""Tasks of django-q: one call, a list of calls, a chain, and what became of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from django.db import router

from django_dbq import calls, conf, results
from django_dbq.compat.django_q_settings import cluster as settings_of
from django_dbq.engine.lifecycle import State
from django_dbq.engine.workflow import parse_execution
from django_dbq.exceptions import CallError, nearest
from django_dbq.models import Group, Job, uuid7
from django_dbq.models.job import LABEL_MAX
from django_dbq.results import Task
from django_dbq.store import get_store
from django_dbq.worker.inline import run_now

_OPTIONS = (
    *("hook", "group", "timeout", "save", "sync", "cached", "broker"),
    *("cluster", "task_name", "ack_failure"),
)


def async_task(func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> str:
    """Create the job of calling `func`, in the caller's transaction; return its id.

    Of `kwargs` these are options, and not given to `func` unless `q_options` holds them
    instead: hook, group, timeout (seconds), save, sync, task_name, cluster (the queue's
    name) and ack_failure; cached and broker mean nothing here. With `sync` it runs now,
    and what it raises is raised.

    Raises CallError for what no worker could call, before anything is written.
    """
    options, kwargs = split_options(kwargs)
    columns = columns_of_call(func, args, kwargs, options)
    job = Job(**columns)
    using = router.db_for_write(Job)
    if _is_sync(options):
        run_now(lambda: [_saved(job, using)], using)
    else:
        job.save(using=using)
    return job.pk.hex


def _saved(job: Job, using: str) -> Job:
    job.save(using=using)
    return job


def split_options(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options among these keyword arguments, and what is the function's own."""
    kwargs = dict(kwargs)
    options = kwargs.pop("q_options", None) or {}
    if not isinstance(options, Mapping):
        raise CallError(f"q_options must be a dictionary, not {type(options).__name__} ({options!r})")
    for key in options:
        if key not in _OPTIONS:
            hint = "cluster" if key == "broker_name" else nearest(str(key), _OPTIONS)
            extra = f"Did you mean {hint!r}?" if hint else f"Known: {', '.join(_OPTIONS)}."
            raise CallError(f"q_options has no option {key!r}. {extra}")
    given = {key: kwargs.pop(key) for key in _OPTIONS if key in kwargs and key not in options}
    return {**given, **options}, kwargs


def columns_of_call(
    func: Any, args: Iterable[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """Return the columns of the job of one call."""
    columns = calls.call_columns(func, tuple(args), kwargs, execution_of(options), typed=True, **more)
    title, label = _text("task_name", options.get("task_name")), _text("group", options.get("group"))
    return {**columns, "title": title, "label": label}


def execution_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return these options as those of a function call."""
    queue, timeout = options.get("cluster"), options.get("timeout")
    _check("cluster", "queue_name", queue or None)
    _check("timeout", "timeout_seconds", None if timeout == -1 else timeout)
    settings = settings_of(queue)
    timeout = settings.timeout if timeout is None else timeout
    acknowledged = settings.ack_failures if options.get("ack_failure") is None else options["ack_failure"]
    attempts = 1 if settings.max_attempts is None else settings.max_attempts or None
    save = options.get("save")
    if save is None and settings.save_limit is not None:
        save = settings.save_limit >= 0
    found: dict[str, Any] = {
        "queue_name": queue or settings.name,
        "atomic": conf.options().ATOMIC_TASKS,
        "retry": {"max_attempts": 1 if acknowledged or _is_sync(options) else attempts},
    }
    if timeout is not None and timeout != -1:
        found["timeout_seconds"] = timeout
    if options.get("hook") is not None:
        found["hook"] = options["hook"]
    if save is False:
        found["save"] = False
    return found


def _check(argument: str, option: str, value: Any) -> None:
    """Raise CallError, with the caller's name of it, for a value that this option of a call cannot have."""
    problems = [] if value is None else parse_execution({option: value})[1]
    if problems:
        raise CallError(f"{argument}: {problems[0].message}")


def _is_sync(options: Mapping[str, Any]) -> bool:
    sync = options.get("sync")
    return settings_of(options.get("cluster")).sync if sync is None else bool(sync)


def _text(what: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, (int, uuid.UUID)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > LABEL_MAX:
        raise CallError(f"{what} must be text of at most {LABEL_MAX} characters, not {value!r:.80}")
    return value


# Results.


def fetch(task_id: str | uuid.UUID, wait: float = 0, cached: Any = False) -> Task | None:
    """Return the task with this id or name once it has ended, else None; a cancelled one is None at once.

    Waits for that `wait` milliseconds at most; -1: without end. `cached` means nothing
    here. Raises DBQError where it would wait within an atomic block.
    """
    seen: list[bool] = []

    def look() -> list[Task | None] | None:
        job = results.find(task_id)
        if job is None:
            return [None] if seen else None  # It was not to be kept.
        seen.append(True)
        task = results.outcome(job)
        return [task] if task is not None or job.state == State.CANCELLED else None

    found = wait_until(look, wait, task_id)
    return found[0] if found else None


def result(task_id: str | uuid.UUID, wait: float = 0, cached: Any = False) -> Any:
    """Return the result of a task as `fetch` finds it, of a failure its error as text; else None."""
    task = fetch(task_id, wait)
    return task.result if task is not None else None


def fetch_group(
    group_id: str, failures: bool = True, wait: float = 0, count: int | None = None, cached: Any = False
) -> list[Task]:
    """Return the ended tasks of a group, in the order of their creation.

    Waits until there is one, or `count` of them, for `wait` milliseconds at most. With
    `count` and without `wait`: without end. -1 is without end too. Raises DBQError
    where it would wait within an atomic block.
    """
    least = 1 if count is None else count

    def look() -> bool | None:
        return True if count_group(group_id) >= least else None

    wait_until(look, -1 if count and not wait else wait)
    return [task for task in results.of_group(group_id) if task.success or failures]


def result_group(
    group_id: str, failures: bool = False, wait: float = 0, count: int | None = None, cached: Any = False
) -> list[Any]:
    """Return the results of the tasks that `fetch_group` returns, without those of failures."""
    return [task.result for task in fetch_group(group_id, failures, wait, count)]


def count_group(group_id: str, failures: bool = False, cached: Any = False) -> int:
    """Return how many tasks of a group have ended; with `failures`, how many failed."""
    return results.count_group(group_id, failures=failures)


def delete_group(group_id: str, tasks: bool = False, cached: Any = False) -> int:
    """Take a group's label off its ended tasks, or delete these; return how many."""
    return results.delete_group(group_id, tasks=tasks)


def queue_size(broker: Any = None) -> int:
    """Return how many jobs wait in all queues; those that run do not count."""
    return sum(Job.get_queue_depths().values())


def delete_cached(task_id: str | uuid.UUID, broker: Any = None) -> bool:
    """Return False: there is no cache that held a result."""
    return False


# There is no cache: each of these is the function without `_cached`.


def result_cached(task_id: str | uuid.UUID, wait: float = 0, broker: Any = None) -> Any:
    """As `result`."""
    return result(task_id, wait)


def fetch_cached(task_id: str | uuid.UUID, wait: float = 0, broker: Any = None) -> Task | None:
    """As `fetch`."""
    return fetch(task_id, wait)


def result_group_cached(
    group_id: str, failures: bool = False, wait: float = 0, count: int | None = None, broker: Any = None
) -> list[Any]:
    """As `result_group`."""
    return result_group(group_id, failures, wait, count)


def fetch_group_cached(
    group_id: str, failures: bool = True, wait: float = 0, count: int | None = None, broker: Any = None
) -> list[Task]:
    """As `fetch_group`."""
    return fetch_group(group_id, failures, wait, count)


def count_group_cached(group_id: str, failures: bool = False, broker: Any = None) -> int:
    """As `count_group`."""
    return count_group(group_id, failures)


def delete_group_cached(group_id: str, broker: Any = None) -> None:
    """Delete the ended tasks of a group: in the original's cache they were nowhere else."""
    delete_group(group_id, tasks=True)


def wait_until(look: Callable[[], Any], milliseconds: float, task_id: str | uuid.UUID | None = None) -> Any:
    """Return what `look` finds, asked until it is not None; below 0 milliseconds for as long as it takes."""
    seconds = None if milliseconds < 0 else milliseconds / 1000
    job_ids = () if task_id is None else results.ids(task_id)
    return results.wait_for(look, seconds, router.db_for_read(Job), job_ids)


# Many calls.


def async_iter(func: Callable[..., Any] | str, args_iter: Iterable[Any], **kwargs: Any) -> str:
    """Call `func` once for each item, in any order; return the id under which the list of results is.

    An item that is a tuple holds the arguments of a call, any other is the only one. The
    options are those of `async_task`: hook, group, task_name and save are of the list,
    the others of each call. When a call fails, so has the list, and its hook is given that call.

    Raises CallError for what no worker could call, before anything is written.
    """
    options, kwargs = split_options(kwargs)
    using = router.db_for_write(Job)
    each: dict[str, Any] = {
        key: options[key] for key in ("timeout", "sync", "cluster", "ack_failure") if key in options
    }
    each["save"] = True  # The list is made from them.
    items = [item if isinstance(item, tuple) else (item,) for item in args_iter]
    path, hook = calls.path_of(func), options.get("hook")
    more = {"failure_hook": None if hook is None else calls.path_of(hook)}
    parts = [Job(**columns_of_call(func, item, kwargs, each, **more)) for item in items]
    final_id = uuid7()

    def create() -> list[Job]:
        return create_list(path, parts, final_id, options, using)

    if _is_sync(options):
        run_now(create, using)
    else:
        with get_store(using).write():
            create()
    return final_id.hex


def create_list(
    path: str, parts: list[Job], final_id: uuid.UUID, options: Mapping[str, Any], using: str
) -> list[Job]:
    """Save the calls of a list and the job that gathers their results, whose options these are."""
    group = Group(reference=final_id.hex)
    group.save(using=using)
    for part in parts:
        part.group = group
    if parts:
        Job.objects.using(using).bulk_create(parts)
    columns = columns_of_call(results.gather, (group.pk, using), {}, {**options, "timeout": None}, of=path)
    final = Job(id=final_id, **columns)
    final.save(using=using)
    group.on_completion(final)
    return [*parts, final]


def async_chain(
    chain: Iterable[Any],
    group: str | None = None,
    cached: Any = False,
    sync: bool | None = None,
    broker: Any = None,
    *,
    hook: Callable[..., Any] | str | None = None,
    pass_result: bool = False,
) -> str:
    """Call functions one after the other; return the label of their group.

    Each link is (func, args, kwargs), the last ones left out at will; `kwargs` may hold
    options of `async_task`. The first failure ends the chain. `hook` is called once, with
    the task that failed or the last one. With `pass_result` each link but the first is
    given the result before it as its first argument.

    Raises CallError for what no worker could call, before anything is written.
    """
    label = _text("group", group) or uuid7().hex
    shared = {"group": label, **({} if sync is None else {"sync": sync})}
    first, *others = links_of(chain, shared, end_hook=None if hook is None else calls.path_of(hook))
    job_id = uuid7()
    then = [calls.link(columns(), uuid7(), passes=pass_result) for columns in others]
    job = Job(id=job_id, **first(then=then))
    using = router.db_for_write(Job)
    if settings_of().sync if sync is None else sync:
        run_now(lambda: [_saved(job, using)], using)
    else:
        job.save(using=using)
    return label


def links_of(
    chain: Iterable[Any], shared: Mapping[str, Any], **more: Any
) -> list[Callable[..., dict[str, Any]]]:
    """Return of each link what makes the columns of its job; `shared` are options of all of them.

    Raises CallError for a chain without links, and for what is none.
    """
    made: list[Callable[..., dict[str, Any]]] = []
    for item in chain:
        func, args, kwargs = link_of(item)
        options, kwargs = split_options(kwargs)
        made.append(partial(columns_of_call, func, args, kwargs, {**options, **shared}, **more))
    if not made:
        raise CallError("a chain needs at least one call")
    return made


def link_of(item: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    parts = item if isinstance(item, (tuple, list)) else (item,)
    if not 1 <= len(parts) <= 3:
        raise CallError(f"a link of a chain is (func, args, kwargs), not {item!r:.80}")
    func = parts[0]
    args = parts[1] if len(parts) > 1 else ()
    kwargs = parts[2] if len(parts) > 2 else {}
    if not isinstance(args, (tuple, list)):
        raise CallError(f"a link of a chain is (func, args, kwargs), with args a tuple, not {args!r:.80}")
    return func, tuple(args), dict(kwargs)

"""What django-q has as objects: a task, a list of calls and a chain that are filled before they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import router

from django_dbq import results
from django_dbq.compat.django_q_tasks import (
    async_chain,
    async_iter,
    async_task,
    count_group,
    delete_group,
    fetch,
    fetch_group,
    result,
    result_group,
    wait_until,
)
from django_dbq.exceptions import CallError
from django_dbq.models import Job
from django_dbq.results import Task


def _option(name: str) -> Any:
    """Return the property of an AsyncTask that reads and sets one option."""

    def held(task: AsyncTask) -> dict[str, Any]:
        found: dict[str, Any] = task.kwargs.get("q_options") or task.kwargs
        return found

    def read(task: AsyncTask) -> Any:
        return held(task).get(name)

    def write(task: AsyncTask, value: Any) -> None:
        held(task)[name] = value
        task.started = False

    return property(read, write)


class AsyncTask:
    """One call of `async_task`, with its options as attributes. A changed one takes its result away."""

    broker = _option("broker")
    cached = _option("cached")
    group = _option("group")
    hook = _option("hook")
    save = _option("save")
    sync = _option("sync")

    def __init__(self, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> None:
        self.id = ""
        self.started = False
        self.func, self.args, self.kwargs = func, args, kwargs

    def run(self) -> str:
        """Create the job; return its id."""
        self.id = async_task(self.func, *self.args, **self.kwargs)
        self.started = True
        return self.id

    def result(self, wait: float = 0) -> Any:
        """Return its result as `result()` does; None before `run()`."""
        return result(self.id, wait) if self.started else None

    def fetch(self, wait: float = 0) -> Task | None:
        """Return it as `fetch()` does; None before `run()`."""
        return fetch(self.id, wait) if self.started else None

    def result_group(self, failures: bool = False, wait: float = 0, count: int | None = None) -> Any:
        """Return the results of its group as `result_group()` does; None before `run()`."""
        return result_group(self.group, failures, wait, count) if self.started and self.group else None

    def fetch_group(self, failures: bool = True, wait: float = 0, count: int | None = None) -> Any:
        """Return the tasks of its group as `fetch_group()` does; None before `run()`."""
        return fetch_group(self.group, failures, wait, count) if self.started and self.group else None


class Iter:
    """One call of `async_iter`, put together item by item."""

    def __init__(
        self,
        func: Callable[..., Any] | str | None = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        cached: Any = False,
        sync: bool | None = None,
        broker: Any = None,
    ) -> None:
        self.func, self.args, self.kwargs = func, list(args or ()), dict(kwargs or {})
        self.cached, self.sync, self.broker = cached, sync, broker
        self.id = ""
        self.started = False

    def append(self, *args: Any) -> int:
        """Add the arguments of one call; return how many there are."""
        self.args.append(args)
        self.started = False
        return self.length()

    def run(self) -> str:
        """Create the jobs; return the id of the list."""
        if self.func is None:
            raise CallError("Iter has no function")
        sync = {} if self.sync is None else {"sync": self.sync}
        self.id = async_iter(self.func, self.args, **{**self.kwargs, **sync})
        self.started = True
        return self.id

    def result(self, wait: float = 0) -> Any:
        """Return the list of results, in the order of the arguments; None before `run()` or the end."""
        return result(self.id, wait) if self.started else None

    def fetch(self, wait: float = 0) -> Task | None:
        """Return the task whose result is the list; None before `run()` or the end."""
        return fetch(self.id, wait) if self.started else None

    def length(self) -> int:
        """Return how many calls there are."""
        return len(self.args)


class Chain:
    """One call of `async_chain`, put together link by link."""

    def __init__(
        self,
        chain: Iterable[Any] | None = None,
        group: str | None = None,
        cached: Any = False,
        sync: bool | None = None,
        broker: Any = None,
        *,
        hook: Callable[..., Any] | str | None = None,
        pass_result: bool = False,
    ) -> None:
        self.chain, self.group = list(chain or ()), group or ""
        self.cached, self.sync, self.broker = cached, sync, broker
        self.hook, self.pass_result = hook, pass_result
        self.started = False

    def append(self, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> int:
        """Add a link, with the arguments of `async_task`; return how many there are.

        A chain that has run loses its results.
        """
        self.chain.append((func, args, kwargs))
        if self.started:
            delete_group(self.group)
            self.started = False
        return self.length()

    def run(self) -> str:
        """Create the first job; return the label of the group."""
        self.group = async_chain(
            self.chain, self.group, sync=self.sync, hook=self.hook, pass_result=self.pass_result
        )
        self.started = True
        return self.group

    def result(self, wait: float = 0) -> Any:
        """Return the results as `fetch` finds them, without that of the failure that ended the chain."""
        tasks = self.fetch(failures=False, wait=wait)
        return None if tasks is None else [task.result for task in tasks]

    def fetch(self, failures: bool = True, wait: float = 0) -> list[Task] | None:
        """Return the ended tasks in order, once the chain is through, has failed or was cancelled.

        Waits for that `wait` milliseconds at most; 0: without end. None before `run()`.
        """
        if not self.started:
            return None

        using = router.db_for_write(Job)  # A replica may not know of its first link yet.

        def look() -> list[Task] | None:
            # Asked first: each link is created before the one before it has ended. What
            # is not saved is never counted.
            over = not results.goes_on(self.group, using)
            tasks = results.of_group(self.group, using)
            over = over or len(tasks) >= self.length() or any(not task.success for task in tasks)
            return tasks if over else None

        found = wait_until(look, wait or -1)
        tasks = results.of_group(self.group, using) if found is None else found
        return [task for task in tasks if task.success or failures]

    def current(self) -> int | None:
        """Return how many links have ended; None before `run()`."""
        return count_group(self.group) if self.started else None

    def length(self) -> int:
        """Return how many links there are."""
        return len(self.chain)


# Schedules.

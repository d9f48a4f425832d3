"""One attempt at one task: hooks, time limit, transaction; from a claimed job to its transition."""

from __future__ import annotations

import copy
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from django_dbq import calls, conf, results, signals
from django_dbq.engine.directives import Finish, GoTo, Snooze
from django_dbq.engine.lifecycle import (
    CutOff,
    Done,
    Failed,
    Finished,
    GivenBack,
    Lost,
    Outcome,
    Parked,
    Run,
    Snoozed,
    State,
    Transition,
    WentTo,
    decide,
)
from django_dbq.engine.retry import RetryPolicy
from django_dbq.engine.workflow import Task, Workflow, locate
from django_dbq.engine.workspace import changes
from django_dbq.exceptions import (
    Abort,
    BadSignature,
    DBQError,
    LeaseLost,
    Retry,
    TaskTimeout,
    TaskUnavailable,
    UnknownJob,
    WorkerLost,
    WorkspaceError,
    as_seconds,
)
from django_dbq.models import Job, Unreadable, decode_workspace, encode_result, encode_workspace
from django_dbq.store import get_store
from django_dbq.store.drivers import code_of
from django_dbq.worker.connections import (
    depths,
    drop_open_transactions,
    refuse_open_transactions,
    statement_errors_undone,
)
from django_dbq.worker.errors import leave_to_the_person, let_go, line_of, traceback_of
from django_dbq.worker.functions import called, imported, run_to_its_end
from django_dbq.worker.limits import run_coroutine, time_limit
from django_dbq.worker.session import SERIALIZATION_FAILURE, is_contention, passes

logger = logging.getLogger("django_dbq.worker")

_NOTHING = nullcontext()


@dataclass(slots=True)
class Attempt:
    """What became of a claimed job. `recorded` tells what became of its record so far."""

    job: Job
    transition: Transition
    seconds: float
    error: BaseException | None = None
    recorded: bool | None = None  # None: not tried. False: the claim was lost.
    unsure: Transition | None = None  # Sent for commit when the connection broke: it may stand.
    unwanted: bool = False  # Once it is recorded, its job is to be deleted.

    def note(self, states: dict[Any, str]) -> None:
        """Take in what a record answered: whether the job was still held, and if it was cancelled."""
        state = states.get(self.transition.job_id)
        self.recorded = state is not None
        if state == State.CANCELLED:
            self.transition.state, self.transition.hold = State.CANCELLED, False


@dataclass(slots=True)
class _Step:
    """A job's present task, found and ready to call."""

    workflow: Workflow
    plan: Sequence[str]
    task: Task
    recorded: str | None  # The workspace as the attempt found it.
    function: Callable[[Job], Any] = field(init=False)  # Set once it is imported.
    asynchronous: bool = False
    left: str | None = None  # The workspace as the task left it, as JSON; what follows may change it.
    via: calls.Via | None = None
    follower: Job | None = None  # What is to follow a call that has succeeded.


class Executor:
    """Runs attempts for one worker, on the connections of the calling thread.

    `keeps` tells of a job whether its next task should stay on this worker;
    it is asked only by tasks that record within their own transaction. `starts_clean` says that
    no transaction is ever open when a task begins, so that nobody needs to look.
    """

    def __init__(self, using: str, worker: str) -> None:
        self.using = using
        self.worker = worker
        self.keeps: Callable[[Job], bool] = lambda job: False
        self.watching: Callable[[Any], AbstractContextManager[None]] = nullcontext
        self.store = get_store(using)
        self.starts_clean = False
        self._locks_what_it_reads = connections[using].vendor == "sqlite"
        self._locks_first = False  # Whether it was seen that transactions here are isolated that strictly.

    @property
    def _is_watched(self) -> bool:
        """Whether a keeper looks after this. In a project's tests none does, whose callbacks are counted."""
        return self.watching is not nullcontext

    def run(self, job: Job) -> Attempt:
        """Run the job's next task once. Whatever the task does, an attempt comes back."""
        began = time.monotonic()
        if began > job.trusted_until and not self._still_held(job):
            return _dropped(job, 0.0)
        try:
            step = self._find(job)
            if job.call is None:
                step.function, step.asynchronous = imported(job)
            else:
                step.function, step.asynchronous, step.via = called(job)
        except BadSignature as error:
            return _refused(job, error, began)
        except TaskUnavailable as error:
            parked = Parked(line_of(error), conf.options().PARK_SECONDS)
            return Attempt(job, decide(job, parked), 0.0, error)
        except Exception as error:
            if job.call is None:
                raise
            return _refused(job, error, began)  # A text that is no call's.
        atomic = conf.options().ATOMIC_TASKS if step.task.atomic is None else step.task.atomic
        if step.via is not None:
            self._tell("begin", job, step.via.begin)
        job._writer = self._save
        try:
            attempt = self._run_atomic(job, step, began) if atomic else self._run_plain(job, step, began)
        except Exception as error:
            # What no check has foreseen. Raised, it would end one worker after the other.
            logger.exception("Attempt not settled: job=%s name=%s task=%s", job.id, job.name, job.next_task)
            return _refused(job, error, began)
        finally:
            job._writer = None
        if step.via is not None and attempt.transition.finished and attempt.recorded is not False:
            self._tell("end", job, step.via.end, attempt.transition.state, attempt.error)
        return attempt

    def let_go(self, attempt: Attempt) -> None:
        """Free what an attempt's error holds on to, before it waits for its record on another connection.

        A failure for good is logged with its error once it is recorded, and some handlers of logs look at
        frames. On SQLite it would never be recorded: what the frames have begun to read is locked.
        """
        if attempt.error is not None and (self._locks_what_it_reads or not attempt.transition.finished):
            let_go(attempt.error)

    def fail_lost(self, job: Job) -> Attempt:
        """Fail a job whose workers died too often, with its failure hook."""
        if time.monotonic() > job.trusted_until and not self._still_held(job):
            return _dropped(job, 0.0)  # Another worker fails it.
        fault = (
            f"{job.lost_attempts} attempts at {job.next_task} were lost, with their workers or transactions;"
            ' DBQ["LOST_ATTEMPTS_MAX"] allows no more'
        )
        if job.lost_attempts >= 2 * conf.options().LOST_ATTEMPTS_MAX:
            # Its hooks had as many workers as its task, and did not give one back.
            fault += ", nor are its hooks called any more"
            return Attempt(job, decide(job, Lost(f"WorkerLost: {fault}")), 0.0, WorkerLost(fault))
        error = WorkerLost(fault)
        transition = decide(job, Lost(line_of(error)))
        entry = conf.workflows().get(job.name) if job.call is None else None
        if job.call is not None:
            self._call_hooks_of_call(job, transition, traceback_of(error))
        if entry is not None:
            self._call_hooks(entry, job, transition, error)
            transition.workspace = self._encoded(job)
        return Attempt(job, transition, 0.0, error)

    def fail_stuck(self, job: Job, began: float, stack: str) -> Attempt:
        """Fail the attempt of a job whose task, or its import, passed its time limit and would not end.

        It began at this monotonic time; `stack` says where it hangs.
        """
        step = self._find(job)
        error = TaskTimeout(f"{job.next_task} ran past its timeout_seconds and did not end; its worker left")
        error.add_note(f"Its thread stands here (most recent call last):\n{stack}")
        return self._settle(job, step, self._failed(error, step.task.retry), error, began)

    # Finding the task.

    def _find(self, job: Job) -> _Step:
        """Return the job's present task, not imported.

        Raises TaskUnavailable when it may not be, and BadSignature for a call that was changed.
        """
        if job.call is not None:
            workflow = calls.workflow(job)
            step = _Step(workflow, workflow.plan, workflow.tasks[0], job.recorded_workspace)
            job.timeout_seconds = step.task.timeout_seconds
            return step
        try:
            workflow = conf.workflow(job.name)
        except UnknownJob as error:
            raise TaskUnavailable(str(error)) from None
        plan: Sequence[str] = job.plan or workflow.plan
        if not job.next_task:
            job.next_task = plan[0]  # A row that bulk_create of the original package has made.
        position = locate(plan, job.position, job.next_task)
        if position is None or job.next_task not in conf.task_paths():
            raise TaskUnavailable(
                f"the task {job.next_task!r} of job {job.name!r} stands in no entry of JOBS;"
                " put it back, or have the job go on at another task of its plan:"
                ' job.next_task = "…"; job.run_after = None; job.save()'
            )
        if position != job.position:
            # A deploy, or a worker of the original package, has moved it: attempts count anew.
            job.position, job.attempt, job.lost_attempts = position, 1, 0
        task = workflow.task(job.next_task, position)
        job.timeout_seconds = task.timeout_seconds
        return _Step(workflow, plan, task, job.recorded_workspace)

    # Running it.

    def _run_plain(self, job: Job, step: _Step, began: float) -> Attempt:
        result = None if job.result is None else copy.deepcopy(job.result)
        outcome, error = self._call(job, step)
        attempt = self._settle(job, step, outcome, error, began)
        if error is not None and not attempt.transition.finished:
            job.result = result  # The next attempt starts from what is recorded.
        return attempt

    def _run_atomic(self, job: Job, step: _Step, began: float) -> Attempt:
        """Run the task, its record and the jobs it creates in one transaction.

        A failure rolls all of it back, the workspace too, and is recorded afterwards.
        """
        entered = ran = False
        result = copy.deepcopy(job.result)
        attempt: Attempt | None = None
        try:
            with ExitStack() as watched, transaction.atomic(using=self.using):
                if self._is_watched:
                    # Called first, before what the task leaves to be called: only the commit is watched.
                    transaction.on_commit(watched.close, using=self.using)
                if self._locks_first:
                    self._lock(job)
                entered = True
                outcome, error = self._call(job, step, atomic=True)
                if error is not None:
                    raise error
                if _somebody_is_told(job, step):
                    self._check_references()
                ran = True
                attempt = self._settle(job, step, outcome, None, began)
                if attempt.transition.goes_on and self.keeps(job):
                    attempt.transition.keep()
                watched.enter_context(self.watching(connections[self.using]))
                states = self.store.record(
                    [attempt.transition], worker=self.worker, lease_seconds=conf.options().LEASE_SECONDS
                )
                if not states:
                    if not Job.objects.using(self.using).filter(pk=job.pk).exists():
                        raise DBQError(f"job {job.id} was deleted while its task ran, which was rolled back")
                    raise LeaseLost(f"job {job.id} is no longer this worker's; its task was rolled back")
            attempt.note(states)
            return attempt
        except BaseException as error:
            leave_to_the_person(error)
            job.workspace, job.result = decode_workspace(step.recorded), result
            job.recorded_workspace = step.recorded
            of_the_moment = isinstance(error, (DatabaseError, InterfaceError)) and passes(error)
            if of_the_moment and not entered:
                return Attempt(job, decide(job, GivenBack()), time.monotonic() - began, error)
            if of_the_moment and ran:
                # The database, not the task, broke off. Should the commit have got through
                # after all, the claim has moved on and this changes nothing: the history tells.
                unsure = attempt.transition if attempt is not None else None
                if is_contention(error):  # Of which others get on.
                    self._locks_first |= code_of(error) == SERIALIZATION_FAILURE
                    seconds = time.monotonic() - began
                    return Attempt(job, decide(job, GivenBack()), seconds, error, unsure=unsure)
                return _without_hooks(job, CutOff(line_of(error)), error, began, unsure)
            if attempt is not None and (states := self._committed(attempt)):
                # What the task had left to be called on commit raised: nothing of it is undone.
                logger.exception("On commit failed: job=%s name=%s task=%s", job.id, job.name, job.next_task)
                attempt.note(states)
                return attempt
            return self._settle(job, step, self._failed(error, step.task.retry), error, began)

    def _lock(self, job: Job) -> None:
        """Keep the row of a job from being changed by others, this worker's keeper too, until the commit.

        At REPEATABLE READ and above what others change meanwhile, a renewed lease, cannot be recorded over.
        """
        with self.watching(connections[self.using]):
            if not self.store.lock(job, worker=self.worker):
                raise LeaseLost(f"job {job.id} is no longer this worker's")
        self._renew_after_commit(job)

    def _check_references(self) -> None:
        """Raise now what the commit would raise: who is told of a success is told the truth."""
        connection = connections[self.using]
        if connection.vendor == "postgresql":  # SQLite would read every table for it.
            with self.watching(connection):
                connection.check_constraints()

    def _committed(self, attempt: Attempt) -> dict[Any, str]:
        """Return, as a record does, whether this attempt's stands, though an error followed it."""
        try:
            with self.watching(connections[self.using]):
                return self.store.recorded([attempt.transition], worker=self.worker)
        except (DatabaseError, InterfaceError):
            return {}

    def _call(self, job: Job, step: _Step, atomic: bool = False) -> tuple[Outcome, BaseException | None]:
        """Call the pre-task hook and the task; return the outcome, and the error if it failed."""
        before = {} if self.starts_clean and not atomic else depths()
        # In an atomic task a statement that failed must keep everything from being committed.
        undone = _NOTHING if atomic or not any(before.values()) else statement_errors_undone(before)
        limited = not step.asynchronous and step.task.timeout_seconds is not None
        try:
            if not isinstance(job.workspace, dict):
                found, kind = job.workspace, type(job.workspace).__name__
                fault = found if isinstance(found, Unreadable) else f"is a {kind}, no JSON object"
                raise Abort(f"its workspace {fault}: replace it with save(), then retry the job")
            with undone, time_limit(step.task) if limited else _NOTHING:
                if step.workflow.pre_task_hook:
                    run_to_its_end(import_string(step.workflow.pre_task_hook), job)
                if signals.pre_execute.receivers:
                    given = {"func": _function_told(job, step), "task": results.described(job)}
                    signals.pre_execute.send(sender=signals.SENDER, **given)
                function = step.function
                if step.asynchronous:
                    function = partial(async_to_sync(run_coroutine), step.task, function)
                returned = run_to_its_end(function, job)
            refuse_open_transactions(before)
            outcome: Outcome
            match returned:
                case Snooze(delay):
                    outcome = Snoozed(as_seconds(delay))
                case GoTo(task):
                    if task not in step.plan:
                        raise DBQError(f"GoTo({task!r}): this job's tasks are {', '.join(step.plan)}")
                    outcome = WentTo(task)
                case Finish(result):
                    outcome = Finished()
                    job.result = job.result if result is None else result
                case type() if returned in (Snooze, GoTo, Finish):
                    raise DBQError(f"return {returned.__name__}(…), not {returned.__name__}")
                case _:
                    outcome = Done()
            # What cannot be kept fails the attempt, whatever the hooks do afterwards.
            step.left = encode_workspace(job.workspace)
            if job.result is not None:
                encode_result(job.result)
            if job.call is not None and not isinstance(outcome, Snoozed):
                step.follower = self._follower(job)
            return outcome, None
        except BaseException as error:
            leave_to_the_person(error)
            drop_open_transactions(before)
            return self._failed(error, step.task.retry), error

    def _follower(self, job: Job) -> Job | None:
        """Return the job that follows a call in its chain, ready to insert, where no earlier success has.

        The record inserts it: a claim that was lost is followed by nothing, and so is a worker that dies.
        """
        columns = calls.following(job)
        if columns is None or Job.objects.using(self.using).filter(pk=columns["id"]).exists():
            return None
        follower = Job(**columns)
        follower._make_ready()
        return follower

    def _failed(self, error: BaseException, retry: RetryPolicy) -> Failed:
        if isinstance(error, Retry):
            return Failed(line_of(error), delay_seconds=error.delay_seconds)
        may_retry = not isinstance(error, (Abort, LeaseLost))
        if may_retry and retry.on:
            may_retry = any(_is_a(error, path) for path in retry.on)
        if may_retry and retry.not_on:
            may_retry = not any(_is_a(error, path) for path in retry.not_on)
        return Failed(line_of(error), may_retry=may_retry)

    def _settle(
        self, job: Job, step: _Step, outcome: Outcome, error: BaseException | None, began: float
    ) -> Attempt:
        """Decide what the outcome means, run the hooks that follow, and write down the result."""
        now = time.monotonic()
        seconds = now - began
        if isinstance(error, LeaseLost) or (now > job.trusted_until and not self._still_held(job)):
            # Another worker has the job: nothing of this attempt counts, and no hook runs.
            return _dropped(job, seconds, error)
        position, attempt_number = job.position, job.attempt
        transition = decide(job, outcome, step.plan, step.task.retry, random.random())
        hooks_failed = ""
        failed = transition.state is State.FAILED and error is not None
        if failed and self._encoded(job) is None:
            job.workspace = decode_workspace(job.recorded_workspace)  # For the hooks to go on from.
        hooks_failed += self._call_hooks(step.workflow, job, transition, error if failed else None)
        text = None if error is None else traceback_of(error)
        told = _ends_are_told()
        if job.call is not None and transition.finished:
            hooks_failed += self._call_hooks_of_call(job, transition, text)
        if told:
            ended = {"result": calls.value_of(job) if text is None else text, "success": text is None}
            task = results.described(job, stopped=timezone.now(), **ended)
            function = _function_told(job, step)
            for name, given in (("post_execute_in_worker", {"func": function}), ("post_execute", {})):
                send = partial(getattr(signals, name).send_robust, signals.SENDER, task=task, **given)
                hooks_failed += self._tell(f"signal={name}", job, send)
        run = Run(
            task=job.next_task,
            position=position,
            attempt=attempt_number,
            outcome=outcome.kind if transition.state is not State.FAILED else "failed",
            began=began,
            seconds=seconds,
            error=(text or transition.error or "") + hooks_failed or None,
        )
        # A failed attempt that is tried again starts from the last recorded workspace.
        if error is None or transition.finished:
            followed = told or job.call is not None or step.workflow.post_task_hook is not None
            text = self._encoded(job) if followed or error is not None else step.left
            if text is None and error is None:
                text = step.left  # What the task left is kept, whatever a hook has made of it.
                run.error = f"{run.error or ''}\nThe workspace as a hook left it cannot be written."
            if text is not None and (text != job.recorded_workspace or job.saved_in_block):
                transition.workspace = text
            if text is not None and text != step.recorded:
                changed = changes(decode_workspace(step.recorded), decode_workspace(text))
                run.changes = json.dumps(changed) if changed else None
            if job.result is not None:
                transition.result = self._encoded_result(job)
        transition.run = run
        if transition.state is State.COMPLETE:
            transition.follower = step.follower
        unwanted = transition.state is State.COMPLETE and job.call is not None and calls.unwanted(job.call)
        return Attempt(job, transition, seconds, error, unwanted=unwanted)

    def _still_held(self, job: Job) -> bool:
        """Ask the database whether the claim stands: the lease may have run out."""
        lease_seconds = conf.options().LEASE_SECONDS
        try:
            with self.watching(connections[self.using]):
                if self.store.extend([job], worker=self.worker, lease_seconds=lease_seconds):
                    return True
                # Or somebody has the row locked: then nobody can take the job, and the record will wait.
                mine = Job.objects.using(self.using).filter(claim=job.claim, claimed_by=self.worker)
                return bool(mine.filter(pk=job.pk).exists())
        except (DatabaseError, InterfaceError):
            return True  # The record, which is guarded too, will tell.

    def _encoded(self, job: Job) -> str | None:
        try:
            return encode_workspace(job.workspace)
        except WorkspaceError as error:
            logger.error("Workspace not kept: job=%s name=%s %s", job.id, job.name, error)
            return None

    def _encoded_result(self, job: Job) -> str | None:
        try:
            return encode_result(job.result)
        except WorkspaceError as error:
            logger.error("Result not kept: job=%s name=%s %s", job.id, job.name, error)
            return None

    def _call_hooks(
        self, workflow: Workflow, job: Job, transition: Transition, failed: BaseException | None
    ) -> str:
        """Call what follows a task, to which the job shows what it will be; return the text of its errors."""
        if workflow.failure_hook is None and workflow.post_task_hook is None:
            return ""
        before, text = (job.state, job.next_task), ""
        job.state, job.next_task = transition.state.value, transition.next_task
        if failed is not None:
            text = self._call_hook("failure_hook", workflow.failure_hook, job, failed)
        text += self._call_hook("post_task_hook", workflow.post_task_hook, job)
        job.state, job.next_task = before
        return text

    def _call_hook(self, kind: str, path: str | None, job: Job, *args: Any) -> str:
        """Call a hook that follows a task; return the text of its own error, which changes nothing else."""
        if path is None:
            return ""
        return self._tell(f"{kind}={path}", job, lambda: run_to_its_end(import_string(path), job, *args))

    def _call_hooks_of_call(self, job: Job, transition: Transition, error: str | None) -> str:
        """Tell those whom a call names that it has ended; return the text of their own errors."""
        assert job.call is not None
        if transition.state is State.FAILED and not calls.signature_holds(job):
            return ""  # Nothing of a row that was changed is imported.
        paths = calls.hooks(job.call, failed=error is not None)
        if not paths:
            return ""
        ended = results.at_its_end(job, error)
        return "".join(
            self._tell(f"hook={path}", job, lambda path: run_to_its_end(calls.resolve(path), ended), path)
            for path in paths
        )

    def _tell(self, what: str, job: Job, function: Callable[..., Any], *args: Any) -> str:
        before = depths()
        try:
            with statement_errors_undone(before):
                function(*args)
            refuse_open_transactions(before, what)
            return ""
        except BaseException as error:
            leave_to_the_person(error)
            drop_open_transactions(before)
            logger.exception("Hook failed: job=%s name=%s %s", job.id, job.name, what)
            return f"\n{what.replace('=', ' ')} failed:\n{traceback_of(error)}"

    def _save(self, job: Job) -> None:
        """Write what a running task has so far; `Job.save()` comes here."""
        text = encode_workspace(job.workspace)
        result = None if job.result is None else encode_result(job.result)
        connection = connections[self.using]
        with self.watching(connection):
            held = self.store.save_progress(job, workspace=text, result=result, worker=self.worker)
        if not held:
            raise LeaseLost(f"job {job.id} is no longer this worker's; nothing was saved")
        if not connection.in_atomic_block:
            job.recorded_workspace = text
            return
        job.saved_in_block = True
        if self._is_watched:
            transaction.on_commit(partial(setattr, job, "recorded_workspace", text), using=self.using)
            self._renew_after_commit(job)

    def _renew_after_commit(self, job: Job) -> None:
        """Renew the lease of a job whose row its own transaction locks, should that outlast a part of it."""
        late = time.monotonic() + conf.options().LEASE_SECONDS / 3

        def renew() -> None:
            if time.monotonic() > late:
                self._still_held(job)

        transaction.on_commit(renew, using=self.using)


def _somebody_is_told(job: Job, step: _Step) -> bool:
    """Tell whether a success of this task is told to anybody before it is committed."""
    hooks = [step.workflow.post_task_hook] if job.call is None else calls.hooks(job.call, failed=False)
    return any(hooks) or _ends_are_told()


def _ends_are_told() -> bool:
    return bool(signals.post_execute.receivers or signals.post_execute_in_worker.receivers)


def _function_told(job: Job, step: _Step) -> Any:
    """Return the function that a step calls, as its caller knows it; None where it could not be imported."""
    function = getattr(step, "function", None)
    return calls.resolve(job.next_task) if function is not None and job.call is not None else function


def _refused(job: Job, error: Exception, began: float) -> Attempt:
    """Fail a job of whose row nothing can be used: no attempt will be better."""
    return _without_hooks(job, Failed(line_of(error), may_retry=False), error, began)


def _without_hooks(
    job: Job, outcome: Failed | CutOff, error: BaseException, began: float, unsure: Transition | None = None
) -> Attempt:
    """Return an attempt that is noted in the history, and that no hook hears of."""
    transition = decide(job, outcome)
    seconds = time.monotonic() - began
    place = (job.next_task, job.position, job.attempt)
    transition.run = Run(*place, outcome.kind, began, seconds, outcome.error)
    return Attempt(job, transition, seconds, error, unsure=unsure)


def _dropped(job: Job, seconds: float, error: BaseException | None = None) -> Attempt:
    """Return an attempt that counts for nothing: another worker has the job."""
    return Attempt(job, decide(job, GivenBack()), seconds, error, recorded=False)


def _is_a(error: BaseException, path: str) -> bool:
    """Tell whether `error` is an exception of the class at `path`; of none that does not import."""
    try:
        return isinstance(error, import_string(path if "." in path else f"builtins.{path}"))
    except Exception as fault:
        logger.error("Retry policy: %r is no exception class: %s", path, line_of(fault))
        return False

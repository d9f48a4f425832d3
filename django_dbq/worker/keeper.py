"""The worker's book-keeper: one thread, one connection, every statement of the engine.

It claims ahead, records what has finished, renews leases and gives back what it
cannot run. It never runs a task.
"""

from __future__ import annotations

import enum
import logging
import os
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from django.db import DatabaseError, InterfaceError

from django_dbq import conf
from django_dbq.engine.lifecycle import UNSUCCESSFUL, Run, Snoozed, State, Transition
from django_dbq.engine.workspace import printable
from django_dbq.models import Job, WorkerProcess, decode
from django_dbq.redaction import redact_text
from django_dbq.store import get_store
from django_dbq.store.base import AWAITED_SECONDS, Batch
from django_dbq.store.drivers import is_missing
from django_dbq.worker.backlog import Backlog
from django_dbq.worker.errors import ERROR_CHARS_MAX
from django_dbq.worker.executor import Attempt, Executor
from django_dbq.worker.log import log_attempt
from django_dbq.worker.pace import Pace
from django_dbq.worker.session import Session, is_contention, passes
from django_dbq.worker.settings import WorkerSettings
from django_dbq.worker.slot import Slot
from django_dbq.worker.upkeep import Upkeep
from django_dbq.worker.watchdog import Watchdog

logger = logging.getLogger("django_dbq.worker")

HOSTAGE_SECONDS = 1.0  # A task this long behind which others wait makes them go back.
TIME_LIMIT_CHECK_SECONDS = 0.5
LOCKED_SECONDS = 0.5  # Between two looks at rows that others have locked.


class Word(enum.Enum):
    """What else than a finished attempt may reach the keeper."""

    WAKE = "wake"  # A served queue has news.
    STOP = "stop"  # Finish what runs, give back the rest.
    NOW = "now"  # Give everything back and leave.


class Keeper(threading.Thread):
    """See the module. `inbox` is safe to put into from a signal handler."""

    def __init__(
        self,
        settings: WorkerSettings,
        executor: Executor,
        backlog: Backlog,
        slots: list[Slot],
        leave: Callable[[], None],
    ) -> None:
        super().__init__(name="dbq-keeper", daemon=True)
        options = conf.options()
        self.settings = settings
        self.worker = executor.worker
        self.executor = executor
        executor.keeps = self.keeps
        # By the end of a lease no answer is worth waiting for.
        self._watchdog = Watchdog(options.LEASE_SECONDS)
        executor.watching = self._watchdog.watching
        self.backlog = backlog
        self.slots = slots
        self.leave = leave
        self.inbox: queue.SimpleQueue[Attempt | Word] = queue.SimpleQueue()
        self.pace = Pace(options.BACKLOG_SECONDS, options.BACKLOG_MAX, len(slots))
        self.store = get_store(settings.using)
        self._session = Session(
            settings.using, options.LEASE_SECONDS, options.DATABASE_RETRY_SECONDS, self._watchdog
        )
        self._session.needed = lambda: self._holds
        self._session.meanwhile = self._extend
        self.code = 0  # What this process is to exit with.
        self.failure: Attempt | None = None  # The one that stopped it.
        self.parent: int | None = None  # The supervisor's process id.
        self.fallen: tuple[str, ...] = ()  # Workers known to be dead: their jobs need not wait.
        self.at_first_claim: Callable[[], None] | None = None
        self._upkeep = Upkeep(self.store, self.worker, settings)
        self._upkeep.may_rescue = self._may_rescue
        self._upkeep.held = lambda: self._held
        self._process: WorkerProcess | None = None  # Its row.
        self._report_at = 0.0  # A monotonic time: at once.
        self._tasks_done = self._tasks_failed = 0
        self._lease_seconds = options.LEASE_SECONDS
        # A little less than the lease, for clocks that run at different speeds.
        self._trust_seconds = 0.95 * options.LEASE_SECONDS
        self._held: dict[Any, Job] = {}  # Everything claimed and taken in: in the backlog or running.
        # For so many jobs by a claim whose answer is not taken in yet, and how long it took.
        self._asked: tuple[int, float] | None = None
        self._finished: list[Attempt] = []
        self._put_off: list[Attempt] = []  # Whose rows others have locked,
        self._put_off_until = 0.0  # and when to look at them again.
        self._hungry = True  # A claim may find something.
        self._awaited: dict[str, float] = {}  # Jobs for whose end somebody waits, each until when.
        self._awaited_lock = threading.Lock()
        self._chosen = None if settings.job_ids is None else deque(settings.job_ids)
        self._stopping = False
        self._leave_at = float("inf")  # When grace ends.
        self._gave_up = False
        self._timeouts = any(
            task.timeout_seconds for entry in conf.workflows().values() for task in entry.tasks
        )
        self._jobs_begun = 0
        self._extend_at = time.monotonic() + self._lease_seconds / 3
        self._claim_at = 0.0  # Not before, by --rate_limit.

    def hurry(self) -> None:
        """Stop waiting for a database that does not answer; called once, by a signal handler too."""
        self._session.hurry()
        if self._gave_up:
            self.leave()

    def ask(self, word: Word) -> None:
        """Ask the keeper to stop; safe in a signal handler."""
        if self.settings.grace_seconds is not None:  # Which begins here: it may be waiting for its database.
            until = time.monotonic() + self.settings.grace_seconds
            self._session.give_up_at = min(self._session.give_up_at, until)
        self.inbox.put(word)
        self._session.ask()

    # The loop.

    def run(self) -> None:
        try:
            self._watchdog.start()
            self._loop()
        except BaseException as error:
            if self._session.not_needed and isinstance(error, (DatabaseError, InterfaceError)):
                logger.info("Stopping without the database: worker=%s", self.worker)
                return
            self.code = 1
            cure = "run manage.py migrate: " if is_missing(error) else ""
            logger.critical("Worker stops: %s%s", cure, redact_text(str(error).strip()), exc_info=error)
            self._gave_up = True  # From now on hurry() leaves, which may be called in this moment.
            if self._session.hurried:
                self.leave()
        finally:
            try:
                self.backlog.close()
            finally:
                self._session.close()
                self._watchdog.stop()

    def _loop(self) -> None:
        while True:
            self._collect(self._patience())
            self._record()  # Meanwhile task threads read and begin what was claimed.
            self._take_in()
            self._watch_time_limits()
            if time.monotonic() >= self._leave_at:
                self._give_back_everything()
                return self.leave()
            self._report()
            if not self._stopping:
                self._free_hostages()
            self._extend()  # Before it rescues: what it holds is no other's.
            if not self._stopping:
                self._keep_up()
            if not self._stopping:
                self._claim()
                if self._spent():
                    self._begin_stop()
            if self._stopping and not self._holds:
                if self._process is not None:
                    self._session.run(lambda: self.store.leave(self.worker))
                return

    def _patience(self) -> float:
        """Return how long to wait for news, in seconds."""
        times = [self._extend_at, self._leave_at]
        if self._put_off:
            times.append(self._put_off_until)
        if self._timeouts and self._held:
            times.append(time.monotonic() + TIME_LIMIT_CHECK_SECONDS)
        if not self._stopping:
            times += [self._upkeep.due_at, self._upkeep.wake_at]
            if self.settings.rate_limit_seconds and self._hungry and not self._holds:
                times.append(self._claim_at)
            if len(self.backlog):
                times.append(time.monotonic() + HOSTAGE_SECONDS)
            ends = self.settings.burst or self._chosen is not None
            if ends and not self._holds and self._hungry:
                times = [self._claim_at]
        return max(0.0, min(times) - time.monotonic())

    def _collect(self, timeout: float) -> None:
        """Take everything that has arrived, waiting for the first."""
        try:
            self._take(self.inbox.get(timeout=timeout) if timeout else self.inbox.get_nowait())
            while True:
                self._take(self.inbox.get_nowait())
        except queue.Empty:
            pass

    def _take(self, item: Attempt | Word) -> None:
        if isinstance(item, Attempt):
            self._finished.append(item)
        elif item is Word.WAKE:
            self._hungry = True
            self._upkeep.resumed = bool(self._upkeep.paused)
        elif item is Word.STOP:
            self._begin_stop()
        else:
            self._leave_at = 0.0

    def _spent(self) -> bool:
        """Tell whether this worker has done all it was started for."""
        if self._holds:
            return False
        limit = self.settings.max_jobs
        if limit is not None and self._jobs_begun >= limit:
            return True
        if self._chosen is not None:
            return not self._chosen
        return self.settings.burst and not self._hungry and not self._upkeep.wake_owed

    @property
    def _holds(self) -> bool:
        return bool(self._held) or self._asked is not None

    # Recording.

    def _record(self) -> None:
        self._look_at_locked()
        finished, self._finished = self._finished, []
        if not finished:
            return
        if self.backlog.is_read:
            self._take_in()  # One of these may have been claimed with them.
        for attempt in finished:
            self.pace.observe(attempt.job.name, attempt.seconds)
        if len({attempt.job.id.int for attempt in finished}) < len(finished):  # UUIDs are hashed in Python.
            # Of a job that was lost and came back, the earlier attempt has ended beside the later one.
            claims = sorted((attempt.job.claim, attempt.job.id) for attempt in finished)
            latest = {pk: claim for claim, pk in claims}
            for attempt in finished:
                if attempt.recorded is None and attempt.job.claim < latest[attempt.job.id]:
                    attempt.recorded = False
        todo = [attempt for attempt in finished if attempt.recorded is None]
        for attempt in todo:
            if attempt.transition.goes_on and self.keeps(attempt.job):
                attempt.transition.keep()
        if todo:
            states, locked = self._write([attempt.transition for attempt in todo])
            if locked:
                self._put_off += [attempt for attempt in todo if attempt.job.id in locked]
                todo = [attempt for attempt in todo if attempt.job.id not in locked]
                finished = [
                    attempt
                    for attempt in finished
                    if attempt.recorded is not None or attempt.job.id not in locked
                ]
            for attempt in todo:
                attempt.note(states)
                if attempt.unsure is not None and not attempt.recorded:
                    self._settle_doubt(attempt, attempt.unsure)
        held = []
        unwanted = [
            attempt.job.id
            for attempt in finished
            if attempt.unwanted and attempt.recorded and attempt.transition.state is State.COMPLETE
        ]
        if unwanted:
            self._session.run(lambda: self.store.discard(unwanted))
        if self._awaited:
            self._tell_ended(finished)
        for attempt in finished:
            log_attempt(attempt)
            self._count(attempt)
            group_id = attempt.job.__dict__.get("group_id")  # A foreign key's attribute is a call in Python.
            if group_id is not None and attempt.transition.finished:
                self._upkeep.ended(group_id)
            if attempt.recorded and attempt.transition.hold:
                held.append(self._held_on(attempt))
            else:
                self._let_go(attempt.job)
                if attempt.transition.goes_on:
                    self._hungry = True
                    self._jobs_begun -= 1  # It will be claimed again: one job is counted once.
                    if self._chosen is not None and attempt.transition.outcome != Snoozed.kind:
                        self._chosen.appendleft(attempt.job.id)
            if attempt.transition.follower is not None:
                self._hungry = True
            if self.settings.stop_at_failure and attempt.error is not None:
                self.code = 1
                self.failure = self.failure or attempt
                self._begin_stop()
        if self._stopping and held:
            self._give_back(held)
        elif held:
            self.backlog.put(held)

    def _look_at_locked(self) -> None:
        """Take up outcomes again whose rows were locked, and are so no more."""
        if not self._put_off or time.monotonic() < self._put_off_until:
            return
        self._put_off_until = time.monotonic() + LOCKED_SECONDS
        ids = [attempt.job.id for attempt in self._put_off]
        locked = self._session.run(lambda: self.store.locked(ids))
        self._finished += [attempt for attempt in self._put_off if attempt.job.id not in locked]
        self._put_off = [attempt for attempt in self._put_off if attempt.job.id in locked]

    def _count(self, attempt: Attempt) -> None:
        run = attempt.transition.run
        if attempt.recorded and run is not None:
            failed = run.outcome in UNSUCCESSFUL
            self._tasks_failed += failed
            self._tasks_done += not failed

    def awaited(self, job_ids: list[str]) -> None:
        """Hear that somebody waits for the end of these jobs; in the listener's thread."""
        now = time.monotonic()
        with self._awaited_lock:
            for job_id in job_ids:
                self._awaited.pop(job_id, None)  # So that the dictionary has the soonest to expire first.
                self._awaited[job_id] = now + AWAITED_SECONDS
            while self._awaited[first := next(iter(self._awaited))] < now:
                del self._awaited[first]

    def _tell_ended(self, finished: list[Attempt]) -> None:
        """Wake those who wait for the end of one of these jobs."""
        ended = [attempt.job.id for attempt in finished if attempt.recorded and attempt.transition.finished]
        with self._awaited_lock:
            told = [pk for pk in ended if self._awaited.get(pk.hex, 0.0) > time.monotonic()]
        if told:
            self._session.run(lambda: self.store.tell_ended(told))

    def _let_go(self, job: Job) -> None:
        """Hold a job no more, unless it has come back under a later claim."""
        held = self._held.pop(job.id, None)
        if held is not None and held.claim != job.claim:
            self._held[job.id] = held

    def _settle_doubt(self, attempt: Attempt, unsure: Transition) -> None:
        """Take a commit whose answer was lost for what it was, where it stands in the history."""
        states = self._session.run(lambda: self.store.recorded([unsure], worker=self.worker))
        if states:
            attempt.transition, attempt.error = unsure, None
            attempt.note(states)

    def keeps(self, job: Job) -> bool:
        """Tell whether a job that can go on stays on this worker.

        Quick ones do, for a second. Others go back, so that what is more urgent comes first.
        """
        if self._stopping or self.settings.rate_limit_seconds or job.queue_name in self._upkeep.paused:
            return False
        if job.kept_since is not None and time.monotonic() > job.kept_since + HOSTAGE_SECONDS:
            return False
        return self.pace.quick(job.name)

    def _write(self, transitions: list[Transition], tries: int = 0) -> tuple[dict[Any, str], set[Any]]:
        """Record these, as often as it takes; return their states, and which rows somebody has locked."""
        gives_way = not tries  # Once it is known which rows are locked, the others are waited for.

        def record() -> dict[Any, str]:
            nonlocal tries
            tries += 1
            return self.store.record(transitions, worker=self.worker, lease_seconds=self._lease_seconds)

        try:
            states = self._session.run(record, gives_way)
        except (DatabaseError, ValueError) as error:  # A driver may refuse a text before it is sent.
            if gives_way and is_contention(error):
                locked = self._session.run(lambda: self.store.locked([each.job_id for each in transitions]))
                reason = redact_text(str(error).strip())
                logger.warning("Record met a lock, trying again: locked=%d %s", len(locked), reason)
                free = [each for each in transitions if each.job_id not in locked]
                states, more = self._write(free, tries) if free else ({}, set())
                return states, locked | more
            if isinstance(error, DatabaseError) and passes(error):
                raise
            if len(transitions) > 1:
                # One of them holds what the database refuses; the others are not to suffer.
                states, locked = {}, set()
                for one in transitions:
                    written, waits = self._write([one])
                    states, locked = states | written, locked | waits
                return states, locked
            _refuse(transitions[0], error)
            states = self._session.run(record)
        if tries > 1 and len(states) < len(transitions):
            states |= self._session.run(lambda: self.store.recorded(transitions, worker=self.worker))
        return states, set()

    def _held_on(self, attempt: Attempt) -> Job:
        """Return the job as it now stands, with its workspace as recorded."""
        job, transition = attempt.job, attempt.transition
        fresh = job.as_recorded(
            claim=transition.claim + 1,
            next_task=transition.next_task,
            position=transition.position,
            attempt=transition.attempt,
            lost_attempts=transition.lost_attempts,
            priority=job.priority if transition.priority is None else transition.priority,
            prior_state=State.READY,
            workspace=transition.workspace or job.recorded_workspace,
            result=job.result if transition.result is None else decode(transition.result),
        )
        fresh.trusted_until = job.trusted_until
        fresh.kept_since = job.kept_since or time.monotonic()
        self._held[fresh.id] = fresh
        return fresh

    # Claiming, and giving back.

    def _claim(self) -> None:
        if not self._hungry or time.monotonic() < self._claim_at:
            return
        ended = {attempt.job.id for attempt in self._put_off}
        busy = len(self._held) - len(ended)  # Waiting in the backlog, or running.
        if any(job.lost_attempts and job.id not in ended for job in self._held.values()):
            return  # It may have killed its worker: nothing is to be lost beside it.
        limit = self.pace.limit(len(self.backlog), len(self.slots) - (busy - len(self.backlog)))
        if self.settings.rate_limit_seconds:
            limit = min(limit, 1 - busy)
        if self.settings.max_jobs is not None:
            limit = min(limit, self.settings.max_jobs - self._jobs_begun)
        if self.settings.stop_at_failure:
            limit = min(limit, 1 - len(self._held))
        if limit <= 0:
            return
        sent = time.monotonic()
        batch = self._session.run(lambda: self._claimed(limit))
        if batch.size and self.at_first_claim is not None:
            self.at_first_claim()
            self.at_first_claim = None
        self._hungry = batch.size >= limit if self._chosen is None else bool(self._chosen)
        self._jobs_begun += batch.size
        if self.settings.rate_limit_seconds and batch.size:
            self._claim_at = time.monotonic() + self.settings.rate_limit_seconds
            self._hungry = True
        self.backlog.put_unread(batch, sent + self._trust_seconds)
        self._asked = limit, time.monotonic() - sent
        if self.inbox.empty():
            self._take_in()  # There is nothing else to do.

    def _take_in(self) -> None:
        """Hold what the last claim brought, and learn from it."""
        if self._asked is None:
            return
        (limit, seconds), self._asked = self._asked, None
        jobs, aside = self.backlog.read()
        for job in jobs:
            self._held[job.id] = job
            self._timeouts = self._timeouts or job.call is not None
        sizes = [len(job.recorded_workspace or "") for job in jobs]
        self.pace.claimed([job.name for job in jobs], limit, sum(sizes), seconds)
        if aside:
            self.pace.slow()
            self._hungry = True
            self._give_back(aside[1:])
            self.backlog.put(aside[:1])  # Not while it holds the others: it may end this process at once.

    def _claimed(self, limit: int) -> Batch:
        lease = self._lease_seconds
        if self._chosen is None:
            names = self.settings.queue_names
            if self._upkeep.paused:
                names = tuple(name for name in names if name not in self._upkeep.paused)
                if not names:
                    return Batch(0, list)
            return self.store.claim_unread(names, worker=self.worker, limit=limit, lease_seconds=lease)
        ids = list(islice(self._chosen, limit))
        # Another worker may have run one meanwhile, and put it off.
        jobs = self.store.claim_by_id(ids, worker=self.worker, lease_seconds=lease, only_due=True)
        for _ in ids:
            self._chosen.popleft()
        return Batch(len(jobs), lambda: jobs)

    def _free_hostages(self) -> None:
        """Give back what waits behind tasks that have run for longer than a second."""
        if not len(self.backlog):
            return
        if all(slot.seconds() > HOSTAGE_SECONDS for slot in self.slots):
            self.pace.slow()
            self._give_back(self.backlog.empty())

    def _give_back(self, jobs: list[Job], gives_way: bool = False) -> None:
        if not jobs:
            return
        self._session.run(lambda: self.store.release(jobs, worker=self.worker), gives_way)
        self._jobs_begun -= len(jobs)
        for job in jobs:
            del self._held[job.id]
            if self._chosen is not None:
                self._chosen.appendleft(job.id)
        logger.info("Given back: jobs=%d worker=%s", len(jobs), self.worker)

    def _give_back_everything(self) -> None:
        """Give back all jobs, also those whose tasks run: this process ends at once."""
        self._put_off_until = 0.0
        self._fail_stuck()
        waiting = self.backlog.close()
        running = [job for job in self._held.values() if job not in waiting]
        for group in ([waiting] if waiting else []) + [[job] for job in running]:
            try:
                self._give_back(group, gives_way=group is not waiting)
            except (DatabaseError, InterfaceError) as error:
                # Its own transaction holds the row; its lease runs out instead.
                logger.warning("Not given back: jobs=%d %s", len(group), redact_text(str(error).strip()))

    def _begin_stop(self) -> None:
        if self._stopping:
            return
        self._take_in()
        self._stopping = True
        if self.settings.grace_seconds is not None:
            until = min(self._session.give_up_at, time.monotonic() + self.settings.grace_seconds)
            self._session.give_up_at = self._leave_at = min(self._leave_at, until)
        self._give_back(self.backlog.close())
        if self._held:
            logger.info("Stopping: running=%d worker=%s", len(self._held), self.worker)
            self._extend(stopping=True)

    # Time limits.

    def _watch_time_limits(self) -> None:
        """Deal with tasks that have not ended by their time limit.

        In the main thread an exception ends a task; one that goes on all the same, or
        that runs in a thread, which nothing can interrupt, costs the process: it stops,
        lets the other tasks end, fails the stuck ones and leaves.
        """
        if not self._timeouts:
            return
        grace = conf.options().TIMEOUT_GRACE_SECONDS
        overdue = [found for slot in self.slots if (found := slot.overdue()) is not None]
        threaded = len(self.slots) > 1
        # A coroutine is being cancelled meanwhile, and hooks may follow a task that has just ended.
        stuck = [job for job, over in overdue if over > (TIME_LIMIT_CHECK_SECONDS if threaded else grace)]
        if stuck and self._leave_at == float("inf"):
            for job in stuck:
                logger.error("Task stuck: job=%s name=%s task=%s", job.id, job.name, job.next_task)
            self.code = 1
            self._begin_stop()
            self._leave_at = min(self._leave_at, time.monotonic() + (grace if threaded else 0.0))

    def _fail_stuck(self) -> None:
        """Record as failed what still runs past its time limit."""
        for slot in self.slots:
            found = slot.overdue()
            held = None if found is None else self._held.get(found[0].id)
            if found is not None and held is not None and held.claim == found[0].claim:
                self._finished.append(self.executor.fail_stuck(held, *slot.hangs()))
        self._record()

    # Leases and upkeep.

    def _extend(self, stopping: bool = False) -> None:
        if time.monotonic() < self._extend_at and not stopping:
            return
        self._extend_at = time.monotonic() + self._lease_seconds / 3
        jobs = list(self._held.values())
        if not jobs:
            return
        sent = time.monotonic()
        still = self._session.run(
            lambda: self.store.extend(
                jobs, worker=self.worker, lease_seconds=self._lease_seconds, stopping=self._stopping
            )
        )
        for job in jobs:
            if job.id in still:
                job.trusted_until = sent + self._trust_seconds
                job.asked_to_stop = still[job.id] or self._stopping
        if len(still) == len(jobs):
            return
        # Lost, or locked by somebody: then it is due once they let it go.
        self._extend_at = min(self._extend_at, time.monotonic() + LOCKED_SECONDS)
        missing = {job.id for job in jobs} - still.keys()
        for job in self.backlog.discard(missing - self._session.run(lambda: self.store.locked(missing))):
            del self._held[job.id]
            logger.warning("Lease lost: job=%s name=%s task=%s, not begun", job.id, job.name, job.next_task)

    def _keep_up(self) -> None:
        if time.monotonic() < self._upkeep.due_at:
            if time.monotonic() >= self._upkeep.wake_at:
                self._hungry |= self._session.run(self._upkeep.wake)
            if self._upkeep.resumed:
                self._session.run(self._upkeep.look_at_pauses)
            return
        self._hungry = True  # Polling is the truth.
        limit = self.settings.rss_bytes_max if self._jobs_begun else None  # Or it would never do anything.
        if limit is not None and (size := rss_bytes()) > limit:
            logger.warning("Too large, stopping: rss_bytes=%d worker=%s", size, self.worker)
            return self._begin_stop()
        if self.parent is not None and os.getppid() != self.parent:
            logger.error("Supervisor gone, stopping: worker=%s", self.worker)
            return self._begin_stop()
        if self.fallen:
            self._session.run(lambda: self.store.expire(self.fallen))
            self.fallen = ()
        sent = time.monotonic()
        claimable, spent = self._session.run(self._upkeep.run)
        self._hungry |= claimable
        if self._upkeep.paused and self._chosen is None:
            paused = {job.id for job in self._held.values() if job.queue_name in self._upkeep.paused}
            self._give_back(self.backlog.discard(paused))
        for job in spent:
            job.trusted_until = sent + self._trust_seconds
            self._held[job.id] = job
        self.backlog.put(spent)

    def _may_rescue(self) -> bool:
        """Tell whether a lease that ran out is that of a worker which does not live.

        After an outage those of all have run out: this worker's, and those of others about to try again.
        """
        return self._session.settled and time.monotonic() < self._extend_at

    @property
    def jobs_begun(self) -> int:
        """How many jobs this worker has taken and not given back."""
        return self._jobs_begun

    def _report(self) -> None:
        """Show that this process lives."""
        if time.monotonic() < self._report_at:
            return
        self._report_at = time.monotonic() + self._lease_seconds / 3
        if self._process is None:
            self._process = WorkerProcess(
                name=self.worker,
                host=socket.gethostname(),
                pid=os.getpid(),
                queue_names=list(self.settings.queue_names),
                threads=self.settings.threads,
                started=self._session.run(self.store.clock),
            )
        process = self._process
        process.tasks_done, process.tasks_failed = self._tasks_done, self._tasks_failed
        process.rss_bytes = rss_bytes() or None
        self._session.run(lambda: self.store.report(process))


def _refuse(transition: Transition, error: Exception) -> None:
    """Make a transition that the database refuses into one that it takes: FAILED, with the reason."""
    transition.state, transition.hold, transition.delay_seconds = State.FAILED, False, None
    transition.workspace = transition.result = transition.priority = None
    # The lines after the first may show the whole row.
    reason = printable(redact_text(str(error).strip().partition("\n")[0]))[:ERROR_CHARS_MAX]
    transition.error = f"{type(error).__name__}: the database refused the record: {reason}"
    run = transition.run
    if run is not None:
        transition.run = Run(
            run.task, run.position, run.attempt, "failed", run.began, run.seconds, transition.error
        )
    logger.error("Record refused: job=%s %s", transition.job_id, redact_text(str(error).strip()))


def rss_bytes() -> int:
    """Return the resident memory of this process, as the system tells it; 0 where it does not."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0

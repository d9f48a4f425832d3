"""Workers, a clock and every fault, all of them virtual; the promises are looked at after each event."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections import Counter
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_dbq import conf
from django_dbq.engine.lifecycle import (
    DUE_STATES,
    FINISHED_STATES,
    HELD_STATES,
    Done,
    Failed,
    Finished,
    Lost,
    Parked,
    Run,
    Snoozed,
    State,
    WentTo,
    decide,
)
from tests.simulation.model import LOST_ATTEMPTS_MAX, ModelStore, Row
from tests.simulation.replay import Event, plain, snapshot_of_model

LEASE = 30
TRUST = 0.95 * LEASE
QUEUES = ("default", "other")
A, B, C = (f"tests.workflows.{name}" for name in ("nothing", "count", "boom"))
ONCE_MORE = {"max_attempts": 2, "delay_seconds": 20, "jitter": False}
JOBS = {
    "single": [A],
    "pair": {"tasks": [A, B], "retry": ONCE_MORE},
    "loop": {"tasks": [A, B, A, C], "retry": ONCE_MORE},
}
JOBS_MAX = 6
# The verbs that are told the time; the others have no use for it, or take the database's.
TIMED = {"claim", "record", "release", "rescue", "stage", "extend", "cancel"}

OUTCOMES = st.one_of(
    st.just(Done()),
    st.just(Done()),
    st.just(Done()),
    st.just(Finished()),
    st.builds(WentTo, st.sampled_from([A, B, C])),
    st.builds(Snoozed, st.sampled_from([0.0, 20.0, 50.0])),
    st.builds(Failed, st.just("ValueError: no"), st.booleans(), st.sampled_from([None, 0.0, 50.0])),
    st.builds(Parked, st.just("TaskUnavailable: no"), st.just(50.0)),
)
INDEX = st.integers(0, 5)


class Worker:
    """A process: what it holds in memory, and what it has to say."""

    def __init__(self, name):
        self.name = name
        self.paused = False
        self.held = {}  # id -> the job as the worker knows it
        self.trusted_until = {}  # id -> virtual time
        self.begun = set()  # ids of those whose task has run
        self.outbox = []  # transitions of those
        self.unsure = False  # The outbox was sent before, and no answer came.

    def take(self, job, trusted_until):
        self.held[job.id], self.trusted_until[job.id] = job, trusted_until
        self.begun.discard(job.id)

    def drop(self, pk):
        self.held.pop(pk, None)
        self.trusted_until.pop(pk, None)
        self.begun.discard(pk)


# Which of the workers that are not paused could do a thing.


def anyone(worker):
    return True


def has_work(worker):
    return bool(worker.held.keys() - worker.begun) and not worker.unsure


def has_ended_some(worker):
    return bool(worker.outbox)


def holds_some(worker):
    return bool(worker.held)


def some(condition):
    return precondition(lambda self: any(condition(worker) for worker in self.running()))


class Simulation(RuleBasedStateMachine):
    """One story: rules are what may happen, invariants what `docs/guarantees.md` promises."""

    seen = Counter()  # What happened in all stories, so that a test can tell that it did.

    def __init__(self):
        super().__init__()
        self.model = ModelStore()
        self.now = 100.0
        self.trace = []
        self.workers = []
        self.names = 0
        self.dead = []  # names
        self.in_flight = []  # (worker's name, transitions) that the network may still deliver
        # The books that the promises are told from. They know what was said, not what a row holds.
        self.live = set()  # ids of all that were created and not pruned
        self.asked_to_cancel = set()
        self.handed = {}  # (id, claim) -> the name of the worker that it was given to
        self.taken = set()  # (id, claim) of each record that was taken
        self.age = Counter()  # id -> how often the job has begun another task, or anew
        self.age_of = {}  # (id, claim) -> the age at which that claim was given
        self.done = {}  # id -> positions whose task is recorded as done
        self.lost_starts = {}  # id -> claims under which the present task began and was not recorded
        self.failures = Counter()  # id -> recorded failures of the present task

    # The store.

    def do(self, verb, **values):
        """Let the model do a verb; note it, and look at what must not change."""
        before = self.trace[-1].rows if self.trace else {}
        kept = {
            key: [replace(item) for item in value] if key in ("jobs", "transitions") else value
            for key, value in values.items()
        }
        answer = getattr(self.model, verb)(**values, **({"now": self.now} if verb in TIMED else {}))
        after = snapshot_of_model(self.model)
        self.trace.append(Event(verb, self.now, kept, plain(verb, answer), after))
        for key, was in before.items():
            if key not in after:
                assert verb == "prune", "a row has gone"
            elif isinstance(key, tuple):
                assert after[key] == was, "history has changed"
            else:
                assert after[key]["claim"] >= was["claim"], "a claim number has become less"
                if was["state"] in FINISHED_STATES and verb != "retry":
                    assert {**after[key], "staged": None} == {**was, "staged": None}, "the end was undone"
        return answer

    def give(self, worker, jobs):
        """A worker is told that these jobs are its own."""
        for job in jobs:
            self.note_claim(job.id, job.claim, worker.name)
            worker.take(job, self.now + TRUST)

    def note_claim(self, pk, claim, name):
        assert (pk, claim) not in self.handed, "two attempts have one claim number"
        self.handed[pk, claim], self.age_of[pk, claim] = name, self.age[pk]

    def send(self, name, transitions):
        """Let a record of worker `name` reach the database; look at what it made of it."""
        before = self.trace[-1].rows
        answer = self.do("record", transitions=transitions, worker=name, lease_seconds=LEASE)
        after = self.trace[-1].rows
        for one in transitions:
            pk = one.job_id
            # Of a job that a worker lost and got back, both attempts may be in one record.
            if pk not in answer or one.claim < before[pk]["claim"]:
                self.seen["stale record"] += 1
                assert pk in answer or after.get(pk) == before.get(pk), "a stale claim has changed a job"
                assert after.get((pk, one.claim)) == before.get((pk, one.claim)), (
                    "a stale claim has a history"
                )
                continue
            assert self.handed[pk, one.claim] == name, "a record of another's claim was taken"
            assert all(claim < one.claim for job, claim in self.taken if job == pk), "recorded again"
            self.taken.add((pk, one.claim))
            self.note_outcome(one, before[pk]["position"])
            if one.hold and after[pk]["state"] in HELD_STATES:
                self.note_claim(pk, one.claim + 1, name)
        return answer

    def note_outcome(self, one, position):
        pk = one.job_id
        self.lost_starts[pk].discard(one.claim)
        if one.outcome == "failed":
            self.failures[pk] += 1
        if one.outcome in ("done", "finish", "goto") and one.state is not State.FAILED:
            assert position not in self.done[pk], "a task whose result is recorded has run again"
            self.done[pk].add(position)
            if one.outcome == "goto":
                self.go_back(pk, one.position)
            self.begin_anew(pk)

    def go_back(self, pk, position):
        self.done[pk] = {other for other in self.done[pk] if other < position}

    def begin_anew(self, pk):
        self.age[pk] += 1
        self.lost_starts[pk] = set()
        self.failures[pk] = 0

    # What people do.

    @initialize(
        workers=st.integers(2, 3), names=st.lists(st.sampled_from(sorted(JOBS)), min_size=2, max_size=4)
    )
    def start(self, workers, names):
        self.workers = [self.new_worker() for _ in range(workers)]
        for name in names:
            self.create(name, priority=0, queue_name="default", delay=None)

    @precondition(lambda self: len(self.model.rows) < JOBS_MAX)
    @rule(
        name=st.sampled_from(sorted(JOBS)),
        priority=st.integers(0, 1),
        queue_name=st.sampled_from(QUEUES),
        delay=st.sampled_from([None, None, -5.0, 25.0]),
    )
    def create(self, name, priority, queue_name, delay):
        # Not in the order of creation, for the order of ids is the last that a claim goes by.
        pk = uuid.UUID(int=(len(self.age) * 7919 % 101) << 64 | len(self.age))
        run_after = None if delay is None else self.now + delay
        row = Row(
            *(pk, name, conf.workflow(name).plan, self.now, queue_name, priority, run_after),
            staged=run_after is None or run_after <= self.now,
        )
        self.do("create", row=row)
        self.live.add(pk)
        self.done[pk] = set()
        self.begin_anew(pk)

    def some_job(self, index):
        pks = sorted(self.model.rows)
        return pks[index % len(pks)]

    @precondition(lambda self: self.model.rows)
    @rule(index=INDEX)
    def cancel(self, index):
        pk = self.some_job(index)
        if self.do("cancel", job_ids=[pk]):
            self.asked_to_cancel.add(pk)

    @precondition(lambda self: any(row.finished is not None for row in self.model.rows.values()))
    @rule(index=INDEX, from_start=st.booleans())
    def retry(self, index, from_start):
        pk = self.some_job(index)
        if self.do("retry", job_ids=[pk], from_start=from_start):
            self.seen["retry"] += 1
            self.asked_to_cancel.discard(pk)
            self.go_back(pk, self.model.rows[pk].position)
            self.begin_anew(pk)

    @precondition(lambda self: any(row.finished is not None for row in self.model.rows.values()))
    @rule(age=st.sampled_from([0.0, 100.0]))
    def prune(self, age):
        before = {pk: row.state for pk, row in self.model.rows.items()}
        self.do("prune", before=self.now - age)
        gone = before.keys() - self.model.rows.keys()
        assert all(before[pk] in FINISHED_STATES for pk in gone), "a live job was pruned"
        self.live -= gone

    # Time.

    @rule(seconds=st.sampled_from([10, 20, 40, 100]))
    def time_passes(self, seconds):
        """Workers that are not paused renew their leases meanwhile."""
        for _ in range(0, seconds, 10):
            for worker in self.workers:
                if not worker.paused and worker.held:
                    self.heartbeat(worker)
            self.now += 10

    def heartbeat(self, worker, stopping=False):
        jobs = list(worker.held.values())
        still = self.do("extend", jobs=jobs, worker=worker.name, lease_seconds=LEASE, stopping=stopping)
        for job in jobs:
            if job.id in still:
                worker.trusted_until[job.id] = self.now + TRUST
            elif job.id not in worker.begun:
                self.seen["heartbeat tells that a job is lost"] += 1
                worker.drop(job.id)

    @rule()
    def stage(self):
        self.do("stage")

    # Workers.

    def new_worker(self):
        self.names += 1
        return Worker(f"worker-{self.names}")

    def running(self):
        return [worker for worker in self.workers if not worker.paused]

    def one_that(self, condition, index):
        able = [worker for worker in self.running() if condition(worker)]
        return able[index % len(able)]

    @some(anyone)
    @rule(index=INDEX, limit=st.integers(1, 3), queue_names=st.sampled_from([QUEUES, QUEUES, ("other",)]))
    def claim(self, index, limit, queue_names):
        self.claim_as(self.one_that(anyone, index), limit, queue_names)

    def claim_as(self, worker, limit, queue_names):
        values = {"worker": worker.name, "limit": limit, "lease_seconds": LEASE}
        self.give(worker, self.do("claim", queue_names=queue_names, **values))

    @some(has_work)
    @rule(index=INDEX, which=INDEX, outcome=OUTCOMES, saves=st.booleans(), keep=st.booleans())
    def run(self, index, which, outcome, saves, keep):
        """A task runs to its end; its outcome waits to be recorded."""
        self.run_as(self.one_that(has_work, index), which, outcome, saves, keep)

    def run_as(self, worker, which, outcome, saves=False, keep=False):
        waiting = sorted(worker.held.keys() - worker.begun)
        job = worker.held[waiting[which % len(waiting)]]
        worker.begun.add(job.id)
        text = json.dumps({"claim": job.claim})
        if job.spent:
            outcome = Lost("WorkerLost: too often")
            self.seen["spent job"] += 1
        elif not isinstance(outcome, Parked):
            if self.age_of[job.id, job.claim] == self.age[job.id]:
                self.lost_starts[job.id].add(job.claim)
            if saves:
                self.save_progress(worker, job, text)
        policy = conf.workflow(job.name).task(job.next_task, job.position).retry
        one = decide(job, outcome, job.plan, policy, 0.5)
        if not isinstance(outcome, (Lost, Parked)):
            kind = "failed" if one.state is State.FAILED else outcome.kind
            one.run = Run(job.next_task, job.position, job.attempt, kind, time.monotonic(), 0.0, one.error)
            if one.error is None:
                one.workspace, one.run.changes = text, json.dumps({"set": {"claim": job.claim}})
                one.result = text if isinstance(outcome, Finished) else None
        if keep and one.goes_on:
            one.keep()
        worker.outbox.append(one)

    def save_progress(self, worker, job, text):
        before = self.trace[-1].rows.get(job.id)
        saved = self.do("save_progress", job=replace(job), workspace=text, result=None, worker=worker.name)
        if not saved:
            self.seen["stale save"] += 1
            assert self.trace[-1].rows.get(job.id) == before, "a stale claim has saved"

    @some(has_ended_some)
    @rule(index=INDEX)
    def record(self, index):
        """The keeper writes what has ended; after a lost answer it asks what was written."""
        self.record_as(self.one_that(has_ended_some, index))

    def record_as(self, worker):
        transitions, unsure = worker.outbox, worker.unsure
        worker.outbox, worker.unsure = [], False
        states = self.send(worker.name, transitions)
        missing = [one for one in transitions if one.job_id not in states]
        if unsure and missing:
            earlier = self.do("recorded", transitions=missing, worker=worker.name)
            for one in missing:
                if one.run is not None and one.job_id in self.live:
                    mine = (one.job_id, one.claim) in self.taken
                    self.seen["own success"] += mine
                    assert mine == (one.job_id in earlier), "a worker does not know its own success"
            states |= earlier
        for one in transitions:
            job, trusted_until = worker.held.get(one.job_id), worker.trusted_until.get(one.job_id)
            if job is None or job.claim != one.claim:
                continue
            worker.drop(one.job_id)
            if one.hold and states.get(one.job_id) not in (None, State.CANCELLED):
                worker.take(self.held_on(job, one), trusted_until)

    def held_on(self, job, one):
        """The job as its worker knows it after a record that keeps it."""
        return replace(
            job,
            claim=one.claim + 1,
            next_task=one.next_task,
            position=one.position,
            attempt=one.attempt,
            lost_attempts=one.lost_attempts,
            prior_state=State.READY,
            workspace=json.loads(one.workspace) if one.workspace else job.workspace,
        )

    @some(holds_some)
    @rule(index=INDEX, everything=st.booleans())
    def give_back(self, index, everything):
        """The worker gives back what it has not begun, or everything, and then it leaves."""
        worker = self.one_that(holds_some, index)
        if everything:
            self.heartbeat(worker, stopping=True)
        jobs = [job for pk, job in worker.held.items() if everything or pk not in worker.begun]
        states = self.do("release", jobs=jobs, worker=worker.name)
        for job in jobs:
            if job.id in states:
                self.taken.add((job.id, job.claim))
                self.lost_starts[job.id].discard(job.claim)
            worker.drop(job.id)
        if everything:
            self.workers[self.workers.index(worker)] = self.new_worker()

    @some(anyone)
    @rule(index=INDEX)
    def rescue(self, index):
        self.rescue_as(self.one_that(anyone, index))

    def rescue_as(self, worker):
        values = {"lease_seconds": LEASE, "lost_attempts_max": LOST_ATTEMPTS_MAX}
        ready, spent = self.do("rescue", worker=worker.name, **values)
        self.seen["rescue"] += len(ready)
        self.give(worker, spent)

    # Faults.

    @some(has_ended_some)
    @rule(index=INDEX, arrives=st.sampled_from(["at once", "late", "never"]), again=st.booleans())
    def answer_to_record_is_lost(self, index, arrives, again):
        """The worker sends it again, now or later; what it sent may arrive now, later or never."""
        worker = self.one_that(has_ended_some, index)
        if arrives == "at once":
            self.send(worker.name, worker.outbox)
        elif arrives == "late":
            self.in_flight.append((worker.name, [replace(one) for one in worker.outbox]))
        worker.unsure = True
        if again:
            self.record_as(worker)

    @precondition(lambda self: self.in_flight)
    @rule(index=INDEX, again=st.booleans())
    def late_record_arrives(self, index, again):
        place = index % len(self.in_flight)
        name, transitions = self.in_flight[place]
        if not again:
            del self.in_flight[place]
        self.seen["late record"] += 1
        self.send(name, transitions)

    @rule(index=INDEX, in_flight=st.booleans())
    def crash(self, index, in_flight):
        """A process dies, perhaps in the middle of a record, and is replaced."""
        worker = self.workers[index % len(self.workers)]
        if in_flight and worker.outbox:
            self.in_flight.append((worker.name, worker.outbox))
        self.dead.append(worker.name)
        self.workers[self.workers.index(worker)] = self.new_worker()
        self.seen["crash with a job"] += bool(worker.held)

    @some(anyone)
    @rule(index=INDEX, limit=st.integers(1, 3))
    def crash_before_the_answer_to_a_claim(self, index, limit):
        worker = self.one_that(anyone, index)
        values = {"worker": worker.name, "limit": limit, "lease_seconds": LEASE}
        for job in self.do("claim", queue_names=QUEUES, **values):
            self.note_claim(job.id, job.claim, worker.name)
        self.crash(self.workers.index(worker), in_flight=False)

    @precondition(lambda self: self.dead)
    @rule()
    def supervisor_tells_who_died(self):
        self.do("expire", workers=self.dead)
        self.dead = []

    @some(anyone)
    @rule(index=INDEX)
    def pause(self, index):
        self.one_that(anyone, index).paused = True

    @some(holds_some)
    @rule(index=INDEX, other=INDEX, thaws=st.booleans())
    def freeze(self, index, other, thaws):
        """A worker stands still for longer than its leases last; others take its jobs; it may go on."""
        frozen = self.one_that(holds_some, index)
        frozen.paused = True
        self.time_passes(40)
        if self.running():
            rescuer = self.one_that(anyone, other)
            self.rescue_as(rescuer)
            self.claim_as(rescuer, 3, QUEUES)
        if thaws:
            frozen.paused = False
            if has_work(frozen):
                self.run_as(frozen, 0, Done(), saves=True)

    @precondition(lambda self: len(self.running()) < len(self.workers))
    @rule(index=INDEX)
    def go_on(self, index):
        paused = [worker for worker in self.workers if worker.paused]
        paused[index % len(paused)].paused = False

    # The promises.

    @invariant()
    def every_promise_holds(self):
        self.no_job_is_lost()
        self.rows_are_sound()
        self.only_what_was_asked_for_is_cancelled()
        self.attempts_are_bounded()
        self.a_worker_that_trusts_its_lease_has_the_job()

    def no_job_is_lost(self):
        assert self.model.rows.keys() == self.live

    def rows_are_sound(self):
        for row in self.model.rows.values():
            held = row.state in HELD_STATES
            assert held == (row.claimed_by is not None) == (row.lease_until is not None), row
            assert (row.state in FINISHED_STATES) == (row.finished is not None), row
            assert row.state in (*DUE_STATES, *HELD_STATES, *FINISHED_STATES), row
            assert row.next_task == (row.plan[row.position] if row.state != "COMPLETE" else ""), row

    def only_what_was_asked_for_is_cancelled(self):
        for pk, row in self.model.rows.items():
            asked = row.state == State.CANCELLED or row.cancel_requested
            assert not asked or pk in self.asked_to_cancel, row

    def attempts_are_bounded(self):
        for pk, row in self.model.rows.items():
            policy = conf.workflow(row.name).task(row.plan[row.position], row.position).retry
            assert self.failures[pk] <= policy.max_attempts, row
            assert 0 <= row.attempt <= policy.max_attempts + LOST_ATTEMPTS_MAX, row
            assert len(self.lost_starts[pk]) <= LOST_ATTEMPTS_MAX, row
            if row.state not in FINISHED_STATES and not row.spent:
                # What was given back, parked or snoozed is no attempt.
                present = row.state in HELD_STATES
                assert row.attempt == self.failures[pk] + row.lost_attempts + present, row

    def a_worker_that_trusts_its_lease_has_the_job(self):
        for worker in self.workers:
            for pk, job in worker.held.items():
                if self.now < worker.trusted_until[pk] and (pk, job.claim) not in self.taken:
                    row = self.model.rows[pk]
                    assert (row.claimed_by, row.claim) == (worker.name, job.claim), row

    # The end.

    def teardown(self):
        if sys.exc_info()[0] is None:
            self.heal()
            self.told()

    def heal(self):
        """With no more faults every job comes to its end, in a bounded time."""
        for worker in self.workers:
            worker.paused = False
        while self.in_flight:
            self.late_record_arrives(0, again=False)
        for _ in range(60):
            if all(row.state in FINISHED_STATES for row in self.model.rows.values()):
                return
            self.stage()
            for worker in self.workers:
                self.rescue_as(worker)
                self.claim_as(worker, 3, QUEUES)
                while has_work(worker):
                    self.run_as(worker, 0, Done())
                if worker.outbox:
                    self.record_as(worker)
            self.time_passes(20)
        raise AssertionError(f"jobs that do not end: {self.model.rows}")

    def told(self):
        """For those who want to do more with the trace."""

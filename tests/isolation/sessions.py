"""Sessions of a database that take turns, step by step, in a given order."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future, wait

from django.db import connections, transaction

from tests.conftest import wait_until

ALIAS = "default"


class Session:
    """A thread with a connection of its own that does what it is told, one step at a time."""

    def __init__(self, name, prepare):
        self.name = name
        self._steps = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        self.pid = self.begin(lambda: self._connect(prepare)).result(20)

    def begin(self, step):
        """Start a step; return the future of its answer."""
        answer = Future()
        self._steps.put((step, answer))
        return answer

    def close(self):
        self._steps.put(None)
        self._thread.join(20)
        assert not self._thread.is_alive(), f"{self.name} did not end"

    def _connect(self, prepare):
        connections[ALIAS].ensure_connection()
        prepare()
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]

    def _serve(self):
        while (item := self._steps.get()) is not None:
            step, answer = item
            try:
                answer.set_result(step())
            except BaseException as error:
                answer.set_exception(error)
        connections[ALIAS].close()


def orders(counts):
    """Yield every order in which sessions can take their steps: a tuple of names for each."""
    if not any(counts.values()):
        yield ()
    for name, count in counts.items():
        if count:
            for rest in orders({**counts, name: count - 1}):
                yield name, *rest


class Story:
    """What happened in one order: `answers` by session, and which of them had to wait for a lock."""

    def __init__(self, order, ends):
        self.order = order
        self.ends = ends
        self.answers = {name: [] for name in ends}
        self.waited = set()

    def __str__(self):
        order = " ".join(self.order)
        return f"order: {order}; ends: {self.ends}; answers: {self.answers}; waited: {self.waited}"

    def answer(self, name, step=0):
        return self.answers[name][step]

    def committed(self, name):
        return self.ends[name] == "commit"

    def first(self, one, other):
        """Whether session `one` began before the other."""
        return self.order.index(one) < self.order.index(other)

    def over_before(self, one, other):
        """Whether session `one` had ended when the other began."""
        last = len(self.order) - 1 - self.order[::-1].index(one)
        return last < self.order.index(other)

    def open_at(self, one, other):
        """Whether session `one` was in the middle of its transaction when the other began."""
        return self.first(one, other) and not self.over_before(one, other)


def play(sessions, steps, ends, order):
    """Run one order; return its story.

    `steps` are the verbs of each session, which run in a transaction that `ends` in a
    commit or a rollback of its own turn. A session that waits for a lock keeps the
    others from nothing: its later turns come as soon as it goes on.
    """
    story = Story(order, ends)
    scripts = {name: iter(_script(steps[name], ends[name])) for name in steps}
    running, owed = {}, dict.fromkeys(steps, 0)

    def settle():
        """Wait until each running step has ended, or stands in a lock's queue."""
        while running:
            wait_until(
                lambda: (
                    not wait(running.values(), timeout=0.005).not_done
                    or _waiting(sessions) >= {name for name, answer in running.items() if not answer.done()}
                ),
                f"every step has ended or waits: {story}",
            )
            done = [name for name, answer in running.items() if answer.done()]
            story.waited |= running.keys() - set(done)
            if not done:
                return
            for name in done:
                story.answers[name].append(running.pop(name).result())
            for name in done:
                if owed[name]:
                    owed[name] -= 1
                    running[name] = sessions[name].begin(next(scripts[name]))

    for name in order:
        if name in running:
            owed[name] += 1
            continue
        running[name] = sessions[name].begin(next(scripts[name]))
        settle()
    assert not running, f"deadlock: {', '.join(running)} wait for each other; {story}"
    return story


def _script(steps, end):
    """The turns of a session: its steps in a transaction, and the end of that."""
    block = transaction.atomic(using=ALIAS)

    def first():
        block.__enter__()
        return steps[0]()

    def last():
        if end == "rollback":
            transaction.set_rollback(True, using=ALIAS)
        block.__exit__(None, None, None)
        return end

    return [first, *steps[1:], last]


def _waiting(sessions):
    """The names of those sessions that wait for a lock which another holds at this moment."""
    names = {session.pid: name for name, session in sessions.items()}
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s) AND wait_event_type = 'Lock'"
            " AND cardinality(pg_blocking_pids(pid)) > 0",
            [list(names)],
        )
        return {names[pid] for (pid,) in cursor.fetchall()}

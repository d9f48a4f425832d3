"""The oracle: what the tasks did, noted where no fault of the database reaches, beside what the rows say."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# What the database notes of its own: the effects of atomic tasks, and every change of a held
# row by a session that does not hold it.
SCHEMA = """
CREATE TABLE chaos_effect (
    id bigserial PRIMARY KEY, job_id uuid, position integer, claim bigint, session text
);
CREATE TABLE chaos_trespass (
    id bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), why text, session text,
    job_id uuid, before jsonb, after jsonb
);
CREATE FUNCTION chaos_watch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    session text := current_setting('application_name');
    holder text := 'worker ' || split_part(OLD.claimed_by, ':', 2);
    content boolean := (NEW.next_task, NEW.position, NEW.workspace, NEW.result, NEW.plan)
        IS DISTINCT FROM (OLD.next_task, OLD.position, OLD.workspace, OLD.result, OLD.plan);
    hold boolean := (NEW.state, NEW.claim, NEW.claimed_by, NEW.attempt)
        IS DISTINCT FROM (OLD.state, OLD.claim, OLD.claimed_by, OLD.attempt);
    why text;
BEGIN
    IF NEW.claim < OLD.claim THEN why := 'the claim went back';
    ELSIF (NEW.state IN ('PROCESSING', 'STOPPING')) <> (NEW.claimed_by IS NOT NULL)
        OR (NEW.claimed_by IS NULL) <> (NEW.lease_until IS NULL) THEN why := 'half held';
    ELSIF (NEW.state IN ('COMPLETE', 'FAILED', 'CANCELLED')) <> (NEW.finished IS NOT NULL) THEN
        why := 'half finished';
    ELSIF session NOT LIKE 'worker%' THEN RETURN NULL;
    ELSIF OLD.state IN ('COMPLETE', 'FAILED', 'CANCELLED') AND (content OR hold) THEN
        why := 'a finished job was changed';
    ELSIF content AND holder IS DISTINCT FROM session THEN why := 'content without the claim';
    ELSIF hold AND OLD.claimed_by IS NOT NULL AND holder <> session
        AND OLD.lease_until >= statement_timestamp() THEN why := 'the hold, before the lease ran out';
    END IF;
    IF why IS NOT NULL THEN
        INSERT INTO chaos_trespass (why, session, job_id, before, after)
        VALUES (why, session, OLD.id, to_jsonb(OLD), to_jsonb(NEW));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_watch AFTER UPDATE ON django_dbq_job FOR EACH ROW EXECUTE FUNCTION chaos_watch();
"""


def note(what, job):
    """Write one line, whole whatever happens to this process afterwards. Tasks call this."""
    line = {
        "at": time.monotonic(),  # One clock for all processes of the machine.
        "what": what,
        "job": str(job.id),
        "task": job.next_task.rpartition(".")[2],
        "position": job.position,
        "attempt": job.attempt,
        "claim": job.claim,
        "pid": os.getpid(),
    }
    file = os.open(Path(os.environ["CHAOS_FOLDER"]) / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, (json.dumps(line) + "\n").encode())
    finally:
        os.close(file)


class Ledger:
    """What the tasks of one test have noted."""

    def __init__(self, folder):
        self.path = folder / "ledger"

    def notes(self, what=None, job=None, position=None):
        if not self.path.exists():
            return []
        # The last line may be half there while a task writes it.
        lines = [
            json.loads(line) for line in self.path.read_text().splitlines(keepends=True) if line[-1] == "\n"
        ]
        wanted = {"what": what, "job": job and str(job.id), "position": position}
        return [
            line
            for line in lines
            if all(line[key] == value for key, value in wanted.items() if value is not None)
        ]

    def begun(self, job=None, position=None):
        return self.notes("begin", job, position)

    def ended(self, job=None, position=None):
        return self.notes("end", job, position)

    def of(self, job_id):
        return "\n".join(
            "  {at:.3f} {what} {task} position={position} attempt={attempt} claim={claim} pid={pid}".format(
                **line
            )
            for line in self.notes()
            if line["job"] == job_id
        )


@dataclass
class Verdict:
    """What is wrong, by kind, with the job ids. Empty lists are what the promise is about."""

    jobs: int = 0
    begun: int = 0
    again: int = 0  # Starts beyond the first of a task.
    lost: list = field(default_factory=list)
    twice: list = field(default_factory=list)
    effects: list = field(default_factory=list)
    trespasses: list = field(default_factory=list)
    torn: list = field(default_factory=list)

    def guilty(self):
        return list(dict.fromkeys([*self.lost, *self.twice, *self.effects, *self.trespasses, *self.torn]))

    def __str__(self):
        return (
            f"{self.jobs} jobs, {self.begun} tasks begun, {self.again} of them again: {len(self.lost)} lost,"
            f" {len(self.twice)} recorded twice, {len(self.effects)} with atomic effects doubled or missing,"
            f" {len(self.trespasses)} written without the claim, {len(self.torn)} with a torn workspace"
        )


def judge(rows, notes, created, plans):
    """Compare the rows with the notes and with what each job should have done.

    `rows(sql)` reads the database; `created` are the ids that were committed, with
    their names; `plans` tells by name which positions a job has and which are atomic.
    """
    verdict = Verdict(jobs=len(created))
    state = {str(pk): found for pk, found in rows("SELECT id, state FROM django_dbq_job")}
    spaces = {
        str(pk): json.loads(text) for pk, text in rows("SELECT id, workspace::text FROM django_dbq_job")
    }
    done = Counter()
    claims = {}
    for pk, position, claim in rows(
        "SELECT job_id, position, claim FROM django_dbq_taskrun WHERE outcome = 'done'"
    ):
        done[str(pk), position] += 1
        claims[str(pk), position] = claim
    applied = Counter()
    foreign = []
    for pk, position, claim in rows("SELECT job_id, position, claim FROM chaos_effect"):
        applied[str(pk), position] += 1
        if claims.get((str(pk), position)) != claim:
            foreign.append(str(pk))
    begun = Counter((line["job"], line["position"]) for line in notes if line["what"] == "begin")
    verdict.begun, verdict.again = sum(begun.values()), sum(count - 1 for count in begun.values())
    for pk, name in created.items():
        positions, atomic = plans[name]
        if state.get(pk) != "COMPLETE":
            verdict.lost.append(pk)
            continue
        if any(done[pk, position] != 1 for position in range(positions)):
            verdict.twice.append(pk)
        if any(applied[pk, position] != (position in atomic) for position in range(positions)):
            verdict.effects.append(pk)
        if spaces[pk].get("trail") != list(range(positions)):
            verdict.torn.append(pk)
    verdict.lost += sorted(state.keys() - created.keys())  # Or made from nothing.
    verdict.effects += foreign
    verdict.trespasses = [str(pk) for (pk,) in rows("SELECT job_id FROM chaos_trespass")]
    return verdict

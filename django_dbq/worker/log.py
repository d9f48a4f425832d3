"""One structured line for each attempt; docs/operations.md says what each means."""

from __future__ import annotations

import logging

from django_dbq.engine.lifecycle import State
from django_dbq.redaction import redact_text
from django_dbq.worker.executor import Attempt

logger = logging.getLogger("django_dbq.worker")


def log_attempt(attempt: Attempt) -> None:
    """Log what became of an attempt, once its record has been tried."""
    job, transition = attempt.job, attempt.transition
    went_well = attempt.recorded and attempt.error is None and transition.error is None
    if went_well and not logger.isEnabledFor(logging.INFO):
        return
    level, event = _event(attempt)
    if not logger.isEnabledFor(level):
        return
    run = transition.run
    facts = {
        "job": str(job.id),
        "name": job.name,
        "task": run.task if run else job.next_task,
        "attempt": run.attempt if run else job.attempt,
        "seconds": round(attempt.seconds, 3),
        "state": str(transition.state),
    }
    text = " ".join(f"{key}={value}" for key, value in facts.items())
    if transition.error:
        text += f" error={redact_text(transition.error)!r}"
    failed = attempt.error if level == logging.ERROR else None
    logger.log(level, "%s: %s", event, text, exc_info=failed, extra={"dbq": facts})


def _event(attempt: Attempt) -> tuple[int, str]:
    transition = attempt.transition
    if not attempt.recorded:
        level, event = logging.WARNING, "Lease lost, outcome dropped"
    elif transition.state is State.CANCELLED:
        level, event = logging.INFO, "Job cancelled"
    elif transition.state is State.FAILED:
        level, event = logging.ERROR, "Job failed"
    elif attempt.error is not None:
        events = {
            "parked": "Parked",
            "given_back": "Database failed, given back",
            "cut_off": "Database failed, attempt lost",
        }
        level, event = logging.WARNING, events.get(transition.outcome, "Task failed")
    else:
        level, event = logging.INFO, "Job complete" if transition.finished else "Task done"
    return level, event

"""One conformance suite over every store at hand."""

import pytest

from django_dbq.engine.lifecycle import FINISHED_STATES, HELD_STATES
from django_dbq.models import Job
from django_dbq.store import get_store
from tests.store.helpers import ALIASES


@pytest.fixture(params=ALIASES)
def store(request, db):
    """A store, whose rows hold what the engine promises of them when the test is over."""
    store = get_store(request.param)
    yield store
    # Rows that were never claimed may be a test's own: those of the original package, say.
    for job in Job.objects.using(store.using).filter(claim__gt=0):
        held = job.claimed_by is not None and job.lease_until is not None
        assert held == (job.claimed_by is not None or job.lease_until is not None), job.__dict__
        assert (job.state in HELD_STATES) == held, job.__dict__
        assert (job.state in FINISHED_STATES) == (job.finished is not None), job.__dict__

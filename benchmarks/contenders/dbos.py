"""DBOS Transact, with PostgreSQL."""

from __future__ import annotations

import pickle
import sys
from base64 import b64encode
from typing import Any

from benchmarks.contender import NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE, Contender

TABLES = ", ".join(
    f"dbos.{table}"
    for table in (
        "workflow_status",
        "workflow_input",
        "workflow_output",
        "operation_outputs",
        "datasource_outputs",
    )
)
IN_BULK = 1_000  # In a transaction.


class Bench(Contender):
    requirements = ("dbos==3.*", "psycopg[binary]")
    package = "dbos"
    kinds = frozenset({NOTHING, PAYLOAD, SLOW, STAMP, STEPS, WRITE})
    scales = True
    settings = (
        "queue polled each 10 ms, up to 100 claimed at a time; 16 executor threads, whatever is asked for;"
        " in bulk: 1,000 enqueue_in_transaction a transaction"
    )
    durability = "with the caller's commit"
    history = "a row for each workflow, with input and output, and one for each step"
    crash_safety = "runs again, from the step it was at, once an executor of the same name starts"

    def __init__(self) -> None:
        super().__init__()
        self._client: Any = None

    @property
    def client(self) -> Any:
        if self._client is None:
            from dbos import DBOSClient

            self._client = DBOSClient(system_database_url=self.url, application_name="bench")
        return self._client

    def sql(self, statement: str) -> Any:
        """Run a statement; return its rows, if it has any."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def prepare(self) -> None:
        from benchmarks.contenders import _dbos_app

        self.sql("CREATE TABLE bench_written (id bigserial PRIMARY KEY, text text)")
        _dbos_app.launch("prepare")  # Makes the tables and the queue.
        _dbos_app.DBOS.destroy()

    def reset(self) -> None:
        self.sql(f"TRUNCATE {TABLES}, bench_written CASCADE")
        self.sql("CHECKPOINT")

    def enqueue(self, kind: str, count: int, value: Any = None) -> None:
        options = {"workflow_name": kind, "queue_name": "bench"}
        args = self.given(kind, value)
        engine = self.client._sys_db.engine
        for start in range(0, count, IN_BULK):
            with engine.begin() as connection:
                for _ in range(min(IN_BULK, count - start)):
                    self.client.enqueue_in_transaction(connection, options, *args)

    def put(self, kind: str, value: Any = None) -> None:
        self.client.enqueue({"workflow_name": kind, "queue_name": "bench"}, *self.given(kind, value))

    def given(self, kind: str, value: Any) -> tuple[Any, ...]:
        """Return the arguments of a workflow."""
        given = {"step": 0} if kind == STEPS else value
        return () if given is None else (given,)

    def fill(self, what: str, count: int) -> None:
        now = "(extract(epoch FROM now()) * 1000)::bigint"
        columns = {
            "waiting": "'ENQUEUED', null, null, null, null, null",
            "finished": f"'SUCCESS', null, 'executor-0', '1', {now}, {now}",
            "future": f"'DELAYED', {now} + 86400000, null, null, null, null",
        }[what]
        self.sql(
            "INSERT INTO dbos.workflow_status (workflow_uuid, name, queue_name, application_name,"
            " serialization, recovery_attempts, status, delay_until_epoch_ms, executor_id,"
            " application_version, started_at_epoch_ms, completed_at)"
            f" SELECT gen_random_uuid(), 'nothing', 'bench', 'bench', 'py_pickle', 0, {columns}"
            f" FROM generate_series(1, {count})"
        )
        inputs, output = (
            b64encode(pickle.dumps(each)).decode() for each in ({"args": (), "kwargs": {}}, None)
        )
        self.sql(
            "INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)"
            f" SELECT workflow_uuid, '{inputs}', created_at FROM dbos.workflow_status ON CONFLICT DO NOTHING"
        )
        self.sql(
            "INSERT INTO dbos.workflow_output (workflow_uuid, output, retention_timestamp)"
            f" SELECT workflow_uuid, '{output}', completed_at FROM dbos.workflow_status"
            " WHERE status = 'SUCCESS' ON CONFLICT DO NOTHING"
        )
        self.sql(f"ANALYZE {TABLES}")

    def finished(self) -> int:
        count: int = self.sql("SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'")[0][0]
        return count

    def workers(self, processes: int, threads: int) -> list[list[str]]:
        worker = [sys.executable, "-m", "benchmarks.contenders._dbos_app"]
        return [[*worker, f"executor-{number}"] for number in range(processes)]

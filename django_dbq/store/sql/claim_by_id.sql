-- Take these jobs, due or not, where they wait and nobody else holds them.
WITH due AS MATERIALIZED (
    SELECT id, state
    FROM django_dbq_job
    WHERE id = ANY(%(ids)s::uuid[])
      AND state IN ('NEW', 'READY')
      AND (NOT %(only_due)s OR run_after IS NULL OR run_after <= statement_timestamp())
    FOR UPDATE SKIP LOCKED
)
-- Of one that is not due `staged` may be false.
{taken}, job.staged

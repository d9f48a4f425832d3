-- What claim.sql does, of a single queue: a plan of half the parts is made sooner.
WITH due AS MATERIALIZED (
    SELECT id, state
    FROM django_dbq_job
    WHERE state IN ('NEW', 'READY')
      AND staged
      AND queue_name = %(queue_name)s
      AND (run_after IS NULL OR run_after <= COALESCE(%(now)s::timestamptz, statement_timestamp()))
    ORDER BY priority DESC, COALESCE(run_after, created), id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
{taken}

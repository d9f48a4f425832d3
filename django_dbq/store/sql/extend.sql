-- Renew the leases of all jobs that a worker holds. A row that its own task has locked
-- is skipped: nobody can rescue it while the lock lasts, and waiting would stop the worker.
-- The worker's name is part of the join for the reason that record.sql gives.
WITH mine AS MATERIALIZED (
    SELECT id, claim, %(worker)s::text AS worker
    FROM unnest(%(ids)s::uuid[], %(claims)s::bigint[]) AS held (id, claim)
),
held AS MATERIALIZED (
    SELECT job.id
    FROM mine
    JOIN django_dbq_job AS job ON job.id = mine.id AND job.claim = mine.claim AND job.claimed_by = mine.worker
    FOR UPDATE OF job SKIP LOCKED
)
UPDATE django_dbq_job AS job
SET lease_until = statement_timestamp() + %(lease)s * interval '1 second',
    state = CASE WHEN %(stopping)s THEN 'STOPPING' ELSE job.state END
FROM held
WHERE job.id = held.id
RETURNING job.id, job.cancel_requested

-- Renew the leases of all jobs that a worker holds. A row that its own task has locked
-- is skipped: nobody can rescue it while the lock lasts, and waiting would stop the worker.
WITH held AS MATERIALIZED (
    SELECT job.id
    FROM unnest(%(ids)s::uuid[], %(claims)s::bigint[]) AS mine (id, claim)
    JOIN django_dbq_job AS job ON job.id = mine.id AND job.claim = mine.claim
    WHERE job.claimed_by = %(worker)s
    FOR UPDATE OF job SKIP LOCKED
)
UPDATE django_dbq_job AS job
SET lease_until = statement_timestamp() + %(lease)s * interval '1 second',
    state = CASE WHEN %(stopping)s THEN 'STOPPING' ELSE job.state END
FROM held
WHERE job.id = held.id
RETURNING job.id, job.cancel_requested

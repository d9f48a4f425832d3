-- Take back jobs whose lease ran out, and note the lost attempt of each. What was lost
-- too often goes to this worker, under a new claim, to be failed with its hook.
-- Somebody's SQL may have left a lease that is nobody's.
WITH expired AS MATERIALIZED (
    SELECT id, claim, COALESCE(claimed_by, 'an unknown worker') AS holder, next_task, position,
           attempt, modified, cancel_requested,
           lost_attempts + 1 >= %(lost_attempts_max)s AND NOT cancel_requested AS spent,
           COALESCE(%(now)s::timestamptz, statement_timestamp()) AS at
    FROM django_dbq_job
    WHERE lease_until < COALESCE(%(now)s::timestamptz, statement_timestamp())
      AND state IN ('PROCESSING', 'STOPPING')
      AND NOT (claimed_by = %(worker)s AND id = ANY(%(held)s::uuid[]))
    ORDER BY lease_until
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
),
history AS (
    INSERT INTO django_dbq_taskrun (
        job_id, claim, task, position, attempt, worker, started, finished, outcome, error
    )
    SELECT id, claim, next_task, position, attempt, holder, modified, at, 'lost',
           'WorkerLost: the lease of ' || holder || ' ran out'
    FROM expired
    ON CONFLICT (job_id, claim) DO NOTHING
)
UPDATE django_dbq_job AS job
SET state = CASE
        WHEN expired.cancel_requested THEN 'CANCELLED'
        WHEN expired.spent THEN 'PROCESSING'
        ELSE 'READY'
    END,
    finished = CASE WHEN expired.cancel_requested THEN expired.at END,
    cancel_requested = false,
    claim = CASE WHEN expired.spent THEN job.claim + 1 ELSE job.claim END,
    claimed_by = CASE WHEN expired.spent THEN %(worker)s END,
    lease_until = CASE WHEN expired.spent THEN expired.at + %(lease)s * interval '1 second' END,
    lost_attempts = job.lost_attempts + 1,
    error = 'WorkerLost: the lease of ' || expired.holder || ' ran out',
    modified = expired.at
FROM expired
WHERE job.id = expired.id
RETURNING job.*, job.id::text AS id, 'READY' AS prior_state

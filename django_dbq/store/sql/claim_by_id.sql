-- Take these jobs, due or not, where they wait and nobody else holds them.
WITH waiting AS MATERIALIZED (
    SELECT id, state
    FROM django_dbq_job
    WHERE id = ANY(%(ids)s::uuid[])
      AND state IN ('NEW', 'READY')
      AND (NOT %(only_due)s OR run_after IS NULL OR run_after <= statement_timestamp())
    FOR UPDATE SKIP LOCKED
)
UPDATE django_dbq_job AS job
SET state = 'PROCESSING',
    claim = job.claim + 1,
    claimed_by = %(worker)s,
    lease_until = statement_timestamp() + %(lease)s * interval '1 second',
    attempt = job.attempt + 1,
    started = COALESCE(job.started, statement_timestamp()),
    finished = NULL,
    modified = statement_timestamp()
FROM waiting
WHERE job.id = waiting.id
RETURNING job.*, waiting.state AS prior_state

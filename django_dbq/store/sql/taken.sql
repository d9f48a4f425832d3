-- The end of every claim: take what stands in `due`, which is locked, and answer with it.
-- Columns that the claim makes the same for all are not sent: to write and read them is a tenth of the statement.
-- Its moment comes once, with the first; `started` only of those that were begun before it.
UPDATE django_dbq_job AS job
SET state = 'PROCESSING',
    claim = job.claim + 1,
    claimed_by = %(worker)s,
    lease_until = COALESCE(%(now)s::timestamptz, statement_timestamp()) + %(lease)s * interval '1 second',
    attempt = job.attempt + 1,
    started = COALESCE(job.started, %(now)s::timestamptz, statement_timestamp()),
    finished = NULL,
    modified = COALESCE(%(now)s::timestamptz, statement_timestamp())
FROM due
WHERE job.id = due.id
RETURNING
    job.id::text AS id, job.created,
    CASE WHEN job.id = (SELECT id FROM due LIMIT 1) THEN job.modified END AS modified,
    job.name, job.next_task, job.workspace::text AS workspace, job.queue_name, job.priority, job.run_after,
    job.position, job.plan::text AS plan, job.attempt, job.lost_attempts, job.claim,
    NULLIF(job.started, job.modified) AS started, job.result::text AS result, job.error,
    job.call, job.signature, job.identity, job.title, job.label, job.group_id, due.state AS prior_state

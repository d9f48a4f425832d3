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
RETURNING
    job.id, job.created, job.modified, job.name, job.staged, job.next_task, job.workspace, job.queue_name, job.priority, job.run_after,
    job.position, job.plan, job.attempt, job.lost_attempts, job.claim, job.started, job.result, job.error,
    job.call, job.signature, job.identity, job.title, job.label, job.group_id, waiting.state AS prior_state

-- Take due jobs of the served queues, most urgent first, and skip what others hold.
-- One ordered scan of the index dbq_job_claim for each queue; the few rows that
-- several queues offer beyond the limit are locked only until this statement ends.
-- Columns that the claim makes the same for all are not sent: to write and read them is a tenth of the statement.
WITH due AS MATERIALIZED (
    SELECT candidate.id, candidate.state
    FROM unnest(%(queue_names)s::text[]) AS served (queue_name)
    CROSS JOIN LATERAL (
        SELECT id, state, priority, COALESCE(run_after, created) AS due
        FROM django_dbq_job
        WHERE state IN ('NEW', 'READY')
          AND staged
          AND queue_name = served.queue_name
          AND (run_after IS NULL OR run_after <= COALESCE(%(now)s::timestamptz, statement_timestamp()))
        ORDER BY priority DESC, COALESCE(run_after, created), id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) AS candidate
    ORDER BY candidate.priority DESC, candidate.due, candidate.id
    LIMIT %(limit)s
)
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
    job.id, job.created, job.modified, job.name, job.next_task, job.workspace, job.queue_name, job.priority, job.run_after,
    job.position, job.plan, job.attempt, job.lost_attempts, job.claim, job.started, job.result, job.error,
    job.call, job.signature, job.identity, job.title, job.label, job.group_id, due.state AS prior_state

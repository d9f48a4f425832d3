-- Make finished jobs ready again. One that ran to its end, or is to start over, begins at
-- its first task; the row of a worker that knew no leases may be taken over on request. The
-- final job of a group waits again, until it is woken. What a call returned is forgotten.
-- Rows are locked in the order of their ids, as a record does.
WITH ended AS MATERIALIZED (
    SELECT id
    FROM django_dbq_job
    WHERE id = ANY(%(ids)s::uuid[])
      AND (
          state IN ('COMPLETE', 'FAILED', 'CANCELLED')
          OR (%(stuck)s AND state IN ('PROCESSING', 'STOPPING') AND claimed_by IS NULL)
      )
      AND (plan IS NOT NULL OR NOT (%(from_start)s OR next_task = ''))
    ORDER BY id
    FOR UPDATE
)
UPDATE django_dbq_job AS job
SET state = CASE
        WHEN EXISTS (SELECT 1 FROM django_dbq_group WHERE final_id = job.id) THEN 'WAITING'
        ELSE 'READY'
    END,
    next_task = CASE WHEN %(from_start)s OR next_task = '' THEN plan ->> 0 ELSE next_task END,
    position = CASE WHEN %(from_start)s OR next_task = '' THEN 0 ELSE position END,
    attempt = 0,
    lost_attempts = 0,
    run_after = NULL,
    staged = true,
    finished = NULL,
    result = CASE WHEN call IS NULL THEN result END,
    cancel_requested = false,
    modified = statement_timestamp()
FROM ended
WHERE job.id = ended.id
RETURNING job.id

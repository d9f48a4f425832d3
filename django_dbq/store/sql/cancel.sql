-- Cancel what waits, and ask the workers of what runs to cancel it.
-- Rows are locked in the order of their ids, as a record does.
WITH live AS MATERIALIZED (
    SELECT id
    FROM django_dbq_job
    WHERE id = ANY(%(ids)s::uuid[])
      AND state IN ('NEW', 'READY', 'WAITING', 'PROCESSING', 'STOPPING')
    ORDER BY id
    FOR UPDATE
)
UPDATE django_dbq_job AS job
SET state = CASE WHEN state IN ('NEW', 'READY', 'WAITING') THEN 'CANCELLED' ELSE state END,
    finished = CASE WHEN state IN ('NEW', 'READY', 'WAITING') THEN statement_timestamp() END,
    cancel_requested = state IN ('PROCESSING', 'STOPPING'),
    modified = statement_timestamp()
FROM live
WHERE job.id = live.id
RETURNING job.id, job.state

-- Cancel what waits, and ask the workers of what runs to cancel it.
UPDATE django_dbq_job
SET state = CASE WHEN state IN ('NEW', 'READY', 'WAITING') THEN 'CANCELLED' ELSE state END,
    finished = CASE WHEN state IN ('NEW', 'READY', 'WAITING') THEN statement_timestamp() END,
    cancel_requested = state IN ('PROCESSING', 'STOPPING'),
    modified = statement_timestamp()
WHERE id = ANY(%(ids)s::uuid[])
  AND state IN ('NEW', 'READY', 'WAITING', 'PROCESSING', 'STOPPING')
RETURNING id, state

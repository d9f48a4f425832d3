-- Cancel the function calls with this identity that have not begun.
-- Rows are locked in the order of their ids, as a record does.
WITH unbegun AS MATERIALIZED (
    SELECT id
    FROM django_dbq_job
    WHERE identity = %(identity)s AND state IN ('NEW', 'READY', 'WAITING')
    ORDER BY id
    FOR UPDATE
)
UPDATE django_dbq_job AS job
SET state = 'CANCELLED',
    finished = statement_timestamp(),
    modified = statement_timestamp()
FROM unbegun
WHERE job.id = unbegun.id

-- Show claims the waiting jobs whose time has come.
WITH due AS MATERIALIZED (
    SELECT id
    FROM django_dbq_job
    WHERE NOT staged AND run_after <= COALESCE(%(now)s::timestamptz, statement_timestamp())
    ORDER BY run_after
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE django_dbq_job AS job
SET staged = true
FROM due
WHERE job.id = due.id

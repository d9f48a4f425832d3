-- End the leases of workers known to be dead, for the next rescue to find.
-- Rows are locked in the order of their ids, as a record does.
WITH held AS MATERIALIZED (
    SELECT id
    FROM django_dbq_job
    WHERE claimed_by = ANY(%(workers)s::text[]) AND lease_until IS NOT NULL
    ORDER BY id
    FOR UPDATE
)
UPDATE django_dbq_job AS job
SET lease_until = '1970-01-02 00:00:00+00'
FROM held
WHERE job.id = held.id

-- Delete a bounded batch of finished jobs, with their history.
WITH old AS MATERIALIZED (
    SELECT id
    FROM django_dbq_job
    WHERE created <= %(before)s
      AND (state IN ('COMPLETE', 'FAILED', 'CANCELLED') OR (state = 'STOPPING' AND claimed_by IS NULL))
    ORDER BY created
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
),
history AS (
    DELETE FROM django_dbq_taskrun WHERE job_id IN (SELECT id FROM old)
)
DELETE FROM django_dbq_job WHERE id IN (SELECT id FROM old)

-- Delete a bounded batch of finished jobs without a group, with their history, oldest first.
-- Those before %(since)s were looked at by the batch before. An array, not a join: of this many
-- rows the planner might find the job and its history by reading the whole tables.
WITH old AS MATERIALIZED (
    SELECT id
    FROM django_dbq_job
    WHERE created <= %(before)s
      AND created >= COALESCE(%(since)s::timestamptz, '-infinity')
      AND state = ANY(%(states)s)
      AND (state <> 'STOPPING' OR claimed_by IS NULL)
      AND group_id IS NULL
    ORDER BY created
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
),
history AS (
    DELETE FROM django_dbq_taskrun WHERE job_id = ANY (ARRAY(SELECT id FROM old))
),
slots AS (
    DELETE FROM django_dbq_schedulerun WHERE job_id = ANY (ARRAY(SELECT id FROM old))
)
DELETE FROM django_dbq_job WHERE id = ANY (ARRAY(SELECT id FROM old))
RETURNING state, created

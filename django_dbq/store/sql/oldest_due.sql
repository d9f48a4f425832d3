-- Find since when the job has been due that has been due longest.
-- Within a queue and priority the index dbq_job_claim is ordered by that time, so one
-- row is read of each of them: from the first, on to the next priority, then the next queue.
WITH RECURSIVE head AS (
    (
        SELECT queue_name, priority, COALESCE(run_after, created) AS due, 1 AS place
        FROM django_dbq_job
        WHERE state IN ('NEW', 'READY') AND staged
        ORDER BY queue_name, priority DESC, COALESCE(run_after, created), id
        LIMIT 1
    )
    UNION ALL
    SELECT following.queue_name, following.priority, following.due, head.place + 1
    FROM head
    CROSS JOIN LATERAL (
        (
            SELECT queue_name, priority, COALESCE(run_after, created) AS due, 1 AS rank
            FROM django_dbq_job
            WHERE state IN ('NEW', 'READY') AND staged
              AND queue_name = head.queue_name AND priority < head.priority
            ORDER BY priority DESC, COALESCE(run_after, created), id
            LIMIT 1
        )
        UNION ALL
        (
            SELECT queue_name, priority, COALESCE(run_after, created), 2
            FROM django_dbq_job
            WHERE state IN ('NEW', 'READY') AND staged AND queue_name > head.queue_name
            ORDER BY queue_name, priority DESC, COALESCE(run_after, created), id
            LIMIT 1
        )
        ORDER BY rank
        LIMIT 1
    ) AS following
    WHERE head.place < %(limit)s
),
-- Time has come for these too, though no worker has staged them yet. Told by the states that
-- they are not in: so dbq_job_stage alone can serve, which has them by their time.
unstaged AS (
    SELECT run_after AS due
    FROM django_dbq_job
    WHERE NOT staged
      AND state NOT IN ('PROCESSING', 'STOPPING', 'WAITING', 'COMPLETE', 'FAILED', 'CANCELLED')
    ORDER BY run_after
    LIMIT 1
)
SELECT min(due)
FROM (SELECT due FROM head UNION ALL SELECT due FROM unstaged) AS heads
WHERE due <= statement_timestamp()

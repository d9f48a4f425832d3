-- Count the jobs of each state and name, and among them those whose last attempt failed.
-- A table of few pages is read whole ('all'). Of a bigger one a sample of the pages, the
-- same at each call, says how many there may be ('sample'); states that are not many by it
-- are read through their partial indexes, up to a limit ('found'). What stands in no index
-- is told by the sample alone ('stray'): jobs that a worker of the original package has
-- finished or holds, and those in states of the project's own.
WITH size AS MATERIALIZED (
    SELECT LEAST(100, 100.0 * %(pages)s / GREATEST(1, pages))::real AS percent,
        reltuples * pages / NULLIF(relpages, 0) AS expected
    FROM pg_class
    CROSS JOIN LATERAL (SELECT pg_relation_size(oid) / current_setting('block_size')::int AS pages) AS now
    WHERE oid = 'django_dbq_job'::regclass
),
sampled AS MATERIALIZED (
    SELECT state, name, lease_until IS NULL AS unheld, finished IS NULL AS unfinished,
        count(*) AS number, count(error) AS failing
    FROM size
    CROSS JOIN LATERAL (
        SELECT state, name, lease_until, finished, error
        FROM django_dbq_job TABLESAMPLE SYSTEM (size.percent) REPEATABLE (0)
    ) AS job
    GROUP BY state, name, lease_until IS NULL, finished IS NULL
),
-- What the planner expects is nearer the truth than the sample is, unless it is outdated.
scale AS MATERIALIZED (
    SELECT CASE
            WHEN percent < 100 AND expected / (sum(number) * 100 / percent) BETWEEN 0.8 AND 1.25
                THEN expected / sum(number)
            ELSE 100 / percent
        END AS factor
    FROM size CROSS JOIN sampled
    GROUP BY percent, expected
),
many AS MATERIALIZED (
    SELECT state FROM sampled CROSS JOIN scale GROUP BY state, factor HAVING sum(number) * factor > %(many)s
),
-- Each branch is ordered as its index is, so that no bad statistics lead past that; nor for
-- leases: of a range the planner expects few rows where it knows nothing.
found AS (
    (
        SELECT state, name, error
        FROM django_dbq_job
        WHERE state IN ('NEW', 'READY')
          AND (SELECT percent FROM size) < 100
          AND NOT EXISTS (SELECT FROM many WHERE state IN ('NEW', 'READY'))
        ORDER BY staged, queue_name, priority DESC, COALESCE(run_after, created), id
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT state, name, error
        FROM django_dbq_job
        WHERE state = 'WAITING'
          AND (SELECT percent FROM size) < 100
          AND NOT EXISTS (SELECT FROM many WHERE state = 'WAITING')
        ORDER BY id
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT state, name, error
        FROM django_dbq_job
        WHERE lease_until BETWEEN '-infinity' AND 'infinity'
          AND state IN ('PROCESSING', 'STOPPING')
          AND (SELECT percent FROM size) < 100
          AND NOT EXISTS (SELECT FROM many WHERE state IN ('PROCESSING', 'STOPPING'))
        ORDER BY lease_until
        LIMIT %(limit)s
    )
    UNION ALL
    SELECT job.state, job.name, job.error
    FROM size
    CROSS JOIN unnest(ARRAY['COMPLETE', 'FAILED', 'CANCELLED']) AS ended (state)
    CROSS JOIN LATERAL (
        SELECT state, name, error
        FROM django_dbq_job
        WHERE state = ended.state AND finished IS NOT NULL
        ORDER BY finished
        LIMIT %(limit)s
    ) AS job
    WHERE percent < 100 AND NOT EXISTS (SELECT FROM many WHERE many.state = ended.state)
)
SELECT CASE
        WHEN percent = 100 THEN 'all'
        WHEN state IN ('NEW', 'READY', 'WAITING')
            OR (state IN ('PROCESSING', 'STOPPING') AND NOT unheld)
            OR (state IN ('COMPLETE', 'FAILED', 'CANCELLED') AND NOT unfinished)
            THEN 'sample'
        ELSE 'stray'
    END, state, name, round(number * factor)::bigint, round(failing * factor)::bigint
FROM sampled CROSS JOIN size CROSS JOIN scale
UNION ALL
SELECT 'found', state, name, count(*), count(error)
FROM found
GROUP BY state, name

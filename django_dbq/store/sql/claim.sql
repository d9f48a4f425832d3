-- Take due jobs of the served queues, most urgent first, and skip what others hold.
-- One ordered scan of the index dbq_job_claim for each queue; the few rows that
-- several queues offer beyond the limit are locked only until this statement ends.
WITH due AS MATERIALIZED (
    SELECT candidate.id, candidate.state
    FROM unnest(%(queue_names)s::text[]) AS served (queue_name)
    CROSS JOIN LATERAL (
        SELECT id, state, priority, COALESCE(run_after, created) AS due
        FROM django_dbq_job
        WHERE state IN ('NEW', 'READY')
          AND staged
          AND queue_name = served.queue_name
          AND (run_after IS NULL OR run_after <= COALESCE(%(now)s::timestamptz, statement_timestamp()))
        ORDER BY priority DESC, COALESCE(run_after, created), id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) AS candidate
    ORDER BY candidate.priority DESC, candidate.due, candidate.id
    LIMIT %(limit)s
)
{taken}

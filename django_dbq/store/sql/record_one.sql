-- What record.sql does, of a single transition: half the work for the server, most of which is to make a plan.
-- Whatever does not depend on the row is decided before it is sent. What may be negative has a CAST: `-1::smallint`
-- is minus what was cast, which the least of them does not survive.
WITH moved AS (
    UPDATE django_dbq_job
    SET state = CASE WHEN cancel_requested THEN %(state_if_cancelled)s ELSE %(state)s END,
        next_task = %(next_task)s,
        position = %(position)s,
        attempt = %(attempt)s,
        lost_attempts = %(lost_attempts)s,
        priority = COALESCE(CAST(%(priority)s AS smallint), priority),
        claim = CASE WHEN cancel_requested THEN claim ELSE %(next_claim)s END,
        claimed_by = CASE WHEN NOT cancel_requested THEN %(next_worker)s END,
        lease_until = CASE
            WHEN NOT cancel_requested
            THEN COALESCE(%(now)s::timestamptz, statement_timestamp()) + %(lease)s::float8 * interval '1 second'
        END,
        run_after = COALESCE(
            COALESCE(%(now)s::timestamptz, statement_timestamp()) + %(delay)s::float8 * interval '1 second', run_after
        ),
        staged = %(staged)s,
        finished = CASE
            WHEN %(finished)s OR cancel_requested THEN COALESCE(%(now)s::timestamptz, statement_timestamp())
        END,
        workspace = COALESCE(%(workspace)s::jsonb, workspace),
        result = COALESCE(%(result)s::jsonb, result),
        error = CASE WHEN %(state)s <> 'COMPLETE' THEN COALESCE(%(error)s, error) END,
        cancel_requested = false,
        modified = COALESCE(%(now)s::timestamptz, statement_timestamp())
    WHERE id = %(id)s::uuid AND claim = %(claim)s AND claimed_by = %(worker)s
    RETURNING id, state
),
history AS (
    INSERT INTO django_dbq_taskrun (
        job_id, claim, task, position, attempt, worker, started, finished, outcome, error, changes
    )
    SELECT %(id)s::uuid, %(claim)s::bigint, %(task)s::text, %(run_position)s::integer, %(run_attempt)s::integer,
           %(worker)s::text,
           COALESCE(%(now)s::timestamptz, statement_timestamp()) - %(began)s::bigint * interval '1 microsecond',
           COALESCE(%(now)s::timestamptz, statement_timestamp()) - %(ended)s::bigint * interval '1 microsecond',
           %(outcome)s::text, %(run_error)s::text, %(changes)s::jsonb
    FROM moved
    WHERE %(task)s::text IS NOT NULL
)
SELECT id, state FROM moved

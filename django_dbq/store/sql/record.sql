-- Write many transitions and their history, each guarded by its claim.
-- The name of the worker is part of the join: by itself it would have the planner look through all jobs for it
-- first, and compare what it finds with every transition: in a table of finished jobs hardly any has a worker.
-- What each transition has of its own comes as arrays. The rest, which mostly is the same for many, comes once for
-- each kind. Workspaces, results and changes are the text of their JSON; who asks knows jobs by their place.
-- Rows are locked by id: in this order every verb that waits for a row locks many, so that none waits in a circle.
WITH transition AS MATERIALIZED (
    SELECT own.place, own.id, own.claim, own.age, own.length, own.workspace, own.result, own.changes, kind.*,
           %(worker)s::text AS worker, COALESCE(%(now)s::timestamptz, statement_timestamp()) AS at
    FROM unnest(
        %(ids)s::uuid[], %(claims)s::bigint[], %(numbers)s::integer[], %(ages)s::bigint[], %(lengths)s::bigint[],
        %(workspaces)s::text[], %(results)s::text[], %(changes)s::text[]
    ) WITH ORDINALITY AS own (id, claim, number, age, length, workspace, result, changes, place)
    JOIN json_to_recordset(%(kinds)s::json) AS kind (
        number integer, state text, next_task text, position integer, attempt integer, lost_attempts integer,
        priority integer, delay float8, error text, hold boolean, finished boolean,
        task text, run_position integer, run_attempt integer, outcome text, run_error text
    ) USING (number)
    ORDER BY own.id
),
moved AS (
    UPDATE django_dbq_job AS job
    SET state = CASE
            WHEN job.cancel_requested AND NOT transition.finished THEN 'CANCELLED'
            ELSE transition.state
        END,
        next_task = transition.next_task,
        position = transition.position,
        attempt = transition.attempt,
        lost_attempts = transition.lost_attempts,
        priority = COALESCE(transition.priority, job.priority),
        claim = CASE WHEN transition.hold AND NOT job.cancel_requested THEN job.claim + 1 ELSE job.claim END,
        claimed_by = CASE WHEN transition.hold AND NOT job.cancel_requested THEN job.claimed_by END,
        lease_until = CASE
            WHEN transition.hold AND NOT job.cancel_requested
            THEN transition.at + %(lease)s * interval '1 second'
        END,
        run_after = CASE
            WHEN transition.delay IS NULL THEN job.run_after
            ELSE transition.at + transition.delay * interval '1 second'
        END,
        staged = COALESCE(transition.delay, 0) <= 0,
        finished = CASE WHEN transition.finished OR job.cancel_requested THEN transition.at END,
        workspace = COALESCE(transition.workspace::jsonb, job.workspace),
        result = COALESCE(transition.result::jsonb, job.result),
        error = CASE WHEN transition.state <> 'COMPLETE' THEN COALESCE(transition.error, job.error) END,
        cancel_requested = false,
        modified = transition.at
    FROM transition
    WHERE job.id = transition.id
      AND job.claim = transition.claim
      AND job.claimed_by = transition.worker
    RETURNING transition.place, job.state
),
history AS (
    INSERT INTO django_dbq_taskrun (
        job_id, claim, task, position, attempt, worker, started, finished, outcome, error, changes
    )
    SELECT id, claim, task, run_position, run_attempt, %(worker)s,
           at - age * interval '1 microsecond', at - (age - length) * interval '1 microsecond',
           outcome, run_error, changes::jsonb
    FROM transition
    WHERE task IS NOT NULL AND place IN (SELECT place FROM moved)
)
SELECT state, array_agg(place) FROM moved GROUP BY state

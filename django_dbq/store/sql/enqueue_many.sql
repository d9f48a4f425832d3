-- Insert many jobs that differ in their workspace alone.
INSERT INTO django_dbq_job (
    id, created, modified, name, state, next_task, workspace, queue_name, priority, run_after, staged, plan
)
SELECT id, %(now)s, %(now)s, %(name)s, 'NEW', %(next_task)s, workspace,
       %(queue_name)s, %(priority)s, %(run_after)s::timestamptz, %(staged)s, %(plan)s::jsonb
FROM unnest(%(ids)s::uuid[], %(workspaces)s::jsonb[]) AS new (id, workspace)

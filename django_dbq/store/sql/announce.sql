-- Wake listening workers. Its own transaction writes nothing, so nothing is worth a disk flush.
SELECT set_config('synchronous_commit', 'off', true), pg_notify('django_dbq', queue_name)
FROM unnest(%(queue_names)s::text[]) AS served (queue_name)

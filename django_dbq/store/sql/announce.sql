-- Wake listening workers. Its own transaction writes nothing, so nothing is worth a disk flush.
SELECT set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, name)
FROM unnest(%(names)s::text[]) AS told (name)

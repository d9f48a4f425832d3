-- Wake listening workers. Its own transaction writes nothing: no disk is waited for.
SELECT pg_notify(%(channel)s, name) FROM unnest(%(names)s::text[]) AS told (name)

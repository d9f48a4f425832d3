-- Keep what a running task has so far.
UPDATE django_dbq_job
SET workspace = %(workspace)s::jsonb,
    result = COALESCE(%(result)s::jsonb, result),
    modified = statement_timestamp()
WHERE id = %(id)s AND claim = %(claim)s AND claimed_by = %(worker)s
RETURNING id

-- name: counters
-- Up to $5 counters of namespace $1 whose keys are from $2 to before $3 and after $4
SELECT key, value, updated_at FROM key_counters
WHERE namespace = $1 AND namespace <> 'default' AND key >= $2 AND key < $3 AND key > $4
ORDER BY key LIMIT $5;

-- name: default_counters
-- Up to $4 of the default namespace whose keys are from $1 to before $2 and after $3
SELECT key, value, updated_at FROM key_counters
WHERE namespace = 'default' AND key >= $1 AND key < $2 AND key > $3
ORDER BY key LIMIT $4;

-- name: stored
-- Of namespace $1 those with the keys $2
SELECT key, value, updated_at FROM key_counters WHERE key = ANY($2::text[]) AND namespace = $1;

-- name: history
-- Up to $6 sums of counter $1 $2 in steps of $3, from $4 to before $5
SELECT at, sum::text AS sum FROM history
WHERE key = $2 AND namespace = $1 AND step = $3 AND at >= $4 AND at < $5
ORDER BY at LIMIT $6;

-- name: forget_history
-- Deletes up to $1 minutes older than $2 days, and as many hours older than $3
DELETE FROM history WHERE ctid = ANY(
    ARRAY(SELECT ctid FROM history WHERE step = 'minute' AND at < now() - make_interval(days => $2) LIMIT $1) ||
    ARRAY(SELECT ctid FROM history WHERE step = 'hour' AND at < now() - make_interval(days => $3) LIMIT $1)
)
RETURNING 1;

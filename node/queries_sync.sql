-- name: create
-- Counters that are not there yet: $1 namespaces, $2 keys. Those who meet lock in one order, here and in `lock`
INSERT INTO key_counters (namespace, key, value)
SELECT q.namespace, q.key, 0 FROM unnest($1::text[], $2::text[]) AS q (namespace, key) ORDER BY q.key, q.namespace
ON CONFLICT DO NOTHING
RETURNING namespace, key;

-- name: lock
-- Holds counters until the end of the transaction
SELECT c.namespace, c.key, c.value
FROM key_counters c JOIN unnest($1::text[], $2::text[]) AS q (namespace, key)
    ON c.key = q.key AND c.namespace = q.namespace
ORDER BY c.key, c.namespace FOR UPDATE OF c;

-- name: write
-- $3 is added to the counters $1 $2, and noted where their namespace has history; idempotency keys are remembered: $4 guards,
-- $5 values, $6 whether of resets, $7 windows in seconds
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) AS q (namespace, key, amount)
), added AS (
    UPDATE key_counters c SET value = c.value + q.amount, updated_at = clock_timestamp()
    FROM given q WHERE c.key = q.key AND c.namespace = q.namespace
), noted AS (
    INSERT INTO history AS h (namespace, key, step, at, sum)
    SELECT q.namespace, q.key, s.step, date_trunc(s.step, clock_timestamp(), 'UTC'), q.amount
    FROM given q JOIN namespaces n ON n.history AND n.name = q.namespace,
    (VALUES ('minute'), ('hour'), ('day'), ('month')) AS s (step)
    ORDER BY q.key, q.namespace, s.step
    ON CONFLICT (key, namespace, step, at) DO UPDATE SET sum = h.sum + excluded.sum
)
INSERT INTO idempotency_keys AS k (guard, value, reset, expires_at)
SELECT g.guard, g.value, g.reset, now() + make_interval(secs => g.window_s)
FROM unnest($4::bytea[], $5::bigint[], $6::bool[], $7::int[]) AS g (guard, value, reset, window_s)
ON CONFLICT (guard) DO UPDATE SET value = excluded.value, reset = excluded.reset, expires_at = excluded.expires_at;

-- name: remove
-- Counters that were created, and then nothing of them counted
DELETE FROM key_counters c USING unnest($1::text[], $2::text[]) AS q (namespace, key)
WHERE c.key = q.key AND c.namespace = q.namespace;

-- name: read
-- Values: $1 namespaces, $2 keys, answered in order
SELECT c.value, c.updated_at
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS q (namespace, key, n)
LEFT JOIN key_counters c ON c.key = q.key AND c.namespace = q.namespace
ORDER BY q.n;

-- name: append
-- Plain increments, a row each: $1 partitions, $2 namespaces, $3 keys, $4 values. Answers the positions of those that were not
-- counted, and whether their counter is full
WITH given AS MATERIALIZED (
    SELECT g.*, EXISTS (
        SELECT FROM full_counters f WHERE f.partition = g.partition AND f.counter = g.namespace || ':' || g.key
    ) AS full
    FROM unnest($1::int[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS g (partition, namespace, key, value, n)
), added AS (
    INSERT INTO increments (partition, namespace, key, value, reset)
    SELECT partition, namespace, key, value, false FROM given WHERE NOT given.full ORDER BY n
)
SELECT n::int, given.full FROM given WHERE given.full;

-- name: claim_and_append
-- `append` where some have idempotency keys: $5 guards, each once, $6 windows in seconds, $7 as the client gave them. A guard is
-- claimed when nobody else has it, or had it so long ago that it is forgotten; in one order, for those who meet wait for each
-- other. Answers as `append`; one whose guard was known already may be called full
WITH given AS MATERIALIZED (
    SELECT g.*, EXISTS (
        SELECT FROM full_counters f WHERE f.partition = g.partition AND f.counter = g.namespace || ':' || g.key
    ) AS full
    FROM unnest($1::int[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::int[], $7::text[])
        WITH ORDINALITY AS g (partition, namespace, key, value, guard, window_s, idempotency_key, n)
), claimed AS (
    INSERT INTO idempotency_keys AS k (guard, value, reset, expires_at)
    SELECT guard, value, false, now() + make_interval(secs => window_s)
    FROM given WHERE guard IS NOT NULL AND NOT given.full ORDER BY guard
    ON CONFLICT (guard) DO UPDATE SET value = excluded.value, reset = false, expires_at = excluded.expires_at
    WHERE k.expires_at <= now()
    RETURNING k.guard
), added AS (
    INSERT INTO increments (partition, namespace, key, value, reset, idempotency_key)
    SELECT partition, namespace, key, value, false, idempotency_key FROM given
    WHERE NOT given.full AND (guard IS NULL OR guard IN (SELECT guard FROM claimed)) ORDER BY n
)
SELECT n::int, given.full FROM given
WHERE given.full OR (guard IS NOT NULL AND guard NOT IN (SELECT guard FROM claimed));

-- name: lock
-- Holds counters until the end of the transaction, by numbers that stand for them, in one order
SELECT pg_advisory_xact_lock(number) FROM (SELECT number FROM unnest($1::bigint[]) AS number ORDER BY number) AS numbers;

-- name: read
-- Values, of one moment: $1 partitions, $2 namespaces, $3 keys, answered in order
SELECT c.value AS stored, c.updated_at, (coalesce(c.value, 0) + i.value)::bigint AS total, i.value IS NOT NULL AS pending
FROM unnest($1::int[], $2::text[], $3::text[]) WITH ORDINALITY AS q (partition, namespace, key, n)
LEFT JOIN key_counters c ON c.key = q.key AND c.namespace = q.namespace
LEFT JOIN LATERAL (
    SELECT sum(value) AS value FROM increments i
    WHERE i.partition = q.partition AND i.key = q.key AND i.namespace = q.namespace
) i ON true
ORDER BY q.n;

-- name: claim
-- $1 guards, $2 values, $3 whether of resets, $4 windows in seconds; a row for each that nobody else has claimed meanwhile
INSERT INTO idempotency_keys AS k (guard, value, reset, expires_at)
SELECT g.guard, g.value, g.reset, now() + make_interval(secs => g.window_s)
FROM unnest($1::bytea[], $2::bigint[], $3::bool[], $4::int[]) AS g (guard, value, reset, window_s) ORDER BY g.guard
ON CONFLICT (guard) DO UPDATE SET value = excluded.value, reset = excluded.reset, expires_at = excluded.expires_at
WHERE k.expires_at <= now()
RETURNING 1;

-- name: record
-- What was decided: $1 partitions, $2 namespaces, $3 keys, $4 values, $5 whether of resets, $6 idempotency keys
INSERT INTO increments (partition, namespace, key, value, reset, idempotency_key, counted_at)
SELECT g.*, clock_timestamp()
FROM unnest($1::int[], $2::text[], $3::text[], $4::bigint[], $5::bool[], $6::text[])
    AS g (partition, namespace, key, value, reset, idempotency_key);

-- name: waiting
-- Those of the partitions $1 that have something to be rolled up
SELECT p.partition FROM unnest($1::int[]) AS p (partition)
WHERE EXISTS (SELECT FROM increments i WHERE i.partition = p.partition);

-- name: roll_up
-- Moves up to $2 increments of partition $1 into their counters; $3 = settlement.FULL. Rows are taken as they are found, and
-- those that another holds are passed over: one that commits late is there the next time, whatever was rolled up before it
WITH taken AS (
    DELETE FROM increments WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM increments WHERE partition = $1 LIMIT $2 FOR UPDATE SKIP LOCKED
    ))
    RETURNING namespace, key, value, reset, idempotency_key, counted_at
), added AS (
    INSERT INTO key_counters AS c (namespace, key, value)
    SELECT namespace, key, sum(value)::bigint FROM taken GROUP BY key, namespace ORDER BY key, namespace
    ON CONFLICT (key, namespace) DO UPDATE SET value = c.value + excluded.value, updated_at = clock_timestamp()
    RETURNING c.namespace, c.key, c.value
), filled AS (
    INSERT INTO full_counters (partition, counter)
    SELECT $1, namespace || ':' || key FROM added WHERE abs(value) >= $3 ORDER BY 2
    ON CONFLICT DO NOTHING
), emptied AS (
    DELETE FROM full_counters f USING added a
    WHERE f.partition = $1 AND f.counter = a.namespace || ':' || a.key AND abs(a.value) < $3
), noted AS (
    INSERT INTO history AS h (namespace, key, step, at, sum)
    SELECT t.namespace, t.key, s.step, date_trunc(s.step, t.counted_at, 'UTC') AS at, sum(t.value)
    FROM taken t JOIN namespaces n ON n.history AND n.name = t.namespace,
    (VALUES ('minute'), ('hour'), ('day'), ('month')) AS s (step)
    GROUP BY t.key, t.namespace, s.step, 4 ORDER BY t.key, t.namespace, s.step, at
    ON CONFLICT (key, namespace, step, at) DO UPDATE SET sum = h.sum + excluded.sum
), kept AS (
    INSERT INTO rolled_up (namespace, key, value, reset, idempotency_key, counted_at)
    SELECT t.* FROM taken t JOIN namespaces n ON n.name = t.namespace WHERE n.keep_days IS DISTINCT FROM 0
)
SELECT count(*) FROM taken;

-- name: let_go
-- Deletes up to $1 rolled up increments that are older than their namespace keeps them
DELETE FROM rolled_up WHERE ctid = ANY(ARRAY(
    SELECT r.ctid FROM namespaces n CROSS JOIN LATERAL (
        SELECT ctid FROM rolled_up WHERE namespace = n.name AND counted_at < now() - make_interval(days => n.keep_days)
        ORDER BY counted_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ) r
    WHERE n.keep_days IS NOT NULL LIMIT $1
))
RETURNING 1;

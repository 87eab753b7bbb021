-- name: found_cluster
-- The cluster's row, made by the first node that starts; $1 = partitions
INSERT INTO cluster (partitions) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: cluster
-- The cluster's id and number of partitions
SELECT id::text AS id, partitions FROM cluster;

-- name: found_partitions
-- Rows for partitions 0 to $1 - 1, all on lane 0
INSERT INTO partitions (partition, lane) SELECT p, 0 FROM generate_series(0, $1::int - 1) AS p ON CONFLICT DO NOTHING;

-- name: note_run
-- Notes the Redis a lane is on; a row when it is another than before, or when it has lost what it held ($3)
INSERT INTO lanes (lane, run_id) VALUES ($1, $2)
ON CONFLICT (lane) DO UPDATE SET run_id = excluded.run_id WHERE lanes.run_id <> excluded.run_id OR $3::bool
RETURNING lane;

-- name: raise_incarnation
-- Fences every batch sealed before: waits for settles under way, and those that come later find another number
UPDATE partitions SET incarnation = incarnation + 1 WHERE lane = $1;

-- name: lane_state
-- A lane's partitions
SELECT partition, settled, incarnation FROM partitions WHERE lane = $1;

-- name: lane_full
-- A lane's full counters
SELECT f.counter FROM full_counters f JOIN partitions p USING (partition) WHERE p.lane = $1;

-- name: enlist
-- A new writer; once, though its reply be lost
INSERT INTO writers (name, lane) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: mark_remembered
-- Writer $1 has put back its ids; a row unless it was struck. An earlier mark may be late, and comes after this one
UPDATE writers SET remembered = greatest(remembered, $2) WHERE name = $1 RETURNING name;

-- name: mark_replayed
-- Writer $1 has put back its calls; likewise
UPDATE writers SET replayed = greatest(replayed, $2) WHERE name = $1 RETURNING name;

-- name: mark_resumed
-- Writer $1 has made its calls in flight again; likewise
UPDATE writers SET resumed = greatest(resumed, $2) WHERE name = $1 RETURNING name;

-- name: behind_remembered
-- Writers of lane $1 that have not put back their ids for incarnation $2
SELECT name FROM writers WHERE lane = $1 AND remembered < $2;

-- name: behind_replayed
-- Writers of lane $1 that have not put back their calls for incarnation $2
SELECT name FROM writers WHERE lane = $1 AND replayed < $2;

-- name: behind_resumed
-- Writers of lane $1 that have not made their calls in flight again in incarnation $2
SELECT name FROM writers WHERE lane = $1 AND resumed < $2;

-- name: strike
-- Takes writers off the list
DELETE FROM writers WHERE lane = $1 AND name = ANY($2::text[]);

-- name: forget_calls
-- Of those who have settled calls and are not on the list, and so never will be again: both seen at one moment, for a
-- row that this waits for is newer. What is taken out of that, in one expression on the row itself
WITH dead AS (
    SELECT split_part(k, '/', 1) AS name FROM partitions, jsonb_object_keys(calls) k WHERE lane = $1
    EXCEPT SELECT name FROM writers
)
UPDATE partitions SET calls = calls - ARRAY(
    SELECT k FROM jsonb_object_keys(calls) k WHERE split_part(k, '/', 1) IN (SELECT name FROM dead)
)
WHERE lane = $1
AND EXISTS (SELECT FROM jsonb_object_keys(calls) k WHERE split_part(k, '/', 1) IN (SELECT name FROM dead));

-- name: settled_calls
-- Where writer $2 has calls that are settled, and the last of them
SELECT partition, (calls ->> $2)::bigint AS number FROM partitions WHERE lane = $1 AND calls ? $2;

-- name: settled_outcomes
-- What was decided in the last two calls of writer $2, as far as it is settled: "<call> <ruling> ..."
SELECT o.value AS noted FROM partitions p, jsonb_each_text(p.calls) o
WHERE p.lane = $1 AND o.key IN ($2::text || '/0', $2::text || '/1');

-- name: settle
-- Batch $2 of partition $1 under incarnation $3: all of it, or nothing when it is not the next. $4 calls, and beside them what was decided in them; $5 $6 counters
-- ("<namespace>:<key>") and sums, sorted here so that two statements that meet lock rows in one order; $7 = settlement.FULL. Where a namespace has history it is noted too, under the moment of the settle
WITH moved AS (
    UPDATE partitions SET settled = $2, calls = calls || $4::jsonb, updated_at = now()
    WHERE partition = $1 AND settled = $2 - 1 AND incarnation = $3
    RETURNING partition
), added AS (
    INSERT INTO key_counters AS c (namespace, key, value)
    SELECT split_part(b.counter, ':', 1), substr(b.counter, strpos(b.counter, ':') + 1) AS key, b.value
    FROM moved, unnest($5::text[], $6::bigint[]) AS b (counter, value) ORDER BY key
    ON CONFLICT (key, namespace) DO UPDATE SET value = c.value + excluded.value, updated_at = now()
    RETURNING c.namespace, c.key, c.value
), filled AS (
    INSERT INTO full_counters (partition, counter)
    SELECT $1, namespace || ':' || key FROM added WHERE abs(value) >= $7
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO history AS h (namespace, key, step, at, sum)
    SELECT n.name, substr(b.counter, strpos(b.counter, ':') + 1), s.step, date_trunc(s.step, now(), 'UTC'), b.value
    FROM moved, unnest($5::text[], $6::bigint[]) AS b (counter, value)
    JOIN namespaces n ON n.history AND n.name = split_part(b.counter, ':', 1),
    (VALUES ('minute'), ('hour'), ('day'), ('month')) AS s (step)
    ORDER BY 2, 1, 3
    ON CONFLICT (key, namespace, step, at) DO UPDATE SET sum = h.sum + excluded.sum
)
SELECT (SELECT count(*) FROM moved) AS moved,
       ARRAY(SELECT namespace || ':' || key FROM added WHERE abs(value) >= $7) AS full;

-- name: partition_state
-- What is settled of partition $1, and its full counters
SELECT settled, ARRAY(SELECT counter FROM full_counters WHERE partition = $1) AS full
FROM partitions WHERE partition = $1;

-- name: stored
-- Values beside the settled numbers of their partitions: $1 partitions, $2 namespaces, $3 keys, answered in order
SELECT c.value, p.settled, c.updated_at
FROM unnest($1::int[], $2::text[], $3::text[]) WITH ORDINALITY AS q (partition, namespace, key, n)
JOIN partitions p ON p.partition = q.partition
LEFT JOIN key_counters c ON c.key = q.key AND c.namespace = q.namespace
ORDER BY q.n;

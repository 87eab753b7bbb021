-- name: namespaces
-- All of them
SELECT name, strategy, idempotency_window_s, idempotency_key_required, negative_allowed, history, keep_days
FROM namespaces ORDER BY name;

-- name: namespace
-- One, by name
SELECT name, strategy, idempotency_window_s, idempotency_key_required, negative_allowed, history, keep_days
FROM namespaces WHERE name = $1;

-- name: lock_namespace
-- One that is about to be changed
SELECT name, strategy, idempotency_window_s, idempotency_key_required, negative_allowed, history, keep_days
FROM namespaces WHERE name = $1 FOR UPDATE;

-- name: found
-- A namespace $1 of strategy $2, unless there is one of that name, or as many as there may be: $3
INSERT INTO namespaces (name, strategy) SELECT $1, $2 WHERE (SELECT count(*) FROM namespaces) < $3
ON CONFLICT DO NOTHING;

-- name: change
-- The terms of namespace $1, but for its strategy
UPDATE namespaces SET idempotency_window_s = $2, idempotency_key_required = $3, negative_allowed = $4, history = $5,
    keep_days = $6, updated_at = now()
WHERE name = $1;

-- name: remembered
-- What idempotency keys were used for. They are known a little longer than they need be: one that was found to be claimed may
-- have expired since. Written so that the index of expiries is of no use: it would be read from end to end
SELECT guard, value, reset FROM idempotency_keys
WHERE guard = ANY($1::bytea[]) AND expires_at + interval '1 minute' > now();

-- name: forget
-- Deletes up to $1 that nobody looks for any more; those that are being claimed anew are passed over
DELETE FROM idempotency_keys WHERE guard IN (
    SELECT guard FROM idempotency_keys WHERE expires_at <= now() - interval '1 minute' LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING 1;

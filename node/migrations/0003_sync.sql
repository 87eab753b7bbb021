-- Idempotency keys of what is counted in Postgres itself, each written in the transaction of its effect.
CREATE TABLE idempotency_keys (
    guard      bytea       PRIMARY KEY,  -- a digest of counter and key
    value      bigint      NOT NULL,     -- of the increment; of a reset what it took
    reset      boolean     NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

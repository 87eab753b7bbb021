-- Increments that no counter's row has yet. Only ever added to, and taken out by whoever rolls them up.
CREATE TABLE increments (
    partition       integer     NOT NULL,
    namespace       text        COLLATE "C" NOT NULL,
    key             text        COLLATE "C" NOT NULL,
    value           bigint      NOT NULL,
    reset           boolean     NOT NULL,  -- `value` is what a reset took off, below 0
    idempotency_key text,
    counted_at      timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_analyze_threshold = 2000000000);
CREATE INDEX increments_by_counter ON increments (partition, key, namespace);

-- Increments that are rolled up: the record of what was counted when, for as many days as their namespace keeps them.
CREATE TABLE rolled_up (
    namespace       text        COLLATE "C" NOT NULL,
    key             text        COLLATE "C" NOT NULL,
    value           bigint      NOT NULL,
    reset           boolean     NOT NULL,
    idempotency_key text,
    counted_at      timestamptz NOT NULL
);
CREATE INDEX rolled_up_by_time ON rolled_up USING brin (counted_at);

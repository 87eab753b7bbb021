-- How the counters of each namespace count. The strategy never changes: what is counted by one is not known to the others.
CREATE TABLE namespaces (
    name                     text        COLLATE "C" PRIMARY KEY,
    strategy                 text        NOT NULL CHECK (strategy IN ('dist', 'sync', 'rollup')),
    idempotency_window_s     integer     CHECK (idempotency_window_s > 0),  -- NULL: as the nodes are set
    idempotency_key_required boolean     NOT NULL DEFAULT false,
    negative_allowed         boolean     NOT NULL DEFAULT false,
    history                  boolean     NOT NULL DEFAULT false,
    keep_days                integer     CHECK (keep_days >= 0),  -- NULL: for ever
    founded_at               timestamptz NOT NULL DEFAULT now(),
    updated_at               timestamptz NOT NULL DEFAULT now()
);

-- What was counted before there was a choice.
INSERT INTO namespaces (name, strategy)
SELECT 'default', 'dist' FROM cluster
UNION
SELECT namespace, 'dist' FROM key_counters;

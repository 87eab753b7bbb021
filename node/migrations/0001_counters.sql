-- The record. `key` comes first in the primary key, so that a distributed Postgres can spread the table by it.
CREATE TABLE key_counters (
    namespace   text        COLLATE "C" NOT NULL DEFAULT 'default',
    key         text        COLLATE "C" NOT NULL,
    id          uuid        NOT NULL DEFAULT gen_random_uuid(),
    value       bigint      NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key, namespace)
) WITH (fillfactor = 85);  -- room for updates on the same page: no index holds `value`, so they touch no index

-- One row. The id is noted in Redis too: a settle into the wrong database cannot be undone.
CREATE TABLE cluster (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    id         uuid        NOT NULL DEFAULT gen_random_uuid(),
    partitions integer     NOT NULL CHECK (partitions > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The Redis that each lane was last found on; another run_id may be a Redis gone back in time.
CREATE TABLE lanes (
    lane   integer PRIMARY KEY,
    run_id text    NOT NULL
);

-- What is in key_counters: batches 1 to `settled` of each partition. The row moves in the statement that adds the sums.
CREATE TABLE partitions (
    partition   integer     PRIMARY KEY,
    lane        integer     NOT NULL,
    settled     bigint      NOT NULL DEFAULT 0,
    incarnation bigint      NOT NULL DEFAULT 0,  -- of the lane; raised to fence batches of an older Redis
    calls       jsonb       NOT NULL DEFAULT '{}',  -- writer -> number of its last call that is settled here
    updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- The names under which nodes write, each new at a node's start, and how far each has come in bringing back what a Redis that
-- went back in time had lost. They are kept here and not in Redis, for that would have forgotten them, too.
CREATE TABLE writers (
    name       text        COLLATE "C" PRIMARY KEY,
    lane       integer     NOT NULL,
    remembered bigint      NOT NULL DEFAULT 0,  -- the incarnation for which it has put back its ids
    replayed   bigint      NOT NULL DEFAULT 0,  -- ... and its calls
    started_at timestamptz NOT NULL DEFAULT now()
);

-- Counters so large that another batch could pass the end of a bigint.
CREATE TABLE full_counters (
    partition integer NOT NULL,
    counter   text    COLLATE "C" NOT NULL,  -- "<namespace>:<key>"
    PRIMARY KEY (partition, counter)
);

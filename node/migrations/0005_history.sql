-- What was added to a counter, less what was taken off, in each minute, hour, day and month (UTC), where its namespace has history.
CREATE TABLE history (
    namespace text        COLLATE "C" NOT NULL,
    key       text        COLLATE "C" NOT NULL,
    step      text        COLLATE "C" NOT NULL CHECK (step IN ('minute', 'hour', 'day', 'month')),
    at        timestamptz NOT NULL,  -- its beginning
    sum       numeric     NOT NULL,  -- of a month's increments of 2^53 each, too
    PRIMARY KEY (key, namespace, step, at)
);
CREATE INDEX history_by_time ON history USING brin (at);

-- The counters of one namespace in order. The default namespace's, which are mostly nearly all, are found by the primary key:
-- another index costs a settle of new keys a third more.
CREATE INDEX key_counters_by_namespace ON key_counters (namespace, key) WHERE namespace <> 'default';

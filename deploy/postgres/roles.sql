-- The role that nodes use: it may work on the rows of Tally's tables, and do nothing else.
--
--   psql "$OWNER_DSN" -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--
-- as the role that owns the schema, after each `python3 -m cluster migrate`, which the same role runs. It needs CREATEROLE, or
-- `tally_node` made before. Running it again changes nothing. Then let the role log in, and give the nodes its DSN:
--
--   ALTER ROLE tally_node LOGIN PASSWORD '...';
--   TALLY_POSTGRES_DSN=postgresql://tally_node:...@host/tally?sslmode=verify-full&sslrootcert=/etc/tally/ca.pem
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tally_node') THEN
        CREATE ROLE tally_node NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION;
    END IF;
    -- Postgres 14 and older, and databases that come from them, let everybody make tables.
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO tally_node', current_schema());
END $$;

-- What a node starts with: whether the schema is the right one, which cluster this is.
GRANT SELECT ON schema_migrations TO tally_node;
GRANT SELECT, INSERT ON cluster TO tally_node;
GRANT SELECT, INSERT, UPDATE ON lanes, partitions, namespaces TO tally_node;

-- Nobody deletes a counter that has counted: `sync` takes back the row of one that it could not count.
GRANT SELECT, INSERT, UPDATE, DELETE ON key_counters TO tally_node;

-- UPDATE on rows that are only ever deleted: to lock them.
GRANT SELECT, INSERT, UPDATE, DELETE ON writers, idempotency_keys, increments, rolled_up, history TO tally_node;
GRANT SELECT, INSERT, DELETE ON full_counters TO tally_node;

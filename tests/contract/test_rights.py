"""What a node may do on Redis and on Postgres: all it needs, which the rest of the contract shows, and nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

import cluster
import node
from node.errors import Misconfigured
from node.log import RedisLog
from node.migrations import migrate
from node.postgres import named_queries
from node.store import PostgresStore
from tests.rights import ACL, as_node_role

STATEMENTS = [
    (path.name, name, sql)
    for path in sorted(Path(node.__file__).parent.glob("queries*.sql"))
    for name, sql in named_queries(path.read_text()).items()
]
LUA = [Path(node.__file__).parent / "log.lua", Path(cluster.__file__).parent / "registry.lua"]


# --- Redis ------------------------------------------------------------------------------------------------------------


@pytest.mark.redis
@pytest.mark.parametrize(
    "command",
    [
        *("FLUSHALL", "FLUSHDB", "CONFIG SET appendonly no", "CONFIG GET *", "CONFIG REWRITE", "KEYS *", "SCAN 0"),
        *("SHUTDOWN NOSAVE", "SAVE", "BGREWRITEAOF", "REPLICAOF NO ONE", "MONITOR", "CLIENT LIST"),
        *("ACL LIST", "ACL SETUSER x", "FUNCTION DELETE x", "FUNCTION FLUSH", "FUNCTION KILL", "SCRIPT FLUSH"),
        *("EVAL return 0", "SUBSCRIBE x", "PUBLISH tally x", "SET tally:{0}:x 1", "RENAME tally:{0} tally:{1}"),
        *("GET x", "HGETALL tally", "DEL other:{0}", "HSET x a b", "SWAPDB 0 1", "MIGRATE a 1 x 0 1", "DUMP tally:{0}"),
    ],
)
async def test_a_nodes_user_may_do_nothing_else(node_redis_url: str, command: str) -> None:
    async with Redis.from_url(node_redis_url) as redis:
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*(command.split() + (["0"] if command.startswith("EVAL") else [])))


@pytest.mark.redis
async def test_a_function_reaches_no_further_than_who_calls_it(node_redis_url: str) -> None:
    code = "#!lua name=evil\nredis.register_function('evil', function(keys) return redis.call('FLUSHALL') end)"
    async with Redis.from_url(node_redis_url) as redis:
        await redis.function_load(code)
        with pytest.raises(Exception, match=r"can't run this command|NOPERM"):
            await redis.fcall("evil", 1, "tally:{0}")
        with pytest.raises(NoPermissionError):
            await redis.fcall("evil", 1, "another's key")


def test_the_users_file_names_the_commands_of_the_functions_and_few_others() -> None:
    called = {name.lower() for path in LUA for name in re.findall(r"redis\.call\('(\w+)'", path.read_text())}
    assert set(re.findall(r"\+(\S+)", ACL.read_text())) == called | {"fcall", "function|load", "info"}


@pytest.mark.redis
async def test_a_node_sees_what_its_redis_is_set_to(node_redis_url: str) -> None:
    """That it has an append-only file and evicts nothing is checked with INFO: CONFIG would be more than it may."""
    log = RedisLog.open(node_redis_url, 0, 8)
    assert (await log.facts()).trouble is None
    await log.close()


# --- Postgres ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def connection(node_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(node_dsn, server_settings={"lock_timeout": "5000"})
    yield connection
    await connection.close()


@pytest.mark.postgres
async def test_a_nodes_role_may_run_every_statement_there_is(connection: asyncpg.Connection) -> None:
    """With NULL for each parameter: rights are looked at before anything else, and most find nothing to do."""
    assert len(STATEMENTS) > 40
    for file, name, sql in STATEMENTS:
        transaction = connection.transaction()
        await transaction.start()
        try:
            statement = await connection.prepare(sql)
            await statement.fetch(*[None for _ in statement.get_parameters()])
        except asyncpg.InsufficientPrivilegeError as error:
            pytest.fail(f"{file}, {name}: {error}")
        except asyncpg.PostgresError:
            pass  # NULL is not what it wants, but it may
        finally:
            await transaction.rollback()


FORBIDDEN = [
    *("CREATE TABLE x (a int)", "CREATE TEMPORARY TABLE x (a int)", "CREATE SCHEMA x", "CREATE ROLE x"),
    *("DROP TABLE key_counters", "TRUNCATE key_counters", "ALTER TABLE key_counters ADD x int"),
    *("DELETE FROM partitions", "DELETE FROM cluster", "UPDATE cluster SET id = gen_random_uuid()"),
    *("DELETE FROM namespaces", "DELETE FROM lanes", "INSERT INTO schema_migrations VALUES (0, 'x')"),
    *("DELETE FROM schema_migrations", "CREATE INDEX x ON key_counters (value)", "LOCK TABLE cluster"),
    *("CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'", "SELECT * FROM pg_authid"),
    *("COPY key_counters TO PROGRAM 'true'", "COPY key_counters TO '/tmp/x'", "ALTER SYSTEM SET fsync = off"),
    *("SELECT pg_read_file('postgresql.conf')", "SELECT pg_reload_conf()", "ALTER ROLE tally_node CREATEDB"),
]


@pytest.mark.postgres
async def test_a_nodes_role_may_do_nothing_else(connection: asyncpg.Connection) -> None:
    assert [sql for sql in FORBIDDEN if not await is_refused(connection, sql)] == []


async def is_refused(connection: asyncpg.Connection, sql: str) -> bool:
    transaction = connection.transaction() if "SYSTEM" not in sql else None  # which is not for transactions
    if transaction is not None:
        await transaction.start()
    try:
        await connection.execute(sql)
    except asyncpg.InsufficientPrivilegeError:
        return True
    finally:
        if transaction is not None:
            await transaction.rollback()
    return False


@pytest.mark.postgres
async def test_every_table_is_a_nodes_to_read(connection: asyncpg.Connection) -> None:
    """A migration that makes another is to say in roles.sql who may what with it."""
    tables = [row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    assert len(tables) > 10
    for table in tables:
        assert await connection.fetchval("SELECT has_table_privilege($1, 'SELECT')", table), table


@pytest.mark.postgres
async def test_a_role_that_may_not_migrate_says_who_must(postgres_dsn: str, node_dsn: str) -> None:
    owner = await asyncpg.connect(postgres_dsn)
    await owner.execute("DELETE FROM schema_migrations WHERE version = 1")
    with pytest.raises(Misconfigured, match=r"cluster migrate.*roles\.sql"):
        await PostgresStore.open(node_dsn, 8)
    await owner.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO tally_node")
    with pytest.raises(Misconfigured, match=r"cluster migrate.*roles\.sql"):
        await PostgresStore.open(node_dsn, 8)
    assert await migrate(owner)
    await owner.close()
    await as_node_role(postgres_dsn)
    store = await PostgresStore.open(node_dsn, 8)
    await store.close()

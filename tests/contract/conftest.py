"""Every port, as its in-memory twin and as the real thing; fakeredis between them where Lua alone is in question.

On real servers it is used with the rights that deploy/ gives to nodes, and no others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakeredis import FakeAsyncRedis

from cluster.registry import Registry
from node.log import RedisLog, lane_key
from node.ports import Log, Store
from node.store import PostgresStore
from tests.conftest import Servers
from tests.rights import as_acl_user, as_node_role
from tests.twins.fakeredis import FakeRedisLog
from tests.twins.log import MemoryLog
from tests.twins.store import MemoryStore

PARTITIONS = 8
LEASE_MS = 30_000  # so that none runs out by itself: the tests of that have shorter ones


@pytest.fixture
def node_redis_url(redis_url: str) -> str:
    return as_acl_user(redis_url)


@pytest.fixture
def node_dsn(servers: Servers, postgres_dsn: str) -> str:
    return servers.run(as_node_role(postgres_dsn))


@pytest.fixture(params=["memory", "fakeredis", pytest.param("redis", marks=pytest.mark.redis)])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    match request.param:
        case "memory":
            yield MemoryLog(PARTITIONS)
        case "fakeredis":
            async with FakeAsyncRedis() as redis:
                yield FakeRedisLog(redis, lane_key(0), PARTITIONS)
        case _:
            log = RedisLog.open(request.getfixturevalue("node_redis_url"), 0, PARTITIONS)
            yield log
            await log.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(PARTITIONS)
        return
    store = await PostgresStore.open(request.getfixturevalue("node_dsn"), PARTITIONS)
    yield store
    await store.close()


@pytest.fixture(params=["fakeredis", pytest.param("redis", marks=pytest.mark.redis)])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    if request.param == "fakeredis":
        async with FakeAsyncRedis() as redis:
            yield Registry(redis, lease_ms=LEASE_MS)
        return
    from cluster.registry import connect

    registry = connect(request.getfixturevalue("node_redis_url"), lease_ms=LEASE_MS)
    yield registry
    await registry.close()

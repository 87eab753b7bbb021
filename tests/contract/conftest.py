"""Every port, as its in-memory twin and as the real thing; fakeredis between them where Lua alone is in question."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakeredis import FakeAsyncRedis

from cluster.registry import Registry
from node.log import RedisLog, lane_key
from node.ports import Log, Store
from node.store import PostgresStore
from tests.twins.fakeredis import FakeRedisLog
from tests.twins.log import MemoryLog
from tests.twins.store import MemoryStore

PARTITIONS = 8


@pytest.fixture(params=["memory", "fakeredis", pytest.param("redis", marks=pytest.mark.redis)])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    match request.param:
        case "memory":
            yield MemoryLog(PARTITIONS)
        case "fakeredis":
            async with FakeAsyncRedis() as redis:
                yield FakeRedisLog(redis, lane_key(0), PARTITIONS)
        case _:
            log = RedisLog.open(request.getfixturevalue("redis_url"), 0, PARTITIONS)
            yield log
            await log.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(PARTITIONS)
        return
    store = await PostgresStore.open(request.getfixturevalue("postgres_dsn"), PARTITIONS)
    yield store
    await store.close()


@pytest.fixture(params=["fakeredis", pytest.param("redis", marks=pytest.mark.redis)])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    if request.param == "fakeredis":
        async with FakeAsyncRedis() as redis:
            yield Registry(redis, lease_ms=400)
        return
    from cluster.registry import connect

    registry = connect(request.getfixturevalue("redis_url"), lease_ms=400)
    yield registry
    await registry.close()

"""Real servers for the tests: one Redis and one Postgres a run, on free ports, data in a temporary folder."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from redis import Redis

from cluster.local.folder import Folder
from cluster.local.ports import Ports
from cluster.local.supply import Place, Supply, own_postgres, own_redis
from cluster.local.testing import ALONE

pytest_plugins = ["tests.needs"]

T = TypeVar("T")

ROOT = Path(__file__).parent
HEAVY = ("bench", "chaos", "compose", "faults")  # whole clusters, under load: they have the machine to themselves


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(ROOT) and item.path.relative_to(ROOT).parts[0] in HEAVY:
            item.add_marker(ALONE)


for name in [name for name in os.environ if name.startswith("TALLY_") and name != "TALLY_SERVERS"]:
    del os.environ[name]  # a developer's own settings must not change what the tests see


@dataclass
class Servers:
    """Starts servers when they are first asked for, and stops them at the end. They live in a loop of their own."""

    loop: asyncio.AbstractEventLoop
    path: Path
    redis: Supply | None = None
    postgres: Supply | None = None
    folders: list[Folder] = field(default_factory=list)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def place(self, name: str) -> Place:
        folder = Folder(self.path / name)
        folder.claim()
        self.folders.append(folder)
        return Place(folder, Ports(), group=0, lock_fd=folder.acquire())

    def redis_url(self) -> str:
        if self.redis is None:
            self.redis = self.run(own_redis(self.place("r"), "auto"))
        return self.redis.url

    def postgres_dsn(self) -> str:
        if self.postgres is None:
            self.postgres = self.run(own_postgres(self.place("p"), "auto"))
        return self.postgres.url

    def stop(self) -> None:
        for supply in (self.redis, self.postgres):
            if supply is not None and supply.service is not None:
                self.run(supply.service.stop())
        for folder in self.folders:
            folder.wipe()  # root's Postgres has its data outside


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers = Servers(loop, tmp_path_factory.mktemp("servers"))
    yield servers
    servers.stop()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """An empty database of the run's Redis."""
    url = servers.redis_url()
    with Redis.from_url(url) as redis:
        redis.flushall()
    return url


@pytest.fixture
def postgres_dsn(servers: Servers) -> Iterator[str]:
    """An empty database of its own in the run's Postgres."""
    server = servers.postgres_dsn()
    name = f"test_{os.urandom(5).hex()}"
    servers.run(_execute(server, f"CREATE DATABASE {name}"))
    yield server.rsplit("/", 1)[0] + "/" + name
    servers.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()

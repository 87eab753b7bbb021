"""Every strategy, on the in-memory twins and on real servers, as clusters of as many nodes as a test wants."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from node.call import Windows
from node.comeback import Comeback
from node.counters import IncrementLog
from node.halves import Halves
from node.keep import Keep
from node.log import RedisLog
from node.ports import Log, Store
from node.reader import Reader
from node.roller import Roller
from node.rollup_table import RollupTable
from node.settler import Settler
from node.store import PostgresStore
from node.strategies.dist import Dist
from node.strategies.rollup import rollup
from node.strategies.sync import sync
from node.strategy import Namespace, Strategy
from node.sync_table import SyncTable
from node.terms import StrategyName
from node.writer import Writer
from tests.shell.conftest import running, until
from tests.twins.counters import MemoryCounters
from tests.twins.log import MemoryLog
from tests.twins.meter import MemoryMeter
from tests.twins.records import MemoryRecords
from tests.twins.store import MemoryStore

PARTITIONS = 8
ALL = frozenset(range(PARTITIONS))
DEADLINE_S = 30.0
INBOX_MAX = 50_000
REQUEST_ID_WINDOW_S = 60


@dataclass
class Cluster:
    """One namespace, counted by one strategy. Its counters' values move between stores when `move` is called."""

    namespace: Namespace
    stack: AsyncExitStack
    make: Callable[[], Any]  # -> a node's strategy and the loops it needs
    move: Callable[[], Any]

    async def node(self) -> Strategy:
        strategy, *loops = self.make()
        await self.stack.enter_async_context(running(*loops))
        for loop in loops:
            if isinstance(loop, Writer):
                await until(lambda writer=loop: writer.trouble is None)
        found: Strategy = strategy
        return found

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Values move all the time."""

        async def keep_moving() -> None:
            while True:
                await self.move()
                await asyncio.sleep(0.002)

        task = asyncio.create_task(keep_moving())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def counted_in_redis(namespace: Namespace, stack: AsyncExitStack, log: Log, store: Store) -> Cluster:
    alive: set[str] = set()

    async def living() -> frozenset[str]:
        return frozenset(alive)

    def make() -> tuple[Any, ...]:
        name = f"n{len(alive)}-{secrets.token_hex(3)}"
        alive.add(name)
        windows, halves = Windows(), Halves(store)
        comeback = Comeback(log, store, MemoryMeter(), 0, name, living, 0.3, monotonic)
        keep = Keep(60.0, 10**9)
        writer = Writer(log, comeback, keep, name, PARTITIONS, windows, monotonic, DEADLINE_S)
        reader = Reader(log, halves, monotonic, DEADLINE_S)
        return Dist(writer, reader, halves, log, windows, monotonic, DEADLINE_S), writer, reader

    settler = Settler(log, store, MemoryMeter(), lambda: ALL, interval_s=3600)
    return Cluster(namespace, stack, make, lambda: settler.settle(ALL))


def counted_in_postgres(namespace: Namespace, stack: AsyncExitStack, open_table: Callable[[], Any]) -> Cluster:
    made = sync if namespace.strategy == "sync" else rollup

    def make() -> tuple[Any, ...]:
        direct = made(open_table(), monotonic, DEADLINE_S, INBOX_MAX, REQUEST_ID_WINDOW_S)
        return direct, direct

    async def move() -> None:
        if namespace.strategy == "rollup":
            table: IncrementLog = open_table()
            await Roller(table, MemoryRecords(), lambda: ALL, interval_s=3600, batch=50).roll_up(ALL)

    return Cluster(namespace, stack, make, move)


@asynccontextmanager
async def in_memory(namespace: Namespace) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        if namespace.strategy == "dist":
            yield counted_in_redis(namespace, stack, MemoryLog(PARTITIONS), MemoryStore(PARTITIONS))
        else:
            counters = MemoryCounters(PARTITIONS, rolls_up=namespace.strategy == "rollup")
            yield counted_in_postgres(namespace, stack, lambda: counters)


@asynccontextmanager
async def on_servers(namespace: Namespace, redis_url: str, postgres_dsn: str) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        store = await PostgresStore.open(postgres_dsn, PARTITIONS)
        stack.push_async_callback(store.close)
        if namespace.strategy == "dist":
            log = RedisLog.open(redis_url, 0, PARTITIONS)
            stack.push_async_callback(log.close)
            yield counted_in_redis(namespace, stack, log, store)
        elif namespace.strategy == "sync":
            yield counted_in_postgres(namespace, stack, lambda: SyncTable(store.postgres))
        else:
            yield counted_in_postgres(namespace, stack, lambda: RollupTable(store.postgres, PARTITIONS))


STRATEGIES: tuple[StrategyName, ...] = ("dist", "sync", "rollup")

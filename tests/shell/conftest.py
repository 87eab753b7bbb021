"""The loops over ports: writer, reader and settler, run on the in-memory twins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from time import monotonic
from typing import Any

import pytest

from node.call import Windows
from node.comeback import Comeback
from node.halves import Halves
from node.increment import Increment
from node.keep import Keep
from node.reader import Reader
from node.settler import Settler
from node.strategies.dist import Dist
from node.writer import Writer
from tests.twins.log import MemoryLog
from tests.twins.meter import MemoryMeter
from tests.twins.store import MemoryStore

PARTITIONS = 8
ALL = frozenset(range(PARTITIONS))


class World:
    """One log, one store, and as many nodes' parts as a test wants."""

    def __init__(self) -> None:
        self.log = MemoryLog(PARTITIONS)
        self.store = MemoryStore(PARTITIONS)
        self.meter = MemoryMeter()
        self.alive: set[str] = set()

    def writer(self, name: str = "n1", lease_s: float = 0.3, bytes_max: int = 10**9, **settings: Any) -> Writer:
        """A writer whose node holds a lease until it is taken out of `alive`."""
        self.alive.add(name)
        comeback = Comeback(self.log, self.store, self.meter, 0, name, self._alive, lease_s, monotonic)
        keep = Keep(60.0, bytes_max)
        settings = {"windows": Windows(), "deadline_s": 5.0} | settings
        return Writer(self.log, comeback, keep, name, PARTITIONS, now=monotonic, **settings)

    async def _alive(self) -> frozenset[str]:
        return frozenset(self.alive)

    def reader(self, deadline_s: float = 5.0) -> Reader:
        return Reader(self.log, Halves(self.store), monotonic, deadline_s)

    @asynccontextmanager
    async def dist(self, name: str = "n1", **settings: Any) -> AsyncIterator[Dist]:
        """A node's own, with the parts that it needs running."""
        windows, deadline_s = Windows(), settings.get("deadline_s", 5.0)
        writer, halves = self.writer(name, windows=windows, **settings), Halves(self.store)
        reader = Reader(self.log, halves, monotonic, deadline_s)
        async with running(writer, reader):
            yield Dist(writer, reader, halves, self.log, windows, monotonic, deadline_s)

    def settler(self, owned: frozenset[int] = ALL, interval_s: float = 3600) -> Settler:
        return Settler(self.log, self.store, self.meter, lambda: owned, interval_s)

    async def value(self, counter: str) -> int:
        async with running(reader := self.reader()):
            return await reader.value(counter)

    async def troubles(self, chance: Random) -> None:
        """Settles and lost answers at any moment, Redis back to any earlier state at any moment, until cancelled."""
        history = [self.log.snapshot()]
        while True:
            await asyncio.sleep(chance.random() * 0.02)
            match chance.randrange(6):
                case 0:
                    self.log.crash(back_to=chance.choice(history))
                    history = [self.log.snapshot()]
                    await asyncio.sleep(chance.random() * 0.3)
                case 1 | 2:
                    history.append(self.log.snapshot())
                case 3:
                    for appender in self.log.appenders:
                        appender.lose_next = appender.open
                case _:
                    await asyncio.gather(self.settler().settle(ALL), return_exceptions=True)


@pytest.fixture
def world() -> World:
    return World()


@asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    """Runs the parts' loops; one that ends by itself fails the test."""
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def until(condition: Any, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def increment(key: str = "a", value: int = 1, idempotency_key: str | None = None) -> Increment:
    return Increment(f"default:{key}", value, idempotency_key)

"""A node: the real objects, put together as `node/parts.py` does, in a process that can be killed and frozen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from node.call import Windows
from node.comeback import Comeback
from node.errors import Misconfigured, TallyError, Unanswered, Unavailable
from node.halves import Halves
from node.keep import Keep
from node.reader import Reader
from node.settler import Settler
from node.strategies.dist import Dist
from node.strategy import Namespace
from node.writer import Writer
from tests.sim.clock import HOST, WORLD, Host, Loop
from tests.sim.net import Way, Weather, give
from tests.sim.servers import PARTITIONS, Postgres, Redis, SimLog, SimStore
from tests.twins.meter import MemoryMeter

T = TypeVar("T")

LEASE_S = 0.9
NAMESPACE = Namespace()
REQUEST_TIMEOUT_S = 4.0  # of a client


class Unsent(Unavailable):
    """Nobody listens there."""


@dataclass
class Settings:
    """A node's."""

    deadline_s: float = 2.0
    flush_interval_s: float = 0.7
    horizon_s: float = 60.0
    bytes_max: int = 10**9
    greedy: float = 0.0  # the part of the others' partitions that a node thinks are its own, between 0 and 1


@dataclass
class Surroundings:
    """What all nodes of a story have in common."""

    loop: Loop
    redis: Redis
    postgres: Postgres
    weather: Weather
    settings: Settings
    seed: int
    broken: list[str] = field(default_factory=list)  # nodes that ended as none should


class Node:
    """One life of a node: its name is never used again."""

    def __init__(self, around: Surroundings, name: str, on_end: Callable[[Node], None]) -> None:
        self.name, self.around, self.loop = name, around, around.loop
        self._on_end = on_end
        self.host = Host(name)
        self._context = self.host.context()
        ways = [
            Way(self.host, server, around.weather, f"{around.seed} {name} {server.name}")
            for server in (around.redis, around.postgres)
        ]
        self.to_redis, self.to_postgres = ways
        self.chance = ways[0].chance
        self.view: list[str] = []
        self.gone = ""  # why it is; empty while it lives
        self._members: set[asyncio.Task[Any]] = set()
        self._asked: set[asyncio.Future[Any]] = set()
        self._build(SimLog(around.redis, ways[0]), SimStore(around.postgres, ways[1], name))

    def _build(self, log: SimLog, store: SimStore) -> None:
        settings, now, windows, halves = self.around.settings, self.loop.time, Windows(), Halves(store)
        self.meter = MemoryMeter()
        self.comeback = Comeback(log, store, self.meter, 0, self.name, self._alive, LEASE_S, now)
        keep = Keep(settings.horizon_s, settings.bytes_max)
        self.writer = Writer(log, self.comeback, keep, self.name, PARTITIONS, windows, now, settings.deadline_s)
        self.reader = Reader(log, halves, now, settings.deadline_s)
        self.dist = Dist(self.writer, self.reader, halves, log, windows, now, settings.deadline_s)
        self.settler = Settler(
            log, store, self.meter, self.owned, settings.flush_interval_s, outdated=self.writer.come_back
        )

    # --- its life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._task(self._live())

    async def _live(self) -> None:
        try:
            async with asyncio.TaskGroup() as vital:
                vital.create_task(self._beat())
                for part in (self.writer, self.reader, self.settler):
                    vital.create_task(part.run())
        except* Misconfigured as group:
            self._end("struck" if "taken for dead" in str(group.exceptions) else "misconfigured")
        except* Exception as group:
            self.around.broken.append(f"{self.name}: {group.exceptions!r}")
            self._end("broken")

    async def _beat(self) -> None:
        redis = self.around.redis
        while True:
            with suppress(Unavailable):
                self.view = await self.to_redis.ask("beat", lambda: redis.beat(self.name, LEASE_S))
            await asyncio.sleep(LEASE_S / 3)

    async def _alive(self) -> frozenset[str]:
        return await self.to_redis.ask("alive", self.around.redis.alive)

    def owned(self) -> frozenset[int]:
        """As it last saw the members: a node that was frozen does not know better."""
        if self.name not in self.view:
            return frozenset()
        mine, among = self.view.index(self.name), len(self.view)
        greedy = self.around.settings.greedy
        return frozenset(p for p in range(PARTITIONS) if p % among == mine or self.chance.random() < greedy)

    async def leave(self) -> None:
        """Drains, as `Node._shut_down` does."""
        await asyncio.wait([self._task(self._leave())])

    async def _leave(self) -> None:
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(20.0):
                await self.writer.drain()
                await self.settler.settle(range(PARTITIONS))
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(5.0):
                await self.comeback.leave()
        self._end("left")

    def kill(self) -> None:
        self._end("killed")

    def _end(self, why: str) -> None:
        if self.gone:
            return
        self.gone = why
        self.host.dead = True
        if self.host.frozen:
            self.loop.thaw(self.host)
        for task in self._members:
            task.cancel()
        for asked in self._asked:
            give(asked, None, Unanswered())
        self._asked.clear()
        self._on_end(self)

    def _task(self, coroutine: Any) -> asyncio.Task[Any]:
        task = self.loop.create_task(coroutine, context=self._context.copy())
        self._members.add(task)
        task.add_done_callback(self._members.discard, context=WORLD)
        return task

    # --- its clients ----------------------------------------------------------------------------------------------

    async def ask(self, request: Callable[[Node], Awaitable[T]], there_s: float, back_s: float) -> T:
        """One request, over a connection that breaks when the node dies; a frozen node's clients give up.

        Errors: Unsent; Unanswered, when nobody knows; and the node's own.
        """
        if self.gone:
            raise Unsent
        assert HOST.get() is None
        answer: asyncio.Future[T] = self.loop.create_future()
        self._asked.add(answer)
        self.loop.call_later(there_s, self._arrive, request, answer, back_s, context=WORLD)
        timeout = self.loop.call_later(REQUEST_TIMEOUT_S, give, answer, None, Unanswered())
        try:
            return await answer
        finally:
            timeout.cancel()
            self._asked.discard(answer)

    def _arrive(self, request: Callable[[Node], Awaitable[T]], answer: asyncio.Future[T], back_s: float) -> None:
        if self.gone:
            return give(answer, None, Unanswered())
        task = self._task(_handled(request, self))
        task.add_done_callback(
            lambda _: self.loop.call_later(back_s, self._answer, task, answer, context=WORLD), context=WORLD
        )
        return None

    def _answer(self, task: asyncio.Task[tuple[Any, TallyError | None]], answer: asyncio.Future[Any]) -> None:
        if task.cancelled() or self.gone:
            return give(answer, None, Unanswered())
        if (error := task.exception()) is not None:
            self.around.broken.append(f"{self.name}, a request: {error!r}")
            return give(answer, None, Unanswered())
        return give(answer, *task.result())


async def _handled(request: Callable[[Node], Awaitable[T]], node: Node) -> tuple[T | None, TallyError | None]:
    try:
        return await request(node), None
    except TallyError as error:
        return None, error

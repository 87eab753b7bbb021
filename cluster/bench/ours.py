"""Our side of a row: a node is measured, and then asked whether it counted what the load says was answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import asyncpg

from cluster.attack import readback
from cluster.bench.load import KEY_FORMAT, Load, LoadFailed, Sample, drive
from cluster.bench.pins import Cores, Place
from cluster.bench.stage import HOST, Server, Stage, fresh_database
from cluster.local.postgres import PostgresServer
from cluster.local.redis import RedisServer

Measure = Callable[[float], Awaitable[Sample]]  # takes seconds
SETTLE_TIMEOUT_S = 60.0
POLL_S = 0.5
SUM = "select coalesce(sum(value), 0)::bigint from key_counters"


@dataclass
class Bench:
    """One run: the stage, and the Postgres that all rows share, each with a database of its own."""

    stage: Stage
    postgres: PostgresServer
    databases: int = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, cores: Cores) -> AsyncIterator[Bench]:
        async with Stage.open(cores) as stage, AsyncExitStack() as stack:
            yield cls(stage, await stage.start_postgres(stack, "load"))

    async def database(self) -> str:
        """The DSN of a new one."""
        self.databases += 1
        return await fresh_database(self.postgres, f"bench{self.databases}")


@dataclass
class Tally:
    """One node with its Redis and its database."""

    bench: Bench
    redis: RedisServer
    dsn: str
    node: Server

    @classmethod
    async def start(
        cls,
        bench: Bench,
        stack: AsyncExitStack,
        redis: Place,
        server: Place = "server",
        settings: Mapping[str, str] | None = None,
        name: str = "ours",
    ) -> Tally:
        """`redis` and `server` say on which core; `settings` are TALLY_ variables without that prefix; where two run,
        each has a `name`.
        """
        store = await bench.stage.start_redis(stack, f"redis-{name}", redis)
        dsn = await bench.database()
        node = await bench.stage.start_node(stack, store.url, dsn, server, settings or {}, f"n1-{name}")
        return cls(bench, store, dsn, node)

    def posts(self, load: Load, keys: int, url: str | None = None) -> Measure:
        """A load of increments, with proof. `url` is nginx, when it is not the node."""
        return self.proved(load, keys, partial(self.drive, load, url=url))

    def proved(self, load: Load, keys: int, take: Measure) -> Measure:
        """`take`, and then the proof that what it says was answered is counted: on the first `keys` keys, by 1 each."""
        names = [KEY_FORMAT.format(number) for number in range(keys)]

        async def total() -> int:
            return sum((await readback.counted(self.node.url, names)).values())

        async def measure(seconds: float) -> Sample:
            before = await total()
            sample = await take(seconds)
            check_counted(load, sample, await total() - before)
            return sample

        return measure

    async def drive(self, load: Load, seconds: float, url: str | None = None) -> Sample:
        stage = self.bench.stage
        return await drive(load, url or self.node.url, seconds, stage.cores, stage.folder.path)


def check_counted(load: Load, sample: Sample, counted: int) -> None:
    """What was answered counts, and of what was not answered at most what was on its way. LoadFailed."""
    least = sample.completed * load.weight
    most = least + load.connections * load.weight
    if not least <= counted <= most:
        raise LoadFailed(f"{counted} increments are counted, not {least} to {most}: see the node's log.")


async def stored_sum(dsn: str) -> int:
    """All that Postgres has."""
    connection = await asyncpg.connect(dsn)
    try:
        found: int = await connection.fetchval(SUM)
        return found
    finally:
        await connection.close()


async def settled_sum(dsn: str, least: int) -> int:
    """The sum in Postgres, once it is `least` and stands still. LoadFailed when it does not get there."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    before = -1
    while time.monotonic() < deadline:
        found = await stored_sum(dsn)
        if least <= found == before:
            return found
        before = found
        await asyncio.sleep(POLL_S)
    raise LoadFailed(
        f"Postgres holds {before} increments after {SETTLE_TIMEOUT_S:g} s, not {least}: see the node's log."
    )


@dataclass
class Statsd(asyncio.DatagramProtocol):
    """Hears one timing of a node's StatsD: milliseconds, as they come."""

    name: str
    heard: asyncio.Queue[float] = field(default_factory=asyncio.Queue)
    address: str = ""

    @classmethod
    async def listen(cls, stack: AsyncExitStack, name: str) -> Statsd:
        loop = asyncio.get_running_loop()
        transport, self = await loop.create_datagram_endpoint(lambda: cls(name), local_addr=(HOST, 0))
        stack.callback(transport.close)
        host, port = transport.get_extra_info("sockname")
        self.address = f"{host}:{port}"
        return self

    def datagram_received(self, data: bytes, addr: object) -> None:
        for line in data.decode().splitlines():
            name, _, value = line.partition(":")
            if name.endswith(self.name) and "|ms" in value:
                self.heard.put_nowait(float(value.partition("|")[0]))

    def forget(self) -> None:
        while not self.heard.empty():
            self.heard.get_nowait()

    async def next(self, timeout_s: float = SETTLE_TIMEOUT_S) -> float:
        """Milliseconds. LoadFailed when none comes."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.heard.get()
        except TimeoutError:
            raise LoadFailed(f"the node told no {self.name} in {timeout_s:g} s: see its log.") from None

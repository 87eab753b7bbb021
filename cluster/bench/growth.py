"""How cost grows. Every point tells increments a second and the CPU microseconds each costs in the nodes, in Redis and
in Postgres, settles included: a point ends when Postgres has everything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redis.asyncio import Redis

from cluster.bench.load import Load, Sample, drive
from cluster.bench.openloop import Connection
from cluster.bench.ours import Bench, Statsd, Tally, check_counted, settled_sum, stored_sum
from cluster.bench.pins import cpu_s
from cluster.bench.rounds import Say
from cluster.bench.rows import BATCH, PROXY, batch, post
from cluster.bench.rows import KEYS as KEYS_OF_BATCHES
from cluster.bench.settle import INTERVAL_MS, KEYS, Settles
from cluster.bench.stage import HOST, Server, pid_of
from cluster.local.errors import LocalError
from cluster.local.service import Service

IDS = 1_000_000
IDS_SECONDS = 2.0  # of load between two looks at their number
FLUSH_INTERVAL_MS = 1000  # so that a point has some settles in it
PROBE_INTERVAL_S = 0.005

Figures = dict[str, float]
Take = Callable[[Bench, AsyncExitStack, float], Awaitable[Figures]]


@dataclass(frozen=True)
class Point:
    label: str
    take: Take


@dataclass(frozen=True)
class Growth:
    name: str
    title: str
    points: tuple[Point, ...]


@dataclass
class Grown:
    """A growth as measured."""

    growth: Growth
    points: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        name, title = self.growth.name, self.growth.title
        return {"name": name, "title": title, "points": self.points, "problem": self.problem}


async def grow(bench: Bench, growth: Growth, seconds: float, say: Say) -> Grown:
    """All points, each with servers of its own."""
    grown = Grown(growth)
    for point in growth.points:
        try:
            async with AsyncExitStack() as stack:
                figures = await point.take(bench, stack, seconds)
        except (LocalError, OSError, TimeoutError) as error:
            grown.problem = f"{point.label}: {error}"
            say(f"{growth.name} {grown.problem}")
            continue
        grown.points.append({"label": point.label, "figures": figures})
        say(f"{growth.name} {point.label}: " + ", ".join(f"{name} {value:,.4g}" for name, value in figures.items()))
    return grown


class Costs:
    """CPU seconds of groups of processes since it was made."""

    def __init__(self, **groups: list[Service]) -> None:
        self._pids = {name: [pid_of(service) for service in group] for name, group in groups.items()}
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {name: cpu_s(pids) for name, pids in self._pids.items()}

    def microseconds_each(self, count: int) -> Figures:
        now = self._now()
        return {f"{name} us": 1e6 * (now[name] - self._before[name]) / count for name in now}


async def loaded(
    tally: Tally, nodes: list[Server], load: Load, url: str, seconds: float, **others: list[Service]
) -> Figures:
    """One load, its proof in Postgres, its costs; `others` are servers on the way, by what they are called."""
    bench = tally.bench
    before = await stored_sum(tally.dsn)
    costs = Costs(node=list(nodes), redis=[tally.redis], postgres=[bench.postgres], **others)
    sample: Sample = await drive(load, url, seconds, bench.stage.cores, bench.stage.folder.path)
    counted = await settled_sum(tally.dsn, before + sample.completed * load.weight) - before
    check_counted(load, sample, counted)
    return {"increments/s": sample.figure, "p99 ms": sample.p99_ms, **costs.microseconds_each(counted)}


async def one_node(bench: Bench, stack: AsyncExitStack, seconds: float, load: Load) -> Figures:
    tally = await Tally.start(bench, stack, "load", settings={"FLUSH_INTERVAL_MS": str(FLUSH_INTERVAL_MS)})
    return await loaded(tally, [tally.node], load, tally.node.url, seconds)


async def through_nginx(bench: Bench, stack: AsyncExitStack, seconds: float) -> Figures:
    """nginx, one node, everything on both cores."""
    settings = {"FLUSH_INTERVAL_MS": str(FLUSH_INTERVAL_MS), **PROXY}
    tally = await Tally.start(bench, stack, "both", "both", settings)
    front = await bench.stage.start_nginx(stack, "nginx-ours", tally.node.url, "/readyz", "both")
    return await loaded(tally, [tally.node], post(1000), front.url, seconds, nginx=[front])


async def many_nodes(bench: Bench, stack: AsyncExitStack, seconds: float, count: int) -> Figures:
    """All on the server core, on a port that they share: the kernel deals out the connections."""
    port = bench.stage.ports.take("shared")
    settings = {"SHARED_PORT": str(port), "FLUSH_INTERVAL_MS": str(FLUSH_INTERVAL_MS)}
    tally = await Tally.start(bench, stack, "load", settings=settings)
    nodes = [tally.node]
    for number in range(2, count + 1):
        start = bench.stage.start_node(stack, tally.redis.url, tally.dsn, "server", settings, f"n{number}")
        nodes.append(await start)
    return await loaded(tally, nodes, post(1000), f"http://{HOST}:{port}", seconds)


async def ids_in_redis(bench: Bench, stack: AsyncExitStack, _seconds: float) -> Figures:
    """What Redis' memory grows by for each remembered id."""
    tally = await Tally.start(bench, stack, "load")
    measure = tally.posts(batch(ids=True), KEYS_OF_BATCHES)
    async with Redis.from_url(tally.redis.url) as client:
        await measure(1)  # the counters and the node's own keys are there
        before = int((await client.info("memory"))["used_memory"])
        ids, seconds = 0, 0.0
        while ids < IDS:
            sample = await measure(IDS_SECONDS)
            ids, seconds = ids + sample.completed * BATCH, seconds + sample.seconds
        after = int((await client.info("memory"))["used_memory"])
    return {"ids": ids, "ids/s": ids / seconds, "bytes an id": (after - before) / ids}


async def settle_stall(bench: Bench, stack: AsyncExitStack, _seconds: float) -> Figures:
    """A node that settles KEYS keys, and how long it left /livez unanswered meanwhile."""
    statsd = await Statsd.listen(stack, "kv.dist.sync_to_db")
    settings = {"STATSD": statsd.address, "FLUSH_INTERVAL_MS": str(INTERVAL_MS)}
    tally = await Tally.start(bench, stack, "load", settings=settings)
    settles = Settles(tally, statsd)
    await settles.measure(0)  # inserts; then updates, as a day's settles mostly are
    await settles.fill()
    costs = Costs(node=[tally.node], redis=[tally.redis], postgres=[bench.postgres])
    probe = Probe(tally.node.url)
    task = asyncio.create_task(probe.run())
    try:
        ms = await statsd.next()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    figures = {"settle ms": ms, "longest answer ms": 1000 * probe.longest_s, "probe late ms": 1000 * probe.late_s}
    return {**figures, **{f"{name} a row": each for name, each in costs.microseconds_each(KEYS).items()}}


class Probe:
    """Asks /livez every PROBE_INTERVAL_S. `late_s` is how late it was itself: its own error."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self.longest_s = self.late_s = 0.0

    async def run(self) -> None:
        """Until cancelled. Errors: LocalError when it is not answered."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        request = f"GET /livez HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode()
        try:
            while True:
                due = time.perf_counter() + PROBE_INTERVAL_S
                await asyncio.sleep(PROBE_INTERVAL_S)
                since = time.perf_counter()
                self.late_s = max(self.late_s, since - due)
                if await connection.ask(request) != 200:
                    raise LocalError("/livez is not answered: see the node's log.")
                self.longest_s = max(self.longest_s, time.perf_counter() - since)
        finally:
            connection.close()


def _loads(name: str, title: str, loads: Iterable[tuple[str, Load]]) -> Growth:
    return Growth(name, title, tuple(Point(label, partial(one_node, load=load)) for label, load in loads))


NODES, COUNTS, CONNECTIONS = (1, 2, 3, 5), (1, 1000, 100_000, 1_000_000), (1, 8, 128, 1000)
COSTS = _loads(
    "costs",
    "CPU us an increment",
    (
        ("single, one hot key", post()),
        ("single, 1000 keys", post(1000)),
        ("single, unique ids", post(1000, ids=True)),
        ("batch", batch(ids=False)),
        ("batch, unique ids", batch(ids=True)),
    ),
)
GROWTHS = (
    Growth("nodes", "nodes on one core", tuple(Point(str(n), partial(many_nodes, count=n)) for n in NODES)),
    _loads("keys", "keys", ((f"{n:,}", post(n)) for n in COUNTS)),
    _loads("connections", "connections", ((f"{n:,}", post(1000, connections=n)) for n in CONNECTIONS)),
    Growth("costs", "CPU us an increment", (*COSTS.points, Point("single, through nginx", through_nginx))),
    Growth("ids", "Redis memory of ids", (Point("1,000,000 and more", ids_in_redis),)),
    Growth("stall", f"settle of {KEYS:,} keys", (Point("updates", settle_stall),)),
)

"""One node: the only place that constructs, and its life from start to drain.

start   listen, open the stores, write, join the registry, serve
drain   be "draining" in the registry (others take the partitions, nginx drops this node), serve on for a moment, stop
        accepting, answer what was taken, settle when nobody else will, leave
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from contextlib import AsyncExitStack
from functools import partial
from time import monotonic

from quart import Quart

from cluster import registry as cluster_registry
from cluster.agent import Agent
from cluster.errors import RegistryUnavailable
from cluster.view import Change, Member
from node.advertise import first_address, follow
from node.call import Windows
from node.comeback import Comeback
from node.config import Config
from node.counters import Counters
from node.door import Door
from node.encoder import Encoder
from node.errors import LogUnavailable, Unavailable
from node.halves import Halves
from node.heads import Heads
from node.health import Health
from node.increment import DEFAULT_NAMESPACE
from node.keep import Keep
from node.lane import Lane
from node.limiter import Limiter, Rate
from node.log import RedisLog
from node.meter import StatsdMeter
from node.namespace_table import NamespaceTable
from node.namespaces import Namespaces
from node.overview import overview
from node.reader import Reader
from node.records import PostgresRecords
from node.roller import Roller
from node.rollup_table import RollupTable
from node.routes import batch, increment, ops
from node.routes.http import application
from node.serve import Hypercorn, Server, Sockets, Uvicorn
from node.settler import Settler
from node.store import PostgresStore
from node.strategies.direct import Direct, DirectIntake, DirectReader
from node.strategies.dist import Dist
from node.strategies.rollup import rollup
from node.strategies.sync import sync
from node.strategy import Intake, Strategy, Values
from node.sync_table import SyncTable
from node.terms import Namespace, StrategyName
from node.writer import Writer

log = logging.getLogger(__name__)

LANE = 0
READY_POLL_S = 0.02
STORE_RETRY_S = 0.5
LEAVE_TIMEOUT_S = 5.0


async def run(config: Config) -> None:
    """A node's whole life. Returns after a drain; raises when a part of it that must not end has ended."""
    async with AsyncExitStack() as stack:
        node = await Node.open(config, stack)
        await node.live()


class Node:
    """The parts of one node, and the order in which they start and stop."""

    def __init__(
        self,
        config: Config,
        store: PostgresStore,
        namespaces: Namespaces,
        redis_log: RedisLog,
        registry: cluster_registry.Registry,
        sockets: Sockets,
        host: str,
    ) -> None:
        """`host` is the address that others reach this node by, empty for the listeners' own."""
        self._config, self._sockets, self._registry = config, sockets, registry
        self._namespaces = namespaces
        self._drain = asyncio.Event()
        self._host = host
        member = _member(config, *sockets.urls(host))
        windows = Windows(config.idempotency_window_s, config.request_id_window_s)
        deadline_s = config.deadline_ms / 1000
        self.meter = StatsdMeter(config.statsd, config.statsd_prefix)
        self.agent = Agent(registry, member, config.partitions, self._changed, monotonic)
        comeback = Comeback(redis_log, store, LANE, member.id, self._alive, config.lease_ms / 1000, monotonic)
        self.writer = self._new_writer(redis_log, comeback, windows)
        self._comeback = comeback
        halves = Halves(store)
        self.reader = Reader(redis_log, halves, monotonic, deadline_s)
        dist = Dist(self.writer, self.reader, halves, redis_log, windows, monotonic, deadline_s)
        self.strategies: dict[StrategyName, Strategy] = {"dist": dist}
        self._intake: Intake = self.writer
        self._values: Values = self.reader
        self._direct: list[Direct | DirectReader] = []
        self._count_in_postgres(store, deadline_s)
        self.settler = Settler(
            redis_log,
            store,
            self.meter,
            lambda: self.agent.owned,
            config.flush_interval_ms / 1000,
            self.writer.come_back,
        )
        self.health = Health(self.agent, self.writer, self.settler, self._drain.is_set, config.strategy == "dist")
        self._door = Door(Limiter(Rate.parse(config.rate_limit)), self.meter, config.trusted_proxies, config.strategy)
        self.meter.sources.append(self._door.meter_counted)
        self._windows = windows
        namespaces.watch(self._terms_changed)
        self._servers = self._build_servers()

    def _new_writer(self, redis_log: RedisLog, comeback: Comeback, windows: Windows) -> Writer:
        config = self._config
        keep = Keep(config.rewind_horizon_ms / 1000, config.rewind_bytes_max)
        name, deadline_s = self.agent.member.id, config.deadline_ms / 1000
        return Writer(
            redis_log, comeback, keep, name, config.partitions, windows, monotonic, deadline_s, config.inbox_max
        )

    def _count_in_postgres(self, store: PostgresStore, deadline_s: float) -> None:
        config = self._config
        rollup_table = RollupTable(store.postgres, config.partitions)
        tables: dict[StrategyName, Counters] = {"sync": SyncTable(store.postgres), "rollup": rollup_table}
        limits = (monotonic, deadline_s, config.inbox_max, config.request_id_window_s)
        direct: dict[StrategyName, Direct] = {
            "sync": sync(tables["sync"], *limits),
            "rollup": rollup(rollup_table, *limits),
        }
        self.strategies.update(direct)
        self._direct += direct.values()
        self.records = PostgresRecords(store.postgres)
        self.roller = Roller(rollup_table, self.records, self._rolls_up, config.flush_interval_ms / 1000)
        if config.strategy in direct:
            self._intake = DirectIntake(direct[config.strategy], lambda: self._namespaces.default)
            self._values = reader = DirectReader(tables[config.strategy], monotonic, deadline_s)
            self._direct.append(reader)

    @classmethod
    async def open(cls, config: Config, stack: AsyncExitStack) -> Node:
        """Listens first, so that a taken port is known before anything is touched."""
        sockets = stack.enter_context(Sockets(config))
        store, namespaces = await _open_store(config, stack)
        redis_log = RedisLog.open(config.redis_url, LANE, config.partitions)
        stack.push_async_callback(redis_log.close)
        registry = cluster_registry.connect(config.redis_url, config.lease_ms)
        stack.push_async_callback(registry.close)
        host = await first_address(config.advertise_alias) if config.advertise_alias else config.advertise_host
        return cls(config, store, namespaces, redis_log, registry, sockets, host)

    async def live(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        async with asyncio.TaskGroup() as vital:  # when one of these ends with an error, so does the node
            loops = [
                vital.create_task(self.agent.run()),  # first: nobody waits for a writer without a lease
                vital.create_task(self.writer.run()),
                vital.create_task(self.reader.run()),
                vital.create_task(self.settler.run()),
                vital.create_task(self.meter.run()),
                vital.create_task(self._namespaces.run()),
                vital.create_task(self.roller.run()),
                *(vital.create_task(each.run()) for each in self._direct),
            ]
            if self._config.advertise_alias:
                loops.append(vital.create_task(follow(self._config.advertise_alias, self._host, self._moved)))
            servers = [vital.create_task(each.run()) for each in self._servers]
            while self.writer.trouble is not None and not self._drain.is_set():
                await asyncio.sleep(READY_POLL_S)
            await self.agent.become("ready")
            log.info("%s serves %s, operations on %s", *_names(self.agent.member))
            await self._drain.wait()
            await self._leave(servers)
            for task in loops:
                task.cancel()

    def drain(self) -> None:
        """Asked once: leave in good order. Asked twice: end now."""
        if self._drain.is_set():
            os._exit(1)
        self._drain.set()

    async def _moved(self, host: str) -> None:
        await self.agent.move(*self._sockets.urls(host))

    async def _leave(self, servers: list[asyncio.Task[None]]) -> None:
        log.info("draining")
        try:
            async with asyncio.timeout(self._config.drain_deadline_ms / 1000):
                await self.agent.become("draining")
                await asyncio.sleep(self._config.drain_notice_ms / 1000)
                for each in self._servers:
                    each.stop()
                await asyncio.gather(self.writer.drain(), *(each.drain() for each in self._direct))
                await asyncio.gather(*servers)
                await self._settle_if_last()
        except TimeoutError:
            log.error("gave up draining after %d ms", self._config.drain_deadline_ms)
        await self._strike_off()
        await self.agent.leave()
        self.meter.close()
        log.info("left")

    async def _strike_off(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await self._comeback.leave()
        except (Unavailable, TimeoutError) as error:
            log.warning("could not be struck off the list of writers: %s", error)

    async def _alive(self) -> frozenset[str]:
        """Who holds a lease now, as the registry says."""
        try:
            return frozenset(member.id for member in (await self._registry.view()).members)
        except RegistryUnavailable as error:
            raise LogUnavailable(str(error)) from error

    async def _settle_if_last(self) -> None:
        """When nobody is ready to own the partitions, what they hold is settled here. Each leaver of a cluster that
        ends does so after its own last answer, so the last one's settle covers every acknowledged increment."""
        await self.agent.beat()
        if self.agent.view.ready:
            return
        try:
            await self.settler.settle(range(self._config.partitions))
            await self.roller.roll_up(frozenset(range(self._config.partitions)))
        except Unavailable as error:
            log.warning("not everything is settled (%s); it is kept in Redis for the next start", error)

    def _rolls_up(self) -> frozenset[int]:
        return self.agent.owned if self.agent.in_lease else frozenset(range(self._config.partitions))

    def _changed(self, change: Change) -> None:
        log.info("gained %d partitions, lost %d", len(change.gained), len(change.lost))
        if change.gained:
            self.settler.wake()

    def _terms_changed(self, namespace: Namespace) -> None:
        if namespace.strategy == "dist":
            self._windows.note(namespace.name, namespace.idempotency_window_s)
        if namespace.name == DEFAULT_NAMESPACE:
            self._door.key_required = namespace.idempotency_key_required

    def _build_servers(self) -> list[Server]:
        door = self._door
        public = application("tally")
        public.register_blueprint(increment.blueprint(door, self._intake, self._values))
        public.register_blueprint(batch.blueprint(door, self._namespaces, self.strategies))
        public.register_blueprint(ops.health_blueprint(self.health))
        operations = application("tally-operations")
        operations.register_blueprint(ops.health_blueprint(self.health))
        operations.register_blueprint(ops.ops_blueprint(self._describe, self.drain))
        operations.register_blueprint(ops.namespaces_blueprint(self._namespaces))
        return [self._public_server(public, door), Hypercorn(operations, [self._sockets.operations])]

    def _public_server(self, app: Quart, door: Door) -> Server:
        if self._config.server == "hypercorn":
            return Hypercorn(app, self._sockets.public)
        if not self._config.hot_lane:
            return Uvicorn(app, self._sockets.public)
        return Uvicorn(app, self._sockets.public, partial(Lane, door, self._intake, self._values, Heads(), Encoder()))

    def _describe(self) -> dict[str, object]:
        return overview(self.agent, self.health, self.settler, self._config.partitions)


def _member(config: Config, url: str, ops_url: str) -> Member:
    return Member(f"{config.node}-{secrets.token_hex(3)}", config.node, url, ops_url, os.getpid())


async def _open_store(config: Config, stack: AsyncExitStack) -> tuple[PostgresStore, Namespaces]:
    """Waits for Postgres, as long as it takes: in a cluster that starts, it may be the last to come up."""
    warned = False
    while True:
        try:
            store = await PostgresStore.open(config.postgres_dsn, config.partitions)
            stack.push_async_callback(store.close)
            namespaces = Namespaces(NamespaceTable(store.postgres, config.idempotency_window_s))
            await namespaces.start(config.strategy)
            return store, namespaces
        except Unavailable as error:
            if not warned:
                log.warning("waiting for Postgres: %s", error)
            warned = True
            await asyncio.sleep(STORE_RETRY_S)


def _names(member: Member) -> tuple[str, str, str]:
    return member.id, member.url, member.ops_url

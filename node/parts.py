"""The parts of one node, and how they are put together: the only place that constructs."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from time import monotonic

from quart import Quart

from cluster import registry as cluster_registry
from cluster.agent import Agent
from cluster.errors import RegistryUnavailable
from cluster.view import Change, Member
from node.advertise import first_address
from node.call import Windows
from node.comeback import Comeback
from node.config import Config
from node.counters import Counters
from node.door import Door
from node.encoder import Encoder
from node.errors import LogUnavailable, Unavailable
from node.guard import Guard
from node.guarded import GuardedLane
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
from node.pulse import Pulse
from node.reader import Reader
from node.records import PostgresRecords
from node.roller import Roller
from node.rollup_table import RollupTable
from node.routes import increment, ops, v1
from node.routes.access import protect_both
from node.routes.desk import Desk
from node.routes.http import application
from node.serve import Hypercorn, Server, Sockets, Tls, Uvicorn
from node.settler import Settler
from node.store import PostgresStore
from node.strategies.direct import Direct, DirectIntake, DirectReader
from node.strategies.dist import Dist
from node.strategies.rollup import rollup
from node.strategies.sync import sync
from node.strategy import Intake, Strategy, Values
from node.sync_table import SyncTable
from node.terms import Namespace, StrategyName
from node.watches import Watches
from node.writer import Writer

log = logging.getLogger(__name__)

LANE = 0
STORE_RETRY_S = 0.5


class Parts:
    """One node's. `draining` says whether it is, and `drain` makes it."""

    def __init__(
        self,
        config: Config,
        store: PostgresStore,
        namespaces: Namespaces,
        redis_log: RedisLog,
        registry: cluster_registry.Registry,
        sockets: Sockets,
        host: str,
        draining: Callable[[], bool],
        drain: Callable[[], None],
    ) -> None:
        """`host` is the address that others reach this node by, empty for the listeners' own."""
        self.sockets, self.namespaces, self.host = sockets, namespaces, host
        self._config, self._registry, self._drain = config, registry, drain
        member = _member(config, *sockets.urls(host))
        windows = Windows(config.idempotency_window_s, config.request_id_window_s)
        deadline_s, lease_s = config.deadline_ms / 1000, config.lease_ms / 1000
        self.meter = StatsdMeter(config.statsd, config.statsd_prefix)
        self.agent = Agent(registry, member, config.partitions, self._changed, monotonic)
        self.pulse = Pulse(config.postgres_dsn)
        self.comeback = Comeback(redis_log, store, self.meter, LANE, member.id, self._alive, lease_s, monotonic)
        self.writer = self._new_writer(redis_log, windows)
        halves = Halves(store)
        self.reader = Reader(redis_log, halves, monotonic, deadline_s)
        dist = Dist(self.writer, self.reader, halves, redis_log, windows, monotonic, deadline_s)
        self.strategies: dict[StrategyName, Strategy] = {"dist": dist}
        self._intake: Intake = self.writer
        self._values: Values = self.reader
        self._watches = Watches(
            lambda namespace, counters: self.strategies[namespace.strategy].read(namespace, counters),
            config.watchers_per_client_max,
        )
        self.direct: list[Direct | DirectReader | Watches] = [self._watches]
        self._count_in_postgres(store, deadline_s)
        self.settler = Settler(
            redis_log,
            store,
            self.meter,
            lambda: self.agent.owned,
            config.flush_interval_ms / 1000,
            self.writer.come_back,
        )
        self.health = Health(self.agent, self.writer, self.settler, draining, config.strategy == "dist")
        self._door = Door(Limiter(Rate.parse(config.rate_limit)), self.meter, config.trusted_proxies, config.strategy)
        self.meter.sources.append(self._door.meter_counted)
        self._windows = windows
        self.guard = Guard.of(config)
        namespaces.watch(self._terms_changed)
        self.servers = self._build_servers()

    @classmethod
    async def open(
        cls, config: Config, stack: AsyncExitStack, draining: Callable[[], bool], drain: Callable[[], None]
    ) -> Parts:
        """Listens first, so that a taken port is known before anything is touched. `stack` closes what it opens."""
        sockets = stack.enter_context(Sockets(config))
        store, namespaces = await _open_store(config, stack)
        redis_log = RedisLog.open(config.redis_url, LANE, config.partitions)
        stack.push_async_callback(redis_log.close)
        registry = cluster_registry.connect(config.redis_url, config.lease_ms)
        stack.push_async_callback(registry.close)
        host = await first_address(config.advertise_alias) if config.advertise_alias else config.advertise_host
        parts = cls(config, store, namespaces, redis_log, registry, sockets, host, draining, drain)
        stack.callback(parts.pulse.close)
        return parts

    def _new_writer(self, redis_log: RedisLog, windows: Windows) -> Writer:
        config = self._config
        keep = Keep(config.rewind_horizon_ms / 1000, config.rewind_bytes_max)
        limits = windows, monotonic, config.deadline_ms / 1000, config.inbox_max
        return Writer(redis_log, self.comeback, keep, self.agent.member.id, config.partitions, *limits)

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
        self.direct += direct.values()
        self.records = PostgresRecords(store.postgres)
        self.roller = Roller(rollup_table, self.records, self._rolls_up, config.flush_interval_ms / 1000)
        if config.strategy in direct:
            self._intake = DirectIntake(direct[config.strategy], lambda: self.namespaces.default)
            self._values = reader = DirectReader(tables[config.strategy], monotonic, deadline_s)
            self.direct.append(reader)

    def _build_servers(self) -> list[Server]:
        door = self._door
        public = application("tally")
        public.register_blueprint(increment.blueprint(door, self._intake, self._values))
        desk = Desk(door, self.namespaces, self.strategies, self.records)
        v1.register(public, desk, self._watches, guarded=self.guard is not None)
        public.register_blueprint(ops.health_blueprint(self.health))
        operations = application("tally-operations")
        operations.register_blueprint(ops.health_blueprint(self.health))
        operations.register_blueprint(ops.ops_blueprint(self._describe, self._drain))
        operations.register_blueprint(ops.namespaces_blueprint(self.namespaces))
        protect_both(public, operations, self.guard, door)
        config = self._config
        tls = Tls.of(config.ops_tls_cert, config.ops_tls_key)
        return [self._public_server(public, door), Hypercorn(operations, [self.sockets.operations], tls)]

    def _public_server(self, app: Quart, door: Door) -> Server:
        config, sockets = self._config, self.sockets.public
        tls = Tls.of(config.tls_cert, config.tls_key)
        if config.server == "hypercorn":
            return Hypercorn(app, sockets, tls)
        if not config.hot_lane:
            return Uvicorn(app, sockets, tls=tls)
        lane = Lane if self.guard is None else partial(GuardedLane, self.guard)
        return Uvicorn(app, sockets, partial(lane, door, self._intake, self._values, Heads(), Encoder()), tls)

    # --- what a part asks of the others, or tells them -------------------------------------------------------------

    async def _alive(self) -> frozenset[str]:
        """Who holds a lease now, as the registry says."""
        try:
            return frozenset(member.id for member in (await self._registry.view()).members)
        except RegistryUnavailable as error:
            raise LogUnavailable(cause=str(error)) from error

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

    def _describe(self) -> dict[str, object]:
        return overview(self.agent, self.health, self.settler, self.comeback, self._config.partitions)


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

"""The launcher: what `up` does, in order, and the same backwards.

    guard -> Redis and Postgres -> nodes -> nginx -> box ... nginx -> nodes drain -> Redis and Postgres ->
    guard

While it runs, every server and node is started again when it dies, and every change goes into the state file.
The signals: SIGINT, SIGTERM and SIGHUP once stop in order, twice at once; SIGUSR1 adds a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from cluster import registry
from cluster.balancer import CONF, Balancer
from cluster.local import box, programs, supply
from cluster.local.errors import LocalError
from cluster.local.fleet import Fleet
from cluster.local.folder import Folder
from cluster.local.front import Front
from cluster.local.leash import Leash
from cluster.local.nodes import HOST, RESTART_S, NodeRecipe
from cluster.local.ports import Ports
from cluster.local.redis import DURABILITY
from cluster.local.report import Reporter
from cluster.local.service import Service, until
from cluster.local.state import ClusterState, NodeState
from cluster.local.vital import Vital

ROOT = Path(__file__).resolve().parents[2]
"""Where the packages are: the clone, or site-packages."""
READY_TIMEOUT_S = 90.0
SAME_SIGNAL_S = 0.5
"""A signal so soon after another is the same one: timeout(1) and others send it to the process and to its group."""
PARTITIONS = 64
NGINX_TAKES_FOR_ITS_OWN = frozenset("*?[]$\n")
"""In the path of its folder these would be patterns and variables."""


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    data: Path
    nodes: int = 3
    port: int = 3333
    redis_url: str | None = None
    postgres_dsn: str | None = None
    servers: programs.Servers = "auto"
    nginx: bool = True
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    node_command: Sequence[str] = (sys.executable, "-m", "node")
    called: str = "python3 -m cluster"

    @property
    def rate_limit(self) -> str:
        """Off unless it is given: one load generator on one machine is one client."""
        return self.environment.get("TALLY_RATE_LIMIT") or "0"

    @property
    def host(self) -> str:
        """What nginx listens on: every address (empty) only where there are tokens, or strangers are welcome."""
        told = ("TALLY_TOKENS", "TALLY_TOKENS_FILE", "TALLY_ALLOW_ANONYMOUS")
        return "" if any(self.environment.get(name) for name in told) else HOST

    @property
    def partitions(self) -> int:
        return self._positive("TALLY_PARTITIONS", PARTITIONS)

    @property
    def restart_s(self) -> float:
        """How long a dead node stays dead: longer than its lease, so that its partitions are seen to be taken over."""
        return max(RESTART_S, self._positive("TALLY_LEASE_MS", registry.LEASE_MS) / 1000 + 2.0)

    def _positive(self, name: str, default: int) -> int:
        text = self.environment.get(name) or str(default)
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise LocalError(f"{name}={text} is no positive number: unset it or set one.")
        return int(text)


class Launcher:
    """One run of a local cluster on a folder whose lock is held."""

    def __init__(self, options: Options, folder: Folder, lock_fd: int, reporter: Reporter) -> None:
        self._options = options
        self._folder = folder
        self._lock_fd = lock_fd
        self._reporter = reporter
        before = ClusterState.load(folder.state)
        self._ports = Ports(before.ports if before else None)
        self._state = ClusterState(launcher=os.getpid(), partitions=options.partitions)
        self._services: list[Service] = []
        self._front: Front | None = None
        self._fleet: Fleet | None = None
        self._asked_at = float("-inf")

    async def run(self) -> None:
        """Returns after an ordered stop. LocalError when it does not start, or cannot go on."""
        self._vital = Vital()
        self._listen_to_signals()
        self._leash = await Leash.start(self._lock_fd)
        self._state.guard = self._leash.group
        async with aiohttp.ClientSession() as self._session:
            try:
                self._vital.run(self._leash.watch())
                await self._vital.until_ended(self._start())
                await self._vital.ended.wait()
            finally:
                await self._stop()
        if self._vital.failure is not None:
            raise self._vital.failure

    # -- signals

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGUSR1, self._asked_to_add)

    def _asked_to_stop(self) -> None:
        now = time.monotonic()
        if self._vital.ended.is_set() and now - self._asked_at > SAME_SIGNAL_S:
            self._hurry()
        self._asked_at = now
        self._vital.ended.set()

    def _hurry(self) -> None:
        """What an ordered stop waits for is killed, so it goes on at once. Redis and Postgres end by
        themselves."""
        if self._fleet is not None:
            self._fleet.kill()
        if self._front is not None and self._front.child is not None:
            self._front.child.send(signal.SIGTERM)

    def _asked_to_add(self) -> None:
        if self._fleet is not None and not self._vital.ended.is_set():
            self._fleet.add()

    # -- start

    async def _start(self) -> None:
        nginx = self._find_nginx()
        port = self._ports.take_public(self._options.port)
        self._state.public_url = f"http://{HOST}:{port}"
        await self._start_servers()
        await self._start_nodes(self._node_recipe(port, shared=nginx is None))
        if nginx is not None:
            await self._timed("nginx", self._start_front(nginx, port))
        elif not await until(self._public_is_ready, READY_TIMEOUT_S):
            raise LocalError(f"{self._state.public_url} does not answer: look into {self._folder.logs}.")
        self._save()
        self._reporter.ready(self._facts())

    def _find_nginx(self) -> Path | None:
        """nginx, when there is one and it is wanted. LocalError when it could not use the folder."""
        found = programs.which("nginx") if self._options.nginx and CONF.exists() else None
        where = str(self._folder.nginx.resolve())
        if found is not None and set(where) & NGINX_TAKES_FOR_ITS_OWN:
            raise LocalError(
                f"nginx cannot use {where}, for *?[]$ mean something to it: take another --data or --no-nginx."
            )
        return found

    async def _start_servers(self) -> None:
        given, servers = self._options, self._options.servers
        place = supply.Place(self._folder, self._ports, self._leash.group, self._lock_fd)
        redis = supply.given_redis(given.redis_url) if given.redis_url else supply.own_redis(place, servers)
        dsn = given.postgres_dsn
        postgres = supply.given_postgres(dsn) if dsn else supply.own_postgres(place, servers)
        try:
            async with asyncio.TaskGroup() as group:
                redis_task = group.create_task(self._timed("redis", redis))
                postgres_task = group.create_task(self._timed("postgres", postgres))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # one that went wrong is enough to tell
        self._state.redis_url, self._state.postgres_dsn = redis_task.result(), postgres_task.result()
        self._save()

    async def _timed(self, part: str, coming: Awaitable[supply.Supply]) -> str:
        """Waits for a server, tells about it, and from then on keeps it running. Returns its URL."""
        since = time.monotonic()
        came = await coming
        self._state.servers[part] = came.shown.as_json()
        if came.service is not None:
            self._services.append(came.service)
            self._vital.run(came.service.keep(self._part_changed))
        seconds = round(time.monotonic() - since, 2)
        self._reporter.event("started", part=part, seconds=seconds, **came.shown.as_json())
        return came.url

    def _node_recipe(self, port: int, shared: bool) -> NodeRecipe:
        options = self._options
        given = dict(options.environment)
        given.pop("TALLY_SHARED_PORT", None)
        path = [str(ROOT), *filter(None, [given.get("PYTHONPATH")])]
        proxies = filter(None, [given.get("TALLY_TRUSTED_PROXIES"), None if shared else f"{HOST}/32"])
        own = {
            "PYTHONPATH": os.pathsep.join(path),
            "TALLY_REDIS_URL": self._state.redis_url,
            "TALLY_POSTGRES_DSN": self._state.postgres_dsn,
            "TALLY_PARTITIONS": str(self._state.partitions),
            "TALLY_RATE_LIMIT": options.rate_limit,
            "TALLY_TRUSTED_PROXIES": ",".join(proxies),
        }
        if shared:
            own["TALLY_SHARED_PORT"] = str(port)
        folder = self._folder
        return NodeRecipe(options.node_command, ROOT, given | own, folder.logs, options.restart_s, folder.armed)

    async def _start_nodes(self, recipe: NodeRecipe) -> None:
        self._fleet = fleet = Fleet(
            recipe, self._ports, self._leash.group, self._session, self._vital, self._node_changed
        )
        for _ in range(self._options.nodes):
            fleet.add()
        await fleet.until_ready(READY_TIMEOUT_S)

    async def _start_front(self, nginx: Path, port: int) -> supply.Supply:
        version = await asyncio.to_thread(programs.nginx_version, nginx)
        balancer = Balancer(self._folder.nginx, port, nginx, host=self._options.host)
        balancer.prepare()
        self._vital.run(self._follow(balancer))
        log = self._folder.logs / "nginx.log"
        self._front = front = Front(balancer, log, self._leash.group, self._public_is_ready)
        await front.start()
        self._state.nginx = front.child.pid if front.child else None
        return supply.Supply(self._state.public_url, supply.Shown(version, "PATH", f"port {port}"), front)

    async def _follow(self, balancer: Balancer) -> None:
        members = registry.connect(self._state.redis_url)
        try:
            await balancer.follow(members)
        finally:
            await members.close()

    async def _public_is_ready(self) -> bool:
        url = f"{self._state.public_url}/readyz"
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=2.0)) as answer:
                return answer.status == 200
        return False

    def _facts(self) -> box.Facts:
        options = self._options
        psql = programs.which("psql")
        return box.Facts(
            state=self._state,
            data=str(options.data),
            rate_limit=options.rate_limit,
            durability="as the given Redis is configured" if options.redis_url else f"Redis {DURABILITY}",
            psql=None if options.postgres_dsn or psql is None else psql.name,
            command=options.called,
        )

    # -- while it runs

    def _node_changed(self, node: NodeState) -> None:
        self._save()
        self._reporter.event("node", name=node.name, state=node.state, pid=node.pid, url=node.url)

    def _part_changed(self, name: str, state: str) -> None:
        if self._front is not None and self._front.child is not None:
            self._state.nginx = self._front.child.pid
        self._save()
        self._reporter.event("part", name=name, state=state)

    def _save(self) -> None:
        self._state.nodes = self._fleet.states if self._fleet else []
        for service in self._services:
            self._state.servers[service.name]["pid"] = service.child.pid if service.child else None
        self._state.ports = self._ports.to_remember()
        self._state.save(self._folder.state)

    # -- stop

    async def _stop(self) -> None:
        """nginx, nodes, servers, guard. What does not end in its time is killed."""
        self._vital.ended.set()  # from here on, a signal means: at once
        self._reporter.event("stopping")
        await self._vital.cancel()  # nothing is started again from here on
        if self._front is not None:
            await self._front.stop()
        if self._fleet is not None:
            await self._fleet.drain()
        await asyncio.gather(*(service.stop() for service in self._services))
        await self._leash.release()
        self._state.launcher = self._state.guard = self._state.nginx = None
        self._save()
        self._reporter.event("stopped")

"""The servers of one row: started on their cores, in a folder and a process group of their own, and ended with it.

The guard of the local cluster leads the group, so nothing stays behind even when this process is killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
from redis.asyncio import Redis

from cluster.balancer import Balancer
from cluster.bench.pins import Cores, Place
from cluster.local.child import Recipe
from cluster.local.errors import LocalError
from cluster.local.folder import Folder
from cluster.local.launcher import ROOT
from cluster.local.leash import Leash
from cluster.local.ports import Ports
from cluster.local.postgres import PostgresServer
from cluster.local.programs import choose_redis, which
from cluster.local.redis import RedisServer
from cluster.local.service import Service
from cluster.local.supply import Place as SupplyPlace
from cluster.local.supply import own_postgres
from cluster.upstreams import text_of

HOST = "127.0.0.1"
ASK_TIMEOUT_S = 2.0
START_TIMEOUT_S = 30.0
Answers = Callable[[], Awaitable[bool]]


class Server(Service):
    """A program that is ready when `answers` says so."""

    start_timeout_s = START_TIMEOUT_S
    stop_steps = ((signal.SIGTERM, 10.0),)

    def __init__(self, name: str, group: int, recipe: Recipe, url: str, answers: Answers) -> None:
        super().__init__(group)
        self.name, self.url = name, url
        self._recipe, self._answers = recipe, answers

    def recipe(self) -> Recipe:
        return self._recipe

    async def is_ready(self) -> bool:
        return await self._answers()


def pid_of(service: Service) -> int:
    """Errors: LocalError when it does not run."""
    if service.child is None or service.child.has_ended():
        raise LocalError(f"{service.name} has ended during the measurement: run the row alone with --rows.")
    return service.child.pid


@dataclass
class Stage:
    """Where the servers of a bench run. Each `start_` returns when the server answers."""

    cores: Cores
    folder: Folder
    group: int
    lock_fd: int
    session: aiohttp.ClientSession
    ports: Ports = field(default_factory=Ports)

    @classmethod
    @asynccontextmanager
    async def open(cls, cores: Cores) -> AsyncIterator[Stage]:
        """Everything that was started is ended at the exit, and the folder removed."""
        path = _temporary()
        folder = Folder(path)
        folder.claim()
        lock_fd = folder.acquire()
        try:
            leash = await Leash.start(lock_fd)
            try:
                async with aiohttp.ClientSession() as session:
                    yield cls(cores, folder, leash.group, lock_fd, session)
            finally:
                await leash.release()
        finally:
            folder.wipe()
            os.close(lock_fd)
            shutil.rmtree(path, ignore_errors=True)

    async def start(self, stack: AsyncExitStack, service: Service, place: Place) -> None:
        """Starts it on its cores; the stack ends it."""
        stack.push_async_callback(service.stop)
        with self.cores.on(place):
            await service.start()

    def log(self, name: str) -> Path:
        self.folder.logs.mkdir(exist_ok=True)
        return self.folder.logs / f"{name}.log"

    def sub(self, name: str) -> Path:
        path = self.folder.path / name
        path.mkdir(exist_ok=True)
        return path

    def recipe(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> Recipe:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
        return Recipe(command, self.log(name), self.sub(name), kept | {"PYTHONPATH": path} | dict(env or {}))

    async def answers(self, url: str) -> bool:
        """Whether it is answered 2xx."""
        timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
        try:
            async with self.session.get(url, timeout=timeout) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def start_redis(self, stack: AsyncExitStack, name: str, place: Place) -> RedisServer:
        """An empty Redis as `up` starts it, appendfsync always. It does not rewrite its file while measured."""
        port = self.ports.take(name)
        server = RedisServer(choose_redis("auto", None), self.sub(name), self.log(name), port, self.group, self.lock_fd)
        await self.start(stack, server, place)
        stack.callback(lambda: shutil.rmtree(self.folder.path / name, ignore_errors=True))
        async with Redis.from_url(server.url) as client:
            await client.config_set("auto-aof-rewrite-percentage", 0)
        return server

    async def start_postgres(self, stack: AsyncExitStack, place: Place) -> PostgresServer:
        """Postgres as `up` starts it."""
        with self.cores.on(place):
            supply = await own_postgres(SupplyPlace(self.folder, self.ports, self.group, self.lock_fd), "auto")
        assert isinstance(supply.service, PostgresServer)
        stack.push_async_callback(supply.service.stop)
        return supply.service

    async def start_node(
        self,
        stack: AsyncExitStack,
        redis_url: str,
        dsn: str,
        place: Place,
        settings: Mapping[str, str],
        name: str = "n1",
    ) -> Server:
        """One node; `settings` are TALLY_ variables without that prefix."""
        port, ops_port = self.ports.take(name), self.ports.take(f"{name}-ops")
        own = {
            "NODE": name,
            "HOST": HOST,
            "PORT": str(port),
            "OPS_HOST": HOST,
            "OPS_PORT": str(ops_port),
            "REDIS_URL": redis_url,
            "POSTGRES_DSN": dsn,
            "RATE_LIMIT": "0",
            "DRAIN_NOTICE_MS": "0",
        }
        env = {f"TALLY_{variable}": value for variable, value in (own | dict(settings)).items()}
        url = f"http://{HOST}:{port}"
        recipe = self.recipe(name, [sys.executable, "-m", "node"], env)
        server = Server(name, self.group, recipe, url, lambda: self.answers(f"{url}/readyz"))
        await self.start(stack, server, place)
        return server

    async def start_nginx(self, stack: AsyncExitStack, name: str, to_url: str, probe: str, place: Place) -> Server:
        """nginx with the product's configuration in front of one server, with connections kept to it."""
        nginx = which("nginx")
        if nginx is None:
            raise LocalError("nginx is not installed: apt-get install nginx.")
        port = self.ports.take(name)
        balancer = Balancer(self.sub(name), port, nginx, host=HOST)
        balancer.prepare()
        (balancer.directory / "upstreams.conf").write_text(text_of([to_url.removeprefix("http://")]))
        url = f"http://{HOST}:{port}"
        recipe = self.recipe(name, balancer.command())
        server = Server(name, self.group, recipe, url, lambda: self.answers(url + probe))
        await self.start(stack, server, place)
        return server


def _temporary() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tally-bench-"))
    path.chmod(0o755)  # Postgres, when it may not be root, has to get in
    return path


async def fresh_database(postgres: PostgresServer, name: str) -> str:
    """An empty database; returns its DSN."""
    connection = await asyncpg.connect(postgres.dsn)
    try:
        await connection.execute(f'drop database if exists "{name}" with (force)')
        await connection.execute(f'create database "{name}"')
    finally:
        await connection.close()
    return postgres.dsn.rpartition("/")[0] + "/" + name

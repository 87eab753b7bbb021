"""Where Redis and Postgres come from: given by URL, or servers of our own."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg
from redis.asyncio import Redis

from cluster.functions import UNREACHABLE
from cluster.local import redis as local_redis
from cluster.local.errors import LocalError
from cluster.local.folder import Folder
from cluster.local.ports import Ports
from cluster.local.postgres import HOST, PostgresServer, find_home, runnable
from cluster.local.programs import Program, Servers, choose_postgres, choose_redis
from cluster.local.redis import RedisServer
from cluster.local.service import Service
from cluster.local.state import without_password
from cluster.local.user import server_user
from cluster.postgres_errors import POSTGRES_ERRORS

ASK_TIMEOUT_S = 5.0
# A driver's message would have what it could not read, maybe a piece of a password.
UNUSABLE = "{} is no URL that can be used: is everything odd in its password percent-encoded?"


@dataclass(frozen=True)
class Shown:
    """What is told about a server. `where` has no password in it."""

    version: str
    source: str  # "PATH", "wheel" or "given"
    where: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Supply:
    """A server to use. `service` is None when it is not ours to start and stop."""

    url: str
    shown: Shown
    service: Service | None = None


@dataclass(frozen=True)
class Place:
    """What a server of our own needs to be started in."""

    folder: Folder
    ports: Ports
    group: int
    lock_fd: int


async def given_redis(url: str) -> Supply:
    """A Redis that is there already. LocalError when it does not answer."""
    try:
        client = Redis.from_url(url, socket_timeout=ASK_TIMEOUT_S, socket_connect_timeout=ASK_TIMEOUT_S)
        async with client:
            info = await client.info("server")
    except ValueError:
        raise LocalError(UNUSABLE.format("--redis-url")) from None
    except UNREACHABLE as error:
        raise LocalError(f"Redis at {_where(url)} does not answer ({error}): check --redis-url.") from error
    return Supply(url, Shown(str(info["redis_version"]), "given", _where(url)))


async def given_postgres(dsn: str) -> Supply:
    """A Postgres that is there already. LocalError when it does not answer."""
    try:
        connection = await asyncpg.connect(dsn, timeout=ASK_TIMEOUT_S)
        version = connection.get_server_version()
        await connection.close(timeout=ASK_TIMEOUT_S)
    except ValueError:
        raise LocalError(UNUSABLE.format("--postgres-dsn")) from None
    except POSTGRES_ERRORS as error:
        raise LocalError(f"Postgres at {_where(dsn)} does not answer ({error}): check --postgres-dsn.") from error
    return Supply(dsn, Shown(f"{version.major}.{version.minor}", "given", _where(dsn)))


async def own_redis(place: Place, servers: Servers) -> Supply:
    """Starts a Redis on the data folder. Returns when it answers."""
    folder = place.folder
    program = await asyncio.to_thread(choose_redis, servers, local_redis.made_by(folder.redis))
    port = place.ports.take("redis")
    log = folder.logs / "redis.log"
    server = RedisServer(program, folder.redis, log, port, place.group, place.lock_fd)
    await server.start()
    return Supply(server.url, _shown(program, f"{local_redis.HOST}:{port}"), server)


async def own_postgres(place: Place, servers: Servers) -> Supply:
    """Starts a Postgres on the data folder, initialised if need be. Returns when its database answers."""
    folder = place.folder
    home = find_home(folder.postgres, server_user(folder.postgres))
    found = await asyncio.to_thread(choose_postgres, servers, home.major())
    program = await asyncio.to_thread(runnable, found, home.user)
    port = place.ports.take("postgres")
    server = PostgresServer(program, home, folder.logs / "postgres.log", port, place.group)
    await server.initialise()
    await server.start()
    as_user = f" as user {home.user.name}, data in {home.path}" if home.user else ""
    return Supply(server.dsn, _shown(program, f"{HOST}:{port}{as_user}"), server)


def _shown(program: Program, where: str) -> Shown:
    name = "" if program.kind in ("redis", "postgres") else f"{program.kind} "
    return Shown(name + program.version, program.source, where)


def _where(url: str) -> str:
    """host:port/path of a URL, without the password."""
    return without_password(url).partition("://")[2].rpartition("@")[2].partition("?")[0]

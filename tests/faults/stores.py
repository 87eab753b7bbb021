"""A Redis and a Postgres of a test's own, to be stopped in bad ways."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis

from cluster.local.service import Service
from cluster.local.supply import Supply, own_postgres, own_redis
from tests.conftest import Servers
from tests.faults.nodes import until


class Own:
    """A server that this test started, in a folder of its own."""

    supply: Supply

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.place = servers.place(f"{type(self).__name__.lower()}-{os.urandom(4).hex()}")

    @property
    def service(self) -> Service:
        assert self.supply.service is not None
        return self.supply.service

    @property
    def url(self) -> str:
        return self.supply.url

    def end(self, signum: signal.Signals) -> None:
        """Returns when it is gone."""
        assert self.service.child is not None
        self.service.child.send(signum)
        self._servers.run(self.service.child.wait())

    def start(self) -> None:
        """Again, on the same data and port."""
        self._servers.run(self.service.start())

    def stop(self) -> None:
        self._servers.run(self.service.stop())


class OwnPostgres(Own):
    def __init__(self, servers: Servers) -> None:
        super().__init__(servers)
        self.supply = servers.run(own_postgres(self.place, "auto"))


class OwnRedis(Own):
    """Its append-only file has a mark to be cut back to."""

    def __init__(self, servers: Servers) -> None:
        super().__init__(servers)
        self.supply = servers.run(own_redis(self.place, "auto"))
        self._folder: Path = self.place.folder.redis / "appendonlydir"
        self._sizes: dict[Path, int] = {}

    def config(self, **settings: Any) -> None:
        with Redis.from_url(self.url) as redis:
            for name, value in settings.items():
                redis.config_set(name.replace("_", "-"), value)

    def batches(self) -> list[bytes]:
        """The keys of batches (node/log.lua), open and sealed."""
        with Redis.from_url(self.url) as redis:
            return list(redis.scan_iter("*:b:*"))

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def follow(self, port: int) -> None:
        """Becomes a replica of the Redis there, and returns when it has all of it."""
        with Redis.from_url(self.url) as redis:
            redis.replicaof("127.0.0.1", port)
            until(lambda: redis.info("replication")["master_link_status"] == "up", "the replica follows")

    def lead(self) -> None:
        with Redis.from_url(self.url) as redis:
            redis.replicaof("NO", "ONE")

    def mark(self) -> None:
        self._sizes = {path: path.stat().st_size for path in self._folder.glob("*.incr.aof")}
        assert self._sizes

    def crash(self) -> int:
        """Kills it, cuts its file back to the mark and starts it; -> the bytes that it forgot."""
        self.end(signal.SIGKILL)
        forgotten = 0
        for path, size in self._sizes.items():
            forgotten += path.stat().st_size - size
            with path.open("r+b") as file:
                file.truncate(size)
        self.start()
        return forgotten

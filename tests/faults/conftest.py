"""Two nodes on a Redis and a Postgres of their own, with a network of ours between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import Servers
from tests.faults.load import Load
from tests.faults.nodes import Node, nodes
from tests.faults.proxy import Proxy
from tests.faults.stores import OwnPostgres, OwnRedis


class Net:
    """`redis` and `postgres` are the servers, `to_redis` and `to_postgres` the ways there."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers, self._folder = servers, folder
        self.redis, self.postgres = OwnRedis(servers), OwnPostgres(servers)
        self._ways: list[Proxy] = []
        self.to_redis, self.to_postgres = self.before(self.redis.url), self.before(self.postgres.url)
        self.nodes: list[Node] = []

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def before(self, url: str) -> Proxy:
        """A new way to a server."""
        port = urlsplit(url).port
        assert port is not None
        self._ways.append(self._servers.run(Proxy("127.0.0.1", port).start()))
        return self._ways[-1]

    def do(self, what: Callable[[], None]) -> None:
        """In the loop of the proxies."""

        async def call() -> None:
            what()

        self._servers.run(call())

    def is_exact(self, *loads: Load) -> None:
        """By each node, and in Postgres; and every node has got over it."""
        for node in self.nodes:
            node.ready()
            for each in loads:
                each.is_exact(node.url, self.postgres.url)

    def stop(self) -> None:
        for way in self._ways:
            self._servers.run(way.stop())
        self.redis.stop()
        self.postgres.stop()


@pytest.fixture(scope="package")
def net(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    folder = tmp_path_factory.mktemp("net")
    net = Net(servers, folder)
    try:
        with nodes(folder, through(net.redis.url, net.to_redis), through(net.postgres.url, net.to_postgres)) as made:
            net.nodes = [made.start(), made.start()]
            for node in net.nodes:
                node.ready()
            yield net
            for node in net.nodes:
                node.drained()
    finally:
        net.stop()


def through(url: str, proxy: Proxy) -> str:
    """The same server, by way of the proxy."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()

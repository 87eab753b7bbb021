"""A node of which a part has ended that must not, ends."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.conftest import Servers
from tests.faults.nodes import nodes, until
from tests.http.conftest import empty_stores

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


def test_a_node_that_finds_another_clusters_redis_ends_though_clients_go_on_connecting(
    servers: Servers, tmp_path: Path
) -> None:
    with empty_stores(servers) as dsn, nodes(tmp_path, servers.redis_url(), dsn) as made:
        node = made.start().ready()
        where = urlsplit(node.url)

        def ended() -> bool:
            for _ in range(20):
                with socket.socket() as client:
                    client.connect_ex((where.hostname, where.port))
            return node.process.poll() is not None

        with Redis.from_url(servers.redis_url()) as redis:
            redis.hset("tally:{0}:meta", "cluster", "another")
            redis.client_kill_filter(_type="normal", skipme=True)
            until(ended, "it has ended")
        assert node.process.returncode == 3
        assert "Redis holds batches of cluster another" in node.log.read_text()

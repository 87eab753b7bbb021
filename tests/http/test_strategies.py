"""The seed's two routes where the default namespace counts in Postgres itself, on both entrances."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from tests.conftest import Servers
from tests.http.client import PROXY, Front, Ledger, increment, post, request
from tests.http.conftest import empty_stores, execute, running_node

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture(scope="module", params=["sync", "rollup"])
def counted_by(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int, socket.socket]]:
    """The strategy, a node's port, and where its StatsD goes. At the end Postgres has what was acknowledged."""
    strategy = str(request.param)
    with empty_stores(servers) as dsn, closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(5)
        address = f"127.0.0.1:{statsd.getsockname()[1]}"
        log: Path = tmp_path_factory.mktemp("node") / "node.log"
        with running_node(servers, dsn, log, strategy=strategy, statsd=address) as port:
            yield strategy, port, statsd
        total = "SELECT key, sum(value)::bigint AS value FROM {} GROUP BY key"
        rows = servers.run(execute(dsn, total.format("rolled_up")))
        stored = servers.run(execute(dsn, total.format("key_counters")))
        assert dict(stored) == LEDGER.pop(strategy).settled()
        if strategy == "rollup":
            assert dict(rows) == dict(stored), "every increment is kept"


LEDGER: dict[str, Ledger] = {}


@pytest.fixture(params=["node", "quart"])
def front(request: pytest.FixtureRequest, counted_by: tuple[str, int, socket.socket]) -> Front:
    strategy, port, _ = counted_by
    ledger = LEDGER.setdefault(strategy, Ledger())
    return Front(request.param, port, ledger, extra=b"Expect: 100-continue\r\n" if request.param == "quart" else b"")


async def test_what_is_acknowledged_is_read(front: Front) -> None:
    key = f"read {front.name}"
    for value in (3, 0, 2**53 - 1, 7, 2**53 - 1):
        assert (await front.add(key, value)).status == 204
        assert await front.value(key) == front.ledger.counts[key]
    assert (await front.ask(request("GET", "/increment/unknown"))).status == 404
    assert (await front.ask(post(b'{"key":"a","value":-1}'))).body == b'{"error":{"message":"Bad Request."}}'


async def test_a_retry_counts_once_and_another_value_is_a_mismatch(front: Front) -> None:
    key = f"retry {front.name}"
    first = await front.ask(post(increment(key, 4), Idempotency_Key="x"))
    front.ledger.count(key, 4)
    again = await front.ask(post(increment(key, 4), Idempotency_Key='"x"'))
    assert (first.status, again.status, again.headers["idempotent-replayed"]) == (204, 204, "true")
    assert "idempotent-replayed" not in first.headers
    assert (await front.ask(post(increment(key, 5), Idempotency_Key="x"))).status == 422
    guarded = [await front.ask(post(increment(key, 1), X_Request_ID=f"{front.name} id"), PROXY) for _ in range(2)]
    front.ledger.count(key, 1)
    assert [(answer.status, "idempotent-replayed" in answer.headers) for answer in guarded] == [(204, False)] * 2
    assert await front.value(key) == 5


async def test_many_at_once_are_all_counted(front: Front) -> None:
    async def client(number: int) -> None:
        async with front.connect() as connection:
            for i in range(30):
                key = f"many {front.name} {i % 3}"
                assert (await connection.ask(post(increment(key, number)))).status == 204
                front.ledger.count(key, number)

    await asyncio.gather(*(client(number) for number in range(20)))
    for i in range(3):
        key = f"many {front.name} {i}"
        assert await front.value(key) == front.ledger.counts[key]


async def test_increments_and_reads_go_on_while_redis_is_silent(
    front: Front, servers: Servers, counted_by: tuple[str, int, socket.socket]
) -> None:
    key = f"silent {front.name}"
    await front.add(key, 1)
    with Redis.from_url(servers.redis_url()) as redis:
        redis.execute_command("CLIENT", "PAUSE", "4000", "ALL")
    started = time.monotonic()
    while time.monotonic() < started + 3.5:
        assert (await front.add(key, 1)).status == 204
        assert await front.value(key) == front.ledger.counts[key]
        assert (await front.ask(request("GET", "/readyz"))).status == 200
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)


async def test_statsd_hears_the_strategys_own_name(front: Front, counted_by: tuple[str, int, socket.socket]) -> None:
    strategy, _, statsd = counted_by
    await front.add(f"metered {front.name}", 1)
    wanted = f"tally.kv.{strategy}.increment:".encode()
    heard = [await asyncio.to_thread(statsd.recv, 65536)]
    while not any(wanted in datagram for datagram in heard[-1:]):
        assert b"kv.dist.increment" not in heard[-1]
        heard.append(await asyncio.to_thread(statsd.recv, 65536))

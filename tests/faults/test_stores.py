"""Redis and Postgres themselves fail, under load of clients that never give up: all of it counts once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Servers
from tests.faults.conftest import Net
from tests.faults.load import load
from tests.faults.nodes import until
from tests.faults.proxy import settles
from tests.faults.stores import OwnRedis

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

AWAY_S = 60.0 if os.environ.get("SOAK") else 3.0
REWOUND_S = 2.0  # of traffic


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT, signal.SIGKILL], ids=["immediate", "fast", "killed"])
def test_a_postgres_that_stops_during_a_settle_has_all_of_the_batch_or_nothing(net: Net, how: signal.Signals) -> None:
    child = net.postgres.service.child
    assert child is not None
    with load(*net.urls) as running:
        running.more(50)
        net.do(lambda: net.to_postgres.lose(1, settles, meanwhile=lambda: child.send(how)))
        until(child.has_ended, "Postgres has stopped")
        running.more(50)
        net.postgres.start()
        running.more(50)
    assert set(running.answers) == {"204"}, "counting does not need Postgres"
    net.is_exact(running)


def test_while_postgres_is_away_increments_go_on_and_are_settled_afterwards(net: Net) -> None:
    with load(*net.urls) as running:
        running.more(50)
        net.postgres.end(signal.SIGINT)
        away_until = time.monotonic() + AWAY_S
        while time.monotonic() < away_until:
            running.more(20)
        net.postgres.start()
        running.more(50)
    assert set(running.answers) == {"204"}
    net.is_exact(running)


def test_a_full_redis_refuses_counts_nothing_of_it_settles_on_and_recovers(net: Net) -> None:
    with load(*net.urls) as running:

        def full_with_increments() -> bool:
            net.redis.config(maxmemory=0)
            running.more(10)
            net.redis.config(maxmemory=1)
            return bool(net.redis.batches())

        until(full_with_increments, "it is full, and holds increments that are not settled")
        until(lambda: running.answers["503 counted False"] >= 50, "writes are refused")
        until(lambda: not net.redis.batches(), "they are settled, and their memory is free")
        net.redis.config(maxmemory=0)
        running.more(50)
    assert running.answers["503 counted unknown"] == 0, "a full Redis refuses before anything is counted"
    net.is_exact(running)


@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
def test_a_redis_cut_back_by_seconds_of_traffic_loses_and_doubles_nothing(net: Net, appendfsync: str) -> None:
    net.redis.config(appendfsync=appendfsync)
    with load(*net.urls) as running:
        running.more(50)
        net.redis.mark()
        acknowledged, cut_at = running.acknowledged, time.monotonic() + REWOUND_S
        while time.monotonic() < cut_at:
            running.more(10)
        forgotten = running.acknowledged - acknowledged
        assert net.redis.crash() > 0
        running.more(100)
    print(f"appendfsync {appendfsync}: {forgotten} acknowledged increments had to be put back")
    net.is_exact(running)


@pytest.fixture
def replica(net: Net, servers: Servers) -> Iterator[OwnRedis]:
    replica = OwnRedis(servers)
    yield replica
    replica.stop()


def test_a_replica_that_lags_and_is_promoted_loses_and_doubles_nothing(net: Net, replica: OwnRedis) -> None:
    """And once more, back to the first server, when that has followed the new one."""
    way = net.before(net.redis.url)
    for redis in (net.redis, replica):
        redis.config(repl_diskless_sync_delay=0)  # it would wait for more replicas
    with load(*net.urls) as running:
        replica.follow(way.port)
        running.more(50)
        net.do(way.freeze)
        way.silent = True
        behind = running.acknowledged
        running.more(200)
        behind = running.acknowledged - behind
        fail_over(net, net.redis, replica)
        running.more(100)
        net.redis.start()
        net.redis.follow(replica.port)
        running.more(100)
        fail_over(net, replica, net.redis)
        running.more(100)
    print(f"{behind} acknowledged increments were not on the replica")
    net.is_exact(running)


def fail_over(net: Net, lost: OwnRedis, promoted: OwnRedis) -> None:
    lost.end(signal.SIGKILL)
    promoted.lead()
    net.to_redis.upstream = promoted.port

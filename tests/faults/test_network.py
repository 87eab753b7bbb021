"""The network between nodes and their stores fails, under load of clients that never give up: all of it counts once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis import Redis

from tests.conftest import Servers
from tests.faults.conftest import Net, through
from tests.faults.load import load
from tests.faults.nodes import nodes, until
from tests.faults.proxy import appends, commits, settles
from tests.http.conftest import execute

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

ANSWERED_IN_S = 8.0  # a node's deadline is 2 s; the rest is for a slow machine


def test_settles_whose_answers_are_lost_count_once(net: Net) -> None:
    with load(*net.urls) as running:
        running.more(50)
        net.do(lambda: net.to_postgres.lose(6, settles))
        until(lambda: net.to_postgres.lost == 6, "six answers are lost")
        running.more(50)
    assert set(running.answers) == {"204"}, "clients see nothing of it"
    net.is_exact(running)


def test_calls_whose_answers_are_lost_count_once(net: Net) -> None:
    with load(*net.urls) as running:
        running.more(50)
        net.do(lambda: net.to_redis.lose(10, appends))
        until(lambda: net.to_redis.lost == 10, "ten answers are lost")
        running.more(50)
    assert running.replayed == 0, "the node made the same calls again, the clients did not"
    assert set(running.answers) == {"204"}
    net.is_exact(running)


def test_connections_that_break_again_and_again_lose_nothing(net: Net) -> None:
    with load(*net.urls) as running:
        for number in range(12):
            proxy = net.to_redis if number % 3 else net.to_postgres
            net.do(lambda proxy=proxy, number=number: proxy.cut(reset=number % 2 == 0))
            running.more(10)
    net.is_exact(running)


def test_a_slow_network_costs_time_and_no_answer(net: Net) -> None:
    with load(*net.urls) as running:
        net.to_redis.delay_s = net.to_postgres.delay_s = 0.05
        running.more(100)
        net.to_redis.delay_s = net.to_postgres.delay_s = 0.0
    assert set(running.answers) == {"204"}
    net.is_exact(running)


def test_a_redis_that_nothing_reaches_is_answered_for_in_time_and_says_whether_it_counted(net: Net) -> None:
    with load(*net.urls) as running:
        running.more(50)
        net.to_redis.silent = True
        until(lambda: running.answers["503 counted False"], "what was not sent yet is not counted")
        until(lambda: running.answers["503 counted unknown"], "of what was on its way nobody knows")
        net.to_redis.silent = False
        running.more(100)
    assert set(running.answers) == {"204", "503 counted False", "503 counted unknown"}
    assert running.slowest_s < ANSWERED_IN_S
    net.is_exact(running)


def test_half_open_connections_to_redis_are_given_up_and_nothing_is_lost(net: Net) -> None:
    with load(*net.urls) as running:
        running.more(50)
        net.do(net.to_redis.freeze)
        running.more(200)
    assert set(running.answers) <= {"204", "503 counted False", "503 counted unknown"}
    assert running.slowest_s < ANSWERED_IN_S
    net.is_exact(running)


def test_half_open_connections_to_postgres_are_given_up_and_increments_go_on(net: Net) -> None:
    with load(*net.urls) as running:
        running.more(50)
        net.do(net.to_postgres.freeze)
        began = time.monotonic()
        running.more(200)
        assert set(running.answers) == {"204"}, "counting does not need Postgres"
    net.is_exact(running)
    print(f"settled {time.monotonic() - began:.1f} s after Postgres' connections were cut off")


def test_commits_whose_answers_are_lost_count_once_and_the_node_finds_out(
    net: Net, servers: Servers, redis_url: str, tmp_path: Path
) -> None:
    """Strategy `sync`, on a database of its own. Half-open connections cost it no more than a request's deadline."""
    servers.run(execute(net.postgres.url, "CREATE DATABASE of_sync"))
    dsn = net.postgres.url.rsplit("/", 1)[0] + "/of_sync"
    with nodes(tmp_path, redis_url, through(dsn, net.to_postgres)) as made:
        node = made.start(strategy="sync").ready()
        with load(node.url) as running:
            running.more(50)
            net.do(lambda: net.to_postgres.lose(3, commits))
            until(lambda: net.to_postgres.lost == 3, "three answers are lost")
            running.more(50)
            assert set(running.answers) == {"204"}
            assert running.replayed > 0, "what was in doubt had counted"
            net.do(net.to_postgres.freeze)
            running.more(50)
        assert set(running.answers) <= {"204", "503 counted False", "503 counted unknown"}
        assert running.slowest_s < ANSWERED_IN_S
        running.is_exact(node.url, dsn)
        node.drained()


def test_a_member_that_is_struck_off_again_and_again_costs_nothing(net: Net) -> None:
    with load(*net.urls) as running, Redis.from_url(net.redis.url) as redis:
        for _ in range(10):
            running.more(20)
            for member in redis.hkeys("{tally}:members"):
                redis.hdel("{tally}:members", member)
                redis.zrem("{tally}:leases", member)
    assert set(running.answers) == {"204"}
    net.is_exact(running)

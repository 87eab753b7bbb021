"""A real Redis that goes back in time: killed, its append-only file cut back, started again, with the nodes alive."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.chaos.local_cluster import DEADLINE_S, Up, until
from tests.chaos.test_kill import cluster_as_seen_by, stored
from tests.conftest import Servers
from tests.faults.stores import OwnRedis

pytestmark = [pytest.mark.cluster, pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def redis(servers: Servers) -> Iterator[OwnRedis]:
    redis = OwnRedis(servers)
    yield redis
    redis.stop()


def post(url: str, key: str, value: int, idempotency_key: str) -> bool:
    """Posts until it is answered 204; -> whether it was a replay."""
    body = json.dumps({"key": key, "value": value}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
    give_up_at = time.monotonic() + DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
                assert answer.status == 204
                return answer.headers.get("Idempotent-Replayed") == "true"
        except (urllib.error.HTTPError, OSError):
            assert time.monotonic() < give_up_at, "it is never answered 204"
        time.sleep(0.05)


@pytest.mark.parametrize("settled_meanwhile", [True, False])
def test_a_redis_cut_back_by_what_was_acknowledged_loses_and_doubles_nothing(
    up: Up, redis: OwnRedis, settled_meanwhile: bool
) -> None:
    up.environment |= {
        "TALLY_REDIS_URL": redis.url,
        "TALLY_FLUSH_INTERVAL_MS": "200" if settled_meanwhile else "3600000",
    }
    state = up.start("--nodes", "3").ready()
    dsn = up.state()["postgres_dsn"]
    urls = [node["url"] + "/increment" for node in up.state()["nodes"]]

    def count(numbers: range) -> list[bool]:
        return [post(urls[i % len(urls)], f"k{i % 7}", i, f"id-{i}") for i in numbers]

    assert not any(count(range(100)))
    redis.mark()
    assert not any(count(range(100, 300)))
    if settled_meanwhile:
        until(lambda: sum(stored(dsn).values()) == sum(range(300)), "settled")
    assert redis.crash() > 0
    assert all(count(range(300))), "what was acknowledged is known, at whichever node it is sent again"
    assert not any(count(range(300, 400)))
    values = []
    for key in range(7):
        with urllib.request.urlopen(f"{state['public_url']}/increment/k{key}", timeout=10) as answer:
            values.append(json.load(answer)[f"k{key}"])
    assert values == [sum(range(key, 400, 7)) for key in range(7)]
    went_back = [cluster_as_seen_by(node)["redis_went_back"] for node in up.state()["nodes"]]
    assert settled_meanwhile or sum(each["calls_made_again"] for each in went_back) > 0
    assert sum(each["calls_lost"] for each in went_back) == 0
    assert up.stop() == 0

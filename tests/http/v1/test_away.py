"""The v1 routes while Redis, or Postgres, is away; what was answered then holds afterwards."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Servers
from tests.http.client import Answer, Front, Ledger
from tests.http.conftest import PORTS, empty_stores, running_node
from tests.http.v1.conftest import STRATEGIES, Asking, at, put
from tests.http.v1.described import BATCH, asking_as_described
from tests.http.v1.relay import Relay

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@dataclass
class Node:
    """A node, and what is between it and its stores."""

    front: Front
    redis: Relay
    postgres: Relay


@pytest.fixture(scope="module")
def node(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    log: Path = tmp_path_factory.mktemp("away") / "node.log"
    ops_port = PORTS.take(f"ops-away-{time.monotonic_ns()}")
    with (
        empty_stores(servers) as dsn,
        closing(Relay(servers, servers.redis_url())) as redis,
        closing(Relay(servers, dsn)) as postgres,
        running_node(servers, postgres.url, log, redis_url=redis.url, ops_port=str(ops_port)) as port,
    ):
        for strategy in STRATEGIES:
            asyncio.run(put(Front("ops", ops_port, Ledger()), strategy, json.dumps({"strategy": strategy}).encode()))
        yield Node(Front("node", port, Ledger()), redis, postgres)


@pytest.fixture
def shop(node: Node, strategy: str, request: pytest.FixtureRequest) -> Asking:
    return Asking(node.front, strategy, request.node.name, [], "")


async def until_it_counts(shop: Asking) -> None:
    deadline = time.monotonic() + 60
    while (await shop.add("probe")).status != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def refused(answer: Answer) -> bool:
    """And says nothing of where the stores are."""
    assert not re.search(rb"127\.0\.0\.1|localhost|:\d{4,5}|; try again[^.]|Errno", answer.body), answer
    return (
        answer.status == 503 and answer.headers["retry-after"] == "1" and answer.error["counted"] in (False, "unknown")
    )


async def test_without_redis_two_strategies_go_on_and_what_is_stored_is_read(node: Node, shop: Asking) -> None:
    goes_on = shop.ns != "dist"
    key = shop.key("a")
    await shop.add(key, 5)
    await shop.until_settled(key)
    node.redis.cut()
    try:
        adding = await shop.add(key, 1, idempotency_key="x")
        resetting = await shop.reset(key, Idempotency_Key="r")
        exact, listed = await shop.ask("GET", at(key)), await shop.ask("GET", "/counters")
        receipt = await shop.ask("GET", "/receipts?key=a&idempotency_key=x")
        for answer in (adding, resetting, exact, listed, receipt):
            assert answer.status == 200 if goes_on else refused(answer), answer
        for path in (at(key, consistency="stored"), "/counters?consistency=stored"):
            assert (await shop.ask("GET", path)).status == 200
    finally:
        node.redis.mend()
    await until_it_counts(shop)
    assert (await shop.add(key, 1, idempotency_key="x")).status == 200
    first = await shop.reset(key, Idempotency_Key="r")
    assert json.loads(first.body)["taken"] == 6
    assert await shop.value(key) == 0


async def test_without_postgres_dist_goes_on_with_what_it_knows(node: Node, shop: Asking) -> None:
    goes_on = shop.ns == "dist"
    key = shop.key("a")
    await shop.add(key, 5)
    await shop.until_settled(key)
    node.postgres.cut()
    try:
        adding = await shop.add(key, 1, idempotency_key="x", max=6)
        past = await shop.add(key, 1, max=6)
        exact = await shop.ask("GET", at(key))
        many = await shop.ask(
            "POST", "/increments/batch", [{"key": shop.key("new"), "value": 3, "idempotency_key": "y"}]
        )
        if goes_on:
            assert [answer.status for answer in (adding, past, exact, many)] == [200, 409, 200, 200]
            assert json.loads(adding.body)["value"] == json.loads(exact.body)["value"] == 6
        else:
            assert all(refused(answer) for answer in (adding, past, exact, many))
        for answer in (
            await shop.ask("GET", at(key, consistency="stored")),
            await shop.ask("GET", "/counters"),
            await shop.add(shop.key("unread"), 1, idempotency_key="z"),
        ):
            assert refused(answer), answer
    finally:
        node.postgres.mend()
    await until_it_counts(shop)
    assert (await shop.add(key, 1, idempotency_key="x", max=6)).status == 200
    repeated = await shop.asked(
        "POST", "/increments/batch", [{"key": shop.key("new"), "value": 3, "idempotency_key": "y"}]
    )
    assert repeated["counted"] + repeated["replayed"] == 1
    assert (await shop.add(shop.key("unread"), 1, idempotency_key="z")).status == 200
    for name, value in (("a", 6), ("new", 3), ("unread", 1)):
        assert await shop.value(shop.key(name)) == value


async def test_a_batch_that_cannot_be_counted_is_answered_as_it_is_described(node: Node, shop: Asking) -> None:
    key = shop.key("a")
    await shop.add(key)
    ask = asking_as_described(node.front.port)
    away = node.redis if shop.ns == "dist" else node.postgres
    away.cut()
    try:
        for accept in ("application/json", "application/problem+json"):
            answer = await asyncio.to_thread(
                ask,
                "POST",
                BATCH,
                path_parameters={"ns": shop.ns},
                body=[{"key": key, "value": 1}, {"key": key, "value": "none"}],
                media_type="application/json",
                headers={"Accept": accept},
            )
            told = answer.json()
            assert answer.status_code == 503
            assert answer.headers["content-type"] == [accept]
            assert [each["status"] for each in told["results"]] == ["unavailable", "refused"]
            assert (told["counted"], told["refused"]) == (0, 2)
    finally:
        away.mend()
    await until_it_counts(shop)

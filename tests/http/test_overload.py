"""A node whose inbox is full: what it says of an increment, and to whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.conftest import Servers
from tests.http.client import PROXY, STRANGER, Answer, Front, Ledger, increment, post, request
from tests.http.conftest import empty_stores, execute, running_node

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

AT_ONCE = 20


@pytest.fixture
def narrow(servers: Servers, tmp_path: Path) -> Iterator[Front]:
    """A node with room for one, in front of a Redis that can be paused."""
    ledger = Ledger()
    with empty_stores(servers) as dsn:
        with running_node(servers, dsn, tmp_path / "node.log", inbox_max="1") as port:
            yield Front("node", port, ledger)
        rows = servers.run(execute(dsn, "SELECT key, value FROM key_counters"))
        assert {row["key"]: row["value"] for row in rows} == ledger.settled()


async def refused(front: Front, servers: Servers, data: bytes, source: str) -> list[Answer]:
    """The answers to requests that came while Redis stood still, but for those that were counted after it."""
    with Redis.from_url(servers.redis_url()) as redis:
        redis.execute_command("CLIENT", "PAUSE", 1000, "ALL")  # it ends by itself
        answers = await asyncio.gather(*(front.ask(data, source) for _ in range(AT_ONCE)))
    rest = [answer for answer in answers if answer.status not in (200, 204)]
    front.ledger.count("full", len(answers) - len(rest))
    assert rest
    assert {answer.status for answer in rest} == {503}
    assert all(answer.headers["retry-after"] == "1" for answer in rest)
    return rest


@pytest.mark.parametrize("entrance", [b"", b"Expect: 100-continue\r\n"], ids=["lane", "quart"])
async def test_of_what_a_proxy_passed_on_no_node_says_that_it_was_not_counted(
    narrow: Front, servers: Servers, entrance: bytes
) -> None:
    """The proxy may have asked another before, which counted it and was not heard. A client's own word is another."""
    data = post(increment("full")).replace(b"\r\n\r\n", b"\r\n" + entrance + b"\r\n", 1)
    direct = await refused(narrow, servers, data, STRANGER)
    assert {answer.error["counted"] for answer in direct} == {False}
    passed_on = await refused(narrow, servers, data, PROXY)
    assert {answer.error["counted"] for answer in passed_on} == {"unknown"}
    assert all("idempotency key" in answer.error["message"] for answer in passed_on)


async def test_nor_of_the_items_of_a_batch(narrow: Front, servers: Servers) -> None:
    items = json.dumps([{"key": "full", "value": 1}]).encode()
    data = request("POST", "/v1/default/increments/batch", items, Content_Type="application/json")
    for source, counted in ((STRANGER, False), (PROXY, "unknown")):
        for answer in await refused(narrow, servers, data, source):
            assert answer.error["counted"] == counted
            [item] = json.loads(answer.body)["results"]
            assert (item["status"], item["counted"]) == ("unavailable", counted)

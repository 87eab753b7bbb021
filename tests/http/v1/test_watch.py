"""Live values as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.conftest import Servers
from tests.http.client import PROXY, Front, request
from tests.http.conftest import running_node
from tests.http.v1.conftest import Asking, at

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@asynccontextmanager
async def watching(asking: Asking, key: str) -> AsyncIterator[AsyncIterator[int | None]]:
    """The values that come, until the stream ends."""

    async def values(stream: aiohttp.StreamReader) -> AsyncIterator[int | None]:
        assert await stream.readline() == b"retry: 1000\n"
        async for line in stream:
            if line.startswith(b"data: "):
                told = json.loads(line[6:])
                assert told["key"] == key
                yield told["value"]

    url = f"http://127.0.0.1:{asking.front.port}/v1/{asking.ns}{at(key, '/watch')}"
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(URL(url, encoded=True)) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        yield values(answer.content)


async def test_a_watcher_is_told_the_value_and_each_newest_one(asking: Asking) -> None:
    key = asking.key("a/b")
    async with watching(asking, key) as one, watching(asking, key) as other:
        assert await anext(one) is None
        await asking.add(key, 5)
        assert await anext(one) == 5
        while await anext(other) != 5:
            pass
        for _ in range(10):
            await asking.add(key, 1)
        seen = [await anext(one)]
        while seen[-1] != 15:
            seen.append(await anext(one))
        assert seen == sorted(set(seen))  # type: ignore[type-var]
        await asking.reset(key)
        assert await anext(one) == 0


async def test_an_increment_on_another_node_is_seen(direct: Asking) -> None:
    key = direct.key("a")
    one, other = (replace(direct, front=node) for node in direct.nodes)
    async with watching(one, key) as seen:
        assert await anext(seen) is None
        await other.add(key, 3)
        assert await anext(seen) == 3


async def test_a_stream_ends_in_good_order_when_its_node_leaves(
    direct: Asking, servers: Servers, tmp_path: Path
) -> None:
    """`running_node` asks it to leave, and would fail if it did not end in good order."""
    key = direct.key("a")
    with ExitStack() as stack:
        port = stack.enter_context(running_node(servers, direct.dsn, tmp_path / "node.log", node="leaves"))
        leaving = replace(direct, front=Front("node", port, direct.front.ledger))
        async with watching(leaving, key) as seen:
            assert await anext(seen) is None
            left = asyncio.create_task(asyncio.to_thread(stack.close))
            assert [value async for value in seen] == []
            await left


async def test_who_watches_too_much_is_told_what_to_do_and_keeps_nobody_else_out(
    direct: Asking, servers: Servers, tmp_path: Path
) -> None:
    """Only a trusted proxy's word is taken for who watches."""
    key = direct.key("a")
    log = tmp_path / "node.log"
    with running_node(servers, direct.dsn, log, node="bounded", watchers_per_client_max="1") as port:
        front = Front("node", port, direct.front.ledger)
        target = f"/v1/{direct.ns}{at(key, '/watch')}"
        async with watching(replace(direct, front=front), key) as seen:  # by the proxy's address, for itself
            assert await anext(seen) is None
            for spoofed, source, status in (
                ({}, PROXY, 429),
                ({"X-Real-IP": "2001:db8::1"}, PROXY, 200),
                ({"X-Real-IP": "127.0.0.1"}, "127.0.0.2", 200),
            ):
                answer = await front.ask(request("HEAD", target, **spoofed), source)
                assert answer.status == status
            refused = await front.ask(request("GET", target), PROXY)
            assert "end one of them" in refused.error["message"]
            assert "retry-after" in refused.headers
        deadline = time.monotonic() + 30
        while (await front.ask(request("HEAD", target), PROXY)).status != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_head_of_a_watch_ends(direct: Asking) -> None:
    answer = await direct.front.ask(request("HEAD", f"/v1/{direct.ns}{at(direct.key('a'), '/watch')}"))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")

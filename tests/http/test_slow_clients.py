"""Clients that are slow, or silent, or send what takes long to read, disturb nobody else."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.http.client import STRANGER, Connection, Front, increment, post, request

HELD = 2000  # connections held open at once, by this process and by the node
FILES = HELD + 500
PATIENCE_S = 5.0  # for an answer that takes a millisecond: a node that stalls takes many times as long
MB_4 = 4 * 1024 * 1024 - 64


def _missing() -> str | None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard >= FILES else f"room for {FILES} open files (ulimit -Hn)"


pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.needs(missing=_missing)]


@pytest.fixture(autouse=True, scope="module")
def files() -> Iterator[None]:
    """Room for the connections, here and (by inheritance, for a node that is started later) there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def held(front: Front, number: int, data: bytes) -> AsyncIterator[list[Connection]]:
    """So many connections, each with the beginning of a request."""
    connections: list[Connection] = []
    try:
        for _ in range(number):
            reader, writer = await asyncio.open_connection("127.0.0.1", front.port, local_addr=(STRANGER, 0))
            connections.append(Connection(reader, writer))
            writer.write(data)
        yield connections
    finally:
        for connection in connections:
            connection.writer.transport.abort()


async def slowest(front: Front, key: str, times: int) -> float:
    """Seconds that the slowest of some increments and reads took, each on a connection of its own."""
    worst = 0.0
    for _ in range(times):
        began = time.monotonic()
        assert (await front.add(key)).status == 204
        assert await front.value(key) == front.ledger.counts[key]
        worst = max(worst, time.monotonic() - began)
    return worst


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST /increment HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        post(increment("never"))[:-3],
        request("POST", "/v1/default/increments/batch", b"[" + b" " * 60_000, Content_Type="application/json")[:-1],
    ],
    ids=["silent", "slow head", "slow body", "slow batch"],
)
async def test_thousands_who_say_nothing_or_little_disturb_nobody(node: Front, data: bytes) -> None:
    number = HELD if len(data) < 1000 else HELD // 10
    async with held(node, number, data) as connections:

        async def dribble() -> None:
            while True:
                for connection in connections:
                    if data and not connection.writer.is_closing():
                        connection.writer.write(b"x" if data.endswith(b" ") else b"")
                await asyncio.sleep(0.5)

        dribbling = asyncio.create_task(dribble())
        assert await slowest(node, "among the slow", 20) < PATIENCE_S
        dribbling.cancel()
    assert (await node.add("among the slow")).status == 204


async def test_who_does_not_read_his_answers_is_not_read_on(node: Front) -> None:
    """He sends for ever, and the node keeps only so much of it."""
    asked = request("GET", "/increment/nobody") * 500
    async with node.connect() as deaf:
        sent = 0
        deaf.writer.transport.set_write_buffer_limits(high=0)
        deaf.reader._transport.pause_reading()  # type: ignore[attr-defined]
        try:
            async with asyncio.timeout(3):
                while sent < 200 * 1024 * 1024:
                    deaf.writer.write(asked)
                    await deaf.writer.drain()
                    sent += len(asked)
        except TimeoutError:
            pass
        assert sent < 100 * 1024 * 1024
        assert await slowest(node, "beside the deaf", 5) < PATIENCE_S


BAD_BATCHES = {
    "a million empty objects": (b"[" + b"{}," * (MB_4 // 3) + b"{}]", "application/json"),
    "two million lines of nonsense": (b"x\n" * (MB_4 // 2), "application/x-ndjson"),
    "a million empty lines of objects": (b"{}\n" * (MB_4 // 3), "application/x-ndjson"),
    "brackets that nest to the limit": ((b"[" * 60 + b"]" * 60 + b",") * (MB_4 // 121), "application/json"),
    "brackets without end": (b"[" * MB_4, "application/json"),
    "numbers": (b"[" + b"1," * (MB_4 // 2 - 2) + b"1]", "application/json"),
    "one long string": (b'["' + b"a" * (MB_4 - 8) + b'"]', "application/json"),
    "digits": (b"[" + b"9" * (MB_4 - 8) + b"]", "application/json"),
    "quotes": (b'"\\"' * (MB_4 // 3), "application/json"),
    "ten thousand bad items": (
        json.dumps([{"key": "x" * 300, "value": -1, "idempotency_key": ""}] * 10_000).encode(),
        "application/json",
    ),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
async def test_a_bad_batch_of_four_megabytes_holds_up_nobody(
    node: Front, name: str, batch: Callable[[bytes, str], Awaitable[int]]
) -> None:
    reading = asyncio.create_task(batch(*BAD_BATCHES[name]))
    worst = 0.0
    while not reading.done():
        worst = max(worst, await slowest(node, "beside a bad batch", 1))
    assert worst < PATIENCE_S
    assert await reading in (200, 400)


@pytest.fixture
def batch(node: Front) -> Callable[[bytes, str], Awaitable[int]]:
    """Sends one; -> its status. Nothing of it may count."""

    async def send(body: bytes, kind: str) -> int:
        answer = await node.ask(request("POST", "/v1/default/increments/batch", body, Content_Type=kind))
        if answer.status == 200:
            assert json.loads(answer.body)["counted"] == 0
        return answer.status

    return send

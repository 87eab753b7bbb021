"""The open loop against a small server in this process."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from cluster.attack import load
from cluster.attack.audit import Outcome
from cluster.attack.load import outcome_of
from cluster.attack.plan import Increment, Plan


@asynccontextmanager
async def server(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/increment", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def increments(*times_s: float) -> list[Increment]:
    return [Increment(at_s, "attack-x-0", 1, f"id-{number}", False) for number, at_s in enumerate(times_s)]


async def test_every_increment_is_sent_once_with_its_idempotency_key() -> None:
    seen: list[tuple[str, int, str]] = []

    async def answer(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        seen.append((body["key"], body["value"], request.headers["Idempotency-Key"]))
        return web.Response(status=204, headers={"Idempotent-Replayed": "true"} if len(seen) == 1 else {})

    plan = Plan(500, 0.4, 2, 0.3, "run", 5)
    tally = load.Tally()
    async with server(answer) as url:
        await load.run(plan, url, connections=100, tally=tally)
    assert sorted(seen) == sorted((i.key, i.value, i.idempotency_key) for i in plan)
    assert (tally.sent, tally.failed, tally.replayed, tally.in_flight) == (200, 0, 1, 0)
    assert tally.answers == {"204": 200}
    assert len(tally.latencies_s) == 200


async def test_a_slow_answer_does_not_hold_up_the_ones_after_it() -> None:
    arrived: list[float] = []
    loop = asyncio.get_running_loop()

    async def answer(request: web.Request) -> web.Response:
        arrived.append(loop.time())
        if len(arrived) == 1:
            await asyncio.sleep(0.5)
        return web.Response(status=204)

    tally = load.Tally()
    async with server(answer) as url:
        await load.run(increments(0, 0.05, 0.1, 0.15), url, connections=10, tally=tally)
    assert arrived[-1] - arrived[0] < 0.4
    assert max(tally.latencies_s) >= 0.45


async def test_latency_counts_from_the_scheduled_time_when_no_connection_is_free() -> None:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return web.Response(status=204)

    tally = load.Tally()
    async with server(answer) as url:
        await load.run(increments(0, 0, 0), url, connections=1, tally=tally)
    assert tally.waited == 2
    assert max(tally.latencies_s) >= 0.28


async def test_a_reset_is_unknown_and_a_refused_connection_was_never_sent() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=204)

    reset, refused = load.Tally(), load.Tally()
    async with server(answer) as url:
        await load.run(increments(0), url, connections=1, tally=reset)
    assert reset.outcomes == {Outcome.UNKNOWN: 1}
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        await load.run(increments(0), f"http://127.0.0.1:{nobody.getsockname()[1]}", connections=1, tally=refused)
    assert refused.outcomes == {Outcome.REFUSED: 1}
    assert refused.failed == reset.failed == 1
    assert len(refused.failures) == 1


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (204, b"", Outcome.ACKNOWLEDGED),
        (400, b"", Outcome.REFUSED),
        (429, b"", Outcome.REFUSED),
        (503, b'{"error":{"message":"m","counted":false}}', Outcome.REFUSED),
        (503, b'{"error":{"message":"m","counted":"unknown"}}', Outcome.UNKNOWN),
        (503, b'{"error":"no"}', Outcome.UNKNOWN),
        (503, b"[1]", Outcome.UNKNOWN),
        (500, b"<html>", Outcome.UNKNOWN),
        (200, b"\xff", Outcome.UNKNOWN),
    ],
)
def test_what_an_answer_means_for_the_count(status: int, body: bytes, outcome: Outcome) -> None:
    assert outcome_of(status, body) is outcome

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

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(answer: Answer, read: Answer | None = None) -> AsyncIterator[str]:
    app = web.Application()
    if read is not None:
        app.router.add_get("/increment/{key}", read)
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
        (429, b"", Outcome.UNKNOWN),
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


async def test_what_is_of_unknown_outcome_is_sent_again_under_its_key_until_it_is_acknowledged() -> None:
    keys: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        keys.append(request.headers["Idempotency-Key"])
        if keys.count(keys[-1]) < 3:
            return web.json_response({"error": {"counted": "unknown" if keys[-1] == "id-0" else False}}, status=503)
        return web.Response(status=204, headers={"Idempotent-Replayed": "true"})

    over: list[int] = []
    tally = load.Tally()
    async with server(answer) as url:
        await load.run(
            increments(0, 0), url, connections=10, tally=tally, sent=lambda: over.append(tally.sent), resend_s=30
        )
    assert sorted(keys) == ["id-0"] * 3 + ["id-1"]
    assert over == [2]
    assert (tally.failed, tally.resent, tally.outcomes[Outcome.UNKNOWN]) == (2, 1, 1)
    assert tally.history.keys["attack-x-0"].sums == {
        Outcome.ACKNOWLEDGED: 1,
        Outcome.REFUSED: 1,
        Outcome.UNKNOWN: 0,
    }


async def test_reads_go_on_beside_the_load_and_one_that_cannot_be_is_found() -> None:
    counted: list[int] = []

    async def post(request: web.Request) -> web.Response:
        counted.append(1)
        return web.Response(status=204)

    async def get(request: web.Request) -> web.Response:
        return web.json_response({"attack-x-0": len(counted) + 1000 * lies})

    for lies in (0, 1):
        tally = load.Tally()
        counted.clear()
        async with server(post, get) as url:
            await load.run(increments(*(n / 100 for n in range(60))), url, connections=10, tally=tally, reads_per_s=100)
        assert tally.bounds.reads > 3
        assert bool(tally.bounds.wrong) == bool(lies)

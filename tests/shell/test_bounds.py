"""What a client can make a node remember is bounded, whatever it sends and however much of it.

The bounds that are shown elsewhere: inboxes (test_writer, test_committer), kept calls (test_comeback), namespaces
(contract/test_namespaces), heads, clients and their rates, queued requests, items (the unit tests of these modules).
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from node import asking, halves, increment, sync_table
from node.errors import TallyError, Unavailable
from node.halves import Halves
from node.increment import KEY_BYTES_MAX, counter_name, key_of_path, parse_increment
from node.routes.http import application, body
from node.routes.large import LARGE_BYTES, LargeBodies
from node.strategies.direct import DirectReader
from node.sync_table import SyncTable
from tests.twins.store import MemoryStore


async def test_halves_that_were_read_are_forgotten_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "CACHE_MAX", 100)
    cache = Halves(MemoryStore(8))
    for i in range(0, 500, 10):
        await cache.of([f"default:{n}" for n in range(i, i + 10)])
        assert len(cache._cache) <= 100
    assert list(cache._cache) == [f"default:{n}" for n in range(400, 500)]


async def test_of_halves_that_are_wanted_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "WANTED_MAX", 10)
    cache = Halves(MemoryStore(8))  # nobody fetches
    waiting = [asyncio.create_task(cache.other_than(None, f"default:{n}")) for n in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="Too many reads"):
        await cache.other_than(None, "default:one more")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_of_reads_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WAITING_MAX", 10)
    reader = DirectReader(NoCounters(), lambda: 0.0, 2.0)  # type: ignore[arg-type]
    answers: list[int | TallyError] = []
    for n in range(10):
        reader.ask(f"default:{n}", answers.append)
    with pytest.raises(Unavailable, match="Too many reads"):
        reader.ask("default:one more", answers.append)
    reader.ask("default:1", answers.append)  # another who asks for the same


class NoCounters:
    """`counters.Counters` that nobody reads."""


@pytest.mark.postgres
async def test_counters_that_are_known_to_be_there_are_forgotten(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from node.deciding import Operation
    from node.store import PostgresStore

    monkeypatch.setattr(sync_table, "KNOWN_MAX", 20)
    store = await PostgresStore.open(postgres_dsn, 8)
    try:
        table = SyncTable(store.postgres)
        for i in range(10):
            names = [f"default:{i} {n}" for n in range(10)]
            for _ in ("created", "found"):
                async with table.hold() as held:
                    await held.look([Operation(name, 1, False, None, None, None, 60, None) for name in names])
                    await held.commit()
            assert set(names) <= table._known
            assert len(table._known) <= 20 + 2 * 10
    finally:
        await store.close()


def test_bodies_and_paths_that_were_read_are_forgotten_and_long_bodies_never_remembered() -> None:
    for cache in (increment._read_before, key_of_path):
        assert cache.cache_info().maxsize == increment.REMEMBERED_BODIES_MAX
    before = increment._read_before.cache_info().currsize
    long = b'{"key":"%s","value":1}' % (b"x" * increment.REMEMBERED_BODY_BYTES_MAX)
    assert parse_increment("application/json", long, None, None).value == 1
    assert increment._read_before.cache_info().currsize == before
    assert len(counter_name("default", "x" * KEY_BYTES_MAX)) < 600


# --- large bodies -----------------------------------------------------------------------------------------------------


class Holding:
    """An ASGI application that answers when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


def asked(app: LargeBodies, *headers: tuple[bytes, bytes], method: str = "POST") -> asyncio.Task[int]:
    """-> the status of the answer"""

    async def ask() -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await app({"type": "http", "method": method, "headers": list(headers)}, None, send)
        return int(sent[0]["status"])

    return asyncio.create_task(ask())


LARGE = (b"content-length", b"%d" % (LARGE_BYTES + 1))
CHUNKED = (b"transfer-encoding", b"chunked")


async def test_only_so_many_large_bodies_are_read_at_once_and_small_ones_do_not_wait() -> None:
    app = Holding()
    bounded = LargeBodies(app, at_once=3, wait_s=60)
    large = [asked(bounded, LARGE) for _ in range(5)] + [asked(bounded, CHUNKED)]
    small = [asked(bounded), asked(bounded, (b"content-length", b"%d" % LARGE_BYTES))]
    await asyncio.sleep(0.01)
    assert app.begun == 5
    app.go.set()
    assert await asyncio.gather(*large, *small) == [200] * 8
    assert app.begun == 8


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("header", [LARGE, CHUNKED], ids=["long", "chunked"])
async def test_who_reads_takes_no_place_of_a_large_body(method: str, header: tuple[bytes, bytes]) -> None:
    app = Holding()
    bounded = LargeBodies(app, at_once=1, wait_s=60)
    reading = [asked(bounded, header, method=method) for _ in range(3)]
    large = asked(bounded, LARGE)
    await asyncio.sleep(0.01)
    assert app.begun == 4
    app.go.set()
    assert await asyncio.gather(*reading, large) == [200] * 4


@pytest.mark.parametrize(("method", "status"), [("POST", 200), ("GET", 413)])
async def test_of_what_a_reader_sends_along_only_little_is_kept(method: str, status: int) -> None:
    app = application("test")

    @app.route("/v1/shop/increments/batch", methods=["GET", "POST"])
    async def length() -> str:
        return str(len(await body()))

    sent = b"x" * (increment.BODY_BYTES_MAX + 1)
    answer = await app.test_client().open("/v1/shop/increments/batch", method=method, data=sent)
    assert answer.status_code == status


async def test_a_large_body_that_waits_too_long_is_refused_and_leaves_its_place() -> None:
    app = Holding()
    bounded = LargeBodies(app, at_once=1, wait_s=0.01)
    first, second = asked(bounded, LARGE), asked(bounded, LARGE)
    assert await second == 503
    app.go.set()
    assert await first == 200
    assert await asked(bounded, LARGE) == 200
    cancelled = asked(LargeBodies(Holding(), at_once=1), LARGE)
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)

"""Reading the values back: patient with faults, strict about what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock

import asyncpg
import pytest
from aiohttp import web

from cluster.attack import readback


@asynccontextmanager
async def server(*answers: tuple[int, str]) -> AsyncIterator[str]:
    """Answers these one after the other, the last one for ever."""
    left = list(answers)

    async def answer(_: web.Request) -> web.Response:
        status, text = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/increment/{key}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_a_value_is_read_as_soon_as_the_fault_is_over() -> None:
    async with server((503, "{}"), (503, "{}"), (200, '{"k":5}')) as url:
        assert await readback.counted(url, ["k"]) == {"k": 5}


async def test_an_unknown_key_is_left_out() -> None:
    async with server((404, "{}")) as url:
        assert await readback.counted(url, ["k"]) == {}


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"other":1}', '{"k":"5"}', '{"k":true}'])
async def test_what_is_no_value_is_no_audit(text: str) -> None:
    async with server((200, text)) as url:
        with pytest.raises(readback.ReadbackError, match="GET of k"):
            await readback.counted(url, ["k"])


async def test_a_cluster_that_stays_away_is_given_up_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback, "READ_DEADLINE_S", 0.3)
    async with server((503, "{}")) as url:
        with pytest.raises(readback.ReadbackError, match="python3 -m cluster status"):
            await readback.counted(url, ["k"])


class Rows:
    """A Postgres whose rows catch up, one look at a time."""

    def __init__(self, *looks: dict[str, int]) -> None:
        self.looks = list(looks)

    async def fetch(self, _: str, keys: Sequence[str], namespace: str) -> list[tuple[str, int]]:
        assert namespace == "default"
        rows = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return [(key, rows[key]) for key in keys if key in rows]

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109
        pass


def postgres(monkeypatch: pytest.MonkeyPatch, rows: Rows) -> None:
    async def connect(*_: Any, **__: Any) -> Rows:
        return rows

    monkeypatch.setattr(readback.asyncpg, "connect", connect)
    monkeypatch.setattr(readback, "POLL_S", 0.01)


async def test_postgres_is_waited_for_until_it_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres(monkeypatch, Rows({}, {"a": 1}, {"a": 1, "b": 2}))
    assert await readback.settled("dsn", {"a": 1, "b": 2}, ["a", "b"], 10) == {"a": 1, "b": 2}


async def test_a_row_that_never_settles_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres(monkeypatch, Rows({"a": 1}))
    assert await readback.settled("dsn", {"a": 2}, ["a"], 0.1) == {"a": 1}


@pytest.mark.parametrize("error", [asyncpg.InterfaceError("connection is closed"), ConnectionResetError("reset")])
async def test_a_postgres_that_goes_away_is_no_audit(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    rows = Rows()
    postgres(monkeypatch, rows)
    monkeypatch.setattr(rows, "fetch", AsyncMock(side_effect=error))
    with pytest.raises(readback.ReadbackError, match="Postgres stopped answering"):
        await readback.settled("dsn", {"a": 1}, ["a"], 10)


async def test_a_postgres_that_cannot_be_reached_is_no_audit() -> None:
    with pytest.raises(readback.ReadbackError, match="Postgres cannot be asked"):
        await readback.settled("postgresql://nobody:x@127.0.0.1:1/none", {}, ["a"], 1)

"""Connections to Postgres that carry nothing any more, and those who hold rows on them."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from node import postgres
from node.postgres import Postgres
from tests.faults.conftest import through
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.postgres

HOLD = "SELECT pg_advisory_xact_lock(7)"


async def test_who_gives_up_a_connection_that_carries_nothing_gives_its_place_back(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "CONNECTIONS_MAX", 1)
    monkeypatch.setattr(postgres, "ANSWER_TIMEOUT_S", 3600.0)
    parts = urlsplit(postgres_dsn)
    proxy = await Proxy(parts.hostname or "", parts.port or 0).start()
    opened = await Postgres.open(through(postgres_dsn, proxy))
    await opened.fetch("SELECT 1")
    proxy.freeze()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await opened.fetch("SELECT 1")
    async with asyncio.timeout(10):
        await opened.fetch("SELECT 1")
        await opened.close()
    await proxy.stop()


async def test_a_transaction_that_nobody_goes_on_with_holds_nothing_for_long(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paused node's, or one's that was cut off without a goodbye: its server hears of neither."""
    monkeypatch.setattr(postgres, "IDLE_TIMEOUT_MS", 100)
    paused, other = await Postgres.open(postgres_dsn), await Postgres.open(postgres_dsn)
    async with paused.open_transaction() as transaction:
        ended = asyncio.Event()
        transaction.connection.add_termination_listener(lambda _: ended.set())
        await transaction.connection.execute(HOLD)
        async with other.transaction() as connection:
            await connection.execute(HOLD)  # within LOCK_TIMEOUT_MS
        await ended.wait()
    await paused.close()
    await other.close()

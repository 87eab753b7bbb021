"""The connections that all who ask of one Postgres share, on a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from node import postgres as module
from node.postgres import Postgres

pytestmark = pytest.mark.postgres

SLOW = "SELECT pg_sleep(20)"


@pytest.fixture
async def postgres(node_dsn: str) -> AsyncIterator[Postgres]:
    postgres = await Postgres.open(node_dsn)
    yield postgres
    await postgres.close()


async def pids(postgres: Postgres) -> set[int]:
    """Of two connections."""
    async with postgres.connection() as one, postgres.connection() as other:
        return {one.get_server_pid(), other.get_server_pid()}


async def give_up(postgres: Postgres) -> None:
    """What a handler does whose client hangs up."""
    asking = asyncio.create_task(postgres.fetch(SLOW))
    while not await postgres.fetch("SELECT FROM pg_stat_activity WHERE query = $1 AND state = 'active'", SLOW):
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_who_gives_up_soon_takes_no_connection_of_others_along(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_S", 3600.0)
    before = await pids(postgres)
    await give_up(postgres)
    assert len(before & await pids(postgres)) == 1


async def test_who_gives_up_late_takes_postgres_for_gone(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_S", 0.0)
    before = await pids(postgres)
    await give_up(postgres)
    assert not before & await pids(postgres)


async def test_an_answer_that_does_not_come_in_time_takes_all_connections_along(postgres: Postgres) -> None:
    before = await pids(postgres)
    with pytest.raises(Exception, match="TimeoutError"):
        await postgres.fetchrow(SLOW, timeout_s=0.05)
    assert not before & await pids(postgres)

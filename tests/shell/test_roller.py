"""Rolling up: halves, housekeeping, and trouble; and, on a real Postgres, rows that commit late."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import asyncpg
import pytest

from node.errors import StoreOverflow
from node.roller import Roller
from node.rollup_table import RollupTable
from node.store import PostgresStore
from tests.shell.conftest import ALL, running, until
from tests.twins.counters import MemoryCounters
from tests.twins.records import MemoryRecords

A = "shop:a"


async def test_a_sum_that_is_too_large_is_rolled_up_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    counters, asked = MemoryCounters(8, rolls_up=True), list[int]()
    real = counters.roll_up

    async def narrow(partition: int, most: int) -> int:
        asked.append(most)
        if most > 2:
            raise StoreOverflow
        return await real(partition, most)

    monkeypatch.setattr(counters, "roll_up", narrow)
    counters.pending = [(A, 1)] * 5
    roller = Roller(counters, MemoryRecords(), lambda: ALL, 3600, batch=10)
    await roller.roll_up(ALL)
    assert counters.values == {A: 5}
    assert asked == [10, 5, 2, 2, 2]


async def test_one_increment_that_cannot_be_rolled_up_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = MemoryCounters(8, rolls_up=True)

    async def never(partition: int, most: int) -> int:
        raise StoreOverflow

    monkeypatch.setattr(counters, "roll_up", never)
    counters.pending = [(A, 1)]
    roller = Roller(counters, MemoryRecords(), lambda: ALL, 0.01)
    async with running(roller):
        await until(lambda: roller.trouble is not None)
        monkeypatch.undo()
        await until(lambda: counters.values == {A: 1})
        await until(lambda: roller.trouble is None)


async def test_only_what_is_owned_is_rolled_up_and_one_clears_up() -> None:
    counters, records = MemoryCounters(8, rolls_up=True), MemoryRecords()
    counters.pending = [(f"shop:{i}", 1) for i in range(40)]
    owned = [frozenset({1, 2, 3})]
    async with running(Roller(counters, records, lambda: owned[0], 0.01)):
        await until(lambda: counters.values)
        await asyncio.sleep(0.05)
        assert await counters.waiting(ALL) == sorted(ALL - owned[0])
        assert records.forgotten == 0
        owned[0] = ALL
        await until(lambda: not counters.pending and records.forgotten)


@pytest.mark.postgres
async def test_an_increment_that_commits_late_is_not_passed_over(postgres_dsn: str) -> None:
    """Rows written before and after it are rolled up while it is not committed yet."""
    async with AsyncExitStack() as stack:
        store = await PostgresStore.open(postgres_dsn, 8)
        stack.push_async_callback(store.close)
        late: asyncpg.Connection = await asyncpg.connect(postgres_dsn)
        stack.push_async_callback(late.close)
        table = RollupTable(store.postgres, 8)
        roller = Roller(table, MemoryRecords(), lambda: ALL, 3600)
        row = "INSERT INTO increments (partition, namespace, key, value, reset) VALUES (0, 'shop', 'a', $1, false)"
        await late.execute("BEGIN")
        await late.execute(row, 100)
        for value in (1, 10):
            await store.postgres.fetch(row, value)
            await roller.roll_up(ALL)
        stored = "SELECT value FROM key_counters"
        assert await late.fetchval(stored) == 11
        await late.execute("COMMIT")
        await asyncio.gather(*(roller.roll_up(ALL) for _ in range(4)))
        assert await late.fetchval(stored) == 111
        assert await late.fetchval("SELECT count(*) FROM increments") == 0


@pytest.mark.postgres
async def test_rows_that_another_holds_are_passed_over_and_many_rollers_share_the_work(postgres_dsn: str) -> None:
    async with AsyncExitStack() as stack:
        store = await PostgresStore.open(postgres_dsn, 8)
        stack.push_async_callback(store.close)
        holder: asyncpg.Connection = await asyncpg.connect(postgres_dsn)
        stack.push_async_callback(holder.close)
        await holder.execute(
            "INSERT INTO increments (partition, namespace, key, value, reset) "
            "SELECT i % 8, 'shop', 'k' || i % 5 * 8 + i % 8, 1, false FROM generate_series(1, 4000) i"
        )
        await holder.execute("BEGIN")
        await holder.fetch("SELECT * FROM increments WHERE partition = 3 LIMIT 7 FOR UPDATE")
        roller = Roller(RollupTable(store.postgres, 8), MemoryRecords(), lambda: ALL, 3600, batch=100)
        await asyncio.gather(*(roller.roll_up(ALL) for _ in range(4)))
        left = await store.postgres.fetchrow("SELECT count(*) FROM increments")
        assert left is not None
        assert left["count"] == 7
        await holder.execute("ROLLBACK")
        await roller.roll_up(ALL)
        assert await holder.fetchval("SELECT sum(value)::bigint FROM key_counters") == 4000

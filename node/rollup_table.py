"""Counters of strategy `rollup`: queries_rollup.sql, called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2b
from typing import Any

import asyncpg

from cluster.ring import partition_of
from node.counters import Append, Found, Refused
from node.deciding import Decision, Operation
from node.increment import split_counter
from node.key_table import KeyTable, guards_of, key_columns, recall
from node.postgres import LONG_S, Postgres, Transaction, queries
from node.settlement import FULL
from node.strategy import Reading

SQL = queries("queries_rollup.sql")

LET_GO_MAX = 10_000


class RollupTable(KeyTable):
    """`counters.IncrementLog`"""

    def __init__(self, postgres: Postgres, partitions: int) -> None:
        super().__init__(postgres)
        self._partitions = partitions

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[HeldNumbers]:
        async with self._postgres.open_transaction() as transaction:
            yield HeldNumbers(transaction, self._partitions)

    @asynccontextmanager
    async def appending(self) -> AsyncIterator[Append]:
        async with self._postgres.connection() as connection:
            yield partial(self._append, connection)

    async def _append(self, connection: asyncpg.Connection, operations: Sequence[Operation]) -> Refused:
        columns = columns_of((each.counter for each in operations), self._partitions)
        values = [each.value for each in operations]
        if all(each.guard is None for each in operations):
            rows = await connection.fetch(SQL["append"], *columns, values)
        else:
            guards = [each.guard for each in operations], [each.window_s for each in operations]
            given = [each.idempotency_key for each in operations]
            rows = await connection.fetch(SQL["claim_and_append"], *columns, values, *guards, given)
        full = [row["n"] - 1 for row in rows if row["full"]]
        return Refused([row["n"] - 1 for row in rows if not row["full"]], full)

    async def read(self, counters: Sequence[str]) -> list[Reading | None]:
        rows = await self._postgres.fetch(SQL["read"], *columns_of(counters, self._partitions))
        totals = [_total(row) for row in rows]
        return [
            None if total is None else Reading(total, row["stored"] or 0, row["updated_at"])
            for row, total in zip(rows, totals, strict=True)
        ]

    async def waiting(self, partitions: Iterable[int]) -> list[int]:
        return [row["partition"] for row in await self._postgres.fetch(SQL["waiting"], list(partitions))]

    async def roll_up(self, partition: int, most: int) -> int:
        row = await self._postgres.fetchrow(SQL["roll_up"], partition, most, FULL, timeout_s=LONG_S)
        assert row is not None
        taken: int = row["count"]
        return taken

    async def let_go(self) -> int:
        return len(await self._postgres.fetch(SQL["let_go"], LET_GO_MAX))


class HeldNumbers:
    """`counters.Held`: advisory locks. Plain increments ask for none: they go on, and come after what is decided."""

    def __init__(self, transaction: Transaction, partitions: int) -> None:
        self._transaction, self._connection = transaction, transaction.connection
        self._partitions = partitions

    async def look(self, operations: Sequence[Operation]) -> Found:
        counters = sorted({operation.counter for operation in operations})
        await self._connection.execute(SQL["lock"], [_number(counter) for counter in counters])
        # Only now, for this must see what those wrote who held them before.
        rows = await self._connection.fetch(SQL["read"], *columns_of(counters, self._partitions))
        guards = guards_of(operations)
        totals = dict(zip(counters, map(_total, rows), strict=True))
        return totals, await recall(self._connection, guards) if guards else {}

    async def write(self, decision: Decision) -> bool:
        guarded = [each for each in decision.counted if each.operation.guard is not None]
        if guarded:
            claimed = await self._connection.fetch(SQL["claim"], *key_columns(guarded))
            if len(claimed) < len(guarded):
                return False
        await self._connection.execute(
            SQL["record"],
            *columns_of((each.operation.counter for each in decision.counted), self._partitions),
            [each.amount for each in decision.counted],
            [each.operation.reset for each in decision.counted],
            [each.operation.idempotency_key for each in decision.counted],
        )
        return True

    async def commit(self) -> None:
        await self._transaction.commit()


def _total(row: asyncpg.Record) -> int | None:
    total: int | None = row["total"] if row["pending"] else row["stored"]
    return total


def _number(counter: str) -> int:
    """What an advisory lock stands for. Two counters with one number only wait for each other."""
    return int.from_bytes(blake2b(counter.encode(), digest_size=8).digest(), signed=True)


def columns_of(counters: Iterable[str], partitions: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Partitions, namespaces, keys."""
    counters = list(counters)
    names = [split_counter(counter) for counter in counters]
    return (
        [partition_of(counter, partitions) for counter in counters],
        [namespace for namespace, _ in names],
        [key for _, key in names],
    )

"""Counters of strategy `sync`: queries_sync.sql, called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import asyncpg

from node.counters import Found
from node.deciding import Decision, Operation
from node.increment import counter_name, split_counter
from node.key_table import KeyTable, guards_of, key_columns, recall
from node.postgres import Postgres, Transaction, queries
from node.strategy import Reading

SQL = queries("queries_sync.sql")

KNOWN_MAX = 100_000  # counters that are known to be there, and so need not be created


class SyncTable(KeyTable):
    """`counters.Counters`"""

    def __init__(self, postgres: Postgres) -> None:
        super().__init__(postgres)
        self._known: set[str] = set()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[HeldRows]:
        async with self._postgres.open_transaction() as transaction:
            yield HeldRows(transaction, self._known)

    async def read(self, counters: Sequence[str]) -> list[Reading | None]:
        rows = await self._postgres.fetch(SQL["read"], *_columns(counters))
        return [reading_of(row["value"], row["value"], row) for row in rows]


class HeldRows:
    """`counters.Held`: rows that are locked."""

    def __init__(self, transaction: Transaction, known: set[str]) -> None:
        self._transaction, self._connection = transaction, transaction.connection
        self._known = known
        self._created: set[str] = set()
        self._totals: dict[str, int | None] = {}

    async def look(self, operations: Sequence[Operation]) -> Found:
        counters = {operation.counter for operation in operations}
        missing = {operation.counter for operation in operations if not operation.reset} - self._known
        if missing:
            await self._create(missing)
        await self._lock(counters)
        if lost := {name for name in counters & self._known if self._totals.get(name) is None} - self._created:
            self._known -= lost  # somebody has deleted them behind our back
            await self._create(lost)
            await self._lock(lost)
        guards = guards_of(operations)
        return self._totals, await recall(self._connection, guards) if guards else {}

    async def write(self, decision: Decision) -> bool:
        sums = {name: amount for name, amount in decision.sums.items() if amount}
        guarded = [each for each in decision.counted if each.operation.guard is not None]
        columns = *_columns(sums), list(sums.values()), *key_columns(guarded)
        await self._connection.execute(SQL["write"], *columns)
        if for_nothing := self._created - decision.sums.keys():
            await self._connection.execute(SQL["remove"], *_columns(for_nothing))
        return True

    async def commit(self) -> None:
        await self._transaction.commit()
        if len(self._known) > KNOWN_MAX:
            self._known.clear()
        self._known.update(name for name, total in self._totals.items() if total is not None)

    async def _create(self, counters: Iterable[str]) -> None:
        rows = await self._connection.fetch(SQL["create"], *_columns(counters))
        self._created.update(counter_name(row["namespace"], row["key"]) for row in rows)

    async def _lock(self, counters: Iterable[str]) -> None:
        rows = await self._connection.fetch(SQL["lock"], *_columns(counters))
        for row in rows:
            name = counter_name(row["namespace"], row["key"])
            self._totals[name] = None if name in self._created else row["value"]


def reading_of(value: int | None, stored: int | None, row: asyncpg.Record) -> Reading | None:
    return None if value is None else Reading(value, stored or 0, row["updated_at"])


def _columns(counters: Iterable[str]) -> tuple[list[str], list[str]]:
    """Namespaces and keys."""
    names = [split_counter(counter) for counter in counters]
    return [namespace for namespace, _ in names], [key for _, key in names]

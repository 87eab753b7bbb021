"""Idempotency keys of what is counted in Postgres itself: queries_keys.sql, called. `sync` and `rollup` share them."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from node.deciding import Counted, Operation, Remembered
from node.postgres import Postgres, queries

SQL = queries("queries_keys.sql")

FORGET_MAX = 10_000


class KeyTable:
    """What the tables of both strategies do alike."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def remembered(self, guards: Sequence[bytes]) -> dict[bytes, Remembered]:
        async with self._postgres.connection() as connection:
            return await recall(connection, guards)

    async def forget_keys(self) -> int:
        return len(await self._postgres.fetch(SQL["forget"], FORGET_MAX))


async def recall(connection: asyncpg.Connection, guards: Sequence[bytes]) -> dict[bytes, Remembered]:
    rows = await connection.fetch(SQL["remembered"], guards)
    return {row["guard"]: Remembered(row["value"], row["reset"]) for row in rows}


def guards_of(operations: Sequence[Operation]) -> list[bytes]:
    return [operation.guard for operation in operations if operation.guard is not None]


def key_columns(counted: Sequence[Counted]) -> tuple[list[bytes | None], list[int], list[bool], list[int]]:
    """Guards, values, whether of resets, windows in seconds."""
    return (
        [each.operation.guard for each in counted],
        [each.remembered for each in counted],
        [each.operation.reset for each in counted],
        [each.operation.window_s for each in counted],
    )

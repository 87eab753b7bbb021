"""Connections to Postgres, queries by name, and the one place where its driver's errors become ours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import asyncpg

from node.errors import StoreUnavailable

CONNECTIONS_MAX = 12  # opened as they are needed
CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 5_000  # a dead node's connection may hold a row until its server notices


def named_queries(text: str) -> dict[str, str]:
    """{name: SQL} of a file in which `-- name: <name>` begins each query."""
    return dict(re.findall(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", text, re.MULTILINE | re.DOTALL))


def queries(file: str) -> dict[str, str]:
    """Those of one of the .sql files beside this module."""
    return named_queries(files("node").joinpath(file).read_text(encoding="utf-8"))


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns a driver's error into ours."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:  # a TimeoutError is an OSError
        raise StoreUnavailable(f"Postgres: {error or type(error).__name__}; try again") from error


class Postgres:
    """A pool that all adapters of one database share. Errors of all methods: StoreUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str) -> Postgres:
        async with translated():
            pool = await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=CONNECTIONS_MAX,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_MS / 1000 + CONNECT_TIMEOUT_S,
                server_settings={
                    "application_name": "tally",
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "lock_timeout": str(LOCK_TIMEOUT_MS),
                    "synchronous_commit": "on",  # what is committed is acknowledged, or dropped elsewhere
                },
            )
        return cls(pool)

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        async with translated(), self._pool.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """Committed at the end, unless an error leaves it."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, sql: str, *args: Any) -> Sequence[asyncpg.Record]:
        async with self.connection() as connection:
            rows: Sequence[asyncpg.Record] = await connection.fetch(sql, *args)
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *args)

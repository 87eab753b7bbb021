"""Connections to Postgres, queries by name, and the one place where its driver's errors become ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from time import monotonic
from typing import Any

import asyncpg

from cluster.postgres_errors import POSTGRES_ERRORS
from node.errors import StoreOverflow, StoreRefused, StoreUnanswered, StoreUnavailable

CONNECTIONS_MAX = 12  # opened as they are needed
CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_MS = 30_000  # for the longest, as migrations; see `patient`
LONG_S = STATEMENT_TIMEOUT_MS / 1000 + CONNECT_TIMEOUT_S
ANSWER_TIMEOUT_S = 6.0  # for all others; more than they may wait for a lock
ROLLBACK_TIMEOUT_S = 1.0
SILENT_S = 1.0  # who gives up on a connection after so long takes Postgres for gone
LOCK_TIMEOUT_MS = 5_000
IDLE_TIMEOUT_MS = 3_000  # in a transaction: of a node that is paused, or cut off without a goodbye, and holds rows

# Of a server that is going: what was asked of it may have been done.
LAST_WORDS = (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)


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
    except asyncpg.NumericValueOutOfRangeError as error:
        raise StoreOverflow from error
    except POSTGRES_ERRORS as error:
        answered = isinstance(error, asyncpg.PostgresError) and not isinstance(error, LAST_WORDS)
        kind = StoreRefused if answered else StoreUnavailable
        raise kind(cause=f"Postgres: {str(error) or type(error).__name__}") from error


async def _leave_as_it_is(connection: asyncpg.Connection) -> None:
    """Nothing here changes a session, and what asyncpg does by default costs a round trip each time."""


class Transaction:
    """One that its user commits; left without that, it is rolled back."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self._transaction = connection.transaction()
        self._asked_to_commit = False

    async def start(self) -> None:
        await self._transaction.start()

    async def commit(self) -> None:
        """Errors: StoreUnanswered, for nobody knows whether a commit without an answer was done."""
        self._asked_to_commit = True
        try:
            async with translated():
                await self._transaction.commit()
        except StoreUnavailable as error:
            raise StoreUnanswered from error

    async def end(self) -> None:
        with suppress(asyncpg.InterfaceError, ConnectionError):  # the connection is gone, and the transaction with it
            if self._asked_to_commit:
                if self.connection.is_in_transaction():  # whether it ends well or not, nobody here will hear of it
                    self.connection.terminate()
                return
            try:
                async with asyncio.timeout(ROLLBACK_TIMEOUT_S):
                    await self._transaction.rollback()
            except TimeoutError:
                self.connection.terminate()


class Postgres:
    """A pool that all adapters of one database share. Errors of all methods: StoreUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str) -> Postgres:
        async with translated():
            pool = await asyncpg.create_pool(
                dsn,
                min_size=0,  # asyncpg logs a traceback each time that it cannot keep some open
                max_size=CONNECTIONS_MAX,
                reset=_leave_as_it_is,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=ANSWER_TIMEOUT_S,
                server_settings={
                    "application_name": "tally",
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "lock_timeout": str(LOCK_TIMEOUT_MS),
                    "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MS),
                    "synchronous_commit": "on",  # what is committed is acknowledged, or dropped elsewhere
                    # Statements are planned once, when tables may be new and seem small: each has an index to go by.
                    "enable_seqscan": "off",
                    "jit": "off",
                },
            )
        return cls(pool)

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """One that does not answer is taken for dead, and so are all that there are: each would cost as long again.

        One whose user gives up is ended, too: the pool would wait for the end of what it was asked, perhaps for ever.
        The others only if that was late: a client may hang up at any moment.
        """
        async with translated(), self._pool.acquire() as connection:
            late_at = monotonic() + SILENT_S
            try:
                yield connection
            except asyncpg.InternalClientError:
                connection.terminate()
                raise
            except (TimeoutError, asyncio.CancelledError) as error:
                connection.terminate()
                if isinstance(error, TimeoutError) or monotonic() >= late_at:
                    await self._pool.expire_connections()
                raise

    @asynccontextmanager
    async def patient(self, timeout_s: float) -> AsyncIterator[asyncpg.Connection]:
        """For one statement that may take so long, be it longer than any other may. Committed at the end."""
        async with self.connection() as connection:
            if timeout_s * 1000 <= STATEMENT_TIMEOUT_MS:
                yield connection
                return
            async with connection.transaction():
                await connection.execute(f"SET LOCAL statement_timeout = {timeout_s * 1000:.0f}")
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """Committed at the end, unless an error leaves it."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def open_transaction(self) -> AsyncIterator[Transaction]:
        async with self.connection() as connection:
            transaction = Transaction(connection)
            await transaction.start()
            try:
                yield transaction
            finally:
                await transaction.end()

    async def fetch(self, sql: str, *args: Any) -> Sequence[asyncpg.Record]:
        async with self.connection() as connection:
            rows: Sequence[asyncpg.Record] = await connection.fetch(sql, *args)
        return rows

    async def fetchrow(self, sql: str, *args: Any, timeout_s: float = ANSWER_TIMEOUT_S) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *args, timeout=timeout_s)

"""The Postgres side: queries.sql, called. Postgres' errors become ours here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files

import asyncpg
import msgspec

from cluster.ring import partition_of
from node.errors import Misconfigured, StoreUnavailable
from node.increment import split_counter
from node.migrations import migrate
from node.ports import Fenced, Settled, Step
from node.settlement import FULL, Batch, Stored, outcomes_of

CONNECTIONS_MAX = 8
CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 5_000  # a dead node's connection may hold a row until its server notices


def named_queries(text: str) -> dict[str, str]:
    """{name: SQL} of a file in which `-- name: <name>` begins each query."""
    return dict(re.findall(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", text, re.MULTILINE | re.DOTALL))


SQL = named_queries(files("node").joinpath("queries.sql").read_text(encoding="utf-8"))

MARK: dict[Step, str] = {"remembered": SQL["mark_remembered"], "replayed": SQL["mark_replayed"]}
BEHIND: dict[Step, str] = {"remembered": SQL["behind_remembered"], "replayed": SQL["behind_replayed"]}


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns a driver's error into ours."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:  # a TimeoutError is an OSError
        raise StoreUnavailable(f"Postgres: {error or type(error).__name__}; try again") from error


class PostgresStore:
    """`ports.Store` on one Postgres, and what a node needs of it at its start."""

    def __init__(self, pool: asyncpg.Pool, cluster: str, partitions: int) -> None:
        self._pool = pool
        self._partitions = partitions
        self.cluster = cluster

    @classmethod
    async def open(cls, dsn: str, partitions: int) -> PostgresStore:
        """Connects, migrates, and founds the cluster if this is its first node.

        Errors: StoreUnavailable; Misconfigured when the database was founded with another number of partitions.
        """
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
                    "synchronous_commit": "on",  # a settled batch is dropped from Redis
                },
            )
        try:
            async with translated(), pool.acquire() as connection:
                await migrate(connection)
                cluster = await _found(connection, partitions)
        except BaseException:
            await pool.close()
            raise
        return cls(pool, cluster, partitions)

    async def close(self) -> None:
        await self._pool.close()

    async def fence(self, lane: int, run_id: str, lost: bool) -> Fenced:
        async with translated(), self._pool.acquire() as connection:
            async with connection.transaction():
                if await connection.fetchval(SQL["note_run"], lane, run_id, lost) is not None:
                    await connection.execute(SQL["raise_incarnation"], lane)
            rows = await connection.fetch(SQL["lane_state"], lane)
            full = [row["counter"] for row in await connection.fetch(SQL["lane_full"], lane)]
        settled = {row["partition"]: row["settled"] for row in rows}
        return Fenced(self.cluster, max(row["incarnation"] for row in rows), settled, full)

    async def enlist(self, lane: int, writer: str) -> None:
        async with translated(), self._pool.acquire() as connection:
            await connection.execute(SQL["enlist"], writer, lane)

    async def mark(self, writer: str, step: Step, incarnation: int) -> bool:
        async with translated(), self._pool.acquire() as connection:
            return await connection.fetchval(MARK[step], writer, incarnation) is not None

    async def behind(self, lane: int, step: Step, incarnation: int) -> list[str]:
        async with translated(), self._pool.acquire() as connection:
            return [row["name"] for row in await connection.fetch(BEHIND[step], lane, incarnation)]

    async def strike(self, lane: int, writers: Sequence[str]) -> None:
        async with translated(), self._pool.acquire() as connection:
            await connection.execute(SQL["strike"], lane, list(writers))
            await connection.execute(SQL["forget_calls"], lane)

    async def settled_calls(self, lane: int, writer: str) -> dict[int, int]:
        async with translated(), self._pool.acquire() as connection:
            rows = await connection.fetch(SQL["settled_calls"], lane, writer)
        return {row["partition"]: row["number"] for row in rows}

    async def settled_outcomes(self, lane: int, writer: str) -> dict[int, list[str]]:
        async with translated(), self._pool.acquire() as connection:
            rows = await connection.fetch(SQL["settled_outcomes"], lane, writer)
        return outcomes_of(row["noted"] for row in rows)

    async def settle(self, batch: Batch) -> Settled:
        async with translated(), self._pool.acquire() as connection:
            row = await connection.fetchrow(
                SQL["settle"],
                batch.partition,
                batch.number,
                batch.incarnation,
                msgspec.json.encode(batch.calls | batch.outcomes).decode(),
                list(batch.sums),
                list(batch.sums.values()),
                FULL,
            )
            if row["moved"]:
                return Settled(True, batch.number, row["full"])
            row = await connection.fetchrow(SQL["partition_state"], batch.partition)
        return Settled(False, row["settled"], row["full"])

    async def stored(self, counters: Sequence[str]) -> list[Stored]:
        names = [split_counter(counter) for counter in counters]
        async with translated(), self._pool.acquire() as connection:
            rows = await connection.fetch(
                SQL["stored"],
                [partition_of(counter, self._partitions) for counter in counters],
                [namespace for namespace, _ in names],
                [key for _, key in names],
            )
        return [Stored(row["value"], row["settled"], row["updated_at"]) for row in rows]


async def _found(connection: asyncpg.Connection, partitions: int) -> str:
    await connection.execute(SQL["found_cluster"], partitions)
    row = await connection.fetchrow(SQL["cluster"])
    if row["partitions"] != partitions:
        raise Misconfigured(
            f"this database was founded with {row['partitions']} partitions, not {partitions}; "
            f"set TALLY_PARTITIONS={row['partitions']}"
        )
    await connection.execute(SQL["found_partitions"], partitions)
    cluster: str = row["id"]
    return cluster

"""The Postgres side of batches: queries.sql, called."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from cluster.ring import partition_of
from node.errors import Misconfigured
from node.increment import split_counter
from node.migrations import migrate
from node.ports import Fenced, Settled, Step
from node.postgres import ANSWER_TIMEOUT_S, Postgres, queries
from node.settlement import FULL, Batch, Stored, outcomes_of

SQL = queries("queries.sql")

SUMS_PER_S_MIN = 5000  # a batch has time for no fewer, however large; on one core Postgres does 140,000
MARK: dict[Step, str] = {
    "remembered": SQL["mark_remembered"],
    "replayed": SQL["mark_replayed"],
    "resumed": SQL["mark_resumed"],
}
BEHIND: dict[Step, str] = {
    "remembered": SQL["behind_remembered"],
    "replayed": SQL["behind_replayed"],
    "resumed": SQL["behind_resumed"],
}


class PostgresStore:
    """`ports.Store` on one Postgres, and what a node needs of it at its start."""

    def __init__(self, postgres: Postgres, cluster: str, partitions: int) -> None:
        self.postgres = postgres
        self._partitions = partitions
        self.cluster = cluster

    @classmethod
    async def open(cls, dsn: str, partitions: int) -> PostgresStore:
        """Connects, migrates, and founds the cluster if this is its first node.

        Errors: StoreUnavailable; Misconfigured when the database was founded with another number of partitions.
        """
        postgres = await Postgres.open(dsn)
        try:
            async with postgres.connection() as connection:
                await migrate(connection)
                cluster = await _found(connection, partitions)
        except BaseException:
            await postgres.close()
            raise
        return cls(postgres, cluster, partitions)

    async def close(self) -> None:
        await self.postgres.close()

    async def fence(self, lane: int, run_id: str, lost: bool) -> Fenced:
        async with self.postgres.connection() as connection:
            async with connection.transaction():
                if await connection.fetchval(SQL["note_run"], lane, run_id, lost) is not None:
                    await connection.execute(SQL["raise_incarnation"], lane)
            rows = await connection.fetch(SQL["lane_state"], lane)
            full = [row["counter"] for row in await connection.fetch(SQL["lane_full"], lane)]
        settled = {row["partition"]: row["settled"] for row in rows}
        return Fenced(self.cluster, max(row["incarnation"] for row in rows), settled, full)

    async def enlist(self, lane: int, writer: str) -> None:
        async with self.postgres.connection() as connection:
            await connection.execute(SQL["enlist"], writer, lane)

    async def mark(self, writer: str, step: Step, incarnation: int) -> bool:
        async with self.postgres.connection() as connection:
            return await connection.fetchval(MARK[step], writer, incarnation) is not None

    async def behind(self, lane: int, step: Step, incarnation: int) -> list[str]:
        async with self.postgres.connection() as connection:
            return [row["name"] for row in await connection.fetch(BEHIND[step], lane, incarnation)]

    async def strike(self, lane: int, writers: Sequence[str]) -> None:
        async with self.postgres.connection() as connection:
            await connection.execute(SQL["strike"], lane, list(writers))
            await connection.execute(SQL["forget_calls"], lane)

    async def settled_calls(self, lane: int, writer: str) -> dict[int, int]:
        async with self.postgres.connection() as connection:
            rows = await connection.fetch(SQL["settled_calls"], lane, writer)
        return {row["partition"]: row["number"] for row in rows}

    async def settled_outcomes(self, lane: int, writer: str) -> dict[int, list[str]]:
        async with self.postgres.connection() as connection:
            rows = await connection.fetch(SQL["settled_outcomes"], lane, writer)
        return outcomes_of(row["noted"] for row in rows)

    async def settle(self, batch: Batch) -> Settled:
        timeout_s = ANSWER_TIMEOUT_S + len(batch.sums) / SUMS_PER_S_MIN
        async with self.postgres.patient(timeout_s) as connection:
            row = await connection.fetchrow(
                SQL["settle"],
                batch.partition,
                batch.number,
                batch.incarnation,
                msgspec.json.encode(batch.calls | batch.outcomes).decode(),
                list(batch.sums),
                list(batch.sums.values()),
                FULL,
                timeout=timeout_s,
            )
        if row["moved"]:
            return Settled(True, batch.number, row["full"])
        row = await self.postgres.fetchrow(SQL["partition_state"], batch.partition)
        assert row is not None
        return Settled(False, row["settled"], row["full"])

    async def stored(self, counters: Sequence[str]) -> list[Stored]:
        names = [split_counter(counter) for counter in counters]
        async with self.postgres.connection() as connection:
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

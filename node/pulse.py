"""Whether Postgres answers this node, asked every second on a connection of its own.

A node that cannot reach Postgres goes on counting in Redis, but settles nothing: it says so to the others, and they
own its partitions meanwhile. When it is Postgres that is away, none of them can, and all own what they owned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import asyncpg

from cluster.postgres_errors import POSTGRES_ERRORS

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
ANSWER_TIMEOUT_S = 2.0
MISSED_MAX = 2  # one may be missed: a server that is started again is soon back


class Pulse:
    """Asks Postgres. The pool's connections will not do: those that are stuck are what is to be noticed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None

    async def answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                if self._connection is None:
                    self._connection = await asyncpg.connect(self._dsn, server_settings={"application_name": "tally"})
                await self._connection.fetchval("SELECT 1")
        except POSTGRES_ERRORS:
            self.close()
            return False
        return True

    def close(self) -> None:
        """At once: a goodbye would wait for a server that is not there."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def follow(
    answers: Callable[[], Awaitable[bool]],
    offer: Callable[[bool], Awaitable[None]],
    interval_s: float = LOOK_INTERVAL_S,
) -> None:
    """Offers to own partitions, or not to, as Postgres answers; until cancelled."""
    missed, offered = 0, True
    while True:
        missed = 0 if await answers() else missed + 1
        willing = missed < MISSED_MAX
        if willing != offered:
            log.warning(
                "Postgres answers again: offering to own partitions"
                if willing
                else "Postgres does not answer: other nodes may own this one's partitions"
            )
            await offer(willing)
            offered = willing
        await asyncio.sleep(interval_s)

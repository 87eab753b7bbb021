"""Rolls increments up into their counters: every few seconds, those of the partitions this node owns.

As with settling, nothing trusts in being the only one: a row is taken by whoever holds it, in the transaction that adds
it, so that two at once only share the work. So a node that cannot know what it owns, for Redis is away, takes all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from node.counters import IncrementLog, Records
from node.errors import StoreOverflow, Unavailable
from node.points import reach

log = logging.getLogger(__name__)

BATCH = 20_000  # increments in a transaction
CLEARING_STEPS_MAX = 100  # of each kind at a time, or increments would wait for it
HOUSEKEEPER = 0  # whoever owns this partition clears up


class Roller:
    """Rolls up the partitions that `owned()` says, every `interval_s`, while there is something to do for it."""

    def __init__(
        self,
        increments: IncrementLog,
        records: Records,
        owned: Callable[[], frozenset[int]],
        interval_s: float,
        batch: int = BATCH,
    ) -> None:
        self._increments, self._records, self._owned = increments, records, owned
        self._interval_s, self._batch = interval_s, batch
        self.trouble: str | None = None

    async def run(self) -> None:
        """Rolls up until cancelled; trouble with Postgres is waited out."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                owned = self._owned()
                await self.roll_up(owned)
                if HOUSEKEEPER in owned:
                    await self._clear_up()
                self.trouble = None
            except Unavailable as error:
                if self.trouble is None:
                    log.warning("rolling up waits: %s", error)
                self.trouble = str(error)

    async def roll_up(self, partitions: frozenset[int]) -> None:
        """What waits in these partitions now. Errors: Unavailable."""
        for partition in await self._increments.waiting(partitions):
            await self._roll_up_one(partition)
            reach("rolled-up")

    async def _clear_up(self) -> None:
        for step in (self._increments.let_go, self._increments.forget_keys, self._records.forget_history):
            for _ in range(CLEARING_STEPS_MAX):
                if not await step():
                    break

    async def _roll_up_one(self, partition: int) -> None:
        most = self._batch
        while True:
            try:
                if await self._increments.roll_up(partition, most) < most:
                    return
            except StoreOverflow:
                if most == 1:
                    raise
                most //= 2

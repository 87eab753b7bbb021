"""Seal, settle, drop: every few seconds, for each partition this node owns.

Nothing here trusts in being the only one. Every step may be done again by anyone: a node that dies between two of
them, a paused owner that wakes up and a second owner all end in one settle being refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter

from node.errors import Unavailable
from node.points import reach
from node.ports import Log, Meter, Store
from node.settlement import After, after_settle

log = logging.getLogger(__name__)

HOUSEKEEPER = 0  # whoever owns this partition clears up what belongs to none
FORGET_STEPS_MAX = 1000  # at a time, or settling would wait for it; a minute's request ids are forgotten in 16
AT_ONCE = 2  # partitions settled at the same time by one node


class Settler:
    """Settles what `owned()` says, every `interval_s` and whenever it is woken.

    `outdated` is called when Postgres is fenced for a Redis that nobody has repaired since: who did it may have died.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        meter: Meter,
        owned: Callable[[], frozenset[int]],
        interval_s: float,
        outdated: Callable[[], None] = lambda: None,
    ) -> None:
        self._log, self._store, self._meter = log, store, meter
        self._owned, self._interval_s, self._outdated = owned, interval_s, outdated
        self._wake = asyncio.Event()
        self.trouble: str | None = None
        self.went_back: set[int] = set()  # partitions of which Postgres has settled less than Redis sealed

    def wake(self) -> None:
        """Settles soon: partitions were gained, and their last owner may have died long ago."""
        self._wake.set()

    async def run(self) -> None:
        """Settles until cancelled; trouble with a store is waited out."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                owned = self._owned()
                if HOUSEKEEPER in owned:  # first: ids are forgotten also while nothing can be settled
                    await self._forget_ids()
                await self.settle(owned)
                self.trouble = None
            except Unavailable as error:
                if self.trouble is None:
                    log.warning("settling waits: %s", error)
                self.trouble = str(error)

    async def _forget_ids(self) -> None:
        for _ in range(FORGET_STEPS_MAX):
            if not await self._log.forget_ids():
                break

    async def settle(self, partitions: Iterable[int]) -> None:
        """Settles what is unsettled in these partitions now. Errors: Unavailable, once those that can be are done."""
        started = perf_counter()
        gate = asyncio.Semaphore(AT_ONCE)
        results = await asyncio.gather(
            *(self._settle_one(partition, gate) for partition in sorted(partitions)), return_exceptions=True
        )
        if any(settled is True for settled in results):
            self._meter.timing("kv.dist.sync_to_db", (perf_counter() - started) * 1000)
        for error in results:
            if isinstance(error, BaseException):
                raise error

    async def _settle_one(self, partition: int, gate: asyncio.Semaphore) -> bool:
        async with gate:
            batch = await self._log.seal(partition)
            if batch is None:
                return False
            reach("sealed")
            settled = await self._store.settle(batch)
            reach("settled")
            match after_settle(batch.number, settled.settled):
                case After.DROP:
                    self.went_back.discard(partition)
                    await self._log.drop(partition, settled.settled, settled.full)
                    reach("dropped")
                case After.WENT_BACK:
                    self._note_went_back(partition, batch.number, settled.settled)
                case After.SEAL_AGAIN:
                    log.info("partition %d: batch %d is of an older incarnation", partition, batch.number)
                    self._outdated()
            return settled.moved

    def _note_went_back(self, partition: int, number: int, settled: int) -> None:
        if partition not in self.went_back:
            log.error(
                "partition %d: Redis has sealed batch %d but Postgres has only settled %d, so nothing is dropped. "
                "Postgres was restored from a backup, or TALLY_POSTGRES_DSN names another database",
                partition,
                number,
                settled,
            )
        self.went_back.add(partition)

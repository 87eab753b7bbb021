"""Exact reads on any node: what Postgres has, plus what waits in Redis, put together by `settlement.value_of`.

The stored half may come from a cache, however old: see `halves.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from node.asking import READ_MAX, Asking
from node.errors import LogUnavailable, LogUnrepaired
from node.halves import Halves
from node.ports import Log
from node.settlement import Apart, Stored, Unsettled, value_of

TRIES_MAX = 8  # a settle between the two reads costs one; so many in a row mean that the stores do not fit together
PAUSE_S = 0.005
REPAIR_POLL_S = 0.02

Read = tuple[int | None, Stored]  # a counter's value, None when it is not known; and the half of it in Postgres


class Reader(Asking):
    """The values of counters of strategy `dist`. `now` gives monotonic seconds."""

    def __init__(self, log: Log, halves: Halves, now: Callable[[], float], deadline_s: float = 5.0) -> None:
        super().__init__(now, deadline_s)
        self._log, self._halves = log, halves

    async def values(self, counters: Sequence[str]) -> dict[str, Read]:
        """Everything acknowledged before is in them. Errors: Unavailable."""
        found: dict[str, Read] = {}
        for start in range(0, len(counters), READ_MAX):
            found.update(await self._read(list(dict.fromkeys(counters[start : start + READ_MAX]))))
        return found

    async def read(self, counters: Sequence[str]) -> list[int | None]:
        found = await self._read(counters)
        return [found[counter][0] for counter in counters]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(super().run(), name="reader")
            tasks.create_task(self._halves.run(), name="stored halves")

    async def _read(self, counters: Sequence[str]) -> dict[str, Read]:
        values: dict[str, Read] = {}
        missing = list(counters)
        for attempt in range(TRIES_MAX):
            stored = await self._halves.of(missing)
            readings = zip(missing, stored, await self._unsettled(missing), strict=True)
            missing = []
            for counter, half, unsettled in readings:
                value = value_of(half, unsettled)
                if isinstance(value, Apart):
                    self._halves.forget(counter)
                    missing.append(counter)
                else:
                    values[counter] = value, half
            if not missing:
                return values
            await asyncio.sleep(PAUSE_S * attempt)
        raise LogUnavailable("Redis and Postgres do not fit together yet; try again.")

    async def _unsettled(self, counters: list[str]) -> list[Unsettled]:
        """Waits a little for a Redis that is being repaired: mostly that takes no longer than a request may."""
        give_up_at = self._now() + self._deadline_s
        while True:
            try:
                return await self._log.read(counters)
            except LogUnrepaired:
                if self._now() > give_up_at:
                    raise
            await asyncio.sleep(REPAIR_POLL_S)

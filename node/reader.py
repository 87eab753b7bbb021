"""Exact reads on any node: what Postgres has, plus what waits in Redis, put together by `settlement.value_of`.

Reads are batched like writes: what was asked for while the last readings were under way is read together in the next.
The stored half may come from a cache, however old: see `halves.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from node.awaited import resolve
from node.errors import LogUnavailable, LogUnrepaired, NotFound, TallyError, Unavailable
from node.halves import Halves
from node.ports import Log
from node.settlement import Apart, Stored, Unsettled, value_of

READ_MAX = 512  # counters in one reading
READINGS_IN_FLIGHT = 2
TRIES_MAX = 8  # a settle between the two reads costs one; so many in a row mean that the stores do not fit together
WAITING_MAX = 10_000
PAUSE_S = 0.005
REPAIR_POLL_S = 0.02
SWEEP_INTERVAL_S = 0.1


@dataclass(slots=True, eq=False)
class Asked:
    """A read that waits for its value. `reply` is called exactly once."""

    reply: Callable[[int | TallyError], None]
    deadline: float  # monotonic seconds
    answered: bool = False

    def answer(self, result: int | TallyError | None) -> None:
        if not self.answered:
            self.answered = True
            self.reply(NotFound() if result is None else result)


Read = tuple[int | None, Stored]  # a counter's value, None when it is not known; and the half of it in Postgres


class Reader:
    """The values of counters, for many callers at once. `now` gives monotonic seconds."""

    def __init__(self, log: Log, halves: Halves, now: Callable[[], float], deadline_s: float = 5.0) -> None:
        self._log, self._halves, self._now, self._deadline_s = log, halves, now, deadline_s
        self._waiting: dict[str, list[Asked]] = {}
        self._reading: set[Asked] = set()  # those whose value is on its way
        self._work = asyncio.Event()

    def ask(self, counter: str, reply: Callable[[int | TallyError], None]) -> None:
        """Everything acknowledged before is in the value that `reply` gets: or NotFound, or Unavailable.

        Errors: Unavailable, when too many are waiting.
        """
        waiting = self._waiting.get(counter)
        if waiting is None:
            if len(self._waiting) >= WAITING_MAX:
                raise Unavailable("Too many reads are waiting; try again later.")
            waiting = self._waiting[counter] = []
        waiting.append(Asked(reply, self._now() + self._deadline_s))
        self._work.set()

    async def value(self, counter: str) -> int:
        """`ask`, awaited. Errors: NotFound, Unavailable."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ask(counter, partial(resolve, answer))
        return await answer

    async def values(self, counters: Sequence[str]) -> dict[str, Read]:
        """Everything acknowledged before is in them. Errors: Unavailable."""
        found: dict[str, Read] = {}
        for start in range(0, len(counters), READ_MAX):
            found.update(await self._read(list(dict.fromkeys(counters[start : start + READ_MAX]))))
        return found

    async def run(self) -> None:
        """Reads until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="reader deadlines")
            tasks.create_task(self._halves.run(), name="stored halves")
            for _ in range(READINGS_IN_FLIGHT):
                tasks.create_task(self._keep_reading(), name="reader")

    async def _keep_reading(self) -> None:
        while True:
            await self._work.wait()
            asked = {counter: self._waiting.pop(counter) for counter in list(islice(self._waiting, READ_MAX))}
            if not self._waiting:
                self._work.clear()
            if not asked:  # the other loop has taken them
                continue
            reading = [asked_for for several in asked.values() for asked_for in several]
            self._reading.update(reading)
            try:
                values = await self._read(list(asked))
            except Unavailable as error:
                for each in reading:
                    each.answer(error)
            else:
                for counter, several in asked.items():
                    value, _ = values[counter]
                    for each in several:
                        each.answer(value)
            finally:
                self._reading.difference_update(reading)

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

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now = self._now()
            late = [each for several in self._waiting.values() for each in several if each.deadline <= now]
            late += [each for each in self._reading if each.deadline <= now]
            for each in late:
                each.answer(Unavailable("The value could not be read in time; try again."))

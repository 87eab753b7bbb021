"""Reads for many callers at once: what was asked for while the last readings were under way is read together in the
next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from node.awaited import resolve
from node.errors import NotFound, TallyError, Unavailable

READ_MAX = 512  # counters in one reading
READINGS_IN_FLIGHT = 2
WAITING_MAX = 10_000
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


class Asking:
    """`now` gives monotonic seconds. A subclass says how counters are read."""

    def __init__(self, now: Callable[[], float], deadline_s: float) -> None:
        self._now, self._deadline_s = now, deadline_s
        self._waiting: dict[str, list[Asked]] = {}
        self._reading: set[Asked] = set()  # those whose value is on its way
        self._work = asyncio.Event()

    async def read(self, counters: Sequence[str]) -> list[int | None]:
        """Exact values, None for a counter that is not known. Errors: Unavailable."""
        raise NotImplementedError

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

    async def drain(self) -> None:
        """Returns when everything that was asked has been answered."""
        while self._waiting or self._reading:
            await asyncio.sleep(SWEEP_INTERVAL_S / 10)

    async def run(self) -> None:
        """Reads until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="reader deadlines")
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
                values = await self.read(list(asked))
            except Unavailable as error:
                for each in reading:
                    each.answer(error)
            else:
                for several, value in zip(asked.values(), values, strict=True):
                    for each in several:
                        each.answer(value)
            finally:
                self._reading.difference_update(reading)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now = self._now()
            late = [each for several in self._waiting.values() for each in several if each.deadline <= now]
            late += [each for each in self._reading if each.deadline <= now]
            for each in late:
                each.answer(Unavailable("The value could not be read in time; try again."))

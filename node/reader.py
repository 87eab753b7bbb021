"""Exact reads on any node: what Postgres has, plus what waits in Redis, put together by `settlement.value_of`.

Reads are batched like writes: what was asked for while the last reading was under way is read together in the next.
The stored half may come from a cache, however old: the batch numbers say whether it still fits, so the cache is never
wrong, only useless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from node.errors import LogUnavailable, NotFound, Unavailable
from node.ports import Log, Store
from node.settlement import Apart, Stored, value_of

READ_MAX = 512  # counters in one reading
TRIES_MAX = 8  # a settle between the two reads costs one; so many in a row mean that the stores do not fit together
CACHE_MAX = 100_000
WAITING_MAX = 10_000
PAUSE_S = 0.005


class Reader:
    """`value(counter)` for many callers at once."""

    def __init__(self, log: Log, store: Store, deadline_s: float = 5.0) -> None:
        self._log, self._store, self._deadline_s = log, store, deadline_s
        self._waiting: dict[str, list[asyncio.Future[int | None]]] = {}
        self._asked = asyncio.Event()
        self._cache: dict[str, Stored] = {}

    async def value(self, counter: str) -> int:
        """Everything acknowledged before the call is in it. Errors: NotFound, Unavailable."""
        if len(self._waiting) >= WAITING_MAX:
            raise Unavailable("Too many reads are waiting; try again later.")
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(counter, []).append(answer)
        self._asked.set()
        try:
            value = await asyncio.wait_for(answer, self._deadline_s)
        except TimeoutError:
            raise Unavailable("The value could not be read in time; try again.") from None
        if value is None:
            raise NotFound
        return value

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            await self._asked.wait()
            counters = list(self._waiting)[:READ_MAX]
            asked = {counter: self._waiting.pop(counter) for counter in counters}
            if not self._waiting:
                self._asked.clear()
            try:
                values = await self._read(counters)
            except Unavailable as error:
                for answers in asked.values():
                    _answer(answers, error)
            else:
                for counter, answers in asked.items():
                    _answer(answers, values[counter])

    async def _read(self, counters: Sequence[str]) -> dict[str, int | None]:
        values: dict[str, int | None] = {}
        missing = list(counters)
        for attempt in range(TRIES_MAX):
            await self._fill_cache([counter for counter in missing if counter not in self._cache])
            readings = zip(missing, await self._log.read(missing), strict=True)
            missing = []
            for counter, unsettled in readings:
                value = value_of(self._cache[counter], unsettled)
                if isinstance(value, Apart):
                    del self._cache[counter]
                    missing.append(counter)
                else:
                    values[counter] = value
            if not missing:
                return values
            await asyncio.sleep(PAUSE_S * attempt)
        raise LogUnavailable("Redis and Postgres do not fit together yet; try again.")

    async def _fill_cache(self, counters: list[str]) -> None:
        if not counters:
            return
        stored = await self._store.stored(counters)
        while len(self._cache) > CACHE_MAX - len(counters):
            del self._cache[next(iter(self._cache))]  # the oldest: it is the likeliest to be useless
        self._cache.update(zip(counters, stored, strict=True))


def _answer(answers: list[asyncio.Future[int | None]], result: int | Exception | None) -> None:
    for answer in answers:
        if answer.done():  # its caller has gone
            continue
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)

"""The stored halves of counters, as this node has read them of Postgres.

A half may be of any age: the batch number in it says whether it still fits what Redis has, so the cache is never wrong,
only useless. Who finds a half useless says so, and the next reading fetches it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

from node.errors import TallyError, Unavailable
from node.ports import Store
from node.settlement import Stored

FETCH_MAX = 512  # counters in one fetch
WANTED_MAX = 10_000
CACHE_MAX = 100_000


class Halves:
    """A cache over `Store.stored`. Several tasks share it, so nothing is looked up in it after an await."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: dict[str, Stored] = {}
        self._wanted: dict[str, asyncio.Future[Stored | TallyError]] = {}
        self._work = asyncio.Event()

    async def of(self, counters: Sequence[str]) -> list[Stored]:
        """Out of the cache where it has them. Errors: StoreUnavailable."""
        found = {counter: self._cache.get(counter) for counter in counters}
        missing = [counter for counter, stored in found.items() if stored is None]
        if missing:
            found.update(await self._fetch(missing))
        return [stored for stored in found.values() if stored is not None]

    def forget(self, counter: str) -> None:
        self._cache.pop(counter, None)

    async def other_than(self, useless: Stored | None, counter: str) -> Stored:
        """A counter's half that is not the one found useless. Many who ask for one counter share a fetch.

        Errors: StoreUnavailable; Unavailable when too many are waiting.
        """
        cached = self._cache.get(counter)
        if cached is not None and cached is not useless:
            return cached
        wanted = self._wanted.get(counter)
        if wanted is None:
            if len(self._wanted) >= WANTED_MAX:
                raise Unavailable("Too many reads are waiting; try again later.")
            wanted = self._wanted[counter] = asyncio.get_running_loop().create_future()
            self._work.set()
        found = await asyncio.shield(wanted)
        if isinstance(found, TallyError):
            raise found
        return found

    async def run(self) -> None:
        """Fetches what `other_than` waits for, until cancelled."""
        while True:
            await self._work.wait()
            wanted = {counter: self._wanted.pop(counter) for counter in list(islice(self._wanted, FETCH_MAX))}
            if not self._wanted:
                self._work.clear()
            found: dict[str, Stored] | None = None
            try:
                found = await self._fetch(list(wanted))
            except Unavailable as error:
                failure = error
            for counter, future in wanted.items():
                future.set_result(found[counter] if found is not None else failure)

    async def _fetch(self, counters: list[str]) -> dict[str, Stored]:
        fresh = dict(zip(counters, await self._store.stored(counters), strict=True))
        while len(self._cache) > CACHE_MAX - len(fresh):
            del self._cache[next(iter(self._cache))]  # the oldest: it is the likeliest to be useless
        self._cache.update(fresh)
        return fresh

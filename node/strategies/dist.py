"""`dist`: an increment is acknowledged when Redis holds it; the exact value is put together out of both stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from node.awaited import apart, resolve
from node.bundling import BundleAnswer, Bundling, bundle, outcomes_of
from node.call import Decided, Outcome, Windows, digest_of
from node.errors import CounterFull, LogUnavailable, Mismatch, TallyError, Unavailable, UnknownCounter
from node.halves import Halves
from node.increment import Increment
from node.payload import TAKEN, Ruling
from node.ports import Log
from node.reader import Read, Reader
from node.settlement import Stored
from node.strategy import Added, Bounds, Namespace, Reading, Receipt, Taken
from node.writer import Writer

PAUSE_S = 0.005  # before a decision is asked for again, each time longer
PAUSE_MAX_S = 0.1
OUTCOMES = {
    "c": Outcome.COUNTED,
    "r": Outcome.REPLAYED,
    "m": Outcome.MISMATCH,
    "x": Outcome.FULL,
    "b": Outcome.OUT_OF_BOUNDS,
}
NO_BOUNDS = Bounds()


class Dist:
    """`strategy.Strategy` over a node's writer and reader. `now` gives monotonic seconds."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        halves: Halves,
        log: Log,
        windows: Windows,
        now: Callable[[], float],
        deadline_s: float,
    ) -> None:
        self._writer, self._reader, self._halves, self._log = writer, reader, halves, log
        self._windows, self._now, self._deadline_s = windows, now, deadline_s

    async def add_many(self, namespace: Namespace, increments: Sequence[Increment]) -> list[Outcome | TallyError]:
        self._windows.note(namespace.name, namespace.idempotency_window_s)
        bundlings = bundle(increments)
        return outcomes_of(increments, bundlings, await asyncio.gather(*map(self._count, bundlings)))

    async def add(self, namespace: Namespace, increment: Increment, bounds: Bounds) -> Added:
        self._windows.note(namespace.name, namespace.idempotency_window_s)
        ruling = await self._decide(increment, bounds)
        return Added(OUTCOMES[ruling.kind], int(ruling.number) if ruling.number else None)

    async def reset(
        self, namespace: Namespace, counter: str, idempotency_key: str | None, short_lived: bool = False
    ) -> Taken:
        self._windows.note(namespace.name, namespace.idempotency_window_s)
        ruling = await self._decide(Increment(counter, 0, idempotency_key, short_lived), NO_BOUNDS, reset=True)
        match ruling.kind:
            case "n":
                raise UnknownCounter(namespace.name)
            case "m":
                raise Mismatch
            case "x":
                raise CounterFull
            case kind:
                return Taken(int(ruling.number), replayed=kind == "r")

    async def read(self, namespace: Namespace, counters: Sequence[str]) -> list[Reading | None]:
        found = await apart(self._values(counters))
        return [_reading(*found[counter]) for counter in counters]

    async def receipt(self, namespace: Namespace, counter: str, idempotency_key: str) -> Receipt:
        window_s = namespace.idempotency_window_s
        value = await apart(self._log.receipt(window_s, digest_of(Increment(counter, 0, idempotency_key))))
        if value is None:
            return Receipt(False, None, window_s)
        return Receipt(True, -int(value[1:]) if value.startswith(TAKEN) else int(value), window_s)

    async def _values(self, counters: Sequence[str]) -> dict[str, Read]:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._reader.values(counters)
        except TimeoutError:
            raise Unavailable("The values could not be read in time; try again.") from None

    async def _count(self, bundling: Bundling) -> BundleAnswer:
        """One bundle's outcomes; an error is a value here, for the other bundles go on."""
        answer: asyncio.Future[BundleAnswer] = asyncio.get_running_loop().create_future()

        def reply(result: BundleAnswer) -> None:
            if not answer.done():
                answer.set_result(result)

        try:
            self._writer.submit_bundle(bundling.sums, bundling.items, bundling.total, reply)
        except TallyError as error:
            return error
        return await answer

    async def _decide(self, increment: Increment, bounds: Bounds, reset: bool = False) -> Ruling:
        """Asks until the half read of Postgres fits what Redis has: a settle in between costs another try.

        At most one try is ever in doubt, for the next is made only after an answer that nothing was counted.
        """
        give_up_at = self._now() + self._deadline_s
        stored: Stored | None = None
        for attempt in count():
            try:
                async with asyncio.timeout(give_up_at - self._now()):
                    stored = await self._halves.other_than(stored, increment.counter)
            except TimeoutError:
                break
            ruling = await self._ask(increment, bounds, stored, reset)
            if ruling.kind != "a":
                return ruling
            await asyncio.sleep(min(PAUSE_S * attempt, PAUSE_MAX_S))
        raise LogUnavailable("Redis and Postgres do not fit together yet; nothing was counted. Try again.")

    async def _ask(self, increment: Increment, bounds: Bounds, stored: Stored, reset: bool) -> Ruling:
        """Errors: Unanswered, when nobody knows; any other Unavailable says that nothing was counted."""
        future: asyncio.Future[Ruling] = asyncio.get_running_loop().create_future()
        reply = partial(resolve, future)
        due = self._writer.due()
        self._writer.submit(Decided(increment, reset, bounds.min, bounds.max, stored, reply, due))
        return await future


def _reading(value: int | None, stored: Stored) -> Reading | None:
    return None if value is None else Reading(value, stored.value or 0, stored.updated_at)

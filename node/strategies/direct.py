"""What `sync` and `rollup` have in common: an increment is acknowledged when Postgres has committed it.

They differ in what one transaction does, which is behind `counters.Counters`; and `rollup` has a shorter way for plain
increments, which need not know their counter's total.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from node.asking import READ_MAX, Asking
from node.awaited import Awaited
from node.call import Outcome, Pending
from node.committer import GROUP_MAX, Asked, Committer
from node.counters import Counters
from node.deciding import Operation, Ruling, guard_of, operation_of
from node.errors import Mismatch, StoreUnavailable, TallyError, UnknownCounter
from node.increment import Increment
from node.strategy import Added, Bounds, Namespace, Reading, Receipt, Taken

NO_BOUNDS = Bounds()


class Direct:
    """`strategy.Strategy`. Plain increments go through `plain` when none is larger than `plain_max`, all else through
    `exact`; they may be the same.
    """

    def __init__(
        self, counters: Counters, plain: Committer, exact: Committer, plain_max: int, request_id_window_s: int
    ) -> None:
        self._counters, self._plain, self._exact, self._plain_max = counters, plain, exact, plain_max
        self._request_id_window_s = request_id_window_s

    async def run(self) -> None:
        """Counts until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for committer in {self._plain, self._exact}:
                tasks.create_task(committer.run(), name="committer")

    async def drain(self) -> None:
        """Takes no more, and returns when everything taken has been answered."""
        await self._plain.drain()
        await self._exact.drain()

    @property
    def trouble(self) -> str | None:
        return self._plain.trouble or self._exact.trouble

    async def add_many(self, namespace: Namespace, increments: Sequence[Increment]) -> list[Outcome | TallyError]:
        found: list[Outcome | TallyError] = []
        due = self._plain.due()
        for start in range(0, len(increments), GROUP_MAX):  # one after the other: each is as if it came alone, in order
            operations = [self._operation(namespace, each) for each in increments[start : start + GROUP_MAX]]
            result = await self._committer(operations).ask(operations, due)
            if isinstance(result, TallyError):
                found += [result] * len(operations)
            else:
                found += [outcome_of(ruling) for ruling in result]
        return found

    async def add(self, namespace: Namespace, increment: Increment, bounds: Bounds) -> Added:
        ruling = await self._decide(operation_of(increment, namespace, self._request_id_window_s, bounds))
        return Added(outcome_of(ruling), ruling.number)

    async def reset(
        self, namespace: Namespace, counter: str, idempotency_key: str | None, short_lived: bool = False
    ) -> Taken:
        increment = Increment(counter, 0, idempotency_key, short_lived)
        ruling = await self._decide(
            operation_of(increment, namespace, self._request_id_window_s, NO_BOUNDS, reset=True)
        )
        if ruling.outcome is None:
            raise UnknownCounter(namespace.name)
        if ruling.outcome is Outcome.MISMATCH:
            raise Mismatch
        assert ruling.number is not None
        return Taken(ruling.number, replayed=ruling.outcome is Outcome.REPLAYED)

    async def read(self, namespace: Namespace, counters: Sequence[str]) -> list[Reading | None]:
        found: list[Reading | None] = []
        async with self._in_time():
            for start in range(0, len(counters), READ_MAX):
                found += await self._counters.read(counters[start : start + READ_MAX])
        return found

    async def receipt(self, namespace: Namespace, counter: str, idempotency_key: str) -> Receipt:
        guard = guard_of(Increment(counter, 0, idempotency_key))
        async with self._in_time():
            remembered = (await self._counters.remembered([guard])).get(guard)
        window_s = namespace.idempotency_window_s
        if remembered is None:
            return Receipt(False, None, window_s)
        return Receipt(True, -remembered.value if remembered.reset else remembered.value, window_s)

    def submit(self, namespace: Namespace, pending: Pending) -> None:
        """One plain increment. Errors: Draining, Overloaded."""
        operations = [self._operation(namespace, pending.increment)]

        def reply(result: list[Ruling] | TallyError) -> None:
            pending.answer(result if isinstance(result, TallyError) else outcome_of(result[0]))

        self._committer(operations).submit(Asked(operations, pending.deadline, reply))

    def due(self) -> float:
        """When an increment that comes now has to be answered, in monotonic seconds."""
        return self._plain.due()

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._exact.deadline_s):
                yield
        except TimeoutError:
            raise StoreUnavailable("Postgres has not answered in time; try again.") from None

    def _operation(self, namespace: Namespace, increment: Increment) -> Operation:
        return operation_of(increment, namespace, self._request_id_window_s, NO_BOUNDS)

    def _committer(self, operations: Sequence[Operation]) -> Committer:
        plain = all(abs(operation.value) <= self._plain_max for operation in operations)
        return self._plain if plain else self._exact

    async def _decide(self, operation: Operation) -> Ruling:
        result = await self._exact.ask([operation], self._exact.due())
        if isinstance(result, TallyError):
            raise result
        return result[0]


class DirectIntake:
    """`strategy.Intake` of the namespace that `namespace` tells."""

    def __init__(self, direct: Direct, namespace: Callable[[], Namespace]) -> None:
        self._direct, self._namespace = direct, namespace

    def due(self) -> float:
        return self._direct.due()

    def submit(self, part: Pending) -> None:
        self._direct.submit(self._namespace(), part)

    async def add(self, increment: Increment) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.submit(Awaited(increment, self.due(), future))
        return await future


class DirectReader(Asking):
    """Values straight out of Postgres, for many callers at once."""

    def __init__(self, counters: Counters, now: Callable[[], float], deadline_s: float) -> None:
        super().__init__(now, deadline_s)
        self._counters = counters

    async def read(self, counters: Sequence[str]) -> list[int | None]:
        return [None if reading is None else reading.value for reading in await self._counters.read(counters)]


def outcome_of(ruling: Ruling) -> Outcome:
    assert ruling.outcome is not None  # only a reset can meet a counter that is not known
    return ruling.outcome

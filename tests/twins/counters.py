"""Counters and increments in memory: queries_sync.sql and queries_rollup.sql again, in Python."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cluster.ring import partition_of
from node.counters import Append, Found, Refused
from node.deciding import Decision, Operation, Remembered
from node.errors import StoreUnanswered, StoreUnavailable
from node.settlement import FULL
from node.strategy import Reading

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class MemoryCounters:
    """`counters.IncrementLog`, and so `counters.Counters`. Where `rolled` is not asked for, all is rolled up at once.

    `lose_next` commits and loses the answer.
    """

    partitions: int
    rolls_up: bool
    now_s: Callable[[], float] = lambda: 0.0
    values: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[str, int]] = field(default_factory=list)
    keys: dict[bytes, tuple[Remembered, float]] = field(default_factory=dict)  # and when it expires
    updated: dict[str, datetime] = field(default_factory=dict)
    away: bool = False
    lose_next: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ticks: int = 0

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[MemoryHeld]:
        self.reach()
        async with self.lock:
            yield MemoryHeld(self)

    async def read(self, counters: Sequence[str]) -> list[Reading | None]:
        self.reach()
        totals = [self.total(counter) for counter in counters]
        return [
            None if total is None else Reading(total, self.values.get(counter, 0), self.updated.get(counter))
            for counter, total in zip(counters, totals, strict=True)
        ]

    async def remembered(self, guards: Sequence[bytes]) -> dict[bytes, Remembered]:
        self.reach()
        return {guard: had for guard in guards if (had := self.recall(guard)) is not None}

    async def forget_keys(self) -> int:
        late = [guard for guard, (_, expires_s) in self.keys.items() if expires_s <= self.now_s() - 60]
        for guard in late:
            del self.keys[guard]
        return len(late)

    @asynccontextmanager
    async def appending(self) -> AsyncIterator[Append]:
        self.reach()
        await asyncio.sleep(0)
        yield self.append

    async def append(self, operations: Sequence[Operation]) -> Refused:
        refused = Refused(known := list[int](), full := list[int]())
        for position, operation in enumerate(operations):
            if abs(self.values.get(operation.counter, 0)) >= FULL:
                full.append(position)
            elif operation.guard is not None and self.recall(operation.guard) is not None:
                known.append(position)
            else:
                self.count(operation, operation.value, Remembered(operation.value, False))
        self.answer()
        return refused

    async def waiting(self, partitions: Iterable[int]) -> list[int]:
        self.reach()
        found = {partition_of(counter, self.partitions) for counter, _ in self.pending}
        return sorted(found & set(partitions))

    async def roll_up(self, partition: int, most: int) -> int:
        self.reach()
        taken = [each for each in self.pending if partition_of(each[0], self.partitions) == partition][:most]
        for counter, amount in taken:
            self.pending.remove((counter, amount))
            self.add(counter, amount)
        return len(taken)

    async def let_go(self) -> int:
        return 0

    def total(self, counter: str) -> int | None:
        pending = [amount for name, amount in self.pending if name == counter]
        return self.values.get(counter, 0) + sum(pending) if pending or counter in self.values else None

    def recall(self, guard: bytes) -> Remembered | None:
        had, expires_s = self.keys.get(guard, (None, 0.0))
        return had if expires_s > self.now_s() else None

    def count(self, operation: Operation, amount: int, remembered: Remembered) -> None:
        if operation.guard is not None:
            self.keys[operation.guard] = remembered, self.now_s() + operation.window_s
        if self.rolls_up:
            self.pending.append((operation.counter, amount))
        else:
            self.add(operation.counter, amount)

    def add(self, counter: str, amount: int) -> None:
        self.ticks += 1
        self.values[counter] = self.values.get(counter, 0) + amount
        self.updated[counter] = START + timedelta(microseconds=self.ticks)

    def reach(self) -> None:
        if self.away:
            raise StoreUnavailable

    def answer(self) -> None:
        if self.lose_next:
            self.lose_next = False
            raise StoreUnanswered


class MemoryHeld:
    """`counters.Held`: one lock for all counters."""

    def __init__(self, counters: MemoryCounters) -> None:
        self._counters = counters
        self._decision: Decision | None = None

    async def look(self, operations: Sequence[Operation]) -> Found:
        await asyncio.sleep(0)
        totals = {operation.counter: self._counters.total(operation.counter) for operation in operations}
        guards = [operation.guard for operation in operations if operation.guard is not None]
        return totals, await self._counters.remembered(guards)

    async def write(self, decision: Decision) -> bool:
        await asyncio.sleep(0)
        self._decision = decision
        claimed = [each.operation.guard for each in decision.counted if each.operation.guard is not None]
        return all(self._counters.recall(guard) is None for guard in claimed)

    async def commit(self) -> None:
        self._counters.reach()
        assert self._decision is not None
        for each in self._decision.counted:
            self._counters.count(each.operation, each.amount, Remembered(each.remembered, each.operation.reset))
        self._counters.answer()

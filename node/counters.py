"""What the shell needs of Postgres where that is what counts: the contracts of `sync`, `rollup` and the records. Pure.

As in `ports.py`: the adapters and the tests' twins keep to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from node.deciding import Decision, Operation, Remembered
from node.strategy import Reading


@dataclass(frozen=True, slots=True)
class Listed:
    """A counter as it is stored: what it has beyond that, its strategy knows."""

    key: str
    stored: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """Positions of increments that were not counted."""

    known: Sequence[int]  # their idempotency key was used before
    full: Sequence[int]  # their counter is


Append = Callable[[Sequence[Operation]], Awaitable[Refused]]
"""Counts plain increments, no two with one idempotency key, in one statement.

Errors: StoreRefused when none was counted; any other StoreUnavailable when nobody knows.
"""

Found = tuple[Mapping[str, int | None], Mapping[bytes, Remembered]]  # totals of counters, and idempotency keys
HistoryStep = Literal["minute", "hour", "day", "month"]


class Held(Protocol):
    """Counters in Postgres that nobody else decides upon until this ends; without a `commit` nothing was done.

    Errors: StoreUnavailable.
    """

    async def look(self, operations: Sequence[Operation]) -> Found:
        """Takes hold of their counters; what is known of them then stays so."""
        ...

    async def write(self, decision: Decision) -> bool:
        """Once. False: an idempotency key was claimed meanwhile, and all is to be tried anew."""
        ...

    async def commit(self) -> None:
        """Errors: StoreUnanswered, and only here."""
        ...


class Counters(Protocol):
    """What is counted in Postgres itself. Errors: StoreUnavailable."""

    def hold(self) -> AbstractAsyncContextManager[Held]: ...

    async def read(self, counters: Sequence[str]) -> list[Reading | None]:
        """Exact; None for a counter that is not known."""
        ...

    async def remembered(self, guards: Sequence[bytes]) -> dict[bytes, Remembered]:
        """Those that are not remembered are left out."""
        ...

    async def forget_keys(self) -> int:
        """Deletes a part of the idempotency keys that are too old to be looked for; -> how many."""
        ...


class IncrementLog(Counters, Protocol):
    """Increments, a row each, that are rolled up into their counters later. Errors: StoreUnavailable."""

    def appending(self) -> AbstractAsyncContextManager[Append]:
        """All that has to be waited for before the statement can be sent: who gives up meanwhile can be left out."""
        ...

    async def waiting(self, partitions: Iterable[int]) -> list[int]:
        """Those that have increments to be rolled up."""
        ...

    async def roll_up(self, partition: int, most: int) -> int:
        """Moves up to so many increments into their counters; -> how many. Several may do it at once.

        Errors: StoreOverflow, when their sum is more than a counter can take.
        """
        ...

    async def let_go(self) -> int:
        """Deletes a part of the increments that are older than their namespace keeps them; -> how many."""
        ...


class Records(Protocol):
    """What is on record of a namespace in Postgres. Errors: StoreUnavailable."""

    async def counters(self, namespace: str, prefix: str, after: str, limit: int) -> list[Listed]:
        """In the order of their keys' UTF-8, those beginning with `prefix` and after `after`."""
        ...

    async def stored(self, namespace: str, keys: Sequence[str]) -> list[Listed | None]:
        """In the order of `keys`; None for one that is not stored."""
        ...

    async def history(
        self, namespace: str, key: str, step: HistoryStep, start: datetime, end: datetime, limit: int
    ) -> list[tuple[datetime, int]]:
        """Beginnings (UTC) and sums of those buckets from `start` to before `end` in which anything was counted."""
        ...

    async def forget_history(self) -> int:
        """Deletes a part of the minutes and hours that are too old to be kept; -> how many."""
        ...

"""What a strategy does for a namespace: the contract of `dist`, `sync` and `rollup`. Pure.

All three are exact and idempotent, and answer alike; they differ in what an acknowledgement rests on, and in what it
costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from node.call import Outcome, Pending
from node.errors import TallyError
from node.increment import Increment
from node.terms import Namespace as Namespace
from node.terms import StrategyName as StrategyName


@dataclass(frozen=True, slots=True)
class Bounds:
    """The total after an increment lies between them, or it is not counted. None: no bound."""

    min: int | None = None
    max: int | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """What became of one increment. `value` is the total right after it, or the total as it is when it was not counted
    now.
    """

    outcome: Outcome
    value: int | None  # None: the counter is not known


@dataclass(frozen=True, slots=True)
class Taken:
    """A reset: what it took off, which leaves the counter at 0."""

    taken: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """A counter's value; `value - stored` is not in key_counters yet."""

    value: int
    stored: int
    updated_at: datetime | None  # of the stored value; None while there is none


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is remembered of one idempotency key on one counter."""

    counted: bool
    value: int | None  # of the increment it counted
    window_s: int  # it is remembered for at least so long after it was counted


class Intake(Protocol):
    """Where the seed's routes bring what they are asked to count: the way into one namespace."""

    def due(self) -> float:
        """When an increment that comes now has to be answered, in monotonic seconds."""
        ...

    def submit(self, part: Pending) -> None:
        """Queues it; it gets its outcome, or an error, by its deadline. Errors: Draining, Overloaded."""
        ...

    async def add(self, increment: Increment) -> Outcome:
        """`submit`, awaited. Cancelling the caller does not take the increment back."""
        ...


class Values(Protocol):
    """Where the seed's routes read."""

    def ask(self, counter: str, reply: Callable[[int | TallyError], None]) -> None:
        """Everything acknowledged before is in the value that `reply` gets: or NotFound, or Unavailable.

        Errors: Unavailable, when too many are waiting.
        """
        ...

    async def value(self, counter: str) -> int:
        """`ask`, awaited. Errors: NotFound, Unavailable."""
        ...


class Strategy(Protocol):
    """Counters are full names, "<namespace>:<key>".

    Errors of all: Unavailable, with whether it was counted; the caller's own are answers (Outcome), not errors.
    """

    async def add_many(self, namespace: Namespace, increments: Sequence[Increment]) -> list[Outcome | TallyError]:
        """What became of each, in order; each is as if it came alone, and an error is one increment's own.

        A proxy's request id guards one increment: each of a request gets its own, like "<request id>/<position>".
        """
        ...

    async def add(self, namespace: Namespace, increment: Increment, bounds: Bounds) -> Added:
        """Adds and gets, decided and counted in one atomic step."""
        ...

    async def reset(
        self, namespace: Namespace, counter: str, idempotency_key: str | None, short_lived: bool = False
    ) -> Taken:
        """Takes off exactly what it returns.

        Errors: UnknownCounter; Mismatch, when the idempotency key was an increment's;
        CounterFull, when so much cannot be taken off at once.
        """
        ...

    async def read(self, namespace: Namespace, counters: Sequence[str]) -> list[Reading | None]:
        """Exact values: everything acknowledged before is in them. None for a counter that is not known."""
        ...

    async def receipt(self, namespace: Namespace, counter: str, idempotency_key: str) -> Receipt: ...

"""What becomes of operations whose counters' totals are known and cannot move meanwhile. Pure.

log.lua decides so for `dist`, in Redis; this is for the strategies that count in Postgres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from node.call import Outcome
from node.increment import PLACE, Increment
from node.settlement import FULL
from node.strategy import Bounds
from node.terms import Namespace

GUARD_BYTES = 16


class Operation(msgspec.Struct, frozen=True, gc=False):
    """An increment or a reset, as it is decided and recorded."""

    counter: str
    value: int  # of a reset it means nothing
    reset: bool
    least: int | None  # bounds of the total
    most: int | None
    guard: bytes | None  # what its idempotency key is remembered by
    window_s: int
    idempotency_key: str | None  # as its client gave it, to one increment or to a batch


class Remembered(NamedTuple):
    """What an idempotency key was used for."""

    value: int  # of an increment; of a reset what it took
    reset: bool


class Ruling(NamedTuple):
    """`number` is the total, or what a reset took; None when the counter is not known."""

    outcome: Outcome | None  # None: a reset of a counter that is not known
    number: int | None


class Counted(NamedTuple):
    """An operation that counts, and what it adds."""

    operation: Operation
    amount: int

    @property
    def remembered(self) -> int:
        return -self.amount if self.operation.reset else self.amount


@dataclass(slots=True)
class Decision:
    """`rulings` are in the order of the operations; `sums` has the counters that are known from now on."""

    rulings: list[Ruling] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)


def operation_of(
    increment: Increment, namespace: Namespace, request_id_window_s: int, bounds: Bounds, reset: bool = False
) -> Operation:
    given = None if increment.short_lived else increment.idempotency_key
    return Operation(
        increment.counter,
        increment.value,
        reset,
        bounds.min,
        bounds.max,
        None if increment.idempotency_key is None else guard_of(increment),
        request_id_window_s if increment.short_lived else namespace.idempotency_window_s,
        given and given.partition(PLACE)[0],
    )


def guard_of(increment: Increment) -> bytes:
    """The scope of an idempotency key is its counter, of a request id the proxy that made it."""
    kind = "r" if increment.short_lived else "k"
    text = f"{kind}{increment.counter}\0{increment.idempotency_key}"
    return blake2b(text.encode(), digest_size=GUARD_BYTES).digest()


def decide(
    operations: Sequence[Operation], totals: Mapping[str, int | None], remembered: Mapping[bytes, Remembered]
) -> Decision:
    """In their order: each sees the ones before. Totals are None for counters that are not known."""
    now, known, decision = dict(totals), dict(remembered), Decision()
    for operation in operations:
        total = now.get(operation.counter)
        had = known.get(operation.guard) if operation.guard is not None else None
        ruling, amount = _rule(operation, total, had)
        decision.rulings.append(ruling)
        if amount is None:
            continue
        counted = Counted(operation, amount)
        now[operation.counter] = (total or 0) + amount
        decision.sums[operation.counter] = decision.sums.get(operation.counter, 0) + amount
        decision.counted.append(counted)
        if operation.guard is not None:
            known[operation.guard] = Remembered(counted.remembered, operation.reset)
    return decision


def repeated(operation: Operation, had: Remembered) -> Outcome:
    """Of an idempotency key that was used before."""
    same = had.reset if operation.reset else had == (operation.value, False)
    return Outcome.REPLAYED if same else Outcome.MISMATCH


def _rule(operation: Operation, total: int | None, had: Remembered | None) -> tuple[Ruling, int | None]:
    """-> the ruling, and what is to be added; None when nothing is."""
    if had is not None:
        outcome = repeated(operation, had)
        return Ruling(outcome, had.value if operation.reset and outcome is Outcome.REPLAYED else total), None
    if operation.reset:
        return (Ruling(None, None), None) if total is None else (Ruling(Outcome.COUNTED, total), -total)
    after = (total or 0) + operation.value
    below = operation.least is not None and after < operation.least
    if below or (operation.most is not None and after > operation.most):
        return Ruling(Outcome.OUT_OF_BOUNDS, total), None
    if abs(total or 0) >= FULL:
        return Ruling(Outcome.FULL, total), None
    return Ruling(Outcome.COUNTED, after), operation.value

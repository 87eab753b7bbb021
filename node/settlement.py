"""Numbered batches: the arithmetic that everything rests on. Pure.

A partition's batches are numbered 1, 2, 3, ... In Redis one is *open*, and at most the one before it is *sealed*.
Postgres knows the number of the last batch it has *settled*. So a counter's value is

    stored + open             when settled is the one before the open batch
    stored + sealed + open    when settled is one less, and a batch is sealed

and any other pair of numbers was read at two different times. The stored value may be older than the Redis reading by
any time, or come from a cache: its number says whether it still fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

import msgspec

SUM_MAX = 2**61  # a sum in a batch stays below it
FULL = 2**62  # a counter whose stored value has reached it is full: FULL + 2 * SUM_MAX is the end of a bigint
CALL_SUM_MAX = 2**60  # what one call may add to one counter


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A counter in Postgres, and the last batch that is in it. `value` is None when there is no such row."""

    value: int | None
    settled: int
    updated_at: datetime | None = None  # when the value was last settled


class Unsettled(msgspec.Struct, frozen=True, gc=False):
    """A counter in Redis, read in one step. Sums are None when the counter is not in that batch."""

    open_number: int
    sealed_number: int | None
    sealed_sum: int | None
    open_sum: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """A sealed batch as it is settled: it never changes again."""

    partition: int
    number: int
    incarnation: int  # of the Redis it was sealed in: an older one's settle changes nothing
    sums: dict[str, int]  # counter -> sum
    calls: dict[str, int]  # writer -> number of its last call that is in the batch
    outcomes: dict[str, str] = field(default_factory=dict)  # what was decided: "<writer>/<0 or 1>" -> see outcomes_of


def outcomes_of(noted: Iterable[str]) -> dict[int, list[str]]:
    """Call number -> its decided operations that were counted, as in its answer; noted as "<number> <ruling> ..." """
    outcomes: dict[int, list[str]] = {}
    for number, *rulings in map(str.split, noted):
        outcomes.setdefault(int(number), []).extend(rulings)
    return outcomes


class Apart(Enum):
    """Why two readings do not make a value."""

    READ_AGAIN = "Postgres was read before, or long after, Redis"
    REWOUND = "Postgres has settled a batch that Redis still has open: Redis went back in time"


def value_of(stored: Stored, unsettled: Unsettled) -> int | Apart | None:
    """The counter's value; None when neither store knows the counter."""
    open_number, settled = unsettled.open_number, stored.settled
    if settled == open_number - 1:
        return _plus(stored.value, unsettled.open_sum)
    if settled == open_number - 2 and unsettled.sealed_number == open_number - 1:
        return _plus(_plus(stored.value, unsettled.sealed_sum), unsettled.open_sum)
    return Apart.REWOUND if settled >= open_number else Apart.READ_AGAIN


def _plus(one: int | None, other: int | None) -> int | None:
    if one is None:
        return other
    return one if other is None else one + other


class After(Enum):
    """What to do with a sealed batch once its settle was answered."""

    DROP = "Postgres has it"
    SEAL_AGAIN = "it was sealed under an older incarnation; the repaired batch has another content"
    WENT_BACK = "Postgres lacks batches before it: nothing may be dropped"


def after_settle(number: int, settled: int) -> After:
    """`settled` is what Postgres says after the settle of batch `number`, whoever moved it."""
    if settled >= number:
        return After.DROP
    return After.SEAL_AGAIN if settled == number - 1 else After.WENT_BACK

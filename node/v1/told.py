"""The bodies of the v1 routes' answers: what is encoded, and what `/openapi.json` describes. Pure.

Integers are exact in the JSON text, however large; a reader that makes doubles of them loses those above 2^53.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec

from node import strategy
from node.answers import Answer, of_error
from node.call import Outcome
from node.counters import HistoryStep, Listed
from node.errors import CounterFull, Mismatch, OutOfBounds
from node.v1.query import cursor_of


class Added(msgspec.Struct):
    """What became of an increment: the total right after it; of a replay, the total as it is now."""

    key: str
    value: int
    replayed: bool


class Taken(msgspec.Struct):
    """What a reset took off the counter."""

    key: str
    taken: int


class Counter(msgspec.Struct):
    """A counter. `value` is `stored` (in Postgres) and `pending` (not there yet) together."""

    key: str
    value: int
    stored: int
    pending: int | None  # null: it was not looked for
    updated_at: datetime | None  # when `stored` changed last; null: there is none yet


class Found(msgspec.Struct):
    """A counter that was asked for beside others; all is null of a key that is no counter."""

    key: str
    value: int | None = None
    stored: int | None = None
    pending: int | None = None
    updated_at: datetime | None = None


class CounterList(msgspec.Struct):
    """Counters, in the order of the request."""

    counters: list[Found]


class CounterPage(msgspec.Struct):
    """Counters in the order of their keys' UTF-8; `cursor` asks for those that follow, null: there are none."""

    counters: list[Counter]
    cursor: str | None


class Bucket(msgspec.Struct):
    """What was counted in a stretch of time that begins `at`."""

    at: datetime
    sum: int


class History(msgspec.Struct):
    """Sums per step, in UTC; a step in which nothing was counted is left out."""

    key: str
    step: HistoryStep
    buckets: list[Bucket]


class Receipt(msgspec.Struct):
    """What is remembered of an idempotency key: `value` as it was counted, of a reset what it took off, less."""

    key: str
    idempotency_key: str
    counted: bool
    value: int | None
    window_s: int  # it is remembered at least so long after it counted


class Live(msgspec.Struct):
    """The data of an event `value`."""

    key: str
    value: int | None  # null: it is no counter yet


def ok(told: msgspec.Struct, *headers: tuple[str, str]) -> Answer:
    return Answer(200, msgspec.json.encode(told), headers)


def of_added(key: str, added: strategy.Added, short_lived: bool) -> Answer:
    """A proxy's own retry is none of its client's business."""
    replayed = added.outcome is Outcome.REPLAYED and not short_lived
    match added.outcome:
        case Outcome.MISMATCH:
            return of_error(Mismatch())
        case Outcome.FULL:
            return of_error(CounterFull())
        case Outcome.OUT_OF_BOUNDS:
            return _out_of_bounds(added.value)
    assert added.value is not None  # what has counted is known
    return ok(Added(key, added.value, replayed), *REPLAYED[replayed])


def of_taken(key: str, taken: strategy.Taken, short_lived: bool) -> Answer:
    return ok(Taken(key, taken.taken), *REPLAYED[taken.replayed and not short_lived])


def of_reading(key: str, reading: strategy.Reading) -> Counter:
    return Counter(key, reading.value, reading.stored, reading.value - reading.stored, _utc(reading.updated_at))


def of_listed(listed: Listed) -> Counter:
    return Counter(listed.key, listed.stored, listed.stored, None, _utc(listed.updated_at))


def of_many(keys: Sequence[str], counters: Iterable[Counter | None]) -> CounterList:
    return CounterList([_found(key, counter) for key, counter in zip(keys, counters, strict=True)])


def _found(key: str, counter: Counter | None) -> Found:
    if counter is None:
        return Found(key)
    return Found(key, counter.value, counter.stored, counter.pending, counter.updated_at)


def of_page(counters: list[Counter], more: bool) -> CounterPage:
    return CounterPage(counters, cursor_of(counters[-1].key) if more else None)


def of_history(key: str, step: HistoryStep, buckets: Iterable[tuple[datetime, int]]) -> History:
    return History(key, step, [Bucket(at, amount) for at, amount in buckets])


def etag_of(body: bytes) -> str:
    """Of the answer as it is, byte by byte: without its quotes."""
    return blake2b(body, digest_size=8).hexdigest()


REPLAYED: dict[bool, tuple[tuple[str, str], ...]] = {False: (), True: (("Idempotent-Replayed", "true"),)}


def _out_of_bounds(value: int | None) -> Answer:
    answer = of_error(OutOfBounds())
    detail: dict[str, Any] = {"message": str(OutOfBounds()), "value": value}
    return answer._replace(body=msgspec.json.encode({"error": detail}))


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)

"""Group commit: what queued while the last call was in flight becomes one call. Pure.

A call carries sums per counter for increments without an idempotency key, single items for those with one, and
operations that are decided when they are counted. Redis answers with the exceptions only, and with what it decided: an
empty answer says that everything was counted for the first time.

    payload   payload.py
    answer    "r0 m4 x7 s2 d0:c12": item 0 is a replay, item 4 a mismatch, item 7 met a full counter, and so did the
              third sum; the first decided operation was counted, and the total is 12. In place of c: r a replay, m a
              mismatch, x full, b out of bounds, n not known, each with the total as it is, where there is one; of a
              reset c and r have what it took. a: the two stores were read apart, nothing was done
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import ClassVar, NamedTuple

from cluster.ring import partition_of
from node.errors import TallyError
from node.increment import Increment, split_counter
from node.payload import Content, Ruling, SumsOfPartition, Told, effective, encode, told
from node.settlement import CALL_SUM_MAX, FULL, Stored

ADDITIONS_MAX = 1024  # sums and ids that close a call: Redis runs nothing else meanwhile
DECIDED_MAX = 256  # likewise; each costs Redis about as much as four ids
PARTS_MAX = 4096  # requests in a call: equal counters are one sum, so it may stand for many more than that
DIGEST_BYTES = 12  # 96 bits: a collision in a billion remembered ids has odds of one in 10^11


class Outcome(Enum):
    """What became of an increment that Redis took."""

    COUNTED = "counted"
    REPLAYED = "replayed"
    MISMATCH = "mismatch"
    FULL = "full"
    OUT_OF_BOUNDS = "out of bounds"


EXCEPTIONS = {"r": Outcome.REPLAYED, "m": Outcome.MISMATCH, "x": Outcome.FULL}


class Verdict(NamedTuple):
    """A call's answer, taken apart."""

    full: frozenset[str]  # counters whose sum was refused
    items: dict[int, Outcome]  # by position among the call's ids; those not in it were counted
    decided: dict[int, Ruling]  # by position among the decided operations: all of them


ALL_COUNTED = Verdict(frozenset(), {}, {})


class Pending:
    """An increment that waits for its outcome: `reply` gets it, or an error, exactly once."""

    __slots__ = ("answered", "deadline", "increment")
    weight = 1

    def __init__(self, increment: Increment, deadline: float) -> None:
        self.increment = increment
        self.deadline = deadline  # monotonic seconds
        self.answered = False

    def reply(self, outcome: Outcome | TallyError) -> None:
        raise NotImplementedError

    def answer(self, outcome: Outcome | TallyError) -> None:
        if not self.answered:  # its deadline may have passed while Redis was away
            self.answered = True
            self.reply(outcome)

    def settle(self, verdict: Verdict, position: int) -> int:
        """`position` is that of its id, if it has one; -> the position after it."""
        if self.increment.idempotency_key is None:
            self.answer(Outcome.FULL if self.increment.counter in verdict.full else Outcome.COUNTED)
            return position
        self.answer(verdict.items.get(position, Outcome.COUNTED))
        return position + 1


@dataclass(slots=True, eq=False)
class Bundle:
    """Increments that arrived together and are counted in one call: sums of those without an idempotency key.

    `reply` is called exactly once, with the counters whose sum was refused and the outcomes of `items`, or an error.
    """

    sums: dict[str, int]
    items: list[Increment]  # those with an idempotency key
    total: int  # of all values without their signs; at most CALL_SUM_MAX
    reply: Callable[[tuple[frozenset[str], list[Outcome]] | TallyError], None]
    deadline: float
    answered: bool = False

    @property
    def weight(self) -> int:
        return len(self.sums) + len(self.items)

    def answer(self, error: TallyError) -> None:
        self._reply(error)

    def settle(self, verdict: Verdict, position: int) -> int:
        after = position + len(self.items)
        outcomes = [verdict.items.get(index, Outcome.COUNTED) for index in range(position, after)]
        self._reply((verdict.full, outcomes))
        return after

    def _reply(self, result: tuple[frozenset[str], list[Outcome]] | TallyError) -> None:
        if not self.answered:
            self.answered = True
            self.reply(result)


@dataclass(slots=True, eq=False)
class Decided:
    """An add-and-get, or a reset, that waits for what Redis decides. `reply` is called exactly once."""

    increment: Increment
    reset: bool  # the increment's value means nothing then
    least: int | None  # bounds of the total
    most: int | None
    stored: Stored  # what its node knows of Postgres
    reply: Callable[[Ruling | TallyError], None]
    deadline: float
    position: int = 0  # among the call's decided operations
    answered: bool = False
    weight: ClassVar[int] = 1

    def answer(self, result: Ruling | TallyError) -> None:
        if not self.answered:
            self.answered = True
            self.reply(result)

    def settle(self, verdict: Verdict, position: int) -> int:
        self.answer(verdict.decided[self.position])
        return position


Part = Pending | Bundle | Decided


@dataclass(slots=True)
class Windows:
    """How long ids are remembered, at least, in seconds; at most twice as long.

    A request id's is negative in a payload, for ids are looked for in windows of every length, but of their own kind.
    """

    idempotency_key_s: int = 86_400
    request_id_s: int = 60
    others: dict[str, int] = field(
        default_factory=dict
    )  # namespace -> window of its idempotency keys, where it differs

    def note(self, namespace: str, idempotency_key_s: int) -> None:
        """How long the keys of a namespace are remembered from now on."""
        if idempotency_key_s != self.idempotency_key_s:
            self.others[namespace] = idempotency_key_s
        elif self.others:
            self.others.pop(namespace, None)

    def of(self, increment: Increment) -> int:
        if increment.short_lived:
            return -self.request_id_s
        if self.others:
            return self.others.get(split_counter(increment.counter)[0], self.idempotency_key_s)
        return self.idempotency_key_s


@dataclass(slots=True, eq=False)
class Call:
    """A numbered append: the same number always carries the same payload."""

    number: int
    payload: bytes
    parts: list[Part]
    plain: list[str]  # counters in the order of their sums
    partitions: frozenset[int]  # that it touches
    in_doubt: bool = False  # it was sent, and the connection broke before the answer

    def settle(self, answer: str) -> None:
        """Gives every increment its outcome. From here on the payload is what would have to be repeated."""
        verdict = ALL_COUNTED
        if answer:
            outcome = told(answer.split())
            self.payload, self.partitions = effective(self.payload, outcome)
            verdict = self._verdict(outcome)
        position = 0
        for part in self.parts:
            position = part.settle(verdict, position)

    def fail(self, error: TallyError) -> None:
        for part in self.parts:
            part.answer(error)

    def _verdict(self, told: Told) -> Verdict:
        return Verdict(
            frozenset(self.plain[position] for position in told.sums),
            {position: EXCEPTIONS[letter] for position, letter in told.items.items()},
            told.decided,
        )


def digest_of(increment: Increment) -> str:
    """16 characters; the scope of an idempotency key is its counter, of a request id the proxy that made it."""
    kind = "r" if increment.short_lived else "k"
    text = f"{kind}{increment.counter}\0{increment.idempotency_key}"
    return b64encode(blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()).decode()


def form_call(number: int, inbox: deque[Part], partitions: int, windows: Windows) -> Call:
    """Takes what one call may hold from the front of the inbox; from an empty one a call without content."""
    sums: dict[str, int] = {}
    keyed: list[Increment] = []
    decided: list[Decided] = []
    parts: list[Part] = []
    total = 0
    while inbox and len(parts) < PARTS_MAX and len(sums) + len(keyed) < ADDITIONS_MAX and len(decided) < DECIDED_MAX:
        part = inbox[0]
        if isinstance(part, Decided):
            part.position = len(decided)
            decided.append(part)
            parts.append(inbox.popleft())
            continue
        total += part.total if isinstance(part, Bundle) else abs(part.increment.value)
        if parts and total > CALL_SUM_MAX:  # with values near 2^53 only: their sum would pass what a batch can take
            break
        parts.append(inbox.popleft())
        if isinstance(part, Bundle):
            for counter, value in part.sums.items():
                sums[counter] = sums.get(counter, 0) + value
            keyed += part.items
        elif part.increment.idempotency_key is None:
            counter = part.increment.counter
            sums[counter] = sums.get(counter, 0) + part.increment.value
        else:
            keyed.append(part.increment)
    groups, touched = _sums(sums, partitions)
    items: list[str | int] = []
    for increment in keyed:
        p = partition_of(increment.counter, partitions)
        touched.add(p)
        items += (str(p), increment.counter, str(increment.value), digest_of(increment), windows.of(increment))
    operations: list[str | int] = []
    for each in decided:
        p = partition_of(each.increment.counter, partitions)
        touched.add(p)
        operations += (str(p), *_operation(each, windows))
    plain = [counter for group in groups for counter in group.c]
    return Call(number, encode(Content(groups, items, operations)), parts, plain, frozenset(touched))


def _sums(sums: dict[str, int], partitions: int) -> tuple[list[SumsOfPartition], set[int]]:
    groups: dict[int, SumsOfPartition] = {}
    for counter, total in sums.items():
        partition = partition_of(counter, partitions)
        group = groups.get(partition)
        if group is None:
            group = groups[partition] = SumsOfPartition(str(partition), [], [])
        group.c.append(counter)
        group.s.append(str(total))
    return list(groups.values()), set(groups)


def _operation(decided: Decided, windows: Windows) -> tuple[str | int, ...]:
    increment, stored = decided.increment, decided.stored
    return (
        increment.counter,
        "" if decided.reset else str(increment.value),
        _text(stored.value),
        stored.settled,
        _text(decided.least),
        _text(decided.most),
        "" if increment.idempotency_key is None else digest_of(increment),
        windows.of(increment),
    )


def _text(number: int | None) -> str:
    """No total reaches 2 * FULL, so a bound out there is none; Lua's limbs hold no more digits than that."""
    return "" if number is None else str(max(-2 * FULL, min(number, 2 * FULL)))

"""Group commit: what queued while the last call was in flight becomes one call. Pure.

A call carries sums per counter for increments without an idempotency key, and single items for those with one. Redis
answers with the exceptions only: an empty answer says that everything was counted for the first time.

    payload   {"sums": [{"p": "<partition>", "c": ["<counter>", ...], "s": ["<sum>", ...]}, ...],
               "ids": ["<partition>", "<counter>", "<value>", "<digest>", <window in s>, "<partition>", ...]}
    answer    "r0 m4 x7 s2": item 0 is a replay, item 4 a mismatch, item 7 met a full counter, and so did the third sum

Numbers travel as text, for Lua's are doubles and lose integers above 2^53.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from cluster.ring import partition_of
from node.errors import TallyError
from node.increment import Increment
from node.settlement import CALL_SUM_MAX

ADDITIONS_MAX = 1024  # sums and ids that close a call: Redis runs nothing else meanwhile
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


ALL_COUNTED = Verdict(frozenset(), {})


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
    total: int  # of all values; at most CALL_SUM_MAX
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


@dataclass(frozen=True, slots=True)
class Windows:
    """How long ids are remembered, at least, in seconds; at most twice as long."""

    idempotency_key_s: int = 86_400
    request_id_s: int = 60

    def of(self, increment: Increment) -> int:
        return self.request_id_s if increment.short_lived else self.idempotency_key_s


@dataclass(slots=True, eq=False)
class Call:
    """A numbered append: the same number always carries the same payload."""

    number: int
    payload: bytes
    parts: list[Pending | Bundle]
    plain: list[str]  # counters in the order of their sums
    partitions: frozenset[int]  # that it touches
    in_doubt: bool = False  # it was sent, and the connection broke before the answer

    def settle(self, answer: str) -> None:
        """Gives every increment its outcome."""
        verdict = self._verdict(answer) if answer else ALL_COUNTED
        position = 0
        for part in self.parts:
            position = part.settle(verdict, position)

    def fail(self, error: TallyError) -> None:
        for part in self.parts:
            part.answer(error)

    def _verdict(self, answer: str) -> Verdict:
        tokens = [(token[0], int(token[1:])) for token in answer.split()]
        return Verdict(
            frozenset(self.plain[index] for kind, index in tokens if kind == "s"),
            {index: EXCEPTIONS[kind] for kind, index in tokens if kind != "s"},
        )


def digest_of(increment: Increment) -> str:
    """16 characters; the scope of an idempotency key is its counter, of a request id the proxy that made it."""
    kind = "r" if increment.short_lived else "k"
    text = f"{kind}{increment.counter}\0{increment.idempotency_key}"
    return b64encode(blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()).decode()


def form_call(number: int, inbox: deque[Pending | Bundle], partitions: int, windows: Windows) -> Call:
    """Takes what one call may hold from the front of the inbox; from an empty one a call that only shows life."""
    sums: dict[str, int] = {}
    keyed: list[Increment] = []
    parts: list[Pending | Bundle] = []
    total = 0
    while inbox and len(parts) < PARTS_MAX and len(sums) + len(keyed) < ADDITIONS_MAX:
        part = inbox[0]
        total += part.total if isinstance(part, Bundle) else part.increment.value
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
    payload, plain, touched = _payload(sums, keyed, partitions, windows)
    return Call(number, payload, parts, plain, touched)


class SumsOfPartition(msgspec.Struct, gc=False):
    p: str
    c: list[str]
    s: list[str]


def _payload(
    sums: dict[str, int], keyed: list[Increment], partitions: int, windows: Windows
) -> tuple[bytes, list[str], frozenset[int]]:
    """-> (payload, the counters in the order of their sums in it, the partitions it touches)"""
    groups: dict[int, SumsOfPartition] = {}
    for counter, total in sums.items():
        partition = partition_of(counter, partitions)
        group = groups.get(partition)
        if group is None:
            group = groups[partition] = SumsOfPartition(str(partition), [], [])
        group.c.append(counter)
        group.s.append(str(total))
    touched = set(groups)
    items: list[str | int] = []
    for increment in keyed:
        partition = partition_of(increment.counter, partitions)
        touched.add(partition)
        digest, window_s = digest_of(increment), windows.of(increment)
        items += (str(partition), increment.counter, str(increment.value), digest, window_s)
    plain = [counter for group in groups.values() for counter in group.c]
    return msgspec.json.encode({"sums": list(groups.values()), "ids": items}), plain, frozenset(touched)

"""Group commit: what queued while the last call was in flight becomes one call. Pure.

A call carries sums per counter for increments without an idempotency key, and single items for those with one. Redis
answers with the exceptions only: an empty answer says that everything was counted for the first time.

    payload   {"sums": [["<partition>", "<counter>", "<sum>"], ...],
               "ids": [["<partition>", "<counter>", "<value>", "<digest>", <window in s>], ...]}
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

import msgspec

from cluster.ring import partition_of
from node.errors import TallyError
from node.increment import Increment
from node.settlement import CALL_SUM_MAX

INCREMENTS_MAX = 1024  # in one call: Redis runs nothing else meanwhile
DIGEST_BYTES = 12  # 96 bits: a collision in a billion remembered ids has odds of one in 10^11


class Outcome(Enum):
    """What became of an increment that Redis took."""

    COUNTED = "counted"
    REPLAYED = "replayed"
    MISMATCH = "mismatch"
    FULL = "full"


EXCEPTIONS = {"r": Outcome.REPLAYED, "m": Outcome.MISMATCH, "x": Outcome.FULL}


@dataclass(slots=True, eq=False)
class Pending:
    """An increment that waits for its outcome. `reply` is called exactly once, with an outcome or an error."""

    increment: Increment
    reply: Callable[[Outcome | TallyError], None]
    deadline: float  # monotonic seconds
    answered: bool = False

    def answer(self, outcome: Outcome | TallyError) -> None:
        if not self.answered:  # its deadline may have passed while Redis was away
            self.answered = True
            self.reply(outcome)


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
    pending: list[Pending]
    plain: list[str]  # counters in the order of their sums
    items: list[int]  # positions in `pending` of those with an idempotency key
    in_doubt: bool = False  # it was sent, and the connection broke before the answer

    def settle(self, answer: str) -> None:
        """Gives every increment its outcome."""
        exceptions = self._exceptions(answer) if answer else {}
        for position, pending in enumerate(self.pending):
            pending.answer(exceptions.get(position, Outcome.COUNTED))

    def fail(self, error: TallyError) -> None:
        for pending in self.pending:
            pending.answer(error)

    def _exceptions(self, answer: str) -> dict[int, Outcome]:
        found: dict[int, Outcome] = {}
        for token in answer.split():
            kind, index = token[0], int(token[1:])
            if kind == "s":
                found |= dict.fromkeys(self._plain_positions(self.plain[index]), Outcome.FULL)
            else:
                found[self.items[index]] = EXCEPTIONS[kind]
        return found

    def _plain_positions(self, counter: str) -> list[int]:
        return [
            position
            for position, pending in enumerate(self.pending)
            if pending.increment.idempotency_key is None and pending.increment.counter == counter
        ]


def digest_of(increment: Increment) -> str:
    """16 characters; the scope of an idempotency key is its counter, of a request id the proxy that made it."""
    kind = "r" if increment.short_lived else "k"
    text = f"{kind}{increment.counter}\0{increment.idempotency_key}"
    return b64encode(blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()).decode()


def form_call(number: int, inbox: deque[Pending], partitions: int, windows: Windows) -> Call:
    """Takes what one call may hold from the front of the inbox; from an empty one a call that only shows life."""
    totals: dict[str, int] = {}
    plain: dict[str, int] = {}
    ids: list[tuple[str, str, str, str, int]] = []
    taken: list[Pending] = []
    items: list[int] = []
    while inbox and len(taken) < INCREMENTS_MAX:
        increment = inbox[0].increment
        counter, value = increment.counter, increment.value
        totals[counter] = totals.get(counter, 0) + value
        if totals[counter] > CALL_SUM_MAX:  # only with values near 2^53: the rest goes with the next call
            break
        if increment.idempotency_key is None:
            plain[counter] = plain.get(counter, 0) + value
        else:
            items.append(len(taken))
            partition = str(partition_of(counter, partitions))
            ids.append((partition, counter, str(value), digest_of(increment), windows.of(increment)))
        taken.append(inbox.popleft())
    sums = [(str(partition_of(counter, partitions)), counter, str(total)) for counter, total in plain.items()]
    return Call(number, msgspec.json.encode({"sums": sums, "ids": ids}), taken, list(plain), items)

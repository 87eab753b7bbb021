"""What became of every increment. Each is a power of 8 of its own on its counter, so a value names those that it holds,
and how often: a lost or a doubled one shows by name, in the end and in every read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from node.call import Outcome
from node.errors import TallyError, Unavailable
from node.settlement import FULL

BASE = 8
PER_COUNTER = 19  # 8**19 * 7 is below what a batch can take
FOREVER = float("inf")
BRIMFUL = "default:brimful"  # a counter that is full once anything of it is settled
BRIMFUL_AT = FULL - 1


@dataclass
class Sent:
    """An increment's time at one writer: from when it was sent there until it could not be counted there any more."""

    first: float
    last: float = FOREVER


@dataclass(eq=False)
class Op:
    """An increment, or a reset, and what its client knows of it."""

    name: str
    counter: str
    position: int  # of its digit; a reset has none: -1
    idempotency_key: str | None
    rival: Op | None = None  # another increment under the same idempotency key
    sent: dict[str, Sent] = field(default_factory=dict)
    acknowledged_at: float | None = None
    unknown: bool = False  # an attempt was, or is, in doubt
    refused: bool = False  # its last answer was that it is not counted, for good
    taken: int | None = None  # by a reset
    told: dict[str, float] = field(default_factory=dict)  # writer -> when it first said that this is counted
    asked: list[float] = field(default_factory=list)  # when it was sent to be decided: an add-and-get, or a reset

    @property
    def amount(self) -> int:
        return 1 << 3 * self.position

    @property
    def acknowledged(self) -> bool:
        return self.acknowledged_at is not None

    def begin(self, writer: str, now: float, decided: bool = False) -> None:
        self.sent.setdefault(writer, Sent(now)).last = FOREVER
        if decided:
            self.asked.append(now)

    def end(self, writer: str, now: float, result: Outcome | TallyError) -> None:
        """What a writer answered."""
        match result:
            case Outcome.COUNTED | Outcome.REPLAYED:
                self.acknowledged_at = self.acknowledged_at or now
                self.told.setdefault(writer, now)
            case Unavailable() if result.counted == "unknown":
                self.unknown = True
                return
            case Unavailable():
                pass
            case _:
                self.refused = True
        self.sent[writer].last = now

    def may_count(self) -> tuple[int, int]:
        """How often it is counted, at least and at most."""
        if self.acknowledged:
            return 1, 1
        return 0, int(self.unknown)


@dataclass
class Rewind:
    at: float
    back_to: float  # when the state was written that Redis came back with
    incarnation: int  # in Postgres at that moment: who comes back after it, does so in a later one
    over_at: float = FOREVER  # when everything was back


@dataclass
class Read:
    counter: str
    began: float
    ended: float
    value: int


class Ledger:
    """Everything that was sent, read, and went wrong in ways that excuse a loss."""

    def __init__(self) -> None:
        self.ops: dict[str, list[Op]] = {}  # by counter
        self.reads: list[Read] = []
        self.rewinds: list[Rewind] = []
        self.graves: dict[str, int] = {}  # writer -> the incarnation in which it had come back when it went

    def op(self, name: str, counter: str, idempotency_key: str | None, reset: bool = False) -> Op | None:
        """None when the counter has no digits left."""
        ops = self.ops.setdefault(counter, [])
        used = sum(op.position >= 0 for op in ops)
        if used == PER_COUNTER:
            return None
        op = Op(name, counter, -1 if reset else used, idempotency_key)
        ops.append(op)
        return op

    def all(self) -> Iterator[Op]:
        for ops in self.ops.values():
            yield from ops

    def excused(self, op: Op) -> bool:
        """The hole that is documented: Redis forgot it, and a writer that it was sent to went before it came back."""
        return any(True for _ in self._holes(op))

    def may_double(self, op: Op) -> bool:
        """Nobody who lives on had been told of it, so that nothing kept it from counting again; or it was in flight
        when Redis was brought back, for hearsay may be of that very call.
        """
        witnessed = min((at for writer, at in op.told.items() if writer not in self.graves), default=FOREVER)
        return any(
            rewind.at <= witnessed
            or any(sent.first <= rewind.over_at and sent.last >= rewind.at for sent in op.sent.values())
            for rewind in self._holes(op)
        )

    def may_be_undone(self, op: Op) -> bool:
        """An operation that is decided is not made again from flight: what it added may have been read, and is gone."""
        known = op.acknowledged_at or FOREVER
        return any(at <= rewind.at < known for at in op.asked for rewind in self.rewinds)

    def _holes(self, op: Op) -> Iterator[Rewind]:
        for writer, sent in op.sent.items():
            if writer in self.graves:
                for rewind in self.rewinds:
                    lost = rewind.back_to <= sent.last and sent.first <= rewind.at
                    if lost and self.graves[writer] <= rewind.incarnation:
                        yield rewind

    # --- judgement ------------------------------------------------------------------------------------------------

    def judge(self, values: dict[str, int]) -> list[str]:
        """What is wrong in the end; `values` as Postgres has them."""
        wrong: list[str] = []
        for counter, ops in self.ops.items():
            resets = [op for op in ops if op.position < 0]
            if any(self.excused(op) for op in resets):
                continue
            total = values.get(counter, 0) + sum(op.taken or 0 for op in resets) - base_of(counter)
            if any(op.unknown and not op.acknowledged and not op.refused for op in resets):
                continue
            wrong += self._judge_counter(counter, [op for op in ops if op.position >= 0], total)
        return wrong + self._judge_reads()

    def _judge_counter(self, counter: str, ops: list[Op], total: int) -> list[str]:
        wrong = []
        if total < 0 or total >= BASE ** max(len(ops), 1):
            return [f"{counter} is {total}"]
        for op in ops:
            times = digit(total, op.position)
            least, most = op.may_count()
            if op.rival is not None and (self.excused(op) or self.excused(op.rival)):
                continue
            if self.excused(op):
                least, most = 0, BASE if self.may_double(op) else 1
            if not least <= times <= most:
                what = "lost" if times < least else "doubled" if most else "counted, though it was refused"
                wrong.append(f"{op.name} on {counter} is {what}: {times} times, of {least} to {most}")
            if op.rival is not None and times + digit(total, op.rival.position) > 1:
                wrong.append(f"{op.name} and {op.rival.name}, under one key on {counter}, both count")
        return wrong

    def _judge_reads(self) -> list[str]:
        wrong: list[str] = []
        by_counter: dict[str, list[Read]] = {}
        for read in self.reads:
            by_counter.setdefault(read.counter, []).append(read)
        for counter, reads in by_counter.items():
            ops = self.ops.get(counter, [])
            if any(op.position < 0 for op in ops):
                continue
            sure = [op for op in ops if not self.may_be_undone(op)]
            sure = [op for op in sure if not self.excused(op) and not (op.rival and self.excused(op.rival))]
            for read in reads:
                wrong += _judge_read(read, sure)
            wrong += _judge_order(reads, sure)
        return wrong


def _judge_read(read: Read, ops: list[Op]) -> list[str]:
    value, wrong = read.value - base_of(read.counter), []
    for op in ops:
        times = digit(value, op.position)
        first = min((sent.first for sent in op.sent.values()), default=FOREVER)
        most = op.may_count()[1] if first <= read.ended else 0
        least = int(op.acknowledged_at is not None and op.acknowledged_at <= read.began)
        if not least <= times <= most:
            wrong.append(
                f"a read of {read.counter} at {read.ended:.3f} has {op.name} {times} times, not {least}-{most}"
            )
    return wrong


def _judge_order(reads: list[Read], ops: list[Op]) -> list[str]:
    """A read that begins after another has ended holds all that the other did."""
    wrong = []
    ordered = sorted(reads, key=lambda read: read.ended)
    for op in ops:
        seen = FOREVER
        for read in ordered:
            if digit(read.value - base_of(read.counter), op.position):
                seen = min(seen, read.ended)
            elif read.began >= seen:
                wrong.append(f"a read of {read.counter} at {read.ended:.3f} has lost {op.name}")
    return wrong


def base_of(counter: str) -> int:
    return BRIMFUL_AT if counter == BRIMFUL else 0


def digit(value: int, position: int) -> int:
    return (value >> 3 * position) % BASE

"""What a read may say while increments are on their way. Pure.

A read has at least what was acknowledged before it began, and what any read had that ended before it began: values
never go back. It has at most what was sent before it ended, without what was refused. On a digit key this holds for
each increment by itself, so that one that is missing cannot be made up for by another that is there too often.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cluster.attack.audit import History, KeyHistory, Outcome, digits
from cluster.attack.plan import BASE

Parts = list[int]  # of a value: its digits on a digit key, itself on a plain one


@dataclass(frozen=True, slots=True)
class WrongRead:
    """One read that says what it cannot."""

    key: str
    value: int
    least: int
    most: int

    def __str__(self) -> str:
        return f"a read of {self.key} says {self.value}, which is not from {self.least} to {self.most}"


class Bounds:
    """Beside a history, which knows outcomes: what was sent, and what was read."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._sent: Counter[str] = Counter()
        self._seen: dict[str, Parts] = {}  # by reads that have ended
        self.reads = 0
        self.wrong: list[WrongRead] = []

    def sent(self, key: str, value: int) -> None:
        self._sent[key] += value

    def begin(self, key: str) -> Parts:
        """Before a read of a key of the history: the least that it may say, for `end`."""
        told = self._history.keys[key]
        return _larger(_parts(told, told.sums[Outcome.ACKNOWLEDGED]), self._seen.get(key))

    def end(self, key: str, least: Parts, value: int) -> None:
        """After it."""
        told = self._history.keys[key]
        said, most = _parts(told, value), _parts(told, self._sent[key] - told.sums[Outcome.REFUSED])
        self.reads += 1
        self._seen[key] = _larger(said, self._seen.get(key))
        if not all(low <= number <= high for low, number, high in zip(least, said, most, strict=True)):
            self.wrong.append(WrongRead(key, value, _sum(least), _sum(most)))


def _parts(told: KeyHistory, value: int) -> Parts:
    return [value] if told.places is None else digits(value)


def _larger(parts: Parts, others: Parts | None) -> Parts:
    return parts if others is None else list(map(max, parts, others))


def _sum(parts: Parts) -> int:
    return sum(number * BASE**place for place, number in enumerate(parts))

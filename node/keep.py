"""A writer's acknowledged calls, kept for a Redis that goes back in time. Pure.

A call is kept until it is settled *and* older than a horizon: Redis may forget the last seconds, settled or not, and
the ids of a settled call must be put back as well. The bytes kept are bounded; what had to be given up is counted,
never silent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kept:
    """A call that Redis has answered."""

    number: int
    payload: bytes
    partitions: frozenset[int]  # that it touches
    at: float  # when it was answered, monotonic seconds


class Keep:
    """The last calls of one writer, in the order of their numbers."""

    def __init__(self, horizon_s: float, bytes_max: int) -> None:
        self._horizon_s, self._bytes_max = horizon_s, bytes_max
        self._calls: deque[Kept] = deque()
        self._bytes = 0
        self.given_up = 0  # number of the last call that was let go for want of room

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, number: int, payload: bytes, partitions: frozenset[int], now: float) -> None:
        self._calls.append(Kept(number, payload, partitions, now))
        self._bytes += len(payload)
        while self._bytes > self._bytes_max:
            self.given_up = self._let_go().number

    def forget_old(self, now: float, settled: Mapping[int, int]) -> None:
        """`settled`: partition -> number of this writer's last call that Postgres has."""
        while self._calls and self._calls[0].at < now - self._horizon_s:
            first = self._calls[0]
            if settled_parts(first.number, first.partitions, settled) != first.partitions:
                break
            self._let_go()

    def _let_go(self) -> Kept:
        gone = self._calls.popleft()
        self._bytes -= len(gone.payload)
        return gone


def settled_parts(number: int, partitions: frozenset[int], settled: Mapping[int, int]) -> frozenset[int]:
    """The partitions of a call that have it in Postgres. The others have not, whatever these have."""
    return frozenset(p for p in partitions if settled.get(p, 0) >= number)

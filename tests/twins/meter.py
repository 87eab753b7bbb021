"""A meter that remembers."""

from __future__ import annotations

from collections import Counter


class MemoryMeter:
    """`ports.Meter`"""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.timings: list[tuple[str, float]] = []

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] += by

    def timing(self, name: str, ms: float) -> None:
        self.timings.append((name, ms))

"""Records in memory, for what only clears them up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from node.counters import HistoryStep, Listed


class MemoryRecords:
    """`counters.Records` of nothing."""

    forgotten = 0

    async def counters(self, namespace: str, prefix: str, after: str, limit: int) -> list[Listed]:
        return []

    async def stored(self, namespace: str, keys: Sequence[str]) -> list[Listed | None]:
        return [None] * len(keys)

    async def history(
        self, namespace: str, key: str, step: HistoryStep, start: datetime, end: datetime, limit: int
    ) -> list[tuple[datetime, int]]:
        return []

    async def forget_history(self) -> int:
        self.forgotten += 1
        return 0

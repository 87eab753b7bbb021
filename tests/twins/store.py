"""The store of record in memory: queries.sql again, in Python. It passes the same contract suite as Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import get_args

from cluster.ring import partition_of
from node.ports import Fenced, Settled, Step
from node.settlement import FULL, Batch, Stored, outcomes_of


@dataclass
class MemoryStore:
    """`ports.Store`, all partitions on lane 0."""

    partitions: int
    cluster: str = "cluster-1"
    run_id: str | None = None
    incarnation: int = 0
    settled: dict[int, int] = field(default_factory=dict)
    calls: dict[int, dict[str, int]] = field(default_factory=dict)
    outcomes: dict[int, dict[str, str]] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    updated: dict[str, datetime] = field(default_factory=dict)
    writers: dict[str, dict[Step, int]] = field(default_factory=dict)
    _ticks: int = 0

    async def fence(self, lane: int, run_id: str, lost: bool) -> Fenced:
        if self.run_id != run_id or lost:
            self.run_id, self.incarnation = run_id, self.incarnation + 1
        settled = {p: self.settled.get(p, 0) for p in range(self.partitions)}
        full = [counter for counter, value in self.values.items() if abs(value) >= FULL]
        return Fenced(self.cluster, self.incarnation, settled, full)

    async def enlist(self, lane: int, writer: str) -> None:
        self.writers.setdefault(writer, dict.fromkeys(get_args(Step), 0))

    async def mark(self, writer: str, step: Step, incarnation: int) -> bool:
        if writer not in self.writers:
            return False
        self.writers[writer][step] = max(self.writers[writer][step], incarnation)  # a mark may be late
        return True

    async def behind(self, lane: int, step: Step, incarnation: int) -> list[str]:
        return [name for name, steps in self.writers.items() if steps[step] < incarnation]

    async def strike(self, lane: int, writers: Sequence[str]) -> None:
        for writer in writers:
            self.writers.pop(writer, None)
        for p, calls in self.calls.items():
            self.calls[p] = {name: number for name, number in calls.items() if name in self.writers}
        for p, noted in self.outcomes.items():
            self.outcomes[p] = {name: text for name, text in noted.items() if name.split("/")[0] in self.writers}

    async def settled_calls(self, lane: int, writer: str) -> dict[int, int]:
        return {p: calls[writer] for p, calls in self.calls.items() if writer in calls}

    async def settled_outcomes(self, lane: int, writer: str) -> dict[int, list[str]]:
        names = (f"{writer}/0", f"{writer}/1")
        return outcomes_of(noted[name] for noted in self.outcomes.values() for name in names if name in noted)

    async def settle(self, batch: Batch) -> Settled:
        p = batch.partition
        moved = self.settled.get(p, 0) == batch.number - 1 and batch.incarnation == self.incarnation
        if moved:
            self.settled[p] = batch.number
            self.calls.setdefault(p, {}).update(batch.calls)
            self.outcomes.setdefault(p, {}).update(batch.outcomes)
            for counter, amount in batch.sums.items():
                self.values[counter] = self.values.get(counter, 0) + amount
                self.updated[counter] = self._now()
        full = [c for c, v in self.values.items() if abs(v) >= FULL and partition_of(c, self.partitions) == p]
        return Settled(moved, self.settled.get(p, 0), full)

    async def stored(self, counters: Sequence[str]) -> list[Stored]:
        return [
            Stored(
                self.values.get(counter),
                self.settled.get(partition_of(counter, self.partitions), 0),
                self.updated.get(counter),
            )
            for counter in counters
        ]

    def _now(self) -> datetime:
        """No moment comes twice."""
        self._ticks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._ticks)

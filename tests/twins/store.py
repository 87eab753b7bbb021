"""The store of record in memory: queries.sql again, in Python. It passes the same contract suite as Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.ring import partition_of
from node.ports import Fenced, Settled
from node.settlement import FULL, Batch, Stored


@dataclass
class MemoryStore:
    """`ports.Store`, all partitions on lane 0."""

    partitions: int
    cluster: str = "cluster-1"
    run_id: str | None = None
    incarnation: int = 0
    settled: dict[int, int] = field(default_factory=dict)
    calls: dict[int, dict[str, int]] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)

    async def fence(self, lane: int, run_id: str, lost: bool) -> Fenced:
        if self.run_id != run_id or lost:
            self.run_id, self.incarnation = run_id, self.incarnation + 1
        settled = {p: self.settled.get(p, 0) for p in range(self.partitions)}
        full = [counter for counter, value in self.values.items() if value >= FULL]
        return Fenced(self.cluster, self.incarnation, settled, full)

    async def settle(self, batch: Batch) -> Settled:
        p = batch.partition
        moved = self.settled.get(p, 0) == batch.number - 1 and batch.incarnation == self.incarnation
        if moved:
            self.settled[p] = batch.number
            self.calls.setdefault(p, {}).update(batch.calls)
            for counter, amount in batch.sums.items():
                self.values[counter] = self.values.get(counter, 0) + amount
        full = [c for c, v in self.values.items() if v >= FULL and partition_of(c, self.partitions) == p]
        return Settled(moved, self.settled.get(p, 0), full)

    async def stored(self, counters: Sequence[str]) -> list[Stored]:
        return [
            Stored(self.values.get(counter), self.settled.get(partition_of(counter, self.partitions), 0))
            for counter in counters
        ]

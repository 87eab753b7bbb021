"""Rounds that alternate: ours, the peer, ours, the peer. A ratio is of two measurements made one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from cluster.bench.ours import Bench
from cluster.bench.peers import PeerMissing
from cluster.bench.rows import Row
from cluster.local.errors import LocalError

Say = Callable[[str], None]


@dataclass
class Result:
    """A row as measured. `problem` instead of figures when it failed or was left out."""

    row: Row
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    problem: str | None = None
    left_out: bool = False
    peer_failed: int = 0  # requests

    @property
    def ratios(self) -> list[float]:
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=False)]

    @property
    def verdict(self) -> str:
        """By the median: "goal", "floor" (reached), "below", "-" without a goal, "failed", "left out"."""
        row = self.row
        if self.problem is not None:
            return "left out" if self.left_out else "failed"
        if row.goal is None or row.floor is None:
            return "-"
        ratio = median(self.ratios)
        if ratio <= row.goal if row.lower_is_better else ratio >= row.goal:
            return "goal"
        return "floor" if (ratio <= row.floor if row.lower_is_better else ratio >= row.floor) else "below"

    def as_json(self) -> dict[str, Any]:
        row = self.row
        told: dict[str, Any] = {"name": row.name, "title": row.title, "against": row.against, "unit": row.unit}
        told |= {"cores": row.cores, "ids": row.ids, "goal": row.goal, "floor": row.floor}
        told |= {"lower_is_better": row.lower_is_better, "verdict": self.verdict, "problem": self.problem}
        if self.problem is None:
            ratios = self.ratios
            told |= {"ours": self.ours, "peer": self.peer, "ratios": ratios}
            told |= {"ours_median": median(self.ours), "peer_median": median(self.peer)}
            told |= {"peer_failed": self.peer_failed}
            told |= {"min": min(ratios), "median": median(ratios), "max": max(ratios)}
        return told


async def play(bench: Bench, row: Row, rounds: int, seconds: float, say: Say) -> Result:
    """One row, its servers started and ended. What goes wrong is in the result, for the other rows go on."""
    result = Result(row)
    try:
        async with AsyncExitStack() as stack:
            ours, peer = await row.prepare(bench, stack)
            for number in range(1, rounds + 1):
                mine = await ours(seconds)
                theirs = await peer(seconds)
                result.ours.append(mine.figure)
                result.peer.append(theirs.figure)
                result.peer_failed += theirs.failed
                failed = f", of which {theirs.failed} failed" if theirs.failed else ""
                say(f"{row.name} {number}/{rounds}: {mine.figure:,.4g} to {theirs.figure:,.4g}{failed}")
    except (LocalError, OSError, TimeoutError) as error:
        result.problem, result.left_out = str(error) or type(error).__name__, isinstance(error, PeerMissing)
        say(f"{row.name} {result.verdict}: {result.problem}")
    return result

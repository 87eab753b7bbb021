"""A lane of the log in memory: log.lua again, in Python. It passes the same contract suite as the real one."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from cluster.ring import partition_of
from node.errors import LogGap, LogUnavailable, LogUnrepaired
from node.payload import DECIDED, HEARSAY, ITEM, NOT_COUNTED, TAKEN, amount_of
from node.ports import Facts, Fenced, Introduced, RememberedId
from node.settlement import SUM_MAX, Apart, Batch, Stored, Unsettled, value_of

CALLS_IN_FLIGHT = 2
PERSISTENT = (
    "cluster",
    "incarnation",
    "whole_in",
    "life",
    "repaired_run",
    "parts",
    "writers",
    "ids",
    "windows",
    "full",
)


@dataclass
class Part:
    """A partition: its open batch and, where there is one, the sealed one."""

    open_number: int
    sums: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    sealed: Batch | None = None


@dataclass
class Writer:
    last: int
    answers: dict[int, str] = field(default_factory=dict)


@dataclass
class MemoryLog:
    """`ports.Log`. Everything it holds can be looked at; `flush` empties it as FLUSHALL does."""

    partitions: int
    now_s: Callable[[], float] = lambda: 0.0
    run_id: str = "run-1"
    trouble: str | None = None
    cluster: str | None = None
    incarnation: int | None = None
    whole_in: int | None = None
    life: str | None = None
    repaired_run: str | None = None
    lives: int = 0  # that were given
    parts: dict[int, Part] = field(default_factory=dict)
    writers: dict[str, Writer] = field(default_factory=dict)
    ids: dict[tuple[int, int, str], str] = field(default_factory=dict)  # (window's length, window, digest) -> value
    windows: dict[int, None] = field(default_factory=dict)  # lengths that there were; a request id's are negative
    full: set[str] = field(default_factory=set)
    appenders: list[MemoryAppender] = field(default_factory=list)

    def flush(self) -> None:
        self.cluster = self.incarnation = self.whole_in = self.life = self.repaired_run = None
        self.parts.clear()
        self.writers.clear()
        self.ids.clear()
        self.windows.clear()
        self.full.clear()

    def snapshot(self) -> dict[str, Any]:
        """What is on its disk now."""
        return copy.deepcopy({name: getattr(self, name) for name in PERSISTENT})

    def crash(self, back_to: dict[str, Any]) -> None:
        """Comes back as it was at a snapshot, as another process: every connection breaks."""
        for name, value in copy.deepcopy(back_to).items():
            setattr(self, name, value)
        self.run_id = f"run-{int(self.run_id[4:]) + 1}"
        for appender in self.appenders:
            if appender.open:
                appender.cut()

    async def connect(self, broken: Callable[[], None]) -> MemoryAppender:
        appender = MemoryAppender(self, broken)
        self.appenders.append(appender)
        return appender

    async def facts(self) -> Facts:
        facts = (self.run_id, self.cluster, self.incarnation, self.whole_in, self.life, self.repaired_run)
        return Facts(*facts, self.trouble)

    async def introduce(self, writer: str, last: int) -> Introduced:
        known = writer in self.writers
        return Introduced(known, self.writers.setdefault(writer, Writer(last)).last)

    async def forget_writers(self, writers: Sequence[str]) -> None:
        for writer in writers:
            self.writers.pop(writer, None)

    async def remember_ids(self, ids: Sequence[RememberedId]) -> None:
        for seconds, digest, value in ids:
            had = self._noted(seconds, digest)
            if had is None or (had.startswith(HEARSAY) and not value.startswith(HEARSAY)):
                self._note(seconds, digest, value)

    async def whole(self, incarnation: int) -> None:
        if self.incarnation == incarnation:
            self.whole_in = incarnation

    async def repair(self, fenced: Fenced, found: Facts) -> str:
        if self.incarnation is not None and self.incarnation > fenced.incarnation:
            raise LogUnrepaired
        if self.life != found.life:
            raise LogUnrepaired
        self.full.update(fenced.full)
        for p, settled in fenced.settled.items():
            part = self.parts.get(p)
            if part is None or part.open_number <= settled:
                self.parts[p] = Part(settled + 1)
            elif part.sealed and part.sealed.number <= settled:
                part.sealed = None
        self.cluster, self.incarnation, self.repaired_run = fenced.cluster, fenced.incarnation, found.run_id
        if self.life is None:
            self.lives += 1
            self.life = f"life-{self.lives}"
        return self.life

    async def seal(self, partition: int) -> Batch | None:
        part = self._part(partition)
        assert self.incarnation is not None
        if part.sealed is None and part.calls:
            part.sealed = Batch(partition, part.open_number, self.incarnation, part.sums, part.calls, part.outcomes)
            part.open_number, part.sums, part.calls, part.outcomes = part.open_number + 1, {}, {}, {}
        # a batch that was sealed before a repair is settled under the incarnation of the repair
        return replace(part.sealed, incarnation=self.incarnation) if part.sealed else None

    async def drop(self, partition: int, settled: int, full: Sequence[str]) -> bool:
        self.full.update(full)
        part = self.parts.get(partition)
        if part is None or part.sealed is None or part.sealed.number > settled:
            return False
        part.sealed = None
        return True

    async def forget_ids(self) -> int:
        now = self.now_s()
        self.ids = {name: value for name, value in self.ids.items() if (name[1] + 2) * abs(name[0]) > now}
        return 0

    async def receipt(self, window_s: int, digest: str) -> str | None:
        if not self._readable:
            raise LogUnrepaired
        return self._remembered(window_s, digest)

    @property
    def _whole(self) -> bool:
        return self.incarnation is not None and self.whole_in == self.incarnation

    @property
    def _readable(self) -> bool:
        return self._whole and self.repaired_run == self.run_id

    async def read(self, counters: Sequence[str]) -> list[Unsettled]:
        if not self._readable:
            raise LogUnrepaired
        return [self._unsettled(counter) for counter in counters]

    def _unsettled(self, counter: str) -> Unsettled:
        part = self._part(partition_of(counter, self.partitions))
        sealed = part.sealed
        return Unsettled(
            part.open_number,
            sealed.number if sealed else None,
            sealed.sums.get(counter) if sealed else None,
            part.sums.get(counter),
        )

    def _part(self, partition: int) -> Part:
        if partition not in self.parts:
            raise LogUnrepaired
        return self.parts[partition]

    # --- append: log.lua, function by function ----------------------------------------------------------------

    def append(
        self, name: str, incarnation: int, number: int, payload: bytes, skipped: Collection[int] | None = None
    ) -> str:
        writer = self.writers.get(name)
        if writer is None or incarnation != self.incarnation:
            raise LogUnrepaired
        if number <= writer.last:
            if number not in writer.answers:
                raise LogUnavailable
            return writer.answers[number]
        if number > writer.last + 1 and skipped is None:
            raise LogGap
        skip, replayed = {str(p) for p in skipped or ()}, skipped is not None
        content = json.loads(payload)
        sums = [(group["p"], *pair) for group in content["sums"] for pair in zip(group["c"], group["s"], strict=True)]
        items, operations = batched(content["ids"], ITEM), batched(content.get("decided", []), DECIDED)
        touched = [each[0] for each in [*sums, *items, *operations]]
        parts = {p: self._part(int(p)) for p in touched}  # raises when one has no number
        for p, part in parts.items():
            if p not in skip:
                part.calls[name] = number
        outcomes: list[tuple[str, str]] = []  # (partition, token)
        exceptions = self._sums(sums, skip, replayed, outcomes) + self._items(items, skip, replayed, outcomes)
        answer = " ".join(exceptions + self._decided(operations, self._whole and not replayed, outcomes))
        for p, tokens in groupby(sorted(outcomes, key=itemgetter(0)), key=itemgetter(0)):
            noted = " ".join([str(number), *(token for _, token in tokens)])
            self._part(int(p)).outcomes[f"{name}/{number % CALLS_IN_FLIGHT}"] = noted
        writer.last = number
        writer.answers[number] = answer
        writer.answers.pop(number - CALLS_IN_FLIGHT, None)
        return answer

    def _sums(
        self, sums: list[tuple[Any, ...]], skip: set[str], replayed: bool, outcomes: list[tuple[str, str]]
    ) -> list[str]:
        answer = []
        for i, (p, counter, total) in enumerate(sums):
            if p not in skip and not self._add(p, counter, int(total), replayed):
                answer.append(f"s{i}")
                outcomes.append((p, f"s{i}"))
        return answer

    def _noted(self, seconds: int, digest: str) -> str | None:
        for s in self.windows:
            if (s < 0) == (seconds < 0):
                window = int(self.now_s() // abs(s))
                for earlier in (window, window - 1):
                    if (had := self.ids.get((s, earlier, digest))) is not None:
                        return had
        return None

    def _note(self, seconds: int, digest: str, value: str) -> None:
        self.windows[seconds] = None
        self.ids[seconds, int(self.now_s() // abs(seconds)), digest] = value

    def _remembered(self, seconds: int, digest: str, replayed: bool = False) -> str | None:
        had = self._noted(seconds, digest)
        if had is not None and had.startswith(HEARSAY):
            return None if replayed else had.removeprefix(HEARSAY)
        return had

    def _items(
        self, items: list[tuple[Any, ...]], skip: set[str], replayed: bool, outcomes: list[tuple[str, str]]
    ) -> list[str]:
        answer = []
        for i, (p, counter, value, digest, seconds) in enumerate(items):
            if p in skip:
                continue
            had = self._remembered(seconds, digest, replayed)
            if had is not None:
                token = f"r{i}" if had == value else f"m{i}"
            elif self._add(p, counter, amount_of(value), replayed):
                self._note(seconds, digest, value)
                continue
            else:
                token = f"x{i}"
            answer.append(token)
            if token[0] in NOT_COUNTED:
                outcomes.append((p, token))
        return answer

    def _add(self, partition: str, counter: str, amount: int, replayed: bool = False) -> bool:
        sums = self._part(int(partition)).sums
        if (counter in self.full and not replayed) or abs(sums.get(counter, 0) + amount) >= SUM_MAX:
            return False
        sums[counter] = sums.get(counter, 0) + amount
        return True

    def _decided(self, operations: list[tuple[Any, ...]], whole: bool, outcomes: list[tuple[str, str]]) -> list[str]:
        answer = []
        for i, (p, *operation) in enumerate(operations):
            ruling = f"d{i}:" + (self._decide(p, *operation) if whole else "a")
            answer.append(ruling)
            if ruling.startswith(f"d{i}:c"):
                outcomes.append((p, ruling))
        return answer

    def _decide(
        self, p: str, counter: str, value: str, stored: str, settled: int, least: str, most: str, digest: str, s: int
    ) -> str:
        had = self._remembered(s, digest) if digest else None
        if not value and had is not None:
            return "r" + had[1:] if had.startswith(TAKEN) else "m"
        unsettled = self._unsettled(counter)
        total = value_of(Stored(int(stored) if stored else None, settled), unsettled)
        if isinstance(total, Apart):
            return "a"
        known = "" if total is None else str(total)
        if had is not None:
            return ("r" if had == value else "m") + known
        if not value and total is None:
            return "n"
        amount = int(value) if value else -(total or 0)
        after = (total or 0) + amount
        if (least and after < int(least)) or (most and after > int(most)):
            return "b" + known
        if not self._add(p, counter, amount):
            return "x" + known
        if digest:
            self._note(s, digest, value or TAKEN + known)
        return "c" + (str(after) if value else known)


def batched(flat: list[Any], size: int) -> list[tuple[Any, ...]]:
    return [tuple(flat[i : i + size]) for i in range(0, len(flat), size)]


class MemoryAppender:
    """`ports.Appender`. `cut` breaks the connection; `lose_next` runs a call and loses its answer; with `hold` an
    answer is on its way for as long as the connection lasts.
    """

    def __init__(self, log: MemoryLog, broken: Callable[[], None]) -> None:
        self._log, self._broken = log, broken
        self.open = True
        self.lose_next = False
        self.hold: asyncio.Event | None = None  # set by `cut`
        self.holding = False

    async def append(self, writer: str, incarnation: int, number: int, payload: bytes) -> str:
        if not self.open:
            raise LogUnavailable
        answer = self._log.append(writer, incarnation, number, payload)
        if self.lose_next:
            self.cut()
            raise LogUnavailable
        if self.hold is not None:
            self.holding = True
            await self.hold.wait()
            raise LogUnavailable
        return answer

    async def replay(self, writer: str, incarnation: int, number: int, payload: bytes, skipped: Collection[int]) -> str:
        if not self.open:
            raise LogUnavailable
        return self._log.append(writer, incarnation, number, payload, skipped)

    def cut(self) -> None:
        self.open = False
        if self.hold is not None:
            self.hold.set()
        self._broken()

    async def close(self) -> None:
        self.open = False

"""Redis and Postgres, made of the twins, and how a node reaches them. They note what odd things happen to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.ring import partition_of
from node.errors import LogRefused, LogUnavailable, StoreUnavailable
from node.payload import RememberedId
from node.ports import Facts, Fenced, Introduced, Settled, Step
from node.settlement import FULL, Batch, Stored, Unsettled
from tests.sim.clock import Host, Loop
from tests.sim.net import Pipe, Server, Way
from tests.twins.log import MemoryLog
from tests.twins.store import MemoryStore

PARTITIONS = 4
DAY_S = 86_400


class Redis(Server):
    """The log's twin as a server, and the members' leases in it. Where it goes back in time, so do they."""

    def __init__(self, loop: Loop, midnight_at: float, odd: Counter[str]) -> None:
        super().__init__(loop, "redis", LogUnavailable)
        self.odd = odd
        start = 20_000 * DAY_S - midnight_at
        self.log = MemoryLog(PARTITIONS, now_s=lambda: start + loop.time())
        self.leases: dict[str, float] = {}
        self.room = True  # in its memory
        self.whole_at: list[float] = []  # when everything was back
        self.refused: dict[tuple[str, int], str] = {}  # answers in which something was refused

    def snapshot(self) -> dict[str, Any]:
        return self.log.snapshot() | {"leases": dict(self.leases)}

    def come_back(self, state: dict[str, Any]) -> None:
        """Another process, as it was at a snapshot."""
        self.leases = dict(state["leases"])
        self.log.crash({name: value for name, value in state.items() if name != "leases"})
        self.up = True

    def flush(self) -> None:
        self.log.flush()
        self.leases.clear()

    async def beat(self, name: str, lease_s: float) -> list[str]:
        """-> the members that hold a lease"""
        now = self.loop.time()
        self.leases[name] = now + lease_s
        return sorted(member for member, until in self.leases.items() if until > now)

    async def alive(self) -> frozenset[str]:
        now = self.loop.time()
        return frozenset(member for member, until in self.leases.items() if until > now)

    async def whole(self, incarnation: int) -> None:
        await self.log.whole(incarnation)
        if self.log._readable:
            self.whole_at.append(self.loop.time())

    async def append(
        self, writer: str, incarnation: int, number: int, payload: bytes, skipped: Collection[int] | None = None
    ) -> str:
        if not self.room:
            raise LogRefused
        known = self.log.writers.get(writer)
        came_again = known is not None and number <= known.last
        answer = self.log.append(writer, incarnation, number, payload, skipped)
        if self.trace is not None:
            again = "again " if came_again else "" if skipped is None else f"replayed without {sorted(skipped)} "
            self.trace(f"{writer} call {number} {again}{payload.decode()}")
        if came_again:
            self.odd["call came again"] += 1
        elif skipped is not None:
            self._note_replay(writer, number, answer, skipped)
        if any(token[0] in "mxs" for token in answer.split()):
            self.refused[writer, number] = answer
        return answer

    def _note_replay(self, writer: str, number: int, answer: str, skipped: Collection[int]) -> None:
        self.odd["call replayed"] += 1
        self.odd["call replayed in part"] += bool(skipped)
        self.odd["call with a refused item replayed"] += (writer, number) in self.refused
        self.odd["replayed increment was known"] += "r" in answer

    def note(self, host: Host, request: str, answer: object, error: BaseException | None, fate: str) -> None:
        super().note(host, request, answer, error, fate)
        if fate != "well":
            self.odd[f"redis: {request} {fate}"] += 1
        if error is not None:
            self.odd[f"redis: {request} {type(error).__name__}"] += 1


class Postgres(Server):
    """The store's twin as a server."""

    def __init__(self, loop: Loop, odd: Counter[str]) -> None:
        super().__init__(loop, "postgres", StoreUnavailable)
        self.odd = odd
        self.store = MemoryStore(PARTITIONS)

    async def settle(self, batch: Batch, settler: str) -> Settled:
        before, incarnation = self.store.settled.get(batch.partition, 0), self.store.incarnation
        settled = await self.store.settle(batch)
        if settled.moved:
            others = {writer for writer in batch.calls if writer != settler}
            self.odd["settled for others"] += bool(others)
            gone = others - self.store.writers.keys()
            self.odd["settled for a writer that is gone"] += bool(gone)
        elif before >= batch.number:
            self.odd["settle refused: settled already"] += 1
        elif incarnation != batch.incarnation:
            self.odd["settle refused: older incarnation"] += 1
        return settled

    async def state(self, batch: Batch) -> Settled:
        """Of the batch's partition: a statement of its own, after a settle that moved nothing."""
        p, values = batch.partition, self.store.values
        full = [c for c, value in values.items() if abs(value) >= FULL and partition_of(c, PARTITIONS) == p]
        return Settled(False, self.store.settled.get(p, 0), full)

    def note(self, host: Host, request: str, answer: object, error: BaseException | None, fate: str) -> None:
        super().note(host, request, answer, error, fate)
        if request == "settle" and fate in ("unheard", "late") and isinstance(answer, Settled) and answer.moved:
            self.odd["commit unknown: committed"] += 1
        elif request == "settle" and fate == "lost":
            self.odd["commit unknown: not committed"] += 1
        if fate != "well":
            self.odd[f"postgres: {request} {fate}"] += 1


@dataclass
class SimAppender:
    """`ports.Appender`"""

    redis: Redis
    pipe: Pipe

    async def append(self, writer: str, incarnation: int, number: int, payload: bytes) -> str:
        return await self.pipe.ask("append", lambda: self.redis.append(writer, incarnation, number, payload))

    async def replay(self, writer: str, incarnation: int, number: int, payload: bytes, skipped: Collection[int]) -> str:
        return await self.pipe.ask("replay", lambda: self.redis.append(writer, incarnation, number, payload, skipped))

    async def close(self) -> None:
        self.pipe.close()


@dataclass
class SimLog:
    """`ports.Log`, as one node reaches it."""

    redis: Redis
    way: Way
    log: MemoryLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.redis.log

    async def connect(self, broken: Callable[[], None]) -> SimAppender:
        return SimAppender(self.redis, await self.way.connect(broken))

    async def facts(self) -> Facts:
        return await self.way.ask("facts", self.log.facts)

    async def introduce(self, writer: str, last: int) -> Introduced:
        return await self.way.ask("introduce", lambda: self.log.introduce(writer, last))

    async def forget_writers(self, writers: Sequence[str]) -> None:
        await self.way.ask("forget_writers", lambda: self.log.forget_writers(writers))

    async def remember_ids(self, ids: Sequence[RememberedId]) -> None:
        await self.way.ask("remember_ids", lambda: self.log.remember_ids(ids))
        self.redis.odd["ids put back"] += 1

    async def whole(self, incarnation: int) -> None:
        await self.way.ask("whole", lambda: self.redis.whole(incarnation))

    async def repair(self, fenced: Fenced, found: Facts) -> str:
        return await self.way.ask("repair", lambda: self.log.repair(fenced, found))

    async def seal(self, partition: int) -> Batch | None:
        return await self.way.ask("seal", lambda: self.log.seal(partition))

    async def drop(self, partition: int, settled: int, full: Sequence[str]) -> bool:
        return await self.way.ask("drop", lambda: self.log.drop(partition, settled, full))

    async def forget_ids(self) -> int:
        return await self.way.ask("forget_ids", self.log.forget_ids)

    async def receipt(self, window_s: int, digest: str) -> str | None:
        return await self.way.ask("receipt", lambda: self.log.receipt(window_s, digest))

    async def read(self, counters: Sequence[str]) -> list[Unsettled]:
        return await self.way.ask("read", lambda: self.log.read(counters))


@dataclass
class SimStore:
    """`ports.Store`, as one node reaches it. Two statements that are no transaction are two requests."""

    postgres: Postgres
    way: Way
    name: str
    store: MemoryStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = self.postgres.store

    async def fence(self, lane: int, run_id: str, lost: bool) -> Fenced:
        return await self.way.ask("fence", lambda: self.store.fence(lane, run_id, lost))

    async def enlist(self, lane: int, writer: str) -> None:
        await self.way.ask("enlist", lambda: self.store.enlist(lane, writer))

    async def mark(self, writer: str, step: Step, incarnation: int) -> bool:
        return await self.way.ask("mark", lambda: self.store.mark(writer, step, incarnation))

    async def behind(self, lane: int, step: Step, incarnation: int) -> list[str]:
        return await self.way.ask("behind", lambda: self.store.behind(lane, step, incarnation))

    async def strike(self, lane: int, writers: Sequence[str]) -> None:
        await self.way.ask("strike", lambda: self.store.strike(lane, writers))

    async def settled_calls(self, lane: int, writer: str) -> dict[int, int]:
        return await self.way.ask("settled_calls", lambda: self.store.settled_calls(lane, writer))

    async def settled_outcomes(self, lane: int, writer: str) -> dict[int, list[str]]:
        return await self.way.ask("settled_outcomes", lambda: self.store.settled_outcomes(lane, writer))

    async def settle(self, batch: Batch) -> Settled:
        settled = await self.way.ask("settle", lambda: self.postgres.settle(batch, self.name))
        return settled if settled.moved else await self.way.ask("state", lambda: self.postgres.state(batch))

    async def stored(self, counters: Sequence[str]) -> list[Stored]:
        return await self.way.ask("stored", lambda: self.store.stored(counters))

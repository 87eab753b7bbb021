"""What the shell needs of the world: the contracts, in prose, once. The adapters and the tests' twins keep to them.

Every method may be called again at any time, by any node, with the same result: that is what makes retries harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from node.metrics import Count, Timing
from node.payload import RememberedId as RememberedId
from node.settlement import Batch, Stored, Unsettled
from node.terms import Namespace, StrategyName, Terms


@dataclass(frozen=True, slots=True)
class Facts:
    """What a Redis says of itself, and what was noted in it."""

    run_id: str  # new at every start of the server
    cluster: str | None  # id of the cluster whose batches it holds; None when it holds none (new, or flushed)
    incarnation: int | None
    whole: int | None = None  # the incarnation in which every writer has put back what Redis had lost
    life: str | None = None  # another after Redis was flushed, which the same server may be
    repaired_run: str | None = None  # the run_id it was last repaired under
    trouble: str | None = None  # why it cannot keep the promises: no AOF, eviction allowed


@dataclass(frozen=True, slots=True)
class Fenced:
    """A lane in Postgres after fencing."""

    cluster: str
    incarnation: int
    settled: Mapping[int, int]  # partition -> number of its last settled batch
    full: Sequence[str]  # counters that must not grow any more


@dataclass(frozen=True, slots=True)
class Settled:
    """A partition in Postgres after a settle, whoever did it."""

    moved: bool  # this very call settled the batch
    settled: int
    full: Sequence[str]


@dataclass(frozen=True, slots=True)
class Introduced:
    """What Redis knows of a writer."""

    known: bool  # before it was introduced now
    last: int  # number of its last call


Step = Literal["remembered", "replayed", "resumed"]


class Appender(Protocol):
    """One connection to a lane, on which calls stay in order. Once it has failed it is never used again."""

    async def append(self, writer: str, incarnation: int, number: int, payload: bytes) -> str:
        """Adds a call's increments to the open batches, once, and answers its exceptions (see call.py).

        A call that comes again gets the answer it got before. Several may be awaited at once, and are run in the
        order in which they were made. Errors: LogRefused when Redis answered that it changed nothing (LogGap: because
        a call before it was refused; LogUnrepaired: the writer has not come back in the incarnation that Redis is
        in); LogUnavailable when nobody knows whether it was run.
        """
        ...

    async def replay(self, writer: str, incarnation: int, number: int, payload: bytes, skipped: Collection[int]) -> str:
        """`append` of a call that Redis may have lost, but for the partitions that have it in Postgres.

        It need not follow the writer's last call, and no counter is too full for it. Errors: as `append`.
        """
        ...

    async def close(self) -> None: ...


class Log(Protocol):
    """One lane of numbered batches in Redis. Errors: LogUnavailable and those below it."""

    async def connect(self, broken: Callable[[], None]) -> Appender:
        """`broken` is called when the connection breaks, be it idle: the Redis that comes back may have gone back in
        time.
        """
        ...

    async def facts(self) -> Facts: ...

    async def introduce(self, writer: str, last: int) -> Introduced:
        """Makes a writer's name known; `last` is the number before its next call. Changes nothing when it is known."""
        ...

    async def forget_writers(self, writers: Sequence[str]) -> None:
        """Forgets the names of the dead; what they still send is refused (LogUnrepaired)."""
        ...

    async def remember_ids(self, ids: Sequence[RememberedId]) -> None:
        """Puts back ids whose increments Postgres has, or, with HEARSAY before their value, that another call counted.

        One that is known keeps the value it has. Hearsay is known to an append, and unknown to a replay.
        """
        ...

    async def whole(self, incarnation: int) -> None:
        """Notes that every writer has put back what was lost; until then reads are refused."""
        ...

    async def repair(self, fenced: Fenced, found: Facts) -> str:
        """Drops what Postgres has settled, gives every partition its number, notes the incarnation; -> Redis' life.

        Errors: LogUnrepaired when a newer incarnation is noted there already, or Redis is not in the life that was
        found.
        """
        ...

    async def seal(self, partition: int) -> Batch | None:
        """The partition's sealed batch; its open one is sealed when there is none. None when nothing is unsettled."""
        ...

    async def drop(self, partition: int, settled: int, full: Sequence[str]) -> bool:
        """Deletes the sealed batch if its number is <= settled; notes counters that are full."""
        ...

    async def forget_ids(self) -> int:
        """Deletes a part of the ids that are too old to be looked for; -> how many of their windows are left."""
        ...

    async def receipt(self, window_s: int, digest: str) -> str | None:
        """The value an id is remembered with. Errors: LogUnrepaired while what Redis has lost is being put back."""
        ...

    async def read(self, counters: Sequence[str]) -> list[Unsettled]:
        """Errors: LogUnrepaired while what Redis has lost is being put back."""
        ...


class Store(Protocol):
    """The store of record, Postgres. Errors: StoreUnavailable, Misconfigured."""

    async def fence(self, lane: int, run_id: str, lost: bool) -> Fenced:
        """Raises the lane's incarnation if Redis is another than last time (`run_id`), or has `lost` what it held."""
        ...

    async def enlist(self, lane: int, writer: str) -> None:
        """Makes a new writer known: others wait for it whenever Redis may have gone back in time."""
        ...

    async def mark(self, writer: str, step: Step, incarnation: int) -> bool:
        """Notes that the writer has done a step of coming back; False when it was struck: it must start anew."""
        ...

    async def behind(self, lane: int, step: Step, incarnation: int) -> list[str]:
        """The writers that have not done the step yet."""
        ...

    async def strike(self, lane: int, writers: Sequence[str]) -> None:
        """Takes writers off the list: they left, or are dead."""
        ...

    async def settled_calls(self, lane: int, writer: str) -> dict[int, int]:
        """partition -> number of the writer's last call that is settled there"""
        ...

    async def settled_outcomes(self, lane: int, writer: str) -> dict[int, list[str]]:
        """Call number -> what was counted of its decided operations, as in its answer; of the last two calls only."""
        ...

    async def settle(self, batch: Batch) -> Settled:
        """Adds the batch's sums, if it is the next of its partition and of the present incarnation: in one
        statement.
        """
        ...

    async def stored(self, counters: Sequence[str]) -> list[Stored]:
        """Each counter's value together with its partition's settled number, of one snapshot."""
        ...


class NamespaceStore(Protocol):
    """The namespaces in Postgres. Errors: StoreUnavailable."""

    async def all(self) -> list[Namespace]: ...

    async def get(self, name: str) -> Namespace | None: ...

    async def found(self, name: str, strategy: StrategyName) -> Namespace:
        """The namespace of that name, founded with this strategy and no terms of its own when there is none.

        Errors: TooManyNamespaces.
        """
        ...

    async def change(self, name: str, terms: Terms) -> Namespace:
        """Founds it when there is none. Errors: StrategyFixed, TooManyNamespaces."""
        ...


class Meter(Protocol):
    """Where measurements go. Never raises, never waits."""

    def count(self, name: Count, by: int = 1) -> None: ...

    def timing(self, name: Timing, ms: float) -> None: ...

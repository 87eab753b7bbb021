"""The protocol with one piece left out, each a mistake that one could make: a simulation that does not catch them all
is worth nothing.

`Mutant.seed` is a story that catches it: the code it is told of may change, so others are looked for when it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import node.call
import node.comeback
import node.reader
import node.writer
from node.comeback import Comeback, Unfinished
from node.errors import LogUnavailable, StoreUnavailable
from node.keep import Keep, settled_parts
from node.payload import HEARSAY, RememberedId, Told, effective, ids_of
from node.ports import Appender, Facts, Fenced
from node.settlement import Batch, Stored, Unsettled
from node.stock import Stock, take_stock
from node.writer import Writer
from tests.sim.plan import Plan, flushed_under_a_new_node, plan, read_in_flight
from tests.sim.story import Story, tell
from tests.sim.story import Told as StoryTold
from tests.twins.log import MemoryLog
from tests.twins.store import MemoryStore

Patches = Iterable[AbstractContextManager[Any]]


@dataclass(frozen=True)
class Mutant:
    name: str
    patches: Callable[[], Patches]
    seed: int = 0
    plan: Callable[[int], Plan] = plan

    def tell(self, seed: int) -> StoryTold:
        with ExitStack() as stack:
            for each in self.patches():
                stack.enter_context(each)
            return tell(self.plan(seed))


def method(owner: type, name: str, build: Callable[[Any], Any]) -> Callable[[], Patches]:
    """`build` gets the real one."""
    return lambda: [patch.object(owner, name, build(getattr(owner, name)))]


def constant(owner: Any, name: str, value: Any) -> Callable[[], Patches]:
    return lambda: [patch.object(owner, name, value)]


# --- settling -----------------------------------------------------------------------------------------------------


def settle_without_number(real: Any) -> Any:
    async def settle(self: MemoryStore, batch: Batch) -> Any:
        if batch.incarnation == self.incarnation:
            self.settled[batch.partition] = batch.number - 1
        return await real(self, batch)

    return settle


def settle_without_incarnation(real: Any) -> Any:
    async def settle(self: MemoryStore, batch: Batch) -> Any:
        return await real(self, replace(batch, incarnation=self.incarnation))

    return settle


def drop_without_number(real: Any) -> Any:
    async def drop(self: MemoryLog, partition: int, settled: int, full: Any) -> Any:
        return await real(self, partition, 2**62, full)

    return drop


# --- appending ----------------------------------------------------------------------------------------------------


def calls_not_recognised(real: Any) -> Any:
    def append(self: MemoryLog, name: str, incarnation: int, number: int, payload: bytes, skipped: Any = None) -> Any:
        if (writer := self.writers.get(name)) is not None:
            writer.last = min(writer.last, number - 1)
        return real(self, name, incarnation, number, payload, skipped)

    return append


def append_without_incarnation(real: Any) -> Any:
    def append(self: MemoryLog, name: str, incarnation: int, number: int, payload: bytes, skipped: Any = None) -> Any:
        return real(self, name, self.incarnation, number, payload, skipped)

    return append


def renumbered(real: Any) -> Any:
    async def resume(self: Writer) -> Any:
        for call in self._flight:
            self._last += 1
            call.number = self._last
        return await real(self)

    return resume


def doubt_forgotten(flight: Any, errors: Any, all_answered: bool) -> Stock:
    for call in flight:
        call.in_doubt = False
    return take_stock(flight, errors, all_answered)


def refused_repeated(payload: bytes, told: Told) -> Any:
    return effective(payload, Told(told.decided, {i: t for i, t in told.items.items() if t == "r"}, frozenset()))


def decided_again(real: Any) -> Any:
    def decided(self: MemoryLog, operations: Any, whole: bool, outcomes: Any) -> Any:
        return real(self, operations, True, outcomes)

    return decided


# --- coming back --------------------------------------------------------------------------------------------------


def without_barrier(*left_out: str) -> Callable[[Any], Any]:
    def build(real: Any) -> Any:
        async def all_have(self: Comeback, step: Any, found: Any, broken: Any) -> None:
            if step in left_out:
                await self._store.mark(self._name, step, found.incarnation)
            else:
                await real(self, step, found, broken)

        return all_have

    return build


def ids_not_put_back(real: Any) -> Any:
    async def remember(self: Comeback, *_: Any) -> None:
        pass

    return remember


def open_without_those_in_flight(real: Any) -> Any:
    async def note_whole(self: Comeback, incarnation: int) -> None:
        if not await self._behind("replayed", incarnation):
            await self._log.whole(incarnation)

    return note_whole


def no_replay(real: Any) -> Any:
    async def replay(self: Comeback, appender: Appender, found: Any, calls: Any, *rest: Any) -> None:
        await real(self, appender, found, [call for call in calls if not _answered_before(call)], *rest)

    return replay


def _answered_before(call: Unfinished) -> bool:
    return "_note_refused" in repr(call.answered)


def all_parts_replayed(real: Any) -> Any:
    async def made_again(self: Comeback, appender: Any, found: Any, number: int, payload: bytes, skipped: Any) -> Any:
        return await real(self, appender, found, number, payload, frozenset())

    return made_again


def whole_calls(number: int, partitions: frozenset[int], settled: Any) -> frozenset[int]:
    return partitions if settled_parts(number, partitions, settled) else frozenset()


def no_repair(real: Any) -> Any:
    async def repair(self: MemoryLog, fenced: Fenced, found: Facts) -> Any:
        numbers = {p: n for p, n in fenced.settled.items() if p not in self.parts}
        return await real(self, replace(fenced, settled=numbers), found)

    return repair


def repair_of_another_life(real: Any) -> Any:
    async def repair(self: MemoryLog, fenced: Fenced, found: Facts) -> Any:
        return await real(self, fenced, replace(found, life=self.life))

    return repair


def no_hearsay(*args: Any) -> list[RememberedId]:
    return [each for each in ids_of(*args) if not each[2].startswith(HEARSAY)]


def run_not_compared(real: Any) -> Any:
    async def fence(self: MemoryStore, lane: int, run_id: str, lost: bool) -> Any:
        self.run_id = self.run_id and run_id
        return await real(self, lane, run_id, lost)

    return fence


def flush_not_seen(real: Any) -> Any:
    async def fence(self: MemoryStore, lane: int, run_id: str, lost: bool) -> Any:
        return await real(self, lane, run_id, False)

    return fence


def enlisted_once(real: Any) -> Any:
    async def enlist(self: MemoryStore, lane: int, writer: str) -> None:
        if writer in self.writers:
            raise StoreUnavailable
        await real(self, lane, writer)

    return enlist


def no_outcomes(real: Any) -> Any:
    async def settled_outcomes(self: MemoryStore, lane: int, writer: str) -> dict[int, list[str]]:
        return {}

    return settled_outcomes


# --- keeping, reading, naming -------------------------------------------------------------------------------------


def keep_nothing(real: Any) -> Any:
    return lambda *_: None


def kept_by_age_only(real: Any) -> Any:
    def forget_old(self: Keep, now: float, settled: Any) -> None:
        while self._calls and self._calls[0].at < now - min(self._horizon_s, 0.5):
            self._let_go()

    return forget_old


def is_numbered(log: MemoryLog) -> bool:
    return bool(log.parts)


def sum_of_all(stored: Stored, unsettled: Unsettled) -> int | None:
    halves = (stored.value, unsettled.sealed_sum, unsettled.open_sum)
    return None if halves == (None, None, None) else sum(half or 0 for half in halves)


def name_again(real: Any) -> Any:
    def new_name(self: Story) -> str:
        taken = {node.name for node in self.nodes}
        return next(name for i in range(1, 100) if (name := f"n{i}") not in taken)

    return new_name


MUTANTS = (
    Mutant("settle without its number", method(MemoryStore, "settle", settle_without_number), seed=1),
    Mutant("calls that come again are not recognised", method(MemoryLog, "append", calls_not_recognised), seed=10),
    Mutant("calls in flight get new numbers", method(Writer, "_resume", renumbered), seed=6),
    Mutant("a call in doubt is answered as not counted", constant(node.writer, "Unanswered", LogUnavailable)),
    Mutant("what was refused is made again", constant(node.call, "effective", refused_repeated), seed=11),
    Mutant("no barrier", method(Comeback, "_all_have", without_barrier("remembered", "replayed")), seed=6),
    Mutant("no second barrier", method(Comeback, "_all_have", without_barrier("replayed")), seed=852),
    Mutant("ids are not put back", method(Comeback, "_remember", ids_not_put_back), seed=18),
    Mutant("no replay", method(Comeback, "_replay", no_replay), seed=11),
    Mutant("all parts are replayed", method(Comeback, "_made_again", all_parts_replayed), seed=6),
    Mutant("a call settled in part is settled", constant(node.comeback, "settled_parts", whole_calls), seed=6),
    Mutant("no repair", method(MemoryLog, "repair", no_repair), seed=16),
    Mutant("a flush is not seen", method(MemoryStore, "fence", flush_not_seen), seed=62),
    Mutant("enlisted only once", method(MemoryStore, "enlist", enlisted_once), seed=1),
    Mutant("nothing is kept", method(Keep, "add", keep_nothing), seed=11),
    Mutant("kept by age only", method(Keep, "forget_old", kept_by_age_only), seed=122),
    Mutant("reads while something is missing", constant(MemoryLog, "_readable", property(is_numbered)), seed=16),
    Mutant("values without numbers", constant(node.reader, "value_of", sum_of_all)),
    Mutant("a restarted node has its old name", method(Story, "new_name", name_again), seed=67),
    Mutant("another run is the same Redis", method(MemoryStore, "fence", run_not_compared), seed=18),
    Mutant("settle without the incarnation", method(MemoryStore, "settle", settle_without_incarnation), seed=4541),
    Mutant("drop without the number", method(MemoryLog, "drop", drop_without_number), seed=251),
    Mutant(
        "append without the incarnation",
        method(MemoryLog, "append", append_without_incarnation),
        1072,
        flushed_under_a_new_node,
    ),
    Mutant("a refused call was never in doubt", constant(node.writer, "take_stock", doubt_forgotten), seed=1600),
    Mutant("no first barrier", method(Comeback, "_all_have", without_barrier("remembered")), seed=2487),
    Mutant("nothing by hearsay", constant(node.comeback, "ids_of", no_hearsay), seed=16359),
    Mutant("outcomes are not asked for", method(MemoryStore, "settled_outcomes", no_outcomes), seed=6),
    Mutant("reads of any run", constant(MemoryLog, "_readable", property(lambda log: log._whole)), seed=18),
    Mutant("decided while something is missing", method(MemoryLog, "_decided", decided_again), 247, read_in_flight),
    Mutant(
        "reads before calls in flight are back",
        method(Comeback, "_note_whole", open_without_those_in_flight),
        26,
        read_in_flight,
    ),
    Mutant("repair of another life", method(MemoryLog, "repair", repair_of_another_life), 7, flushed_under_a_new_node),
)

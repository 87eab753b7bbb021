"""What a writer does on every new connection, before anything else: Redis may have gone back in time.

    fence      raise the lane's incarnation in Postgres if this Redis is another, or has lost what it held: batches
               that were sealed before it can no longer be settled
    repair     drop the batches that Postgres has, give every partition its next number
    remember   put back the ids of own calls that Postgres has; and by hearsay those that own calls found counted, for
               whose call counted them may be dead
    barrier    wait until every other writer has done so, or is dead: an id that only its writer knows could be
               counted again
    replay     make the own answered calls again, with their numbers, that neither Redis nor Postgres has; some only in
               part
    barrier    wait again: an id that was answered with one value could be counted now with another. Then come the
               calls in flight, and new ones; and when everyone's in flight are back, reads and decisions

A decided operation (add-and-get, reset) is never decided twice. One that was answered is kept as the addition it came
to. One in flight is told what was decided if Redis still has its call's answer, or Postgres its outcome; if neither,
it was counted nowhere, and its node asks again: what it had added for a moment may have been read by somebody else.

When the incarnation is the one in which this writer last came back, the first two are all there is to do.
Redis may go back in time again meanwhile, or be flushed: an append names the incarnation, and a repair the life of the
Redis that was found, so neither does anything to another.
So an acknowledged call is lost only if Redis forgets it and its writer dies before it was replayed. And an idempotency
key counts again only if Redis forgets it together with the death of the writer whose call counted it, and nobody who
lives on had heard of it; or if it was in flight just then once more, for what was heard may be of that very call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from node.absence import Absence
from node.errors import LogUnavailable, Misconfigured
from node.keep import Keep, settled_parts
from node.payload import ids_of, told
from node.points import reach
from node.ports import Appender, Facts, Fenced, Log, Meter, RememberedId, Step, Store

log = logging.getLogger(__name__)

POLL_S = 0.05
ANSWER_TIMEOUT_S = 5.0
DEAD_S = 600.0  # a writer that has had no lease for so long is struck off the list without being waited for
NOTHING = b'{"sums":[],"ids":[]}'


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A call as the comeback sees it: one that was answered before, or one that is in flight."""

    number: int
    payload: bytes
    partitions: frozenset[int]
    answered: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """The Redis that a writer comes back to, fenced and repaired."""

    incarnation: int
    run_id: str
    life: str
    last: int  # number of the writer's last call that it knows

    def is_still(self, facts: Facts) -> bool:
        return (facts.incarnation, facts.life) == (self.incarnation, self.life) and (
            facts.run_id == facts.repaired_run == self.run_id
        )


class Comeback:
    """One writer's. `alive` gives the names of the members that hold a lease; `lease_s` is how long one lasts."""

    def __init__(
        self,
        log: Log,
        store: Store,
        meter: Meter,
        lane: int,
        name: str,
        alive: Callable[[], Awaitable[frozenset[str]]],
        lease_s: float,
        now: Callable[[], float],
    ) -> None:
        self._log, self._store, self._meter, self._lane, self._name = log, store, meter, lane, name
        self._alive, self._now = alive, now
        self._enlisted = False
        self._absent = Absence(lease_s)  # of writers that are waited for
        self._gone = Absence(DEAD_S)  # ... of any
        self.incarnation: int | None = None  # in which this writer has come back
        self._found: Found | None = None  # the Redis to which it has
        self.replayed = 0  # calls that had to be made again
        self.lost = 0  # ... and that could not be, for they were no longer kept
        self._lost_up_to = 0  # number of the last call that was no longer kept and is in `lost`

    async def run(
        self,
        appender: Appender,
        keep: Keep,
        flight: Sequence[Unfinished],
        last: int,
        broken: Callable[[], bool] = lambda: False,
    ) -> None:
        """`last` is the number of the last call that was formed; `broken` says whether the appender's connection is.

        Errors: Unavailable; Misconfigured.
        """
        if not self._enlisted:
            await self._store.enlist(self._lane, self._name)
            self._enlisted = True
        answered = flight[0].number - 1 if flight else last
        found = await self._find(answered)
        self._absent.forget()  # while Redis was away nobody could renew a lease
        if found.incarnation == self.incarnation:
            self._found = found
            return
        reach("repaired")
        settled = await self.settled()
        answered_before = [
            Unfinished(kept.number, kept.payload, kept.partitions, partial(self._note_refused, kept.number))
            for kept in keep
        ]
        # What Postgres has of these calls does not change any more: it is fenced, and this writer has made none since.
        outcomes = await self._store.settled_outcomes(self._lane, self._name) if flight else {}
        await self._remember(answered_before, settled, {})  # what came of them is in what is kept
        await self._remember(flight, settled, outcomes)
        reach("remembered")
        await self._all_have("remembered", found, broken)
        forgotten = [call for call in answered_before if call.number > found.last]
        await self._replay(appender, found, forgotten, settled, {})
        self._report_lost(keep.given_up, found.last)
        kept_from = answered_before[0].number if answered_before else answered + 1
        self._report_unknown(max(keep.given_up, found.last), kept_from)
        reached = max([found.last, *(call.number for call in answered_before)])
        if reached < answered:  # the next call must follow the last one, also where that is no longer kept
            await self._made_again(appender, found, answered, NOTHING, frozenset())
        reach("replayed")
        await self._all_have("replayed", found, broken)
        # Those in flight all, also where Redis has them: it still knows their answers, and they must be answered in
        # order. Nobody was told that they count, so they come after everything of which somebody was.
        await self._replay(appender, found, flight, settled, outcomes)
        await self._mark("resumed", found)
        self.incarnation, self._found = found.incarnation, found
        await self._note_whole(found.incarnation)

    async def is_over(self) -> bool:
        """Whether Redis is no longer what this writer came back to: it must come back again."""
        facts = await self._log.facts()
        if facts.trouble is not None or self._found is None or not self._found.is_still(facts):
            return True
        if facts.whole != self.incarnation:
            await self._note_whole(self._found.incarnation)
        return False

    async def settled(self) -> dict[int, int]:
        """partition -> number of this writer's last call that Postgres has"""
        return await self._store.settled_calls(self._lane, self._name)

    async def tidy(self) -> None:
        """Strikes off the list who died long ago, so that nobody waits for them after a fault."""
        await self._strike_absent(await self._store.behind(self._lane, "replayed", 2**62), self._gone)

    async def leave(self) -> None:
        """Nobody waits for this writer any more."""
        await self._store.strike(self._lane, [self._name])
        await self._log.forget_writers([self._name])

    # --- the steps ------------------------------------------------------------------------------------------------

    async def _find(self, answered: int) -> Found:
        """Fences and repairs. `answered` is the number of this writer's last call that was answered."""
        facts = await self._log.facts()
        if facts.trouble is not None:
            raise LogUnavailable(facts.trouble)
        fenced, life = await self._fence(facts, lost=facts.cluster is None)
        introduced = await self._log.introduce(self._name, 0)
        if fenced.incarnation == self.incarnation and introduced.last < answered:
            # the same server, and yet it has forgotten
            fenced, life = await self._fence(replace(facts, life=life), lost=True)
        return Found(fenced.incarnation, facts.run_id, life, introduced.last)

    async def _fence(self, facts: Facts, lost: bool) -> tuple[Fenced, str]:
        """-> the lane, and the life of the Redis that was repaired"""
        fenced = await self._store.fence(self._lane, facts.run_id, lost)
        if facts.cluster not in (None, fenced.cluster):
            raise Misconfigured(
                f"Redis holds batches of cluster {facts.cluster}, Postgres is {fenced.cluster}'s; "
                "check TALLY_REDIS_URL and TALLY_POSTGRES_DSN"
            )
        reach("fenced")
        return fenced, await self._log.repair(fenced, facts)

    async def _note_whole(self, incarnation: int) -> None:
        """Opens Redis for reads and decisions once nobody has anything left to put back: calls in flight neither, for
        somebody may have read what they added.
        """
        if not await self._behind("resumed", incarnation):
            await self._log.whole(incarnation)

    async def _remember(
        self, calls: Sequence[Unfinished], settled: dict[int, int], outcomes: dict[int, list[str]]
    ) -> None:
        ids: list[RememberedId] = []
        for call in calls:
            outcome = told(outcomes.get(call.number, ()))
            ids += ids_of(call.payload, settled_parts(call.number, call.partitions, settled), outcome)
        if ids:
            await self._log.remember_ids(ids)

    async def _replay(
        self,
        appender: Appender,
        found: Found,
        calls: Sequence[Unfinished],
        settled: dict[int, int],
        outcomes: dict[int, list[str]],
    ) -> None:
        for call in calls:
            skipped = settled_parts(call.number, call.partitions, settled)
            answer = await self._made_again(appender, found, call.number, call.payload, skipped)
            reach("replaying")
            call.answered(" ".join([answer, *outcomes.get(call.number, ())]))  # the last word on an operation counts
        if calls:
            self.replayed += len(calls)
            self._meter.count("redis.calls_made_again", len(calls))
            log.warning("Redis went back in time: %d calls were made again", len(calls))

    async def _made_again(
        self, appender: Appender, found: Found, number: int, payload: bytes, skipped: frozenset[int]
    ) -> str:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await appender.replay(self._name, found.incarnation, number, payload, skipped)
        except TimeoutError:
            raise LogUnavailable from None

    def _note_refused(self, number: int, answer: str) -> None:
        """A call that was answered long ago: its increments were acknowledged, so nothing of it should be refused."""
        if answer.strip("r0123456789 "):
            self._count_lost(1)
            log.error("Redis went back in time, and takes no more all of call %d of %s: %s", number, self._name, answer)

    def _report_lost(self, given_up: int, known: int) -> None:
        """Each call once, however often Redis goes back to before it."""
        known = max(known, self._lost_up_to)
        if given_up > known:
            self._lost_up_to = given_up
            self._count_lost(given_up - known)
            log.error(
                "Redis went back in time by more than is kept: calls %d to %d of %s are lost unless settled",
                known + 1,
                given_up,
                self._name,
            )

    def _count_lost(self, calls: int) -> None:
        self.lost += calls
        self._meter.count("redis.calls_lost", calls)

    def _report_unknown(self, known: int, kept_from: int) -> None:
        """Calls that Redis forgot, and that were let go since Postgres has them: their ids cannot be put back."""
        if kept_from - known > 1:
            log.warning(
                "Redis went back in time by more than is kept: calls %d to %d of %s are settled, but their idempotency "
                "keys are forgotten. An increment that is repeated under one of them counts again",
                known + 1,
                kept_from - 1,
                self._name,
            )

    async def _all_have(self, step: Step, found: Found, broken: Callable[[], bool]) -> None:
        """The barrier: this writer has done the step, and returns when everyone has."""
        await self._mark(step, found)
        while await self._behind(step, found.incarnation):
            if broken() or not found.is_still(await self._log.facts()):
                raise LogUnavailable("Redis went back in time again; try again.")
            await asyncio.sleep(POLL_S)

    async def _mark(self, step: Step, found: Found) -> None:
        if not await self._store.mark(self._name, step, found.incarnation):
            raise Misconfigured(
                f"{self._name} was away for so long that it was taken for dead; the node must start anew"
            )

    async def _behind(self, step: Step, incarnation: int) -> list[str]:
        """Who has not done a step, the dead left out: a writer without a lease for a lease is struck off the list.

        Its name is forgotten in Redis, too, so that it is refused should it wake up. The registry is not asked who the
        writers are, for it has gone back in time with Redis; it only says who is alive now.
        """
        behind = await self._store.behind(self._lane, step, incarnation)
        dead = await self._strike_absent(behind, self._absent)
        return [name for name in behind if name not in dead]

    async def _strike_absent(self, names: list[str], absence: Absence) -> list[str]:
        """-> those that were struck"""
        alive = await self._alive() if names else frozenset()
        dead = absence.dead([name for name in names if name not in alive and name != self._name], self._now())
        if dead:
            log.warning("no longer waiting for %s: without a lease for %.0f s", ", ".join(dead), absence.dead_after_s)
            await self._store.strike(self._lane, dead)
            await self._log.forget_writers(dead)
        return dead

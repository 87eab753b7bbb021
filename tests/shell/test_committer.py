"""Group commit into Postgres, over counters in memory that can go away, hang and lose answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from node import committer as module
from node.call import Outcome
from node.errors import Draining, Overloaded, StoreRefused, StoreUnanswered, StoreUnavailable, Unavailable
from node.increment import Increment
from node.strategies.direct import Direct
from node.strategies.rollup import rollup
from node.strategies.sync import sync
from node.strategy import Added, Bounds, Namespace, Taken
from tests.shell.conftest import running, until
from tests.twins.counters import MemoryCounters, MemoryHeld

A = "shop:a"
NO_BOUNDS = Bounds()
Made = Callable[..., Any]


@pytest.fixture(params=["sync", "rollup"])
def counters(request: pytest.FixtureRequest) -> MemoryCounters:
    return MemoryCounters(8, rolls_up=request.param == "rollup")


def namespace(counters: MemoryCounters) -> Namespace:
    return Namespace("shop", "rollup" if counters.rolls_up else "sync")


@asynccontextmanager
async def counting(counters: MemoryCounters, deadline_s: float = 5.0, inbox_max: int = 1000) -> AsyncIterator[Direct]:
    made = rollup if counters.rolls_up else sync
    direct = made(counters, monotonic, deadline_s, inbox_max, 60)
    async with running(direct):
        yield direct


async def added(direct: Direct, counters: MemoryCounters, *increments: Increment) -> list[Any]:
    return await direct.add_many(namespace(counters), increments)


def hang(monkeypatch: pytest.MonkeyPatch, step: str) -> asyncio.Event:
    """The first who comes to this step stays there until the event is set."""
    real, go, first = getattr(MemoryHeld, step), asyncio.Event(), [True]

    async def hung(self: Any, *args: Any) -> Any:
        if first.pop() if first else False:
            await go.wait()
        return await real(self, *args)

    monkeypatch.setattr(MemoryHeld, step, hung)
    return go


def no_connection(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Where Postgres is not away, nobody gets hold of one, be it to append or to decide, until the event is set."""
    there = asyncio.Event()

    def waited_for(real: Any) -> Any:
        @asynccontextmanager
        async def late(self: MemoryCounters) -> AsyncIterator[Any]:
            if not self.away:
                await there.wait()
            async with real(self) as got:
                yield got

        return late

    for way in ("appending", "hold"):
        monkeypatch.setattr(MemoryCounters, way, waited_for(getattr(MemoryCounters, way)))
    return there


async def test_of_a_commit_without_an_answer_nobody_knows_and_what_has_a_key_finds_out(
    counters: MemoryCounters,
) -> None:
    async with counting(counters) as direct:
        counters.lose_next = True
        (lost,) = await added(direct, counters, Increment(A, 5))
        assert isinstance(lost, StoreUnanswered)
        assert lost.counted == "unknown"
        for keyed in (Increment(A, 2, "x"), Increment(A, 3, "request", short_lived=True)):
            counters.lose_next = True
            assert await added(direct, counters, keyed) == [Outcome.REPLAYED]
        counters.lose_next = True
        assert await direct.add(namespace(counters), Increment(A, 2, "y"), Bounds(max=12)) == Added(
            Outcome.REPLAYED, 12
        )
        counters.lose_next = True
        assert await direct.reset(namespace(counters), A, "r") == Taken(12, replayed=True)
        counters.lose_next = True
        with pytest.raises(StoreUnanswered):
            await direct.reset(namespace(counters), A, None)
        assert counters.total(A) == 0


async def test_of_a_group_without_an_answer_only_what_has_no_key_is_left_unknown(counters: MemoryCounters) -> None:
    async with counting(counters) as direct:
        counters.lose_next = True
        keyed, unkeyed = Increment(A, 2, "x"), Increment(A, 3)
        asked = [added(direct, counters, *each) for each in ([keyed], [unkeyed], [unkeyed, keyed])]
        (known,), (unknown,), both = await asyncio.gather(*asked)
        assert known is Outcome.REPLAYED
        assert all(isinstance(each, StoreUnanswered) for each in (unknown, *both))
        assert counters.total(A) == 8


async def test_what_is_in_doubt_when_its_time_is_over_may_have_been_counted(
    counters: MemoryCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with counting(counters, deadline_s=0.3) as direct:
        real = counters.answer

        def lose_and_go_away() -> None:
            counters.away = True
            real()

        monkeypatch.setattr(counters, "answer", lose_and_go_away)
        counters.lose_next = True
        with pytest.raises(StoreUnanswered):
            await direct.add(namespace(counters), Increment(A, 5, "x"), NO_BOUNDS)
        assert counters.total(A) == 5


async def test_what_was_not_asked_to_commit_is_tried_again_until_its_time_is_over(counters: MemoryCounters) -> None:
    async with counting(counters, deadline_s=1.0) as direct:
        counters.away = True
        waiting = asyncio.create_task(added(direct, counters, Increment(A, 5)))
        await until(lambda: direct.trouble is not None)
        counters.away = False
        assert await waiting == [Outcome.COUNTED]
        assert direct.trouble is None
        counters.away = True
        (late,) = await added(direct, counters, Increment(A, 7))
        assert isinstance(late, StoreUnavailable)
        assert late.counted is False
        counters.away = False
        assert counters.total(A) == 5


async def test_an_operation_whose_caller_gave_up_before_it_was_decided_does_not_count(
    counters: MemoryCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hang(monkeypatch, "look")
    async with counting(counters, deadline_s=0.3) as direct:
        with pytest.raises(Unavailable) as late:
            await direct.add(namespace(counters), Increment(A, 5), NO_BOUNDS)
        assert late.value.counted is False
        go.set()
        assert await direct.add(namespace(counters), Increment(A, 1), NO_BOUNDS) == Added(Outcome.COUNTED, 1)
        await asyncio.sleep(0.2)
        assert counters.total(A) == 1


async def test_of_a_commit_that_takes_too_long_nobody_knows(
    counters: MemoryCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hang(monkeypatch, "commit")
    async with counting(counters, deadline_s=0.3) as direct:
        with pytest.raises(StoreUnanswered):
            await direct.add(namespace(counters), Increment(A, 5), NO_BOUNDS)
        go.set()


async def test_what_says_that_it_was_not_counted_never_counts_later(
    counters: MemoryCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hang(monkeypatch, "write")
    async with counting(counters, deadline_s=0.3) as direct:
        counted: bool | str = True
        try:
            await direct.add(namespace(counters), Increment(A, 5), NO_BOUNDS)
        except Unavailable as late:
            counted = late.counted
        go.set()
        await direct.drain()
        assert counted or counters.total(A) is None


async def test_who_was_told_that_nothing_was_counted_before_there_was_a_connection_is_left_out(
    counters: MemoryCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = no_connection(monkeypatch)
    async with counting(counters, deadline_s=1.0) as direct:
        counters.away = True
        asking = asyncio.create_task(added(direct, counters, Increment(A, 5)))
        await asyncio.sleep(0.5)
        counters.away = False  # the try that begins now outlasts who asked
        (late,) = await asking
        assert isinstance(late, StoreUnavailable)
        assert late.counted is False
        there.set()
        await direct.drain()
        assert counters.total(A) is None


async def test_a_statement_that_postgres_refused_is_made_again(
    counters: MemoryCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refusals = MemoryCounters.append, [StoreRefused(), StoreRefused()]

    async def refused(self: MemoryCounters, operations: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await real(self, operations)

    monkeypatch.setattr(MemoryCounters, "append", refused)
    async with counting(counters) as direct:
        assert await added(direct, counters, Increment(A, 5)) == [Outcome.COUNTED]
        assert counters.total(A) == 5


async def test_what_waits_is_bounded_and_a_drain_answers_all_of_it(
    counters: MemoryCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP_MAX", 1)
    async with counting(counters, inbox_max=5) as direct:
        counters.away = True
        waiting = [asyncio.create_task(added(direct, counters, Increment(A, 1))) for _ in range(20)]
        await asyncio.sleep(0.05)
        refused = [task.result()[0] for task in waiting if task.done()]
        assert refused
        assert all(isinstance(error, Overloaded) for error in refused)
        counters.away = False
        await direct.drain()
        assert counters.total(A) == 20 - len(refused)
        assert all(task.done() for task in waiting)
        (closed,) = await added(direct, counters, Increment(A, 1))
        assert isinstance(closed, Draining)


async def test_a_caller_that_goes_away_takes_nothing_back(counters: MemoryCounters) -> None:
    async with counting(counters) as direct:
        gone = asyncio.create_task(added(direct, counters, Increment(A, 5)))
        await asyncio.sleep(0)
        gone.cancel()
        await until(lambda: counters.total(A) == 5)


async def test_a_read_that_takes_too_long_says_so(counters: MemoryCounters, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(self: MemoryCounters, _: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(MemoryCounters, "read", silent)
    monkeypatch.setattr(MemoryCounters, "remembered", silent)
    async with counting(counters, deadline_s=0.05) as direct:
        with pytest.raises(StoreUnavailable):
            await direct.read(namespace(counters), [A])
        with pytest.raises(StoreUnavailable):
            await direct.receipt(namespace(counters), A, "x")

"""`dist`: add-and-get, bounds and resets are exact while batches are settled and Redis goes back in time."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from node.call import Outcome
from node.errors import LogUnavailable, Mismatch, NotFound, StoreUnavailable, Unavailable
from node.increment import Increment
from node.strategies.dist import NO_BOUNDS, Dist
from node.strategy import Added, Bounds, Namespace, Reading, Receipt, Taken
from tests.shell.conftest import ALL, increment, until
from tests.twins.log import MemoryAppender, MemoryLog

NS = Namespace()
A = "default:a"


async def added(dist: Dist, **fields) -> int | None:
    result = await dist.add(NS, increment(**fields), NO_BOUNDS)
    assert result.outcome is Outcome.COUNTED
    return result.value


async def value_of(dist: Dist, counter: str = A) -> int:
    (reading,) = await dist.read(NS, [counter])
    return reading.value


async def test_the_total_is_right_at_every_step_of_a_settle(world):
    async with world.dist() as dist, world.dist("n2") as other:
        total = 0
        for _ in range(4):
            for step in ("seal", "settle", "drop", "nothing"):
                for each in (dist, other):
                    total += 1
                    assert await added(each) == total
                p = next(p for p, part in world.log.parts.items() if part.calls or part.sealed)
                match step:
                    case "seal":
                        batch = await world.log.seal(p)
                    case "settle":
                        await world.store.settle(batch)
                    case "drop":
                        await world.log.drop(p, batch.number, [])


async def test_fifty_adders_through_three_nodes_never_pass_a_bound(world):
    settling = True

    async def settle() -> None:
        while settling:
            await world.settler().settle(ALL)
            await asyncio.sleep(0)

    async def adder(dist: Dist) -> tuple[int, list[int]]:
        counted, totals = 0, []
        while (result := await dist.add(NS, increment(), Bounds(max=1000))).outcome is Outcome.COUNTED:
            counted += 1
            totals.append(result.value)
        assert result.outcome is Outcome.OUT_OF_BOUNDS
        return counted, totals

    async with AsyncExitStack() as nodes:
        dists = [await nodes.enter_async_context(world.dist(f"n{i}", deadline_s=30.0)) for i in range(3)]
        settler = asyncio.create_task(settle())
        results = await asyncio.gather(*(adder(dists[i % 3]) for i in range(50)))
        settling = False
        await settler
        assert sum(counted for counted, _ in results) == await value_of(dists[0]) == 1000
        assert sorted(total for _, totals in results for total in totals) == list(range(1, 1001))


async def test_resets_beside_adders_take_off_what_was_added(world):
    async with world.dist() as dist, world.dist("n2") as other:
        added_up, taken = 0, 0

        async def add(each: Dist) -> None:
            nonlocal added_up
            for value in range(1, 120):
                assert (await each.add_many(NS, [increment(value=value)])) == [Outcome.COUNTED]
                added_up += value

        async def reset(each: Dist) -> None:
            nonlocal taken
            for _ in range(30):
                result = await each.reset(NS, A, None)
                taken += result.taken
                await world.settler().settle(ALL)

        await added(dist, value=0)
        await asyncio.gather(*(add(each) for each in (dist, other)), *(reset(each) for each in (dist, other)))
        assert taken + await value_of(dist) == added_up


async def test_a_repeat_is_answered_with_the_total_as_it_is(world):
    async with world.dist() as dist, world.dist("n2") as other:
        assert await added(dist, value=5, idempotency_key="x") == 5
        assert await added(other, value=2) == 7
        assert await other.add(NS, increment(value=5, idempotency_key="x"), NO_BOUNDS) == Added(Outcome.REPLAYED, 7)
        assert await dist.add(NS, increment(value=6, idempotency_key="x"), NO_BOUNDS) == Added(Outcome.MISMATCH, 7)
        assert await dist.add(NS, increment(value=1), Bounds(max=7)) == Added(Outcome.OUT_OF_BOUNDS, 7)
        assert await dist.add(NS, increment("b", value=1), Bounds(max=0)) == Added(Outcome.OUT_OF_BOUNDS, None)


async def test_a_reset_is_repeated_and_tells_what_it_took(world):
    async with world.dist() as dist:
        with pytest.raises(NotFound):
            await dist.reset(NS, A, None)
        await added(dist, value=5, idempotency_key="x")
        assert await dist.reset(NS, A, "r") == Taken(5)
        await added(dist, value=3)
        assert await dist.reset(NS, A, "r") == Taken(5, replayed=True)
        with pytest.raises(Mismatch):
            await dist.reset(NS, A, "x")
        assert (await dist.add_many(NS, [increment(value=0, idempotency_key="r")])) == [Outcome.MISMATCH]
        assert await dist.reset(NS, A, None) == Taken(3)
        assert await dist.reset(NS, A, None) == Taken(0)
        assert await value_of(dist) == 0


async def test_a_reading_says_what_is_stored(world):
    async with world.dist() as dist:
        await added(dist, value=5)
        assert await dist.read(NS, [A, "default:b", A]) == [Reading(5, 0, None), None, Reading(5, 0, None)]
        await world.settler().settle(ALL)
        await added(dist, value=2)
        assert await dist.read(NS, [A]) == [Reading(7, 5, world.store.updated[A])]


async def test_a_receipt_knows_keys_of_increments_and_resets(world):
    async with world.dist() as dist:
        await dist.add_many(NS, [increment(value=5, idempotency_key="x"), Increment(A, 1, "y", short_lived=True)])
        await dist.reset(NS, A, "r")
        assert await dist.receipt(NS, A, "x") == Receipt(True, 5, 86_400)
        assert await dist.receipt(NS, A, "r") == Receipt(True, -6, 86_400)
        assert await dist.receipt(NS, A, "y") == Receipt(False, None, 86_400)
        assert await dist.receipt(NS, "default:b", "x") == Receipt(False, None, 86_400)


async def test_a_namespace_has_a_window_of_its_own(world):
    now = 0.0
    world.log.now_s = lambda: now
    short = Namespace("shop", idempotency_window_s=10)
    item = Increment("shop:a", 5, "x")
    async with world.dist() as dist:
        assert await dist.add_many(short, [item]) == [Outcome.COUNTED]
        assert await dist.add(short, item, NO_BOUNDS) == Added(Outcome.REPLAYED, 5)
        assert (await dist.receipt(short, "shop:a", "x")).window_s == 10
        now = 21.0
        assert await dist.add(short, item, NO_BOUNDS) == Added(Outcome.COUNTED, 10)
        assert await dist.add_many(NS, [increment(idempotency_key="x")]) == [Outcome.COUNTED]
        now = 60.0
        assert await dist.add_many(NS, [increment(idempotency_key="x")]) == [Outcome.REPLAYED]


async def test_many_at_once_each_get_their_own_outcome(world):
    async with world.dist() as dist:
        many = [
            increment(value=1),
            increment(value=2, idempotency_key="x"),
            Increment(A, 3, "request/2", short_lived=True),
            Increment(A, -4, "request/3", short_lived=True),
            increment("b", value=5),
        ]
        assert await dist.add_many(NS, many) == [Outcome.COUNTED] * 5
        replayed = [Outcome.COUNTED, *[Outcome.REPLAYED] * 3, Outcome.COUNTED]
        assert await dist.add_many(NS, many) == replayed, "those without a key count again"
        assert await value_of(dist) == 3
        await world.log.drop(0, 0, ["default:b"])
        assert (await dist.add_many(NS, many))[-1] is Outcome.FULL


async def test_what_the_stores_cannot_do_is_said_to_be_not_counted(world, monkeypatch):
    async def away(counters):
        raise StoreUnavailable

    async with world.dist(deadline_s=0.3) as dist:
        await added(dist, value=1)
        monkeypatch.setattr(world.store, "stored", away)
        assert await added(dist, value=1) == 2, "what it knows of Postgres still fits"
        with pytest.raises(Unavailable) as failed:
            await dist.add(NS, increment("b"), NO_BOUNDS)
        assert failed.value.counted is False
        monkeypatch.undo()
        world.log.whole_in = None
        with pytest.raises(LogUnavailable) as failed:
            await dist.add(NS, increment(), NO_BOUNDS)
        assert failed.value.counted is False
        with pytest.raises(Unavailable):
            await dist.receipt(NS, A, "x")


async def test_an_answered_operation_is_put_back_as_what_it_came_to(world):
    async with world.dist() as dist, world.dist("n2") as other:
        before = world.log.snapshot()
        assert await added(dist, value=7, idempotency_key="x") == 7
        assert await dist.reset(NS, A, "r") == Taken(7)
        assert await added(dist, value=5) == 5
        assert await dist.add(NS, increment(value=9), Bounds(max=9)) == Added(Outcome.OUT_OF_BOUNDS, 5)
        world.log.crash(back_to=before)
        assert await other.reset(NS, A, "r") == Taken(7, replayed=True)
        assert await other.add(NS, increment(value=7, idempotency_key="x"), NO_BOUNDS) == Added(Outcome.REPLAYED, 5)
        assert await value_of(dist) == 5


@pytest.mark.parametrize("settled", [False, True])
async def test_an_operation_in_flight_whose_answer_redis_forgot_is_decided_once(world, monkeypatch, settled):
    """Its answer is lost, then Redis goes back to before it: Postgres has it, or nobody has."""
    append, held = MemoryAppender.append, asyncio.Event()
    async with world.dist() as dist:
        await added(dist, value=5)
        before = world.log.snapshot()

        async def lost(self: MemoryAppender, writer: str, incarnation: int, number: int, payload: bytes) -> str:
            answer = await append(self, writer, incarnation, number, payload)
            if not held.is_set():
                held.set()
                await asyncio.Event().wait()
            return answer

        monkeypatch.setattr(MemoryAppender, "append", lost)
        operation = asyncio.create_task(dist.reset(NS, A, "r"))
        async with asyncio.timeout(10):
            await held.wait()
        if settled:
            await world.settler().settle(ALL)
        world.log.crash(back_to=before)
        assert await operation == Taken(5)
        assert await dist.reset(NS, A, "r") == Taken(5, replayed=True)
        assert await value_of(dist) == 0
        world.log.crash(back_to=before)
        assert await dist.reset(NS, A, "r") == Taken(5, replayed=True)
        assert await value_of(dist) == 0


async def test_what_others_built_upon_an_operation_that_redis_forgot_unanswered_comes_before_it(world, monkeypatch):
    """So a total may be past a bound until it is made again: nobody was told of it, but of what came after it."""
    append, held, going_on = MemoryAppender.append, asyncio.Event(), asyncio.Event()
    async with world.dist("n1") as one, world.dist("n2") as two:
        await added(two, value=0)
        before = world.log.snapshot()

        async def lost(self: MemoryAppender, writer: str, incarnation: int, number: int, payload: bytes) -> str:
            if writer == "n1" and held.is_set():
                await going_on.wait()
            answer = await append(self, writer, incarnation, number, payload)
            if writer == "n1" and not held.is_set():
                held.set()
                await asyncio.Event().wait()
            return answer

        monkeypatch.setattr(MemoryAppender, "append", lost)
        adding = asyncio.create_task(one.add(NS, increment(value=11), Bounds(0, 40)))
        async with asyncio.timeout(10):
            await held.wait()
        assert await two.reset(NS, A, "r") == Taken(11)
        world.log.crash(back_to=before)
        assert await value_of(two) == -11
        going_on.set()
        assert await adding == Added(Outcome.COUNTED, 0)
        assert await two.reset(NS, A, "r") == Taken(11, replayed=True)
        assert await value_of(two) == 0


@pytest.mark.parametrize("seed", range(20))
async def test_stories_of_bounds_and_resets_end_exact(world, seed):
    """Two nodes, settles and lost answers at any moment, Redis back to any earlier state at any moment."""
    chance = random.Random(seed)
    first_run = world.log.run_id  # in a later one a total may be past a bound: see the test before this one
    async with world.dist("n1", deadline_s=60.0) as one, world.dist("n2", deadline_s=60.0) as two:
        added_up, taken, most = 0, 0, 40

        async def client(number: int) -> None:
            nonlocal added_up, taken
            for i in range(10):
                name, value = f"{number}-{i}", chance.randrange(1, 9)
                if chance.random() < 0.25:
                    answers = [await chance.choice((one, two)).reset(NS, A, name) for _ in range(2)]
                    assert answers[0].taken == answers[1].taken
                    assert answers[1].replayed
                    assert world.log.run_id != first_run or 0 <= answers[0].taken <= most
                    taken += answers[0].taken
                elif chance.random() < 0.8:
                    result = await chance.choice((one, two)).add(
                        NS, increment(value=value, idempotency_key=name), Bounds(0, most)
                    )
                    again = await chance.choice((one, two)).add(
                        NS, increment(value=value, idempotency_key=name), Bounds(0, most)
                    )
                    if Outcome.COUNTED in (result.outcome, again.outcome):
                        added_up += value
                    assert world.log.run_id != first_run or result.value <= most
                else:
                    result = await chance.choice((one, two)).add(NS, increment(value=value), Bounds(0, most))
                    added_up += value if result.outcome is Outcome.COUNTED else 0
                await asyncio.sleep(chance.random() * 0.02)

        await added(one, value=0)
        breaking = asyncio.create_task(world.troubles(chance))
        await asyncio.gather(*(client(number) for number in range(6)))
        breaking.cancel()
        await until(lambda: world.log.whole_in == world.store.incarnation)
        assert await value_of(one) + taken == added_up


async def test_a_client_that_hangs_up_cancels_nothing_on_the_connection_that_all_reads_share(world, monkeypatch):
    begun, go, ended = asyncio.Event(), asyncio.Event(), []

    def held(real):
        async def call(self, *args):
            begun.set()
            await go.wait()
            answer = await real(self, *args)
            ended.append(answer)
            return answer

        return call

    for name in ("read", "receipt"):
        monkeypatch.setattr(MemoryLog, name, held(getattr(MemoryLog, name)))
    async with world.dist() as dist:
        for asking in (dist.read(NS, [A]), dist.receipt(NS, A, "x")):
            begun.clear()
            client = asyncio.create_task(asking)
            await begun.wait()
            client.cancel()
            with pytest.raises(asyncio.CancelledError):
                await client
        go.set()
        await until(lambda: len(ended) == 2)

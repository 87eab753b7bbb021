"""Group commit: what is acknowledged is counted once, whatever happens to the connection."""

from __future__ import annotations

import asyncio

import pytest

from node.call import Outcome
from node.errors import Draining, LogRefused, LogUnavailable, Misconfigured, Overloaded, Unavailable
from node.writer import CALLS_IN_FLIGHT
from tests.shell.conftest import increment, running, until
from tests.twins.log import MemoryAppender


async def test_an_acknowledged_increment_is_in_the_log(world):
    async with running(writer := world.writer()):
        assert await writer.add(increment(value=5)) is Outcome.COUNTED
        assert await writer.add(increment(value=0, key="zero")) is Outcome.COUNTED
    assert await world.value("default:a") == 5
    assert await world.value("default:zero") == 0


async def test_what_queued_meanwhile_goes_in_one_call(world):
    writer = world.writer()
    answers = [asyncio.create_task(writer.add(increment())) for _ in range(500)]
    async with running(writer):
        assert await asyncio.gather(*answers) == [Outcome.COUNTED] * 500
    assert world.log.writers["n1"].last == 1
    assert await world.value("default:a") == 500


async def test_an_id_counts_once_through_two_nodes(world):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(one, two):
        assert await one.add(increment(value=5, idempotency_key="x")) is Outcome.COUNTED
        assert await two.add(increment(value=5, idempotency_key="x")) is Outcome.REPLAYED
        assert await two.add(increment(value=6, idempotency_key="x")) is Outcome.MISMATCH
    assert await world.value("default:a") == 5


async def test_a_lost_answer_neither_loses_nor_doubles(world):
    async with running(writer := world.writer()):
        await until(lambda: writer.trouble is None)
        for i in range(20):
            world.log.appenders[-1].lose_next = i % 2 == 0
            assert await writer.add(increment(value=1)) is Outcome.COUNTED
    assert await world.value("default:a") == 20
    assert len(world.log.appenders) == 11


async def test_calls_in_flight_when_the_connection_breaks_are_made_again(world, monkeypatch):
    held: list[asyncio.Event] = []

    async def slow(self: MemoryAppender, writer: str, incarnation: int, number: int, payload: bytes) -> str:
        answer = self._log.append(writer, incarnation, number, payload)
        if len(held) < CALLS_IN_FLIGHT:
            held.append(gate := asyncio.Event())
            await gate.wait()
            raise LogUnavailable
        return answer

    monkeypatch.setattr(MemoryAppender, "append", slow)
    async with running(writer := world.writer()):
        answers = []
        for i in range(CALLS_IN_FLIGHT):
            answers.append(asyncio.create_task(writer.add(increment(value=10**i))))
            await until(lambda i=i: len(held) == i + 1)
        world.log.appenders[-1].cut()
        for gate in held:
            gate.set()
        assert await asyncio.gather(*answers) == [Outcome.COUNTED] * CALLS_IN_FLIGHT
    assert await world.value("default:a") == 11


async def test_a_refused_call_is_answered_as_not_counted_and_its_number_used_again(world, monkeypatch):
    append = MemoryAppender.append
    refusing = True

    async def refuse(self: MemoryAppender, *call: object) -> str:
        if refusing:
            raise LogRefused("Redis: OOM")
        return await append(self, *call)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryAppender, "append", refuse)
    async with running(writer := world.writer()):
        results = await asyncio.gather(*(writer.add(increment()) for _ in range(5)), return_exceptions=True)
        assert {type(result) for result in results} == {LogRefused}
        assert {result.counted for result in results} == {False}
        assert writer.trouble == "Redis: OOM"
        refusing = False
        await until(lambda: writer.trouble is None)  # though nobody sends anything
        assert world.log.writers["n1"].last == 1
        assert await writer.add(increment(value=3)) is Outcome.COUNTED
    assert await world.value("default:a") == 3
    assert world.log.writers["n1"].last == 2


async def test_while_redis_is_away_an_increment_is_refused_within_its_deadline(world, monkeypatch):
    async def away(_: object) -> MemoryAppender:
        raise LogUnavailable("Redis: connection refused; try again")

    monkeypatch.setattr(world.log, "connect", away)
    async with running(writer := world.writer(deadline_s=0.2)):
        with pytest.raises(Unavailable) as refusal:
            await writer.add(increment())
        assert refusal.value.counted is False
        assert writer.trouble is not None


async def test_an_increment_in_doubt_is_answered_unknown_and_may_still_count(world, monkeypatch):
    append, answering = MemoryAppender.append, asyncio.Event()

    async def silent(self: MemoryAppender, *call: object) -> str:
        await answering.wait()
        return await append(self, *call)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryAppender, "append", silent)
    async with running(writer := world.writer(deadline_s=0.2)):
        with pytest.raises(Unavailable) as refusal:
            await writer.add(increment(idempotency_key="x"))
        assert refusal.value.counted == "unknown"
        answering.set()
        assert await writer.add(increment(idempotency_key="x")) is Outcome.REPLAYED
    assert await world.value("default:a") == 1


async def test_a_full_inbox_refuses_at_once(world):
    writer = world.writer(inbox_max=2)
    answers = [asyncio.create_task(writer.add(increment())) for _ in range(3)]
    with pytest.raises(Overloaded):
        await answers[2]
    async with running(writer):
        assert await answers[0] is await answers[1] is Outcome.COUNTED


async def test_a_drained_writer_has_answered_everything_and_takes_no_more(world):
    async with running(writer := world.writer()):
        answers = [asyncio.create_task(writer.add(increment())) for _ in range(10)]
        await asyncio.sleep(0)
        await writer.drain()
        assert all(answer.done() for answer in answers)
        with pytest.raises(Draining):
            await writer.add(increment())
    assert await world.value("default:a") == 10


async def test_a_caller_that_goes_away_takes_nothing_back(world):
    async with running(writer := world.writer()):
        answer = asyncio.create_task(writer.add(increment()))
        await asyncio.sleep(0)
        answer.cancel()
        await writer.drain()
    assert await world.value("default:a") == 1


async def test_a_flushed_redis_is_repaired_and_written_to_again(world):
    async with running(writer := world.writer(), settler := world.settler()):
        await writer.add(increment())
        await settler.settle(range(8))
        world.log.flush()
        assert await writer.add(increment()) is Outcome.COUNTED
    assert world.store.incarnation == 2
    assert await world.value("default:a") == 2


async def test_a_redis_of_another_cluster_ends_the_node(world):
    world.log.cluster, world.log.incarnation = "another", 1
    with pytest.raises(ExceptionGroup) as group:
        await world.writer().run()
    assert isinstance(group.value.exceptions[0], Misconfigured)


async def test_a_redis_that_cannot_keep_the_promise_is_not_written_to(world):
    world.log.trouble = "Redis has no append-only file"
    async with running(writer := world.writer(deadline_s=1.0)):
        with pytest.raises(Unavailable):
            await writer.add(increment())
        assert writer.trouble == "Redis has no append-only file"
        world.log.trouble = None
        assert await writer.add(increment()) is Outcome.COUNTED


async def test_values_near_the_limit_are_spread_over_calls(world):
    writer = world.writer()
    big = 2**53 - 1
    answers = [asyncio.create_task(writer.add(increment(value=big))) for _ in range(255)]
    async with running(writer):
        assert set(await asyncio.gather(*answers)) == {Outcome.COUNTED}
    assert world.log.writers["n1"].last == 2
    assert await world.value("default:a") == 255 * big


async def test_a_sum_that_no_settle_could_take_is_refused_until_it_is_settled(world):
    big = 2**53 - 1
    async with running(writer := world.writer()):
        outcomes = await asyncio.gather(*(writer.add(increment(value=big)) for _ in range(300)))
        assert set(outcomes) == {Outcome.COUNTED, Outcome.FULL}
        await world.settler().settle(range(8))
        assert await writer.add(increment(value=big)) is Outcome.COUNTED
    counted = outcomes.count(Outcome.COUNTED) + 1
    assert await world.value("default:a") == counted * big

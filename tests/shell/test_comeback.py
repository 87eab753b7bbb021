"""Redis goes back in time: what was acknowledged is put back, once, and nothing is read wrongly meanwhile."""

from __future__ import annotations

import asyncio
import random

import pytest

from node.call import Outcome
from node.comeback import Comeback
from node.errors import LogUnavailable, Misconfigured, Unavailable
from node.keep import Keep
from node.settler import Settler
from tests.shell.conftest import ALL, World, increment, running, until
from tests.twins.log import MemoryAppender


async def counted(writer, **fields) -> None:
    assert await writer.add(increment(**fields)) is Outcome.COUNTED


async def test_acknowledged_increments_that_redis_forgot_are_put_back(world):
    async with running(writer := world.writer()):
        await counted(writer, value=1)
        before = world.log.snapshot()
        for value in (10, 100, 1000):
            await counted(writer, value=value)
        world.log.crash(back_to=before)
        await counted(writer, value=10_000)
        assert await world.value("default:a") == 11_111
        assert world.meter.counts["redis.calls_made_again"] == writer._comeback.replayed >= 3
        assert world.meter.counts["redis.calls_lost"] == writer._comeback.lost == 0
        await world.settler().settle(ALL)
    assert world.store.values == {"default:a": 11_111}


async def test_a_rewind_past_a_settled_batch_doubles_nothing(world):
    async with running(writer := world.writer()):
        await counted(writer, value=1)
        before = world.log.snapshot()
        await counted(writer, value=10)
        await world.settler().settle(ALL)
        await counted(writer, value=100)
        world.log.crash(back_to=before)
        await counted(writer, value=1000)
        await world.settler().settle(ALL)
        assert await world.value("default:a") == 1111
    assert world.store.values == {"default:a": 1111}


async def test_an_id_whose_increment_is_settled_is_put_back_by_its_writer(world):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(one, two):
        await counted(two, value=1)
        before = world.log.snapshot()
        await counted(one, value=5, idempotency_key="x")
        await world.settler().settle(ALL)
        world.log.crash(back_to=before)
        assert await two.add(increment(value=5, idempotency_key="x")) is Outcome.REPLAYED
        assert await two.add(increment(value=6, idempotency_key="x")) is Outcome.MISMATCH
        assert await world.value("default:a") == 6


async def test_a_call_of_which_a_part_is_settled_is_put_back_in_part(world):
    keys = [f"k{i}" for i in range(12)]
    writer = world.writer()
    answers = [asyncio.create_task(writer.add(increment(key=key, value=7, idempotency_key=key))) for key in keys]
    async with running(writer):
        await asyncio.gather(*answers)
        assert world.log.writers["n1"].last == 1, "they were one call"
        some = frozenset(list(world.log.parts)[:4])
        empty = World().log.snapshot()
        await world.settler().settle(some)
        assert 0 < len(world.store.values) < len(keys)
        world.log.crash(back_to=empty)
        assert await writer.add(increment(key="k0", value=7, idempotency_key="k0")) is Outcome.REPLAYED
        await world.settler().settle(ALL)
    assert world.store.values == dict.fromkeys((f"default:{key}" for key in keys), 7)


async def test_an_idle_writer_notices_that_redis_was_flushed(world):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(one, two):
        await counted(one, value=1)
        await counted(two, value=2)
        world.log.flush()
        await until(lambda: world.log.whole_in == world.store.incarnation == 2)
        assert await world.value("default:a") == 3


async def test_nobody_counts_until_every_live_writer_has_put_back_its_ids(world, monkeypatch):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(one, two):
        await counted(two, value=1)
        before = world.log.snapshot()
        await counted(one, value=5, idempotency_key="x")
        await world.settler().settle(ALL)
        slow = asyncio.Event()
        run = one._comeback.run

        async def late(*args):
            await slow.wait()
            await run(*args)

        monkeypatch.setattr(one._comeback, "run", late)
        world.log.crash(back_to=before)
        retry = asyncio.create_task(two.add(increment(value=5, idempotency_key="x")))
        done, _ = await asyncio.wait([retry], timeout=0.5)
        assert not done, "counted while another writer's ids were missing"
        slow.set()
        assert await retry is Outcome.REPLAYED


async def test_a_writer_that_died_is_waited_for_no_longer_than_a_lease(world):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(two):
        async with running(one):
            await counted(one, value=1)
            await counted(two, value=10)
        before = world.log.snapshot()
        world.alive.discard("n1")
        world.log.crash(back_to=before)
        await counted(two, value=100)
        assert "n1" not in world.store.writers
        assert await world.value("default:a") == 111


async def test_what_a_dead_writer_wrote_and_redis_forgot_is_lost_and_the_log_names_the_writer_only(world, caplog):
    """The one hole: nobody is left who knows what that was, so it is in no count, and a repeat of it counts."""
    one, two = world.writer("n1"), world.writer("n2")
    async with running(two):
        async with running(one):
            await counted(two, value=1)
            before = world.log.snapshot()
            await counted(one, value=5, idempotency_key="x")
        world.alive.discard("n1")
        world.log.crash(back_to=before)
        await counted(two, value=10)
        assert await world.value("default:a") == 11
        assert two._comeback.lost == world.meter.counts["redis.calls_lost"] == 0
        await counted(two, value=5, idempotency_key="x")
        assert await world.value("default:a") == 16
    assert "no longer waiting for n1: without a lease" in caplog.text
    assert "are lost" not in caplog.text


async def test_a_writer_that_was_struck_must_start_anew(world):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(two):
        async with running(one):
            await counted(one, value=1)
        world.alive.discard("n1")
        world.log.crash(back_to=world.log.snapshot())
        await counted(two, value=1)
        with pytest.raises(ExceptionGroup) as group:
            await one.run()
        assert isinstance(group.value.exceptions[0], Misconfigured)


async def test_nothing_is_read_while_something_is_missing(world, monkeypatch):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(one, two):
        await counted(one, value=1)
        await counted(two, value=10)
        held = asyncio.Event()
        replay = one._comeback._replay

        async def late(*args):
            await held.wait()
            await replay(*args)

        monkeypatch.setattr(one._comeback, "_replay", late)
        world.log.crash(back_to=World().log.snapshot())
        new = asyncio.create_task(counted(two, value=100))
        async with running(reader := world.reader(deadline_s=0.3)):
            with pytest.raises(Unavailable):
                await reader.value("default:a")
        assert not new.done(), "counted before what was acknowledged earlier"
        held.set()
        await new
        await until(lambda: world.log.whole_in == world.log.incarnation)
        assert await world.value("default:a") == 111


async def test_what_was_no_longer_kept_is_counted_as_lost(world, caplog):
    async with running(writer := world.writer(bytes_max=200)):
        for _ in range(20):
            await counted(writer, value=1)
        world.log.crash(back_to=World().log.snapshot())
        await counted(writer, value=1)
        lost = writer._comeback.lost
        assert lost == world.meter.counts["redis.calls_lost"] > 0
        assert await world.value("default:a") == 21 - lost
        world.log.crash(back_to=World().log.snapshot())
        await counted(writer, value=1)
        assert await world.value("default:a") == 22 - writer._comeback.lost, "what was lost before is counted once"
    assert "are lost" in caplog.text


async def test_kept_calls_are_let_go_once_they_are_settled_and_old(world):
    async with running(writer := world.writer()):
        writer._keep._horizon_s = 0.0
        await counted(writer, value=1)
        await until(lambda: len(writer._keep) == 1)
        await asyncio.sleep(1.2)
        assert len(writer._keep) == 1, "not settled yet"
        await world.settler().settle(ALL)
        await until(lambda: len(writer._keep) == 0)


@pytest.mark.parametrize("seed", range(25))
async def test_stories_of_rewinds_settles_and_retries_end_exact(world, seed):
    """Two nodes, clients that retry at either, settles at any moment, Redis back to any earlier state at any moment."""
    chance = random.Random(seed)
    writers = [world.writer(name, deadline_s=60.0) for name in ("n1", "n2")]
    acknowledged: dict[str, int] = {}
    plain = 0

    async def client(number: int) -> None:
        nonlocal plain
        for i in range(12):
            key, value = f"k{chance.randrange(6)}", chance.randrange(100)
            if chance.random() < 0.3:
                await chance.choice(writers).add(increment(key=key, value=value))
                plain += value
            else:
                name = f"{number}-{i}"
                for _ in range(chance.randrange(1, 4)):
                    outcome = await chance.choice(writers).add(increment(key=key, value=value, idempotency_key=name))
                    assert outcome in (Outcome.COUNTED, Outcome.REPLAYED)
                acknowledged[name] = value
            await asyncio.sleep(chance.random() * 0.02)

    async with running(*writers):
        await until(lambda: all(writer.trouble is None for writer in writers))
        breaking = asyncio.create_task(world.troubles(chance))
        await asyncio.gather(*(client(number) for number in range(6)))
        breaking.cancel()
        await until(lambda: world.log.whole_in == world.store.incarnation and not any(w.trouble for w in writers))
        for _ in range(2):
            await world.settler().settle(ALL)
    assert sum(world.store.values.values()) == sum(acknowledged.values()) + plain


async def test_a_batch_sealed_before_redis_went_back_is_settled_no_more(world):
    """Settled late, it would take the number of the batch that the replayed calls are in."""
    async with running(writer := world.writer()):
        before = world.log.snapshot()
        await counted(writer, value=1)
        sealed = [await world.log.seal(p) for p in ALL]
        world.log.crash(back_to=before)
        await counted(writer, value=10)
        for batch in filter(None, sealed):
            assert not (await world.store.settle(batch)).moved
        await world.settler().settle(ALL)
        assert await world.value("default:a") == 11


async def test_calls_follow_on_although_the_last_ones_are_no_longer_kept_and_forgotten_ids_are_told(world, caplog):
    async with running(writer := world.writer()):
        for _ in range(3):
            await counted(writer, value=1)
        await world.settler().settle(ALL)
        writer._keep._horizon_s = 0.0
        await until(lambda: len(writer._keep) == 0)
        world.log.crash(back_to=World().log.snapshot())
        await counted(writer, value=10)
        assert world.log.writers["n1"].last == 4
        assert await world.value("default:a") == 13
    assert "calls 1 to 3 of n1 are settled, but their idempotency keys are forgotten" in caplog.text


async def test_of_a_redis_that_forgot_only_what_is_kept_no_id_is_told_as_forgotten(world, caplog):
    async with running(writer := world.writer()):
        for _ in range(3):
            await counted(writer, value=1)
        await world.settler().settle(ALL)
        world.log.crash(back_to=World().log.snapshot())
        await counted(writer, value=10)
        assert await world.value("default:a") == 13
    assert "forgotten" not in caplog.text


async def test_a_call_in_flight_that_redis_has_is_answered_before_the_one_it_has_not(world, monkeypatch):
    """Two calls in flight, both answers lost, and Redis goes back to between them."""
    between: list[dict] = []
    held = asyncio.Event()
    append = MemoryAppender.append

    async def lost(self: MemoryAppender, writer: str, incarnation: int, number: int, payload: bytes) -> str:
        answer = await append(self, writer, incarnation, number, payload)
        if number <= 2 and not held.is_set():
            between.append(world.log.snapshot())
            await held.wait()
            raise LogUnavailable
        return answer

    monkeypatch.setattr(MemoryAppender, "append", lost)
    async with running(writer := world.writer()):
        answers = []
        for value in (1, 10):
            answers.append(asyncio.create_task(writer.add(increment(value=value))))
            await until(lambda: len(between) == len(answers))
        world.log.crash(back_to=between[0])
        held.set()
        assert await asyncio.gather(*answers) == [Outcome.COUNTED] * 2
        await counted(writer, value=100)
        assert [kept.number for kept in writer._keep] == [1, 2, 3]
        assert await world.value("default:a") == 111


async def test_an_acknowledged_increment_is_put_back_before_its_id_can_count_with_another_value(world, monkeypatch):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(one, two):
        await counted(two, value=1)
        before = world.log.snapshot()
        await counted(one, value=5, idempotency_key="x")
        held = asyncio.Event()
        replay = one._comeback._replay

        async def late(*args):
            await held.wait()
            return await replay(*args)

        monkeypatch.setattr(one._comeback, "_replay", late)
        world.log.crash(back_to=before)
        other = asyncio.create_task(two.add(increment(value=6, idempotency_key="x")))
        done, _ = await asyncio.wait([other], timeout=0.5)
        assert not done
        held.set()
        assert await other is Outcome.MISMATCH
        assert await world.value("default:a") == 6


async def test_nothing_is_read_before_the_calls_in_flight_are_back_too(world, monkeypatch):
    """Nobody has been told that they count; but what they added may have been read."""
    one, two = world.writer("n1"), world.writer("n2")

    async def unheard(self: MemoryAppender, writer: str, incarnation: int, number: int, payload: bytes) -> str:
        answer = self._log.append(writer, incarnation, number, payload)
        if writer == "n2":
            await asyncio.Event().wait()
        return answer

    monkeypatch.setattr(MemoryAppender, "append", unheard)
    async with running(one, two):
        await counted(one, value=1)
        await until(lambda: two.trouble is None)
        before = world.log.snapshot()
        adding = asyncio.create_task(two.add(increment(value=10)))
        while await world.value("default:a") != 11:
            await asyncio.sleep(0.01)
        held, waiting = asyncio.Event(), asyncio.Event()
        made_again = two._comeback._made_again

        async def late(*args):
            waiting.set()
            await held.wait()
            return await made_again(*args)

        monkeypatch.setattr(two._comeback, "_made_again", late)
        world.log.crash(back_to=before)
        await waiting.wait()
        await counted(one, value=100)
        async with running(reader := world.reader(deadline_s=0.3)):
            with pytest.raises(Unavailable):
                await reader.value("default:a")
        held.set()
        assert await adding is Outcome.COUNTED
        await until(lambda: world.log.whole_in == world.store.incarnation)
        assert await world.value("default:a") == 111


@pytest.mark.parametrize("step", ["remembered", "replayed"])
async def test_redis_is_flushed_while_writers_wait_for_each_other(world, monkeypatch, step):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(one, two):
        await counted(one, value=1, idempotency_key="x")
        await counted(two, value=10, idempotency_key="y")
        held, waiting = asyncio.Event(), asyncio.Event()
        all_have = one._comeback._all_have

        async def late(which, *args):
            if which == step:
                waiting.set()
                await held.wait()
            return await all_have(which, *args)

        monkeypatch.setattr(one._comeback, "_all_have", late)
        world.log.crash(back_to=World().log.snapshot())
        await waiting.wait()
        world.log.flush()
        held.set()
        assert await two.add(increment(value=1, idempotency_key="x")) is Outcome.REPLAYED
        assert await one.add(increment(value=10, idempotency_key="y")) is Outcome.REPLAYED
        assert await world.value("default:a") == 11


async def test_a_fence_that_nobody_followed_up_holds_no_settle_up(world):
    """Whoever raised the incarnation died before it repaired Redis; the writers' own connection never broke."""
    async with running(writer := world.writer()):
        await counted(writer, value=1)
        await world.store.fence(0, world.log.run_id, lost=True)
        settler = Settler(world.log, world.store, world.meter, lambda: ALL, 3600, writer.come_back)

        async def settled() -> bool:
            await settler.settle(ALL)
            return world.store.values == {"default:a": 1}

        async with asyncio.timeout(10):
            while not await settled():
                await asyncio.sleep(0.01)
        await counted(writer, value=10)
        assert await world.value("default:a") == 11


async def test_a_redis_that_forgot_the_call_before_is_come_back_to(world):
    """The same server, the same connection, and yet older: as after a reload of its data."""
    async with running(writer := world.writer()):
        await counted(writer, value=1)
        before = world.log.snapshot()
        await counted(writer, value=10)
        for name, value in before.items():
            setattr(world.log, name, value)
        await counted(writer, value=100)
        assert await world.value("default:a") == 111


async def test_what_was_refused_stays_refused(world):
    """A mismatch and an increment of a full counter would count once Redis has forgotten what they ran against."""
    other = increment(key="b", idempotency_key="full")
    async with running(writer := world.writer()):
        before = world.log.snapshot()
        await counted(writer, value=5, idempotency_key="x")
        world.log.full.add("default:b")
        given = [increment(value=6, idempotency_key="x"), other, increment(key="b"), increment(value=10)]
        expected = [Outcome.MISMATCH, Outcome.FULL, Outcome.FULL, Outcome.COUNTED]
        assert await asyncio.gather(*map(writer.add, given)) == expected
        world.log.crash(back_to=before)
        await counted(writer, value=100)
        assert await world.value("default:a") == 115
        assert await writer.add(other) is Outcome.COUNTED


async def test_what_was_refused_and_is_settled_is_answered_so(world):
    """Redis has forgotten a call in flight that Postgres has: what became of it was settled with it."""
    async with running(writer := world.writer()):
        await counted(writer, value=5, idempotency_key="x")
        await world.settler().settle(ALL)
        before = world.log.snapshot()
        for appender in world.log.appenders:
            appender.hold = asyncio.Event()
        answers = [
            asyncio.create_task(writer.add(increment(value=value, idempotency_key=key)))
            for value, key in ((6, "x"), (7, "y"))
        ]
        await until(lambda: any(part.calls for part in world.log.parts.values()))
        await world.settler().settle(ALL)
        world.log.crash(back_to=before)
        assert await asyncio.gather(*answers) == [Outcome.MISMATCH, Outcome.COUNTED]
        assert await writer.add(increment(value=6, idempotency_key="x")) is Outcome.MISMATCH
        assert await world.value("default:a") == 12


async def test_what_was_refused_of_a_call_takes_nothing_from_the_ids_that_are_put_back(world):
    """Postgres says it of an answered call, too: but what is kept of that one is without it already."""
    async with running(writer := world.writer()):
        await counted(writer, value=5, idempotency_key="x")
        before = world.log.snapshot()
        given = [increment(value=6, idempotency_key="x"), increment(value=7, idempotency_key="y")]
        assert await asyncio.gather(*map(writer.add, given)) == [Outcome.MISMATCH, Outcome.COUNTED]
        await world.settler().settle(ALL)
        for appender in world.log.appenders:
            appender.hold = asyncio.Event()
        in_flight = asyncio.create_task(writer.add(increment(value=1)))
        await until(lambda: any(appender.holding for appender in world.log.appenders))
        world.log.crash(back_to=before)
        assert await in_flight is Outcome.COUNTED
        assert await writer.add(increment(value=7, idempotency_key="y")) is Outcome.REPLAYED
        assert await world.value("default:a") == 13


async def test_an_id_that_a_dead_writer_counted_and_postgres_has_is_known_by_hearsay(world):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(two):
        await until(lambda: two.trouble is None)
        before = world.log.snapshot()
        async with running(one):
            await counted(one, value=5, idempotency_key="x")
            await world.settler().settle(ALL)
        world.alive.discard("n1")
        assert await two.add(increment(value=5, idempotency_key="x")) is Outcome.REPLAYED
        world.log.crash(back_to=before)
        assert await two.add(increment(value=5, idempotency_key="x")) is Outcome.REPLAYED
        assert await world.value("default:a") == 5


async def test_a_call_in_flight_counts_although_its_id_is_known_by_hearsay(world):
    one, two = world.writer("n1"), world.writer("n2")
    async with running(one, two):
        await until(lambda: one.trouble is None and two.trouble is None)
        before = world.log.snapshot()
        for appender in world.log.appenders:
            appender.hold = asyncio.Event()
        first = asyncio.create_task(one.add(increment(value=5, idempotency_key="x")))
        await until(lambda: world.log.ids)
        for appender in world.log.appenders:
            if not appender.holding:
                appender.hold = None
        assert await two.add(increment(value=5, idempotency_key="x")) is Outcome.REPLAYED
        world.log.crash(back_to=before)
        assert await first is Outcome.COUNTED
        assert await world.value("default:a") == 5


class Registry:
    """Who holds a lease, looked up by one who waits for n1. `look` is set at every look."""

    def __init__(self) -> None:
        self.members, self.away, self.look = {"n2"}, False, asyncio.Event()

    async def alive(self) -> frozenset[str]:
        self.look.set()
        if self.away:
            raise LogUnavailable
        return frozenset(self.members)

    async def looks(self, count: int) -> None:
        for _ in range(count):
            self.look.clear()
            await self.look.wait()


async def test_a_writer_is_struck_only_after_a_lease_in_which_it_could_be_seen(world):
    """Redis goes away again before those who live have renewed their leases, for longer than one lasts."""
    now, registry, keep = [0.0], Registry(), Keep(60.0, 10**9)
    comeback = Comeback(world.log, world.store, world.meter, 0, "n2", registry.alive, 3.0, lambda: now[0])
    await world.store.enlist(0, "n1")

    async def come_back() -> None:
        await comeback.run(await world.log.connect(lambda: None), keep, (), 0)

    async with asyncio.timeout(10):
        first = asyncio.create_task(come_back())
        await registry.looks(2)
        registry.away = True
        with pytest.raises(LogUnavailable):
            await first
        now[0], registry.away = 10.0, False
        second = asyncio.create_task(come_back())
        await registry.looks(3)
        assert "n1" in world.store.writers
        now[0] = 12.9
        await registry.looks(3)
        assert "n1" in world.store.writers
        now[0] = 13.1
        await second
    assert "n1" not in world.store.writers


async def test_who_died_long_ago_is_struck_once_it_was_looked_for_all_the_while(world):
    now, registry = [0.0], Registry()
    comeback = Comeback(world.log, world.store, world.meter, 0, "n2", registry.alive, 3.0, lambda: now[0])
    await world.store.enlist(0, "n1")
    await comeback.tidy()
    registry.away = True
    for now[0] in range(60, 900, 60):
        with pytest.raises(LogUnavailable):
            await comeback.tidy()
    registry.away = False
    for now[0] in range(900, 1501, 60):
        await comeback.tidy()
        assert "n1" in world.store.writers, now
    now[0] = 1501.0
    await comeback.tidy()
    assert "n1" not in world.store.writers

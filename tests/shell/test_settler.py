"""Seal, settle, drop: repeated, interrupted, and done by two who both think they own the partition."""

from __future__ import annotations

import asyncio
import random

import pytest

from node.errors import LogUnavailable, StoreUnavailable
from node.ports import Settled
from node.settlement import Batch
from tests.shell.conftest import ALL, increment, running, until


async def test_what_is_settled_is_in_the_store_and_gone_from_the_log(world):
    async with running(writer := world.writer()):
        for key in "abc":
            await writer.add(increment(key=key, value=5))
    await world.settler().settle(ALL)
    assert world.store.values == {"default:a": 5, "default:b": 5, "default:c": 5}
    assert all(part.sealed is None and not part.sums for part in world.log.parts.values())
    assert [name for name, _ in world.meter.timings] == ["kv.dist.sync_to_db"]


async def test_settling_nothing_changes_nothing(world):
    async with running(world.writer()):
        await until(lambda: world.log.parts)
    await world.settler().settle(ALL)
    assert world.store.settled == {}
    assert world.meter.timings == []


async def test_all_ids_whose_time_is_over_are_forgotten_also_while_nothing_can_be_settled(world):
    left, happened = [3, 2, 1, 0, 1], []

    async def forget_ids() -> int:
        happened.append("forgets")
        return left.pop(0) if left else 0

    async def settle(batch: Batch) -> Settled:
        happened.append("settles")
        raise StoreUnavailable

    world.log.forget_ids, world.store.settle = forget_ids, settle
    async with running(writer := world.writer()):
        await writer.add(increment(value=5))
        async with running(world.settler(interval_s=0.001)):
            await until(lambda: happened.count("settles") > 2)
    rounds = [round.split() for round in " ".join(happened).split("settles")]
    assert [len(forgets) for forgets in rounds[:3]] == [4, 2, 1]


async def test_two_owners_of_one_partition_do_no_harm(world):
    """Both settle all the time, each pausing between its steps for as long as chance will have it."""
    chance = random.Random(7)

    def paused(method):
        async def slow(*args, **kwargs):
            await asyncio.sleep(chance.random() * 0.003)
            result = await method(*args, **kwargs)
            await asyncio.sleep(chance.random() * 0.003)
            return result

        return slow

    settlers = [world.settler() for _ in range(2)]
    for settler in settlers:
        settler._store = type("Slow", (), {"settle": staticmethod(paused(world.store.settle))})()
        settler._log = type(
            "Slow", (), {"seal": staticmethod(paused(world.log.seal)), "drop": staticmethod(paused(world.log.drop))}
        )()
    moved = 0

    async def keep_settling(settler) -> None:
        while not done.is_set():
            await settler.settle(ALL)

    done = asyncio.Event()
    async with running(writer := world.writer()):
        tasks = [asyncio.create_task(keep_settling(settler)) for settler in settlers]
        for i in range(300):
            await writer.add(increment(key=f"k{i % 5}", value=i))
            await asyncio.sleep(0.001)
        done.set()
        await asyncio.gather(*tasks)
    await world.settler().settle(ALL)
    assert sum(world.store.values.values()) == sum(range(300))
    moved = sum(world.store.settled.values())
    assert moved > 20  # they did meet


async def test_a_settle_that_wakes_up_late_is_refused(world):
    async with running(writer := world.writer()):
        await writer.add(increment(value=5))
        batch = await world.log.seal(writer_partition(world))
        await world.settler().settle(ALL)
        await writer.add(increment(value=7))
        late = await world.store.settle(batch)
        assert not late.moved
        await world.settler().settle(ALL)
    assert world.store.values == {"default:a": 12}


def writer_partition(world) -> int:
    return next(p for p, part in world.log.parts.items() if part.calls)


@pytest.mark.parametrize("step", ["seal", "settle", "drop"])
@pytest.mark.parametrize("done", [True, False])
async def test_a_step_that_fails_or_whose_answer_is_lost_is_made_again(world, monkeypatch, step, done):
    holder = world.store if step == "settle" else world.log
    method = getattr(holder, step)
    failing = True

    async def fail(*args):
        if not failing:
            return await method(*args)
        if done:
            await method(*args)
        raise StoreUnavailable if step == "settle" else LogUnavailable

    monkeypatch.setattr(holder, step, fail)
    async with running(writer := world.writer()):
        await writer.add(increment(value=5))
        with pytest.raises((StoreUnavailable, LogUnavailable)):
            await world.settler().settle(ALL)
        failing = False
        await writer.add(increment(value=2))
        assert await world.value("default:a") == 7
        for _ in range(2):
            await world.settler().settle(ALL)
    assert world.store.values == {"default:a": 7}


async def test_one_partition_in_trouble_does_not_hold_up_the_others(world, monkeypatch):
    seal = world.log.seal

    async def fail_some(partition):
        if partition == 0:
            raise LogUnavailable
        return await seal(partition)

    monkeypatch.setattr(world.log, "seal", fail_some)
    async with running(writer := world.writer()):
        for i in range(40):
            await writer.add(increment(key=f"k{i}"))
        with pytest.raises(LogUnavailable):
            await world.settler().settle(ALL)
    assert set(world.store.settled) == ALL - {0}


async def test_nothing_is_dropped_when_postgres_went_back_in_time(world):
    async with running(writer := world.writer()):
        settler = world.settler()
        for _ in range(3):
            await writer.add(increment(value=5))
            await settler.settle(ALL)
        p = writer_partition_of_settled(world)
        world.store.settled[p] = 1  # a backup was put back
        await writer.add(increment(value=5))
        await settler.settle(ALL)
        assert settler.went_back == {p}
        assert (await world.log.seal(p)).sums == {"default:a": 5}


def writer_partition_of_settled(world) -> int:
    return next(iter(world.store.settled))


async def test_gained_partitions_are_settled_soon(world):
    settler = world.settler()
    async with running(writer := world.writer(), settler):
        await writer.add(increment(value=5))
        settler.wake()
        await until(lambda: world.store.values == {"default:a": 5})


async def test_the_loop_waits_trouble_out(world, monkeypatch):
    settle = world.store.settle

    async def away(batch):
        raise StoreUnavailable("Postgres: connection refused; try again")

    monkeypatch.setattr(world.store, "settle", away)
    settler = world.settler()
    async with running(writer := world.writer(), settler):
        await writer.add(increment(value=5))
        settler.wake()
        await until(lambda: settler.trouble is not None)
        await writer.add(increment(value=5))
        monkeypatch.setattr(world.store, "settle", settle)
        for _ in range(2):
            settler.wake()
            await until(lambda: settler.trouble is None)
        await world.settler().settle(ALL)
    assert world.store.values == {"default:a": 10}

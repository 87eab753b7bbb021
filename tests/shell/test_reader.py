"""Exact reads, whatever is between the open batch and Postgres at the moment."""

from __future__ import annotations

import asyncio

import pytest

from node.errors import LogUnavailable, NotFound, Unavailable
from tests.shell.conftest import ALL, increment, running


async def test_every_acknowledged_increment_is_read_at_every_step_of_a_settle(world):
    async with running(writer := world.writer(), reader := world.reader(), other := world.reader()):
        total = 0

        async def add(value: int) -> None:
            nonlocal total
            await writer.add(increment(value=value))
            total += value

        async def check() -> None:
            assert await reader.value("default:a") == await other.value("default:a") == total

        for _ in range(5):
            await add(1)
            await check()
            p = next(p for p, part in world.log.parts.items() if part.calls)
            batch = await world.log.seal(p)
            await check()
            await add(10)
            await check()
            await world.store.settle(batch)
            await check()
            await add(100)
            await check()
            await world.log.drop(p, batch.number, [])
            await check()


async def test_an_unknown_key_is_not_found(world):
    async with running(world.writer(), reader := world.reader()):
        while not world.log.parts:
            await asyncio.sleep(0.001)
        with pytest.raises(NotFound):
            await reader.value("default:nobody")


async def test_readers_beside_writers_and_settlers_never_see_less_than_was_acknowledged(world):
    acknowledged = sent = 0

    async def write(writer) -> None:
        nonlocal acknowledged, sent
        for _ in range(200):
            sent += 1
            await writer.add(increment())
            acknowledged += 1

    async def settle() -> None:
        while True:
            await world.settler().settle(ALL)
            await asyncio.sleep(0)

    async def read(reader) -> None:
        before = 0
        while acknowledged < 400:
            low = acknowledged
            value = await reader.value("default:a")
            assert max(low, before) <= value <= sent
            before = value

    one, two = world.writer("n1"), world.writer("n2")
    async with running(one, two, reader := world.reader()):
        await one.add(increment(value=0))
        settling = asyncio.create_task(settle())
        await asyncio.gather(write(one), write(two), read(reader), read(reader))
        settling.cancel()


async def test_a_read_fails_clearly_when_redis_is_away(world, monkeypatch):
    async def away(counters):
        raise LogUnavailable("Redis: connection refused; try again")

    monkeypatch.setattr(world.log, "read", away)
    async with running(reader := world.reader()):
        with pytest.raises(Unavailable):
            await reader.value("default:a")


async def test_a_redis_behind_postgres_gives_no_wrong_value(world):
    async with running(writer := world.writer(), reader := world.reader()):
        await writer.add(increment(value=5))
        await world.settler().settle(ALL)
        for part in world.log.parts.values():  # Redis went back in time
            part.open_number = 1
        with pytest.raises(Unavailable):
            await reader.value("default:a")


async def test_many_keys_are_read_together(world):
    async with running(writer := world.writer(), reader := world.reader()):
        await asyncio.gather(*(writer.add(increment(key=f"k{i}", value=i)) for i in range(1500)))
        values = await asyncio.gather(*(reader.value(f"default:k{i}") for i in range(1500)))
        assert values == list(range(1500))

from __future__ import annotations

import asyncio

import pytest

from cluster.local.vital import Vital


async def fail() -> None:
    raise RuntimeError("out of order")


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_that_fails_ends_everything_and_says_why() -> None:
    vital = Vital()
    vital.run(fail())
    async with asyncio.timeout(5):
        await vital.ended.wait()
    assert str(vital.failure) == "out of order"


async def test_a_task_that_comes_to_its_end_ends_nothing() -> None:
    vital = Vital()
    vital.run(asyncio.sleep(0))
    await asyncio.sleep(0.01)
    assert not vital.ended.is_set()


async def test_work_is_given_up_when_the_end_comes() -> None:
    vital = Vital()
    asyncio.get_running_loop().call_soon(vital.ended.set)
    async with asyncio.timeout(5):
        await vital.until_ended(forever())


async def test_what_goes_wrong_in_the_work_is_raised() -> None:
    with pytest.raises(RuntimeError, match="out of order"):
        await Vital().until_ended(fail())


async def test_cancelled_tasks_are_no_failure() -> None:
    vital = Vital()
    vital.run(forever())
    await asyncio.sleep(0)
    await vital.cancel()
    assert vital.failure is None
    assert not vital.ended.is_set()

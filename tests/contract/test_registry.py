"""The contract of the registry, on fakeredis and on a real Redis."""

from __future__ import annotations

import asyncio

from cluster.view import Member


def member(name: str, **more: object) -> Member:
    return Member(f"{name}-000001", name, f"http://127.0.0.1/{name}", "http://127.0.0.1", 1, **more)  # type: ignore[arg-type]


async def until(condition, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_beat_joins_and_moves_the_epoch_once(registry):
    first = await registry.beat(member("n1"))
    assert [m.name for m in first.members] == ["n1"]
    assert (await registry.beat(member("n1"))).epoch == first.epoch
    second = await registry.beat(member("n2"))
    assert second.epoch == first.epoch + 1
    assert [m.name for m in second.members] == ["n1", "n2"]
    assert await registry.view() == second


async def test_a_new_state_moves_the_epoch(registry):
    before = await registry.beat(member("n1", state="ready"))
    after = await registry.beat(member("n1", state="draining"))
    assert after.epoch == before.epoch + 1
    assert after.ready == ()


async def test_who_leaves_is_gone_at_once(registry):
    await registry.beat(member("n1"))
    before = await registry.beat(member("n2"))
    after = await registry.leave(member("n1").id)
    assert ([m.name for m in after.members], after.epoch) == (["n2"], before.epoch + 1)
    assert (await registry.leave(member("n1").id)).epoch == after.epoch


async def test_a_lease_runs_out_for_whoever_looks(registry):
    registry.lease_ms = 200
    before = await registry.beat(member("n1"))

    async def gone() -> bool:
        return not (await registry.view()).members

    await until(gone)
    assert (await registry.view()).epoch == before.epoch + 1


async def test_a_lease_that_is_renewed_does_not_run_out(registry):
    registry.lease_ms = 1000
    lease_s, now = registry.lease_ms / 1000, asyncio.get_running_loop().time
    epochs, began, last, longest_s = set(), now(), now(), 0.0
    while now() < began + 2 * lease_s:
        epochs.add((await registry.beat(member("n1"))).epoch)
        longest_s, last = max(longest_s, now() - last), now()
        await asyncio.sleep(lease_s / 20)
    assert len(epochs) == 1 or longest_s >= lease_s, "renewed in time, all along"

"""The contract of the store of record, on the in-memory twin and on Postgres."""

from __future__ import annotations

import asyncio
from typing import get_args

import pytest

import node.postgres
import node.store
from cluster.ring import partition_of
from node.errors import StoreRefused
from node.ports import Step
from node.settlement import FULL, Batch
from node.store import PostgresStore
from tests.contract.conftest import PARTITIONS

A, B = "default:a", "default:b"
P = partition_of(A, PARTITIONS)


def batch(number: int, sums: dict[str, int], incarnation: int = 1, calls: dict[str, int] | None = None) -> Batch:
    return Batch(P, number, incarnation, sums, calls or {"n1": number})


async def halves(store, counters: list[str]) -> list[tuple[int | None, int]]:
    return [(stored.value, stored.settled) for stored in await store.stored(counters)]


async def test_a_fence_raises_the_incarnation_once_per_redis(store):
    first = await store.fence(0, "run-1", lost=False)
    assert first.settled == dict.fromkeys(range(PARTITIONS), 0)
    assert (await store.fence(0, "run-1", lost=False)).incarnation == first.incarnation
    assert (await store.fence(0, "run-2", lost=False)).incarnation == first.incarnation + 1
    assert (await store.fence(0, "run-2", lost=True)).incarnation == first.incarnation + 2


async def test_a_batch_is_settled_once(store):
    await store.fence(0, "run-1", lost=False)
    first = await store.settle(batch(1, {A: 5, "other:a": 7}))
    assert (first.moved, first.settled, list(first.full)) == (True, 1, [])
    again = await store.settle(batch(1, {A: 5, "other:a": 7}))
    assert (again.moved, again.settled) == (False, 1)
    assert await halves(store, [A, "other:a"]) == [(5, 1), (7, 0 if _p("other:a") != P else 1)]


def _p(counter: str) -> int:
    return partition_of(counter, PARTITIONS)


async def test_batches_settle_in_order_only(store):
    await store.fence(0, "run-1", lost=False)
    assert not (await store.settle(batch(2, {A: 5}))).moved
    assert (await store.settle(batch(1, {A: 1}))).moved
    assert (await store.settle(batch(2, {A: 5}))).moved
    assert await halves(store, [A]) == [(6, 2)]


async def test_a_batch_of_an_older_incarnation_changes_nothing(store):
    await store.fence(0, "run-1", lost=False)
    assert (await store.fence(0, "run-2", lost=False)).incarnation == 2
    settled = await store.settle(batch(1, {A: 5}, incarnation=1))
    assert (settled.moved, settled.settled) == (False, 0)
    assert await halves(store, [A]) == [(None, 0)]
    assert (await store.settle(batch(1, {A: 5}, incarnation=2))).moved


async def test_of_many_settles_of_one_batch_at_once_one_moves(store):
    await store.fence(0, "run-1", lost=False)
    for number in range(1, 6):
        results = await asyncio.gather(*(store.settle(batch(number, {A: 1, B: 2})) for _ in range(6)))
        assert sum(result.moved for result in results) == 1
        assert {result.settled for result in results} == {number}
    assert (await store.stored([A]))[0].value == 5


async def test_a_zero_creates_the_counter(store):
    await store.fence(0, "run-1", lost=False)
    await store.settle(batch(1, {A: 0}))
    assert await halves(store, [A]) == [(0, 1)]


async def test_an_empty_batch_moves_the_number(store):
    await store.fence(0, "run-1", lost=False)
    assert (await store.settle(batch(1, {}))).moved
    assert await halves(store, [A]) == [(None, 1)]


async def test_a_counter_past_the_limit_is_told_to_be_full_whoever_settled(store):
    await store.fence(0, "run-1", lost=False)
    await store.settle(batch(1, {A: FULL - 1}))
    filling = batch(2, {A: 1, B: 1})
    assert list((await store.settle(filling)).full) == [A]
    assert list((await store.settle(filling)).full) == [A]
    assert list((await store.fence(0, "run-1", lost=False)).full) == [A]


async def test_many_counters_are_read_in_the_order_asked(store):
    await store.fence(0, "run-1", lost=False)
    names = [f"default:k{i}" for i in range(100)]
    mine = {name: i for i, name in enumerate(names) if _p(name) == P}
    await store.settle(batch(1, mine))
    values = [stored.value for stored in await store.stored(names)]
    assert values == [mine.get(name) for name in names]


async def test_counters_may_hold_any_text(store):
    await store.fence(0, "run-1", lost=False)
    names = [
        "default:" + key for key in ('"', "\\", "a b", "\n\x01", "🙂", "é", "e\u0301", "a:b", "'; DROP", "x" * 512)
    ]
    await store.settle(batch(1, {name: i for i, name in enumerate(names)}))
    assert [stored.value for stored in await store.stored(names)] == list(range(len(names)))


@pytest.mark.parametrize("step", get_args(Step))
async def test_writers_are_waited_for_until_they_are_done_or_struck(store, step):
    another = next(each for each in get_args(Step) if each != step)
    for name in ("n1", "n2", "n3"):
        await store.enlist(0, name)
    assert sorted(await store.behind(0, step, 1)) == ["n1", "n2", "n3"]
    assert await store.mark("n1", step, 1)
    assert await store.mark("n2", step, 2)
    assert await store.behind(0, step, 1) == ["n3"]
    assert sorted(await store.behind(0, step, 2)) == ["n1", "n3"]
    assert sorted(await store.behind(0, another, 1)) == ["n1", "n2", "n3"]
    await store.strike(0, ["n3", "nobody"])
    assert await store.behind(0, step, 1) == []
    assert not await store.mark("n3", step, 1)
    assert await store.mark("n2", step, 1), "an earlier one that was late"
    assert "n2" not in await store.behind(0, step, 2)


async def test_settled_calls_are_known_until_their_writer_is_struck(store):
    await store.fence(0, "run-1", lost=False)
    await store.enlist(0, "n1")
    await store.enlist(0, "n1")  # again, for its reply was lost
    await store.enlist(0, "n2")
    await store.settle(batch(1, {A: 1}, calls={"n1": 3, "n2": 5}))
    await store.settle(batch(2, {A: 1}, calls={"n1": 4}))
    assert await store.settled_calls(0, "n1") == {P: 4}
    assert await store.settled_calls(0, "n2") == {P: 5}
    await store.strike(0, ["n2"])
    assert await store.settled_calls(0, "n1") == {P: 4}
    assert await store.settled_calls(0, "n2") == {}


async def test_what_was_decided_is_known_beside_the_calls_until_its_writer_is_struck(store):
    await store.fence(0, "run-1", lost=False)
    await store.enlist(0, "n1")
    await store.enlist(0, "n2")
    noted = {"n1/0": "4 d0:c5", "n1/1": "3 d0:c1 d1:c2", "n2/0": "4 d0:c7"}
    await store.settle(Batch(P, 1, 1, {A: 1}, {"n1": 4, "n2": 4}, noted))
    other = (P + 1) % PARTITIONS
    await store.settle(Batch(other, 1, 1, {}, {"n1": 4}, {"n1/0": "4 d1:c-9"}))
    await store.settle(Batch(P, 2, 1, {A: 1}, {"n1": 5}, {"n1/1": "5 d3:c8"}))
    found = await store.settled_outcomes(0, "n1")
    assert {number: sorted(rulings) for number, rulings in found.items()} == {4: ["d0:c5", "d1:c-9"], 5: ["d3:c8"]}
    assert await store.settled_outcomes(0, "n2") == {4: ["d0:c7"]}
    await store.strike(0, ["n1"])
    assert await store.settled_outcomes(0, "n1") == await store.settled_calls(0, "n1") == {}
    assert await store.settled_outcomes(0, "n2") == {4: ["d0:c7"]}


async def test_a_stored_value_says_when_it_was_last_settled(store):
    await store.fence(0, "run-1", lost=False)
    assert (await store.stored([A]))[0].updated_at is None
    await store.settle(batch(1, {A: 1}))
    first = (await store.stored([A]))[0].updated_at
    await store.settle(batch(2, {A: 1}))
    assert first < (await store.stored([A]))[0].updated_at


async def test_a_counter_far_below_zero_is_full_too(store):
    await store.fence(0, "run-1", lost=False)
    assert list((await store.settle(batch(1, {A: -FULL}))).full) == [A]
    assert list((await store.fence(0, "run-1", lost=False)).full) == [A]


@pytest.mark.parametrize("store", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
async def test_a_strike_that_waits_for_a_settle_forgets_nothing_of_a_writer_that_came_meanwhile(store):
    """The settled row is newer than the list of writers that the waiting statement sees."""
    await store.fence(0, "run-1", lost=False)
    await store.enlist(0, "n1")
    await store.settle(batch(1, {A: 1}, calls={"n1": 1}))
    async with asyncio.timeout(20), store.postgres.transaction() as settling:
        await settling.execute("SELECT FROM partitions WHERE partition = $1 FOR UPDATE", P)
        striking = asyncio.create_task(store.strike(0, ["n1"]))
        while not await settling.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        await store.enlist(0, "n2")
        noted = '{"n2": 1, "n2/0": "1 d0:c1"}'
        await settling.execute("UPDATE partitions SET calls = calls || $2 WHERE partition = $1", P, noted)
    await striking
    assert await store.settled_calls(0, "n2") == {P: 1}
    assert await store.settled_outcomes(0, "n2") == {1: ["d0:c1"]}
    assert await store.settled_calls(0, "n1") == {}


@pytest.mark.postgres
async def test_a_large_batch_may_take_longer_than_any_other_statement(node_dsn, monkeypatch):
    """Given up each time, it could never be settled, and nothing after it."""
    monkeypatch.setattr(node.postgres, "STATEMENT_TIMEOUT_MS", 500)
    monkeypatch.setattr(node.store, "SUMS_PER_S_MIN", 1)
    store = await PostgresStore.open(node_dsn, PARTITIONS)
    try:
        await store.fence(0, "run-1", lost=False)
        async with store.postgres.transaction() as other:
            await other.execute("SELECT FROM partitions WHERE partition = $1 FOR UPDATE", P)
            settling = asyncio.create_task(store.settle(batch(1, {f"default:k{i}": 1 for i in range(60)})))
            done, _ = await asyncio.wait([settling], timeout=1.0)
            assert not done
        assert (await settling).moved
        with pytest.raises(StoreRefused, match="statement timeout"):
            await store.postgres.fetch("SELECT pg_sleep(20)")
    finally:
        await store.close()

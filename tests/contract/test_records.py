"""What is on record of a namespace, on a real Postgres: lists of counters, and history by every strategy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from node.call import Outcome
from node.counters import HistoryStep
from node.increment import VALUE_MAX, Increment
from node.namespace_table import NamespaceTable
from node.records import PostgresRecords, end_of
from node.rollup_table import RollupTable
from node.settlement import Batch
from node.store import PostgresStore
from node.strategy import Namespace
from tests.contract.strategies import PARTITIONS, STRATEGIES, on_servers

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

SPAN = timedelta(days=40)


@pytest.fixture
async def store(node_dsn: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(node_dsn, PARTITIONS)
    yield store
    await store.close()


async def history(records: PostgresRecords, key: str, step: HistoryStep) -> list[tuple[datetime, int]]:
    now = datetime.now(UTC)
    return await records.history("shop", key, step, now - SPAN, now + SPAN, 100)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_history_has_what_was_counted_in_every_step(
    strategy: str, store: PostgresStore, node_redis_url: str, node_dsn: str
) -> None:
    table, records = NamespaceTable(store.postgres, 60), PostgresRecords(store.postgres)
    namespace = await table.change("shop", {"strategy": strategy, "history": True, "negative_allowed": True})
    plain = await table.change("plain", {"strategy": strategy})
    async with on_servers(namespace, node_redis_url, node_dsn) as cluster:
        node = await cluster.node()
        many = [
            Increment("shop:a", 5),
            Increment("shop:a", -2),
            Increment("shop:b", 7, "x"),
            Increment("shop:b", 7, "x"),
        ]
        outcomes = await node.add_many(namespace, many)
        assert outcomes == [Outcome.COUNTED] * 3 + [Outcome.REPLAYED]
        assert await node.add_many(plain, [Increment("plain:a", 5)]) == [Outcome.COUNTED]
        await cluster.move()
        assert (await node.reset(namespace, "shop:b", None)).taken == 7
        await node.add_many(namespace, [Increment("shop:a", 1)])
        await cluster.move()
    for step in get_args(HistoryStep):
        sums = await history(records, "a", step)
        assert sum(total for _, total in sums) == 4
        assert all(at.tzinfo is UTC and at.second == at.microsecond == 0 for at, _ in sums)
        assert sum(total for _, total in await history(records, "b", step)) == 0
    at, _ = (await history(records, "a", "month"))[0]
    assert (at.day, at.hour, at.minute) == (1, 0, 0)
    rows = await store.postgres.fetch("SELECT DISTINCT namespace FROM history")
    assert [row["namespace"] for row in rows] == ["shop"]


async def test_sums_of_history_pass_what_a_bigint_holds(store: PostgresStore) -> None:
    await NamespaceTable(store.postgres, 60).change("shop", {"history": True})
    records = PostgresRecords(store.postgres)
    await store.fence(0, "run-1", lost=False)
    for number in range(1, 9):
        sign = 1 if number % 2 else -1
        assert (await store.settle(Batch(0, number, 1, {"shop:a": sign * 2**61}, {"n1": number}))).moved
        await store.postgres.fetch("UPDATE history SET sum = abs(sum) + 9223372036854775807 RETURNING 1")
    ((_, total),) = await history(records, "a", "month")
    assert total > 2**63 + VALUE_MAX


async def test_a_settle_that_does_not_move_notes_nothing(store: PostgresStore) -> None:
    await NamespaceTable(store.postgres, 60).change("shop", {"history": True})
    await store.fence(0, "run-1", lost=False)
    batch = Batch(0, 1, 1, {"shop:a": 3}, {"n1": 1})
    assert (await store.settle(batch)).moved
    assert not (await store.settle(batch)).moved
    assert [total for _, total in await history(PostgresRecords(store.postgres), "a", "day")] == [3]


@pytest.mark.parametrize("namespace", ["default", "shop"])
async def test_counters_are_listed_in_order_from_where_the_last_page_ended(
    store: PostgresStore, namespace: str
) -> None:
    records = PostgresRecords(store.postgres)
    keys = sorted(["a", "a/1", "a/2", "a/é", "a/\U0010ffff", "a0", "b", "\U0010ffff", "é", "🙂", "\ud7ff", "z" * 512])
    rows = [(namespace, key) for key in keys] + [("other", "a/1"), ("other", "a/3")]
    await store.postgres.fetch(
        "INSERT INTO key_counters (namespace, key, value) SELECT *, 1 FROM unnest($1::text[], $2::text[])",
        *map(list, zip(*rows, strict=True)),
    )
    for prefix in ("", "a", "a/", "a/é", "\U0010ffff", "\ud7ff", "nothing", "a/\U0010ffff"):
        found: list[str] = []
        while page := await records.counters(namespace, prefix, found[-1] if found else "", 2):
            assert len(page) <= 2
            found += [each.key for each in page]
        assert found == [key for key in keys if key.startswith(prefix)], prefix
    (first,) = await records.counters("other", "a/", "", 1)
    assert (first.key, first.stored) == ("a/1", 1)


def test_the_end_of_a_prefix_is_behind_all_that_begin_with_it() -> None:
    assert end_of("a") == "b"
    assert end_of("a\U0010ffff") == "b"
    assert end_of("\ud7ff") == "\ue000"
    assert end_of("a/") == "a0"
    assert end_of("") == end_of("\U0010ffff") > "\U0010ffff"


async def test_old_minutes_and_hours_are_forgotten_and_days_are_kept(store: PostgresStore) -> None:
    records = PostgresRecords(store.postgres)
    await store.postgres.fetch(
        "INSERT INTO history (namespace, key, step, at, sum) "
        "SELECT 'shop', 'a', step, now() - make_interval(days => d), 1 "
        "FROM unnest(ARRAY['minute', 'hour', 'day', 'month']) step, unnest(ARRAY[1, 36, 401]) d"
    )
    assert await records.forget_history() == 3
    rows = await store.postgres.fetch("SELECT step, count(*) FROM history GROUP BY step")
    assert {row["step"]: row["count"] for row in rows} == {"minute": 1, "hour": 2, "day": 3, "month": 3}


async def test_rolled_up_increments_are_kept_as_long_as_their_namespace_says(
    store: PostgresStore, node_redis_url: str, node_dsn: str
) -> None:
    table = NamespaceTable(store.postgres, 60)
    for name, days in (("never", 0), ("week", 7), ("ever", None)):
        await table.change(name, {"strategy": "rollup", "keep_days": days})
    async with on_servers(Namespace("ever", "rollup"), node_redis_url, node_dsn) as cluster:
        node = await cluster.node()
        for name in ("never", "week", "ever"):
            await node.add_many(Namespace(name, "rollup"), [Increment(f"{name}:a", 1, "x"), Increment(f"{name}:a", 2)])
        await cluster.move()
    kept = "SELECT namespace, key, value, idempotency_key FROM rolled_up ORDER BY namespace, value"
    rows = [tuple(row) for row in await store.postgres.fetch(kept)]
    assert rows == [(name, "a", *row) for name in ("ever", "week") for row in ((1, "x"), (2, None))]
    await store.postgres.fetch("UPDATE rolled_up SET counted_at = counted_at - interval '8 days' RETURNING 1")
    assert await RollupTable(store.postgres, PARTITIONS).let_go() == 2
    assert {row["namespace"] for row in await store.postgres.fetch(kept)} == {"ever"}


async def test_what_is_stored_of_some_keys_is_told_in_their_order(store: PostgresStore) -> None:
    records = PostgresRecords(store.postgres)
    await store.fence(0, "run-1", lost=False)
    await store.settle(Batch(0, 1, 1, {"shop:a": 5, "shop:b": 7, "default:a": 9}, {}))
    found = await records.stored("shop", ["b", "c", "a", "b"])
    assert [each and (each.key, each.stored) for each in found] == [("b", 7), None, ("a", 5), ("b", 7)]
    assert [each and each.stored for each in await records.stored("default", ["a", "b"])] == [9, None]
    assert await records.stored("none", ["a"]) == [None]

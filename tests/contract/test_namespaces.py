"""The contract of the table of namespaces, on the in-memory twin and on Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from node.errors import StrategyFixed, TooManyNamespaces
from node.migrations import migrations
from node.namespace_table import NamespaceTable
from node.ports import NamespaceStore
from node.store import PostgresStore
from node.terms import NAMESPACES_MAX, Namespace
from tests.twins.namespaces import WINDOW_S, MemoryNamespaces


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def table(request: pytest.FixtureRequest) -> AsyncIterator[NamespaceStore]:
    if request.param == "memory":
        yield MemoryNamespaces()
        return
    store = await PostgresStore.open(request.getfixturevalue("node_dsn"), 8)
    yield NamespaceTable(store.postgres, WINDOW_S)
    await store.close()


async def test_a_namespace_is_founded_once_and_keeps_its_strategy(table: NamespaceStore) -> None:
    assert await table.get("shop") is None
    assert await table.found("shop", "sync") == Namespace("shop", "sync")
    assert await table.found("shop", "rollup") == Namespace("shop", "sync")
    assert await table.get("shop") == Namespace("shop", "sync")
    with pytest.raises(StrategyFixed):
        await table.change("shop", {"strategy": "dist", "history": True})
    assert await table.all() == [Namespace("shop", "sync")]


async def test_of_many_founders_at_once_one_decides(table: NamespaceStore) -> None:
    founded = await asyncio.gather(*(table.found("shop", ("dist", "sync", "rollup")[i % 3]) for i in range(9)))
    assert len(set(founded)) == 1


async def test_a_change_leaves_what_it_does_not_name(table: NamespaceStore) -> None:
    first = await table.change("shop", {"strategy": "rollup", "keep_days": 7, "idempotency_window_s": 90})
    assert first == Namespace("shop", "rollup", 90, keep_days=7)
    second = await table.change("shop", {"history": True, "negative_allowed": True})
    assert second == Namespace("shop", "rollup", 90, False, True, True, 7)
    third = await table.change("shop", {"keep_days": None, "idempotency_window_s": None, "strategy": "rollup"})
    assert third == Namespace("shop", "rollup", WINDOW_S, False, True, True, None)
    assert await table.all() == [third]


async def test_there_are_only_so_many(table: NamespaceStore) -> None:
    for i in range(NAMESPACES_MAX):
        await table.found(f"n{i}", "dist")
    for attempt in (table.found("more", "dist"), table.change("more", {"history": True})):
        with pytest.raises(TooManyNamespaces):
            await attempt
    assert (await table.change("n1", {"history": True})).history
    assert len(await table.all()) == NAMESPACES_MAX


@pytest.mark.postgres
async def test_what_was_counted_before_there_was_a_choice_is_dist(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    try:
        (_, _, first), (_, _, second) = migrations()[:2]
        await connection.execute(first)
        await connection.execute("INSERT INTO cluster (partitions) VALUES (8)")
        await connection.execute("INSERT INTO key_counters (namespace, key, value) VALUES ('shop', 'a', 1)")
        await connection.execute(second)
        rows = await connection.fetch("SELECT name, strategy FROM namespaces ORDER BY name")
        assert [tuple(row) for row in rows] == [("default", "dist"), ("shop", "dist")]
    finally:
        await connection.close()

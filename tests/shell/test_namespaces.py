"""What a node knows of the namespaces, over the in-memory table."""

from __future__ import annotations

import pytest

from node import namespaces as module
from node.errors import Misconfigured, NotFound, StoreUnavailable
from node.namespaces import Namespaces
from node.terms import Namespace
from tests.shell.conftest import running, until
from tests.twins.namespaces import MemoryNamespaces


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_INTERVAL_S", 0.01)


async def test_the_default_namespace_is_founded_with_the_setting_and_must_agree_with_it() -> None:
    table = MemoryNamespaces()
    one, other = Namespaces(table), Namespaces(table)
    await one.start("sync")
    assert one.default == Namespace("default", "sync")
    with pytest.raises(Misconfigured, match="TALLY_STRATEGY=sync"):
        await other.start("dist")


async def test_a_change_is_seen_by_every_node() -> None:
    table, told = MemoryNamespaces(), list[Namespace]()
    one, other = Namespaces(table), Namespaces(table)
    await one.start("dist")
    await other.start("dist")
    other.watch(told.append)
    async with running(one, other):
        await one.change("shop", {"strategy": "rollup"})
        assert one.known("shop") == Namespace("shop", "rollup")
        await until(lambda: other.known("shop") == Namespace("shop", "rollup"))
        await one.change("shop", {"history": True})
        await until(lambda: other.known("shop") == Namespace("shop", "rollup", history=True))
    assert [each.name for each in told] == ["default", "shop", "shop"]
    assert other.all() == [Namespace("default"), Namespace("shop", "rollup", history=True)]


async def test_what_another_node_founded_a_moment_ago_is_found() -> None:
    table = MemoryNamespaces()
    one, other = Namespaces(table), Namespaces(table)
    assert await one.expected("shop") == Namespace("shop")
    with pytest.raises(NotFound):
        await one.find("shop")
    assert table.rows == {}, "to look for a namespace founds none"
    await one.change("shop", {"strategy": "sync"})
    assert await other.found("shop") == await other.find("shop") == Namespace("shop", "sync")


async def test_while_postgres_is_away_all_goes_on_with_what_was_known_last() -> None:
    table = MemoryNamespaces()
    node = Namespaces(table)
    await node.start("dist")
    async with running(node):
        await node.change("shop", {"strategy": "sync"})
        table.away = True
        await until(lambda: node.trouble is not None)
        assert await node.find("shop") == await node.found("shop") == Namespace("shop", "sync")
        for attempt in (node.find("new"), node.found("new"), node.change("shop", {"history": True})):
            with pytest.raises(StoreUnavailable):
                await attempt
        table.away = False
        await until(lambda: node.trouble is None)


async def test_what_was_read_before_a_change_does_not_undo_it(monkeypatch: pytest.MonkeyPatch) -> None:
    table = MemoryNamespaces()
    node = Namespaces(table)
    await node.start("dist")
    real = table.all

    async def late() -> list[Namespace]:
        found = await real()
        await node.change("default", {"history": True})
        return found

    monkeypatch.setattr(table, "all", late)
    await node.refresh()
    assert node.default.history

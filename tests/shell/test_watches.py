"""Watching counters: one reading for all, the newest value to each, an end for all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from node.errors import Draining, StoreUnavailable, TooManyRequests, Unavailable
from node.routes import watch
from node.strategy import Reading
from node.terms import Namespace
from node.watches import Nothing, Watches
from tests.shell.conftest import running

SHOP, BANK = Namespace("shop"), Namespace("bank", "sync")
SOON_S = 10.0


class Values:
    """What is read, and how often; namespaces that are away cannot be read."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.readings: list[list[str]] = []
        self.away: set[str] = set()

    async def read(self, namespace: Namespace, counters: Sequence[str]) -> list[Reading | None]:
        self.readings.append(sorted(counters))
        await asyncio.sleep(0)
        if namespace.name in self.away:
            raise StoreUnavailable
        return [Reading(self.values[name], 0, None) if name in self.values else None for name in counters]


async def test_all_watchers_of_a_counter_share_a_reading_and_are_told_each_change() -> None:
    values = Values()
    watches = Watches(values.read, interval_s=0.001)
    with watches.watch(SHOP, "shop:a", "10.0.0.1") as one, watches.watch(SHOP, "shop:a", "10.0.0.1") as other:
        with watches.watch(SHOP, "shop:b", "10.0.0.1") as third:
            async with running(watches):
                assert [await each.next(SOON_S) for each in (one, other, third)] == [None] * 3
                values.values = {"shop:a": 5}
                assert [await each.next(SOON_S) for each in (one, other)] == [5, 5]
                assert await third.next(0.02) is Nothing.NEW, "it is told nothing of others"
        assert all(reading == ["shop:a", "shop:b"] for reading in values.readings)


async def test_who_is_slow_is_told_the_newest_value_only() -> None:
    values = Values()
    watches = Watches(values.read, interval_s=0.001)
    with watches.watch(SHOP, "shop:a", "10.0.0.1") as slow, watches.watch(SHOP, "shop:a", "10.0.0.1") as quick:
        async with running(watches):
            for value in range(5):
                values.values = {"shop:a": value}
                while await quick.next(SOON_S) != value:
                    pass
            assert await slow.next(SOON_S) == 4


async def test_a_namespace_that_cannot_be_read_keeps_no_other_waiting() -> None:
    values = Values()
    values.away = {"shop"}
    watches = Watches(values.read, interval_s=0.001)
    with watches.watch(SHOP, "shop:a", "10.0.0.1") as away, watches.watch(BANK, "bank:a", "10.0.0.1") as there:
        async with running(watches):
            assert await there.next(SOON_S) is None
            assert await away.next(0.02) is Nothing.NEW
            values.away = set()
            assert await away.next(SOON_S) is None


async def test_there_are_so_many_watchers_and_no_more_and_each_makes_room_again() -> None:
    watches = Watches(Values().read, watchers_max=2)
    for _ in range(3):
        with (
            watches.watch(SHOP, "shop:a", "10.0.0.1"),
            watches.watch(SHOP, "shop:b", "10.0.0.1"),
            pytest.raises(Unavailable, match="2 watch"),
        ):
            watches.watch(SHOP, "shop:a", "10.0.0.1")


async def test_a_client_has_so_many_watchers_and_others_have_theirs() -> None:
    watches = Watches(Values().read, per_client_max=2, watchers_max=4)
    for _ in range(3):
        with ExitStack() as stack:
            for client in ("10.0.0.1", "10.0.0.2"):
                for _ in range(2):
                    stack.enter_context(watches.watch(SHOP, "shop:a", client))
                if client == "10.0.0.1":
                    with pytest.raises(TooManyRequests, match=r"2 watchers from this address.*end one of them"):
                        watches.watch(SHOP, "shop:b", client)
            with pytest.raises(Unavailable, match="4 watchers"):
                watches.watch(SHOP, "shop:a", "10.0.0.3")
    assert not watches._watching, "nothing is remembered of who watches no more"


async def test_without_a_limit_a_client_has_as_many_watchers_as_the_node_takes() -> None:
    watches = Watches(Values().read, per_client_max=0, watchers_max=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(watches.watch(SHOP, "shop:a", "10.0.0.1"))
        with pytest.raises(Unavailable, match="2 watchers"):
            watches.watch(SHOP, "shop:a", "10.0.0.1")


async def test_nobody_reads_what_nobody_watches() -> None:
    values = Values()
    watches = Watches(values.read, interval_s=0.001)
    async with running(watches):
        with watches.watch(SHOP, "shop:a", "10.0.0.1") as one:
            await one.next(SOON_S)
        await asyncio.sleep(0.02)
        values.readings.clear()
        await asyncio.sleep(0.02)
        assert values.readings == []


async def test_draining_ends_every_watch_and_takes_no_more() -> None:
    values = Values()
    watches = Watches(values.read, interval_s=0.001)
    late = watches.watch(SHOP, "shop:a", "10.0.0.1")
    async with running(watches):
        with watches.watch(SHOP, "shop:a", "10.0.0.1") as one, watches.watch(BANK, "bank:a", "10.0.0.1") as other:
            assert await one.next(SOON_S) is None
            ended = asyncio.gather(one.next(SOON_S), other.next(SOON_S))
            await watches.drain()
            assert await ended == [Nothing.MORE] * 2
        with late:
            assert await late.next(SOON_S) is Nothing.MORE
        with pytest.raises(Draining):
            watches.watch(SHOP, "shop:a", "10.0.0.1")


async def test_a_stream_has_values_heartbeats_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_S", 0.02)
    values = Values()
    values.values = {"shop:a": 2**60}
    watches = Watches(values.read, interval_s=0.001)
    async with running(watches):
        stream = watch.events('"é"', watches.watch(SHOP, "shop:a", "10.0.0.1"))
        assert await anext(stream) == b"retry: 1000\n\n"
        assert await anext(stream) == 'event: value\ndata: {"key":"\\"é\\"","value":1152921504606846976}\n\n'.encode()
        assert await anext(stream) == b": nothing new\n\n"
        await watches.drain()
        assert [part async for part in stream if part != b": nothing new\n\n"] == []

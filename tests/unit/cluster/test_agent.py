"""A member's life, on a registry and a clock of the test's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from cluster.agent import BEATS_PER_LEASE, Agent
from cluster.errors import RegistryUnavailable
from cluster.view import Change, Member, View

LEASE_S = 3.0
PARTITIONS = 16


def member(name: str, state: str = "ready") -> Member:
    return Member(f"{name}-000001", name, f"http://127.0.0.1/{name}", "http://127.0.0.1", 1, state)  # type: ignore[arg-type]


@dataclass
class FakeRegistry:
    """A registry in memory. `down` makes it unreachable; `gate`, when closed, keeps beats waiting."""

    lease_ms: int = int(LEASE_S * 1000)
    members: dict[str, Member] = field(default_factory=dict)
    epoch: int = 0
    down: bool = False
    beats: list[Member] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    beating: int = 0
    beating_at_once: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def beat(self, member: Member) -> View:
        self.beating += 1
        self.beating_at_once = max(self.beating, self.beating_at_once)
        try:
            await self.gate.wait()
        finally:
            self.beating -= 1
        self.beats.append(member)
        self._check()
        if self.members.get(member.id) != member:
            self.put(member)
        return self.view()

    async def leave(self, member_id: str) -> View:
        self.left.append(member_id)
        self._check()
        self.members.pop(member_id, None)
        self.epoch += 1
        return self.view()

    def put(self, member: Member) -> None:
        self.members[member.id] = member
        self.epoch += 1

    def view(self) -> View:
        return View(self.epoch, tuple(sorted(self.members.values())))

    def _check(self) -> None:
        if self.down:
            raise RegistryUnavailable


class Life:
    """An agent, its registry, its clock and what it reported."""

    def __init__(self, state: str = "ready") -> None:
        self.now = 100.0
        self.registry = FakeRegistry()
        self.changes: list[Change] = []
        self.agent = Agent(self.registry, member("n1", state), PARTITIONS, self.changes.append, lambda: self.now)

    def owned_as_reported(self) -> frozenset[int]:
        owned: frozenset[int] = frozenset()
        for change in self.changes:
            assert not change.gained & owned, "gained what it had"
            assert change.lost <= owned, "lost what it had not"
            owned = (owned | change.gained) - change.lost
        return owned


ALL = frozenset(range(PARTITIONS))


async def test_the_first_beat_of_a_member_alone_gains_everything() -> None:
    life = Life()
    assert not life.agent.in_lease
    assert life.agent.owned == frozenset()
    await life.agent.beat()
    assert life.agent.in_lease
    assert life.agent.owned == ALL
    assert life.changes == [Change(ALL, frozenset())]


async def test_a_view_that_does_not_change_reports_nothing() -> None:
    life = Life()
    for _ in range(5):
        await life.agent.beat()
    assert len(life.changes) == 1


async def test_others_that_come_and_go_are_lost_and_gained() -> None:
    life = Life()
    await life.agent.beat()
    life.registry.put(member("n2"))
    await life.agent.beat()
    shared = life.agent.owned
    assert frozenset() < shared < ALL
    life.registry.put(member("n2", "draining"))
    await life.agent.beat()
    assert life.agent.owned == ALL
    assert life.changes[1:] == [Change(frozenset(), ALL - shared), Change(ALL - shared, frozenset())]
    assert life.owned_as_reported() == life.agent.owned


async def test_a_change_that_does_not_touch_this_member_is_seen_and_not_reported() -> None:
    life = Life("starting")
    await life.agent.beat()
    life.registry.put(member("n2"))
    await life.agent.beat()
    assert len(life.agent.view.members) == 2
    assert life.changes == []


async def test_it_owns_nothing_until_it_is_ready_and_nothing_once_it_drains() -> None:
    life = Life("starting")
    await life.agent.beat()
    assert life.agent.owned == frozenset()
    await life.agent.become("ready")
    assert life.agent.owned == ALL
    await life.agent.become("draining")
    assert life.agent.owned == frozenset()
    assert [beat.state for beat in life.registry.beats] == ["starting", "ready", "draining"]


async def test_what_it_does_not_offer_to_own_others_own_and_it_stays_ready() -> None:
    life = Life()
    life.registry.put(member("n2"))
    await life.agent.beat()
    shared = life.agent.owned
    await life.agent.offer(False)
    assert life.agent.owned == frozenset()
    assert life.agent.member in life.agent.view.ready
    await life.agent.offer(True)
    assert life.agent.owned == shared
    assert life.owned_as_reported() == shared


async def test_it_keeps_what_it_owns_while_its_lease_holds() -> None:
    life = Life()
    await life.agent.beat()
    life.registry.down = True
    life.now += LEASE_S - 0.001
    await life.agent.beat()
    assert life.agent.in_lease
    assert life.agent.owned == ALL


async def test_it_steps_down_after_a_lease_without_a_good_beat() -> None:
    life = Life()
    await life.agent.beat()
    life.registry.down = True
    life.now += LEASE_S
    assert not life.agent.in_lease
    await life.agent.beat()
    assert life.agent.owned == frozenset()
    assert life.changes[-1] == Change(frozenset(), ALL)


async def test_after_stepping_down_the_next_good_beat_gains_again_though_the_view_is_the_same() -> None:
    life = Life()
    await life.agent.beat()
    life.registry.down = True
    life.now += LEASE_S
    for _ in range(3):
        await life.agent.beat()
    life.registry.down = False
    await life.agent.beat()
    assert life.agent.in_lease
    assert life.agent.owned == ALL
    assert len(life.changes) == 3
    assert life.owned_as_reported() == ALL


async def test_a_lease_counts_from_when_the_beat_was_sent_and_not_from_its_answer() -> None:
    life = Life()
    life.registry.gate.clear()
    beat = asyncio.create_task(life.agent.beat())
    while not life.registry.beating:
        await asyncio.sleep(0)
    life.now += LEASE_S + 1
    life.registry.gate.set()
    await beat
    assert not life.agent.in_lease, "the registry may have given its partitions away meanwhile"


async def test_beats_never_overlap() -> None:
    life = Life("starting")
    life.registry.gate.clear()
    tasks = [asyncio.create_task(life.agent.beat()) for _ in range(3)]
    tasks.append(asyncio.create_task(life.agent.become("ready")))
    for _ in range(10):
        await asyncio.sleep(0)
    life.registry.gate.set()
    await asyncio.gather(*tasks)
    assert life.registry.beating_at_once == 1
    assert life.registry.beats[-1].state == "ready", "an old state never comes back over a new one"


async def test_it_never_beats_again_after_it_left() -> None:
    life = Life()
    await life.agent.beat()
    await life.agent.leave()
    assert life.registry.left == ["n1-000001"]
    assert life.agent.owned == frozenset()
    for _ in range(3):
        await life.agent.beat()
        await life.agent.become("ready")
    assert len(life.registry.beats) == 1
    assert life.registry.view().members == ()


async def test_a_beat_under_way_ends_before_the_leave_and_cannot_undo_it() -> None:
    life = Life()
    life.registry.gate.clear()
    beat = asyncio.create_task(life.agent.beat())
    while not life.registry.beating:
        await asyncio.sleep(0)
    leave = asyncio.create_task(life.agent.leave())
    await asyncio.sleep(0)
    life.registry.gate.set()
    await asyncio.gather(beat, leave)
    assert life.registry.view().members == ()
    assert life.agent.owned == frozenset()


async def test_leaving_without_a_registry_is_no_error() -> None:
    life = Life()
    await life.agent.beat()
    life.registry.down = True
    await life.agent.leave()
    assert life.agent.owned == frozenset()
    assert life.changes[-1] == Change(frozenset(), ALL)


async def test_it_beats_several_times_a_lease_and_outlives_a_registry_that_is_away() -> None:
    life = Life()
    life.registry.lease_ms = 30
    life.registry.down = True
    running = asyncio.create_task(life.agent.run())
    async with asyncio.timeout(5):
        while len(life.registry.beats) < 3:
            await asyncio.sleep(0.001)
        life.registry.down = False
        while life.agent.owned != ALL:
            await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert BEATS_PER_LEASE >= 3, "one lost beat must not cost the lease"

"""A member's life: beat, learn the view, tell what was gained and lost; step down when beating fails for a lease.

The agent never claims more than its lease: the time of its last good beat is taken *before* the beat was sent, so the
member stops owning before the registry gives its partitions to another. (Nothing breaks when it does not: owners only
save work.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from cluster.errors import RegistryUnavailable
from cluster.view import Change, Member, State, View, change

log = logging.getLogger(__name__)

BEATS_PER_LEASE = 3
RETRY_S = 0.2  # after a beat that failed: when the registry is back, a member has a lease's time to be seen there again
NOTHING: frozenset[int] = frozenset()


class Registry(Protocol):
    """What an agent needs of a registry."""

    lease_ms: int

    async def beat(self, member: Member) -> View: ...

    async def leave(self, member_id: str) -> View: ...


class Agent:
    """Keeps one member in the registry and knows which partitions it owns.

    `changed` is called, without awaiting, each time the owned partitions change; `now` gives monotonic seconds.
    """

    def __init__(
        self,
        registry: Registry,
        member: Member,
        partitions: int,
        changed: Callable[[Change], None],
        now: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._partitions = partitions
        self._changed = changed
        self._now = now
        self._beaten_at: float | None = None
        self._beating = asyncio.Lock()
        self._left = False
        self._failures = 0  # since the last good beat
        self.member = member
        self.view = View(epoch=0)
        self.owned = NOTHING

    @property
    def in_lease(self) -> bool:
        """Whether the registry still counts this member in, as far as it can know."""
        return self._beaten_at is not None and self._now() - self._beaten_at < self._registry.lease_ms / 1000

    async def run(self) -> None:
        """Beats until cancelled."""
        interval_s = self._registry.lease_ms / 1000 / BEATS_PER_LEASE
        while True:
            good = await self.beat()
            await asyncio.sleep(interval_s if good else min(interval_s, RETRY_S))

    async def beat(self) -> bool:
        """One beat; whether it was good. After a lease without a good one the member owns nothing."""
        async with self._beating:  # two beats at once could put an old state back over a new one
            if self._left:
                return False
            sent_at = self._now()
            try:
                view = await self._registry.beat(self.member)
            except RegistryUnavailable as error:
                if self._failures == 0:
                    log.warning("beats fail: %s", error)
                self._failures += 1
                if not self.in_lease:
                    self._step_down()
                return False
            if self._failures:
                log.info("a beat is heard again, after %d that failed", self._failures)
            self._failures = 0
            self._beaten_at = sent_at
            if view != self.view:
                self._see(view)
            return True

    async def become(self, state: State) -> None:
        """Tells the registry of a new state now, not at the next beat."""
        self.member = self.member.becoming(state)
        await self.beat()

    async def offer(self, willing: bool) -> None:
        """Tells the registry now whether this member is willing to own partitions."""
        self.member = replace(self.member, willing=willing)
        await self.beat()

    async def move(self, url: str, ops_url: str) -> None:
        """Tells the registry of new addresses now, not at the next beat."""
        self.member = replace(self.member, url=url, ops_url=ops_url)
        await self.beat()

    async def leave(self) -> None:
        """Leaves the registry; when it cannot be reached the lease runs out by itself."""
        async with self._beating:
            self._left = True
            self._step_down()
            try:
                self.view = await self._registry.leave(self.member.id)
            except RegistryUnavailable as error:
                log.warning("could not leave: %s", error)

    def _see(self, view: View) -> None:
        log.info("epoch %d: %s", view.epoch, " ".join(f"{m.id}={m.state}" for m in view.members) or "nobody")
        self.view = view
        self._own(view.ring(self._partitions).owned_by(self.member.id))

    def _step_down(self) -> None:
        """Forgets the view too, so that the next good beat is news even when nothing changed meanwhile."""
        self.view = View(epoch=0)
        self._own(NOTHING)

    def _own(self, partitions: frozenset[int]) -> None:
        difference = change(self.owned, partitions)
        self.owned = partitions
        if difference:
            self._changed(difference)

"""What breaks in a story."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.sim.ledger import Rewind
from tests.sim.nodes import Node
from tests.sim.plan import Trouble

if TYPE_CHECKING:
    from tests.sim.story import Story


class Troubles:
    """Makes them, and knows what Redis may come back with."""

    def __init__(self, story: Story) -> None:
        self.story, self.loop, self.odd, self.ledger = story, story.loop, story.odd, story.ledger
        self.redis, self.postgres, self.chance = story.redis, story.postgres, story.chance
        self._snapshots: dict[float, tuple[dict[str, Any], float]] = {}  # since Redis last went back in time, by when

    async def all(self, troubles: Sequence[Trouble]) -> None:
        tasks = []
        for trouble in troubles:
            if trouble.back_to is not None:
                self.loop.call_at(trouble.back_to, self.snapshot, trouble.back_to)
            tasks.append(self.loop.create_task(self.one(trouble)))
        await asyncio.gather(*tasks)

    def snapshot(self, at: float) -> None:
        self._snapshots[at] = self.redis.snapshot(), self._back_to(at)

    def _back_to(self, at: float) -> float:
        """Since when what was written may be missing in what Redis has now: not all that it had lost may be back."""
        if self.redis.log._readable or not self.ledger.rewinds:
            return at
        return min(at, self.ledger.rewinds[-1].back_to)

    async def one(self, trouble: Trouble) -> None:
        await asyncio.sleep(max(trouble.at - self.loop.time(), 0))
        self.story.note(f"trouble: {trouble}")
        self.odd[f"trouble: {trouble.kind}"] += 1
        node = self.story.nodes[trouble.target % len(self.story.nodes)]
        until = self.loop.time() + trouble.lasts
        match trouble.kind:
            case "crash":
                await self._crash(trouble)
            case "flush":
                self._rewound(-1.0)
                self.redis.flush()
                self.begin_history()
                await self._stir()
            case "cut":
                self.redis.cut()
            case "hang redis":
                self.redis.hangs_until = until
            case "hang postgres":
                self.postgres.hangs_until = until
            case "hang way":
                node.to_redis.hangs_until = until
            case "hang way to postgres":
                node.to_postgres.hangs_until = until
            case "hang answers":
                node.to_redis.answers_hang_until = until
            case "postgres down":
                self.postgres.stop()
                await asyncio.sleep(trouble.lasts)
                self.postgres.up = True
            case "no room":
                self.redis.cut()
                self.redis.room = False
                await asyncio.sleep(trouble.lasts)
                self.redis.room = True
            case "settle":
                await self.story.settle(node)
            case _:
                await self._befall(node, trouble)

    async def _crash(self, trouble: Trouble) -> None:
        if not self.redis.up:
            return
        state = self.redis.snapshot()
        if trouble.back_to is not None:
            state, back_to = self._snapshots[max(trouble.back_to, min(self._snapshots))]
            self._rewound(back_to)
        self.redis.stop()
        open_numbers = {p: part.open_number for p, part in state["parts"].items()}
        settled = self.postgres.store.settled
        self.odd["rewind past a settled batch"] += any(n <= settled.get(p, 0) for p, n in open_numbers.items())
        await asyncio.sleep(trouble.lasts)
        self.redis.come_back(state)
        self.begin_history()
        await self._stir()

    async def _stir(self) -> None:
        await asyncio.gather(*(client.stir() for client in self.story.clients if self.chance.random() < 0.5))

    def begin_history(self) -> None:
        """Redis does not come back from before it last went back: settled since are other batches by the same numbers,
        of which what it had then is no beginning.
        """
        self._snapshots.clear()
        self.snapshot(self.loop.time())

    def _rewound(self, back_to: float) -> None:
        incarnation = self.postgres.store.incarnation
        self.odd["rewind while one comes back"] += any(
            node.comeback.incarnation != incarnation for node in self.story.nodes if node.comeback.incarnation
        )
        self.ledger.rewinds.append(Rewind(self.loop.time(), back_to, incarnation))

    async def _befall(self, node: Node, trouble: Trouble) -> None:
        match trouble.kind:
            case "kill":
                node.kill()
                await asyncio.sleep(trouble.lasts)
                if len(self.story.nodes) < self.story.plan.nodes:
                    self.story.start_node()
            case "freeze":
                node.host.frozen = True
                await asyncio.sleep(trouble.lasts)
                if not node.gone:
                    self.loop.thaw(node.host)
            case "leave" if not node.host.frozen and len(self.story.nodes) > 1:
                await node.leave()
            case "join":
                self.story.start_node()

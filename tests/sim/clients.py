"""What clients do: send, and send again under the same idempotency key, mostly elsewhere; and read."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from node.call import Outcome
from node.errors import NotFound, TallyError, Unavailable
from node.increment import Increment
from node.strategy import Added, Bounds, Taken
from tests.sim.clock import Loop
from tests.sim.ledger import BASE, BRIMFUL, Ledger, Op, Read, base_of
from tests.sim.nodes import NAMESPACE, Node

TRIES_MAX = 4
WAY_S = 0.003  # between a client and a node, at most
Result = Outcome | TallyError


class World(Protocol):
    """What clients see of a story."""

    loop: Loop
    ledger: Ledger
    odd: Counter[str]
    nodes: list[Node]

    def complain(self, what: str) -> None: ...


class Client:
    """One of many. What it does not get an answer to it leaves in `unresolved`."""

    def __init__(self, world: World, name: str, counters: int, seed: str) -> None:
        self.world, self.name = world, name
        self.chance = random.Random(seed)
        self.counters = [f"default:k{i}" for i in range(counters)]
        self.unresolved: list[tuple[Op, bool]] = []
        self.sent: list[Op] = []

    async def run(self, steps: int, pause_s: float) -> None:
        kinds: list[Callable[[], Awaitable[None]]] = [
            *[self.one] * 3, *[self.bundle] * 5, self.rivals, *[self.decided] * 4, self.reset, *[self.read] * 3,
            *[self.again] * 3,
        ]  # fmt: skip
        for _ in range(steps):
            await asyncio.sleep(self.chance.random() * pause_s)
            await self.chance.choice(kinds)()

    async def stir(self) -> None:
        """Much at once, while nodes come back."""
        for _ in range(4):
            await asyncio.sleep(self.chance.random() ** 2 * 0.3)
            await self.chance.choice((self.again, self.read))()

    # --- what it may do -------------------------------------------------------------------------------------------

    async def one(self) -> None:
        op = self.new(self.chance.random() < 0.6)
        if op is not None:
            await self.until_known(op, decided=False)

    async def bundle(self) -> None:
        """Several at once: one call of several partitions."""
        ops = [op for _ in range(self.chance.randrange(2, 7)) if (op := self.new(self.chance.random() < 0.5))]
        if not ops:
            return
        await self.send(ops)
        for op in ops:
            if op.idempotency_key and not (op.acknowledged or op.refused):
                await self.until_known(op, decided=False)

    async def rivals(self) -> None:
        """Two increments under one idempotency key: one of them is refused."""
        one = self.new(True)
        other = self.new(True, None if one is None else one.counter)
        if one is None or other is None:
            return
        one.rival, other.rival, other.idempotency_key = other, one, one.idempotency_key
        if self.chance.random() < 0.5:
            await self.send([one, other])
        else:
            await self.until_known(one, decided=False)
            await self.until_known(other, decided=False)

    async def decided(self) -> None:
        op = self.new(self.chance.random() < 0.7)
        if op is not None:
            await self.until_known(op, decided=True)

    async def reset(self) -> None:
        op = self.new(True, "default:reset", reset=self.chance.random() < 0.5)
        if op is not None:
            await self.until_known(op, decided=self.chance.random() < 0.5)

    async def read(self) -> None:
        counter = self.chance.choice([*self.counters, BRIMFUL])
        node, began = self.node(), self.world.loop.time()
        try:
            value = await self.ask(node, lambda node: node.reader.value(counter))
        except NotFound:
            value = base_of(counter)
        except Unavailable:
            self.world.odd["read: none"] += 1
            return
        self.world.odd["read"] += 1
        self.world.ledger.reads.append(Read(counter, began, self.world.loop.time(), value))

    async def again(self) -> None:
        """What was acknowledged long ago comes once more."""
        ops = [op for op in self.sent if op.acknowledged and op.idempotency_key and op.position >= 0]
        if ops:
            await self.send([self.chance.choice(ops)])

    # --- how ------------------------------------------------------------------------------------------------------

    def new(self, keyed: bool, counter: str | None = None, reset: bool = False) -> Op | None:
        name = f"{self.name}-{len(self.sent)}"
        if counter is None:
            counter = BRIMFUL if self.chance.random() < 0.1 else self.chance.choice(self.counters)
        op = self.world.ledger.op(name, counter, name if keyed else None, reset)
        if op is not None:
            self.sent.append(op)
        return op

    def node(self) -> Node:
        """Any that its balancer knows of."""
        return self.chance.choice(self.world.nodes)

    async def ask(self, node: Node, request: Callable[[Node], Awaitable[Any]]) -> Any:
        return await node.ask(request, self.chance.random() * WAY_S, self.chance.random() * WAY_S)

    async def until_known(self, op: Op, decided: bool, tries: int = TRIES_MAX) -> bool:
        """Without an idempotency key it is sent once."""
        used: set[str] = set()
        for attempt in range(tries):
            node = self.node()
            self.world.odd["retried elsewhere"] += bool(used) and node.name not in used
            used.add(node.name)
            await (self.decide(op, node) if decided or op.position < 0 else self.send([op], node))
            again = op.acknowledged and self.chance.random() < 0.15  # as a proxy may
            if op.idempotency_key is None or ((op.acknowledged or op.refused) and not again):
                return True
            await asyncio.sleep(self.chance.random() * 0.1 * (attempt + 1))
        if not (op.acknowledged or op.refused):
            self.unresolved.append((op, decided))
        return op.acknowledged or op.refused

    async def send(self, ops: Sequence[Op], node: Node | None = None) -> None:
        node = node or self.node()
        increments = [Increment(op.counter, op.amount, op.idempotency_key) for op in ops]
        single = len(ops) == 1 and self.chance.random() < 0.7

        async def request(node: Node) -> list[Result]:
            if single:
                return [await node.writer.add(increments[0])]
            return await node.dist.add_many(NAMESPACE, increments)

        for op in ops:
            op.begin(node.name, self.world.loop.time())
        try:
            results: Sequence[Result] = await self.ask(node, request)
        except Unavailable as error:
            results = [error] * len(ops)
        for op, result in zip(ops, results, strict=True):
            self.note(op, node, result)

    async def decide(self, op: Op, node: Node) -> None:
        """An add-and-get, or a reset."""
        began = self.world.loop.time()
        op.begin(node.name, began, decided=True)
        try:
            if op.position < 0:
                taken = await self.ask(node, lambda node: node.dist.reset(NAMESPACE, op.counter, op.idempotency_key))
                self.note_taken(op, node, taken)
            else:
                most = self.chance.choice((None, None, BASE ** self.chance.randrange(1, 19) + base_of(op.counter)))
                increment = Increment(op.counter, op.amount, op.idempotency_key)
                added = await self.ask(node, lambda node: node.dist.add(NAMESPACE, increment, Bounds(max=most)))
                self.note_added(op, node, added, began, most)
        except TallyError as error:
            self.note(op, node, error)

    def note(self, op: Op, node: Node, result: Result) -> None:
        op.end(node.name, self.world.loop.time(), result)
        what = result.value if isinstance(result, Outcome) else type(result).__name__
        self.world.odd[f"answer: {what}"] += 1

    def note_taken(self, op: Op, node: Node, taken: Taken) -> None:
        self.note(op, node, Outcome.REPLAYED if taken.replayed else Outcome.COUNTED)
        if op.taken not in (None, taken.taken) and not self.world.ledger.excused(op):
            self.world.complain(f"{op.name} took {op.taken}, and then {taken.taken}")
        op.taken = taken.taken

    def note_added(self, op: Op, node: Node, added: Added, began: float, most: int | None) -> None:
        self.note(op, node, added.outcome)
        if added.value is not None:
            self.world.ledger.reads.append(Read(op.counter, began, self.world.loop.time(), added.value))
        if most is None or added.value is None:
            return
        if (added.outcome is Outcome.COUNTED and added.value > most) or (
            added.outcome is Outcome.OUT_OF_BOUNDS and added.value + op.amount <= most
        ):
            self.world.complain(f"{op.name}: {added} with a total of at most {most}")

"""A story: nodes, clients and troubles on one clock, and what is wrong in the end."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from node.errors import Unavailable
from tests.sim.clients import Client
from tests.sim.clock import Loop, Stuck
from tests.sim.ledger import BRIMFUL, BRIMFUL_AT, Ledger
from tests.sim.nodes import NAMESPACE, Node, Surroundings
from tests.sim.plan import Plan
from tests.sim.servers import PARTITIONS, Postgres, Redis
from tests.sim.troubles import Troubles

PATIENCE_S = 60.0  # of calm, in which everything must come to its end
LONGEST_S = 300.0
POLL_S = 0.05


MUST_HAPPEN = (  # in a run of many stories
    "call came again",
    "call replayed",
    "call replayed in part",
    "call with a refused item replayed",
    "replayed increment was known",
    "ids put back",
    "commit unknown: committed",
    "commit unknown: not committed",
    "rewind past a settled batch",
    "rewind while one comes back",
    "settle refused: settled already",
    "settle refused: older incarnation",
    "settled for others",
    "settled for a writer that is gone",
    "redis: append unheard",
    "redis: append lost",
    "redis: append late",
    "redis: append LogGap",
    "redis: append LogRefused",
    "redis: repair LogUnrepaired",
    "redis: read LogUnrepaired",
    "postgres: enlist unheard",
    "postgres: fence late",
    "node: killed",
    "node: left",
    "node: struck",
    "retried elsewhere",
    "answer: mismatch",
    "answer: full",
    "answer: out of bounds",
    "answer: replayed",
    "answer: Unanswered",
    "answer: Draining",
)


class Told(NamedTuple):
    wrong: list[str]
    odd: Counter[str]  # what happened, of which one would not like to say that it never does


class Story:
    """`clients.World`"""

    def __init__(self, drawn: Plan, trace: Callable[[str], None] | None = None) -> None:
        self.plan, self._trace = drawn, trace
        self.loop = Loop(drawn.seed)  # type: ignore[abstract]
        self.chance = random.Random(f"{drawn.seed} story")
        self.odd: Counter[str] = Counter()
        self.redis = Redis(self.loop, drawn.midnight_at, self.odd)
        self.postgres = Postgres(self.loop, self.odd)
        self.postgres.store.values[BRIMFUL] = BRIMFUL_AT
        self.around = Surroundings(self.loop, self.redis, self.postgres, drawn.weather, drawn.settings, drawn.seed)
        self.ledger = Ledger()
        self.nodes: list[Node] = []
        self.clients: list[Client] = []
        self.wrong: list[str] = []
        self.troubles = Troubles(self)
        self._named = 0
        self.closed = False
        if trace is not None:
            self.redis.trace = self.postgres.trace = self.note

    def note(self, what: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.loop.time():9.4f}  {what}")

    def complain(self, what: str) -> None:
        self.note(f"WRONG: {what}")
        self.wrong.append(what)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def start_node(self) -> Node:
        node = Node(self.around, self.new_name(), self._gone)
        self.nodes.append(node)
        node.start()
        self.note(f"{node.name} starts")
        return node

    def new_name(self) -> str:
        self._named += 1
        return f"n{self._named}"

    def _gone(self, node: Node) -> None:
        self.nodes.remove(node)
        if self.closed:
            return
        self.note(f"{node.name} is {node.gone}")
        self.odd[f"node: {node.gone}"] += 1
        self.ledger.graves[node.name] = node.comeback.incarnation or 0
        if node.gone == "struck" or not self.nodes:
            self.start_node()

    # --- the story ------------------------------------------------------------------------------------------------

    async def tell(self) -> None:
        self.begin()
        clients = [self.loop.create_task(each.run(self.plan.steps, self.plan.pause_s)) for each in self.clients]
        troubles = self.loop.create_task(self.troubles.all(self.plan.troubles))
        await asyncio.gather(troubles, *clients)
        await self.end()

    def begin(self) -> None:
        self.troubles.begin_history()
        for _ in range(self.plan.nodes):
            self.start_node()
        self.clients = [
            Client(self, f"c{i}", self.plan.counters, f"{self.plan.seed} c{i}") for i in range(self.plan.clients)
        ]

    def mend(self) -> None:
        self.note("everything is mended")
        weather = self.around.weather
        weather.lost = weather.unheard = weather.late = weather.slow = 0.0
        self.redis.hangs_until = self.postgres.hangs_until = 0.0
        for node in self.nodes:
            node.to_redis.hangs_until = node.to_redis.answers_hang_until = node.to_postgres.hangs_until = 0.0
            self.loop.thaw(node.host)

    async def settle(self, node: Node) -> None:
        try:
            await node.ask(lambda node: node.settler.settle(range(PARTITIONS)), 0.0, 0.0)
        except Unavailable:
            self.odd["settle: not now"] += 1

    async def calm(self) -> None:
        """Everything must come to its end now."""
        give_up_at = self.loop.time() + PATIENCE_S
        for client in self.clients:
            waiting, client.unresolved = client.unresolved, []
            for op, decided in waiting:
                while not await client.until_known(op, decided):
                    if self.loop.time() > give_up_at:
                        return self.complain(f"{op.name} gets no answer")
        quiet_at = max(self.redis.quiet_at, self.postgres.quiet_at, self.loop.time())
        await asyncio.sleep(quiet_at + POLL_S - self.loop.time())
        while (why := self._restless()) is not None:
            if self.loop.time() > give_up_at:
                return self.complain(f"no end: {why}")
            await asyncio.sleep(POLL_S)
            for node in list(self.nodes):
                await self.settle(node)
        return None

    def _restless(self) -> str | None:
        log, store = self.redis.log, self.postgres.store
        if log.incarnation is None or log.incarnation != log.whole_in:
            return f"incarnation {log.incarnation}, whole in {log.whole_in}"
        for node in self.nodes:
            if node.comeback.incarnation != log.incarnation:  # it may have been struck and not know it yet
                return f"{node.name} has not come back in {log.incarnation}"
            if node.writer.trouble is not None or node.writer._flight or node.writer._inbox:
                return f"{node.name} has calls to make: {node.writer.trouble}"
        for p, part in log.parts.items():
            if part.calls or part.sealed or part.open_number != store.settled.get(p, 0) + 1:
                return f"partition {p} is not settled: {part}, {store.settled.get(p, 0)} in Postgres"
        return None

    async def end(self) -> None:
        """Everything is mended, comes to its end, and is looked at."""
        self.mend()
        await self.calm()
        store = self.postgres.store
        for node in list(self.nodes):
            for counter in self.ledger.ops:
                await self._compare(node, counter, store.values.get(counter))
        for rewind in self.ledger.rewinds:
            rewind.over_at = next((at for at in self.redis.whole_at if at > rewind.at), rewind.over_at)
        self.wrong += self.ledger.judge(store.values)
        self.odd["increment excused"] += sum(map(self.ledger.excused, self.ledger.all()))

    def close(self) -> None:
        self.closed = True
        for node in list(self.nodes):
            node.kill()
        self.loop.close()

    async def _compare(self, node: Node, counter: str, stored: int | None) -> None:
        try:
            found = (await node.ask(lambda node: node.dist.read(NAMESPACE, [counter]), 0.0, 0.0))[0]
        except Unavailable as error:
            return self.complain(f"{node.name} cannot read {counter}: {error}")
        value = None if found is None else found.value
        if value != stored:
            self.complain(f"{node.name} reads {value} of {counter}, which is {stored}")
        return None


def tell(drawn: Plan, trace: Callable[[str], None] | None = None) -> Told:
    story = Story(drawn, trace)
    logging.disable(logging.CRITICAL)
    try:
        story.loop.tell(story.tell(), LONGEST_S)
    except Stuck:
        story.complain("it never ends")
    finally:
        story.close()
        logging.disable(logging.NOTSET)
    return Told(story.wrong + story.around.broken + story.loop.complaints, story.odd)

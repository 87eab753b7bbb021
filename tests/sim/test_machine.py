"""Short stories that Hypothesis makes up step by step, and of a bad one finds the shortest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.sim.net import Weather
from tests.sim.nodes import Settings
from tests.sim.plan import DAYTIME_S, Kind, Plan, Trouble
from tests.sim.story import LONGEST_S, Story

CLIENTS = 3
NODES_MAX = 4
SOON_S = st.sampled_from((0.0, 0.002, 0.02, 0.2, 1.0))
LASTS_S = st.sampled_from((0.01, 0.3, 1.5, 5.5))
TALES = 40
STEPS = 30
ACTS = ("one", "bundle", "rivals", "decided", "reset", "read", "again")
STANDSTILLS: tuple[Kind, ...] = (
    "hang redis",
    "hang postgres",
    "hang way",
    "hang way to postgres",
    "postgres down",
    "no room",
)


class Machine(RuleBasedStateMachine):
    """One story. What its rules begin goes on while others follow, unless time is let pass."""

    moments = Bundle("moments")

    def __init__(self) -> None:
        super().__init__()
        logging.disable(logging.CRITICAL)
        calm = Weather(slow=0.1)
        self.story = Story(Plan(0, 2, CLIENTS, 0, 0.0, 3, 0.0, DAYTIME_S, calm, Settings()))
        self.going_on: list[asyncio.Task[Any]] = []
        self.run(self._begin())

    async def _begin(self) -> None:
        self.story.begin()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.story.loop.tell(coroutine, LONGEST_S)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.going_on.append(self.story.loop.create_task(coroutine))

    def befall(self, kind: Kind, lasts: float = 0.0, target: int = 0, back_to: float | None = None) -> None:
        trouble = Trouble(self.story.loop.time(), kind, lasts, back_to, target)
        self.start(self.story.troubles.one(trouble))

    @rule(soon=SOON_S)
    def time_passes(self, soon: float) -> None:
        self.run(asyncio.sleep(soon))

    @rule(client=st.integers(0, CLIENTS - 1), act=st.sampled_from(ACTS))
    def a_client_acts(self, client: int, act: str) -> None:
        self.start(getattr(self.story.clients[client], act)())

    @rule(target=moments)
    def what_is_written_may_come_back(self) -> float:
        at = self.story.loop.time()
        self.story.troubles.snapshot(at)
        return at

    @rule(moment=moments, lasts=LASTS_S)
    def redis_goes_back_in_time(self, moment: float, lasts: float) -> None:
        self.befall("crash", lasts, back_to=moment)

    @rule(lasts=LASTS_S)
    def redis_crashes_and_loses_nothing(self, lasts: float) -> None:
        self.befall("crash", lasts)

    @rule()
    def redis_is_flushed(self) -> None:
        self.befall("flush")

    @rule()
    def all_connections_to_redis_break(self) -> None:
        self.befall("cut")

    @rule(kind=st.sampled_from(STANDSTILLS), lasts=LASTS_S, node=st.integers(0, NODES_MAX))
    def something_stands_still(self, kind: Kind, lasts: float, node: int) -> None:
        self.befall(kind, lasts, node)

    @rule(lasts=LASTS_S, node=st.integers(0, NODES_MAX))
    def a_node_is_killed(self, lasts: float, node: int) -> None:
        self.befall("kill", lasts, node)

    @rule(lasts=LASTS_S, node=st.integers(0, NODES_MAX))
    def a_node_is_paused(self, lasts: float, node: int) -> None:
        self.befall("freeze", lasts, node)

    @rule(node=st.integers(0, NODES_MAX))
    def a_node_leaves(self, node: int) -> None:
        self.befall("leave", target=node)

    @precondition(lambda self: len(self.story.nodes) < NODES_MAX)
    @rule()
    def a_node_joins(self) -> None:
        self.befall("join")

    @rule(node=st.integers(0, NODES_MAX))
    def a_node_settles(self, node: int) -> None:
        self.befall("settle", target=node)

    def teardown(self) -> None:
        story = self.story
        try:
            self.run(self._end())
        finally:
            story.close()
            logging.disable(logging.NOTSET)
        assert not story.wrong + story.around.broken + story.loop.complaints

    async def _end(self) -> None:
        await asyncio.gather(*self.going_on)
        await self.story.end()


def test_no_story_that_is_made_up_step_by_step_ends_wrong() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=TALES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )

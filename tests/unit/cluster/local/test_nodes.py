"""One node's life, with a stand-in node that is a real process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import aiohttp
import pytest

from cluster.local.nodes import Node, NodeRecipe
from cluster.local.ports import Ports
from cluster.local.service import until
from cluster.local.state import NodeState

RESTART_S = 0.2


class Life:
    """A supervised stand-in, and the states it went through."""

    def __init__(self, node: Node, states: list[str]) -> None:
        self.node = node
        self.states = states
        self.task = asyncio.create_task(node.run())

    async def until(self, condition: Callable[[], bool]) -> None:
        async def holds() -> bool:
            return condition()

        assert await until(holds, 20.0), f"only came to {self.states}"

    async def until_ready(self) -> None:
        await self.until(lambda: self.node.state.state == "ready")


Start = Callable[[Mapping[str, str]], Life]


@pytest.fixture
async def start(stand_in: list[str], tmp_path: Path) -> AsyncIterator[Start]:
    lives: list[Life] = []
    async with aiohttp.ClientSession() as session:

        def begin(environment: Mapping[str, str]) -> Life:
            states: list[str] = []

            def changed(state: NodeState) -> None:
                states.append(state.state)

            recipe = NodeRecipe(stand_in, tmp_path, {**os.environ, **environment}, tmp_path / "logs", RESTART_S)
            node = Node("n1", recipe, Ports(), 0, session, changed)
            lives.append(Life(node, states))
            return lives[-1]

        yield begin
        for life in lives:
            life.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await life.task
            life.node.kill()
            await life.node.stop(5.0)


async def test_a_node_starts_gets_ready_and_leaves_when_it_is_drained(start: Start) -> None:
    life = start({})
    await life.until_ready()
    life.node.drain()
    async with asyncio.timeout(10):
        await life.task
    assert life.states == ["starting", "ready", "draining", "left"]


async def test_a_drain_that_another_asked_for_is_seen(start: Start) -> None:
    life = start({})
    await life.until_ready()
    assert life.node.state.pid is not None
    os.kill(life.node.state.pid, signal.SIGTERM)
    async with asyncio.timeout(10):
        await life.task
    assert life.states == ["starting", "ready", "draining", "left"]


async def test_a_killed_node_comes_back_with_the_same_addresses_and_another_pid(start: Start) -> None:
    life = start({})
    await life.until_ready()
    before = (life.node.state.url, life.node.state.ops_url)
    pid = life.node.state.pid
    life.node.kill()
    await life.until(lambda: life.states == ["starting", "ready", "dead", "starting", "ready"])
    assert (life.node.state.url, life.node.state.ops_url) == before
    assert life.node.state.pid != pid
    assert life.node.state.restarts == 1


async def test_a_paused_node_is_not_ready_until_it_goes_on(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.local.nodes.ASK_TIMEOUT_S", 0.2)
    life = start({})
    await life.until_ready()
    assert life.node.child is not None
    life.node.child.send(signal.SIGSTOP)
    await life.until(lambda: life.node.state.state == "unready")
    life.node.child.send(signal.SIGCONT)
    await life.until_ready()


async def test_a_node_that_cannot_start_is_dead_and_its_log_says_why(start: Start) -> None:
    life = start({"STAND_IN": "fails"})
    await life.until(lambda: "dead" in life.states)
    assert life.node.child is not None
    assert life.node.child.last_lines() == ["settings cannot be used"]
    await life.until(lambda: life.states.count("starting") == 2)  # and it is tried again


async def test_a_node_that_drains_too_long_is_killed(start: Start) -> None:
    life = start({"STAND_IN_DRAIN_S": "60"})
    await life.until_ready()
    life.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await life.task
    life.node.drain()
    assert not await life.node.stop(0.3)
    assert life.node.state.state == "dead"


def test_a_node_gets_its_kill_point_for_one_start_only(tmp_path: Path) -> None:
    recipe = NodeRecipe(["node"], tmp_path, {"A": "1"}, tmp_path / "logs", armed=tmp_path / "armed")
    (tmp_path / "armed").mkdir()
    (tmp_path / "armed" / "n1").write_text("sealed:2")
    given = [recipe.for_node(NodeState(name, "", ""), 1, 2).env or {} for name in ("n2", "n1", "n1")]
    assert [env.get("TALLY_KILL_POINT") for env in given] == [None, "sealed:2", None]

"""One node of the local cluster: starting -> ready -> draining -> left, or dead and started again.

The supervisor learns how a node is by asking its `/readyz`, and how it ended by its exit code: 0 is a drain,
and a drained node is not started again. Anything else is a death.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from cluster.local.child import Child, Recipe
from cluster.local.ports import Ports
from cluster.local.state import NodeState

HOST = "127.0.0.1"
RESTART_S, RESTART_MAX_S = 5.0, 60.0
"""A dead node comes back after a lease (3 s) and some, so that its partitions are seen to be taken over."""
STEADY_S = 10.0
"""A node that was ready so long and then dies is started again without back-off."""
LOOK_S = 0.25
ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class NodeRecipe:
    """What all nodes of a cluster have in common."""

    command: Sequence[str]
    cwd: Path
    environment: Mapping[str, str]
    logs: Path
    restart_s: float = RESTART_S
    armed: Path | None = None  # where a node's kill point for one start is laid down

    def for_node(self, state: NodeState, port: int, ops_port: int) -> Recipe:
        own = {
            "TALLY_NODE": state.name,
            "TALLY_HOST": HOST,
            "TALLY_PORT": str(port),
            "TALLY_OPS_HOST": HOST,
            "TALLY_OPS_PORT": str(ops_port),
            **self._take_kill_point(state.name),
        }
        return Recipe(self.command, self.logs / f"{state.name}.log", self.cwd, {**self.environment, **own})

    def _take_kill_point(self, name: str) -> dict[str, str]:
        if self.armed is not None:
            with contextlib.suppress(FileNotFoundError):
                point = (self.armed / name).read_text()
                (self.armed / name).unlink()
                return {"TALLY_KILL_POINT": point}
        return {}


class Node:
    """Runs one node until it has left. `changed` is called after every change of its state."""

    def __init__(
        self,
        name: str,
        recipe: NodeRecipe,
        ports: Ports,
        group: int,
        session: aiohttp.ClientSession,
        changed: Callable[[NodeState], None],
    ) -> None:
        self.state = NodeState(name, "", "")
        self.child: Child | None = None
        self._recipe = recipe
        self._ports = ports
        self._group = group
        self._session = session
        self._changed = changed

    async def run(self) -> None:
        """Returns when the node has drained and left; otherwise starts it again for ever."""
        delay_s = self._recipe.restart_s
        while True:
            self.child = child = await self._start()
            ready_since = await self._watch(child)
            if child.exit_code == 0:
                self._become("left")
                return
            self._become("dead")
            steady = ready_since is not None and time.monotonic() - ready_since > STEADY_S
            await asyncio.sleep(self._recipe.restart_s if steady else delay_s)
            delay_s = self._recipe.restart_s if steady else min(delay_s * 2, RESTART_MAX_S)
            self.state.restarts += 1

    async def _start(self) -> Child:
        name = self.state.name
        port, ops_port = self._ports.take(name), self._ports.take(f"{name}-ops")
        self.state.url, self.state.ops_url = f"http://{HOST}:{port}", f"http://{HOST}:{ops_port}"
        child = await Child.start(self._recipe.for_node(self.state, port, ops_port), self._group)
        self.state.pid, self.state.started_at = child.pid, time.time()
        self._become("starting")
        return child

    async def _watch(self, child: Child) -> float | None:
        """Follows the node until it ends. Returns since when it had been ready (monotonic), if ever."""
        ready_since = None
        while not await child.ended_within(LOOK_S):
            state = self._named(await self._ask())
            if state == "ready" and ready_since is None:
                ready_since = time.monotonic()
            if not child.has_ended() and state != self.state.state:
                self._become(state)
        return ready_since

    async def _ask(self) -> str:
        """What the node says of itself: "ready", "draining", another word; empty when it does not answer."""
        timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
            async with self._session.get(f"{self.state.url}/readyz", timeout=timeout) as answer:
                said = await answer.json(content_type=None)
                status = str(said.get("status", "")) if isinstance(said, dict) else ""
                return "ready" if answer.status == 200 else status
        return ""

    def _named(self, said: str) -> str:
        """Our word for what it says. A node that says nothing is still starting, or goes on draining."""
        if said in ("ready", "draining"):
            return said
        return self.state.state if self.state.state in ("starting", "draining") else "unready"

    def _become(self, state: str) -> None:
        self.state.state = state
        self._changed(self.state)

    def drain(self) -> None:
        """Asks the node to leave."""
        if self.child is not None and not self.child.has_ended():
            self.child.send(signal.SIGTERM)
            self.child.send(signal.SIGCONT)  # it may be paused
            self._become("draining")

    async def stop(self, timeout_s: float) -> bool:
        """Waits for a draining node to end; kills it when that takes too long. Whether it left by itself."""
        child = self.child
        if child is None or child.exit_code not in (None, 0):
            return False
        left = await child.ended_within(timeout_s) and child.exit_code == 0
        await child.stop((signal.SIGKILL, 5.0))
        self._become("left" if left else "dead")
        return left

    def kill(self) -> None:
        if self.child is not None:
            self.child.send(signal.SIGKILL)

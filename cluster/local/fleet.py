"""All nodes of the local cluster: added one by one, waited for, drained together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

from cluster.local.errors import StartFailed
from cluster.local.nodes import Node, NodeRecipe
from cluster.local.ports import Ports
from cluster.local.service import until
from cluster.local.state import NodeState
from cluster.local.vital import Vital

NODES_MAX = 64
DRAIN_TIMEOUT_S = 30.0


class Fleet:
    """The nodes, by name n1, n2, ... A node that left keeps its place, so that no name comes twice."""

    def __init__(
        self,
        recipe: NodeRecipe,
        ports: Ports,
        group: int,
        session: aiohttp.ClientSession,
        vital: Vital,
        changed: Callable[[NodeState], None],
    ) -> None:
        self._recipe = recipe
        self._ports = ports
        self._group = group
        self._session = session
        self._vital = vital
        self._changed = changed
        self._nodes: list[Node] = []

    @property
    def states(self) -> list[NodeState]:
        return [node.state for node in self._nodes]

    def add(self) -> None:
        """Starts one more node, unless there are NODES_MAX already."""
        if len(self._nodes) < NODES_MAX:
            name = f"n{len(self._nodes) + 1}"
            node = Node(name, self._recipe, self._ports, self._group, self._session, self._changed)
            self._nodes.append(node)
            self._vital.run(node.run())

    async def until_ready(self, timeout_s: float) -> None:
        """Returns when every node is ready. StartFailed when one ends before that, or time is up."""

        async def all_ready() -> bool:
            return all(state.state == "ready" for state in self.states)

        def failed() -> list[Node]:
            return [node for node in self._nodes if node.state.state in ("dead", "left")]

        if await until(all_ready, timeout_s, give_up=lambda: bool(failed())):
            return
        what = "ended before it was ready" if failed() else f"is not ready after {timeout_s:.0f} s"
        node = (failed() or [node for node in self._nodes if node.state.state != "ready"])[0]
        lines = node.child.last_lines() if node.child else []
        raise StartFailed(f"Node {node.state.name} {what}; the end of its log says:", lines)

    async def drain(self) -> None:
        """All leave at once; who takes too long is killed."""
        for node in self._nodes:
            node.drain()
        await asyncio.gather(*(node.stop(DRAIN_TIMEOUT_S) for node in self._nodes))

    def kill(self) -> None:
        for node in self._nodes:
            node.kill()

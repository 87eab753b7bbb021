"""Whether a node should be sent requests, and why not."""

from __future__ import annotations

from collections.abc import Callable

from cluster.agent import Agent
from node.settler import Settler
from node.writer import Writer


class Health:
    """Reads the parts; keeps nothing but what the operator asked for."""

    def __init__(
        self,
        agent: Agent,
        writer: Writer,
        settler: Settler,
        draining: Callable[[], bool],
        needs_redis: bool = True,
    ) -> None:
        """`needs_redis`: whether the default namespace counts in it."""
        self._needs_redis = needs_redis
        self._agent, self._writer, self._settler, self._draining = agent, writer, settler, draining

    def status(self) -> tuple[str, str | None]:
        """("ready", None), or what it is instead and why. Postgres' absence alone does not make a node unready."""
        if self._draining():
            return "draining", "this node is leaving"
        if not self._needs_redis and self._agent.member.state == "ready":
            return "ready", None
        if self._writer.trouble is not None:
            return "starting" if self._agent.member.state == "starting" else "unready", self._writer.trouble
        if not self._agent.in_lease:
            return "unready", "this node has not reached the registry for a lease"
        if self._settler.went_back:
            return "unready", "Postgres has settled less than Redis sealed; see the log"
        if self._agent.member.state != "ready":
            return "starting", "this node has not joined yet"
        return "ready", None

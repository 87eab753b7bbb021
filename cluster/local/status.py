"""`status`: the launcher's word on the processes, and the registry's on members and partitions, side by
side."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cluster import registry
from cluster.errors import ClusterError
from cluster.local.state import ClusterState
from cluster.view import View


@dataclass(frozen=True)
class NodeStatus:
    """A row. `id` is None for a node that is no member; `partitions` is how many it owns."""

    id: str | None
    name: str
    pid: int | None
    state: str
    url: str
    ops_url: str
    partitions: int


@dataclass(frozen=True)
class Status:
    """The whole cluster. `epoch` is None when the registry could not be asked."""

    epoch: int | None
    nodes: list[NodeStatus]
    public_url: str
    redis_url: str
    postgres_dsn: str
    nginx: int | None  # pid

    @property
    def is_well(self) -> bool:
        """Every node that has not left is ready, and there is one."""
        states = [node.state for node in self.nodes if node.state != "left"]
        return self.epoch is not None and bool(states) and all(state == "ready" for state in states)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def ask(state: ClusterState) -> Status:
    """The status now. A registry that cannot be asked makes no error: its part is missing."""
    members = registry.connect(state.redis_url)
    try:
        view = await members.view()
    except ClusterError:
        view = None
    finally:
        await members.close()
    return combine(state, view)


def combine(state: ClusterState, view: View | None) -> Status:
    """A node that the launcher calls ready but whose lease has lapsed (a paused one) is not ready."""
    by_pid = {(member.name, member.pid): member for member in view.members} if view else {}
    ring = view.ring(state.partitions) if view else None
    rows = []
    for node in state.nodes:
        member = by_pid.get((node.name, node.pid or 0))
        word = "unready" if view and node.state == "ready" and member is None else node.state
        word = "draining" if member and member.state == "draining" and word == "ready" else word
        owned = len(ring.owned_by(member.id)) if ring and member else 0
        rows.append(NodeStatus(member.id if member else None, node.name, node.pid, word, node.url, node.ops_url, owned))
    epoch = view.epoch if view else None
    return Status(epoch, rows, state.public_url, state.redis_url, state.postgres_dsn, state.nginx)

"""What a node tells of itself and of the cluster, as it knows it."""

from __future__ import annotations

from cluster.agent import Agent
from node.comeback import Comeback
from node.health import Health
from node.settler import Settler


def overview(agent: Agent, health: Health, settler: Settler, comeback: Comeback, partitions: int) -> dict[str, object]:
    view, member = agent.view, agent.member
    ring = view.ring(partitions)
    members = [
        {
            "id": m.id,
            "name": m.name,
            "url": m.url,
            "ops_url": m.ops_url,
            "pid": m.pid,
            "state": m.state,
            "partitions": len(ring.owned_by(m.id)),
        }
        for m in view.members
    ]
    status, why = health.status()
    return {
        "epoch": view.epoch,
        "node": {"id": member.id, "name": member.name, "status": status, "why": why},
        "members": members,
        "partitions": {"count": partitions, "owned": sorted(agent.owned)},
        "settling": {"trouble": settler.trouble, "went_back": sorted(settler.went_back)},
        "redis_went_back": {"calls_made_again": comeback.replayed, "calls_lost": comeback.lost},
    }

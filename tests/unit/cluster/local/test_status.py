from __future__ import annotations

from cluster.local.state import ClusterState, NodeState
from cluster.local.status import combine
from cluster.view import Member, View


def node(name: str, pid: int, state: str = "ready") -> NodeState:
    return NodeState(name, f"http://{name}", f"http://{name}-ops", pid, state)


def member(name: str, pid: int, state: str = "ready") -> Member:
    return Member(f"{name}-a1b2c3", name, f"http://{name}", f"http://{name}-ops", pid, state)  # type: ignore[arg-type]


def test_the_owned_partitions_of_all_members_are_all_partitions() -> None:
    state = ClusterState(partitions=64, nodes=[node("n1", 1), node("n2", 2)])
    status = combine(state, View(5, (member("n1", 1), member("n2", 2))))
    assert status.is_well
    assert status.epoch == 5
    assert [n.id for n in status.nodes] == ["n1-a1b2c3", "n2-a1b2c3"]
    assert sum(n.partitions for n in status.nodes) == 64


def test_a_ready_node_without_a_lease_is_not_ready() -> None:
    status = combine(ClusterState(nodes=[node("n1", 1)]), View(5))
    assert status.nodes[0].state == "unready"
    assert not status.is_well


def test_a_restarted_node_is_not_taken_for_the_member_it_was() -> None:
    status = combine(ClusterState(nodes=[node("n1", 2, "starting")]), View(5, (member("n1", 1),)))
    assert (status.nodes[0].id, status.nodes[0].partitions) == (None, 0)


def test_a_node_that_left_spoils_nothing() -> None:
    state = ClusterState(nodes=[node("n1", 1), node("n2", 2, "left")])
    assert combine(state, View(5, (member("n1", 1),))).is_well


def test_a_dead_node_is_not_well() -> None:
    state = ClusterState(nodes=[node("n1", 1), node("n2", 2, "dead")])
    assert not combine(state, View(5, (member("n1", 1),))).is_well


def test_a_draining_member_is_shown_as_draining_at_once() -> None:
    status = combine(ClusterState(nodes=[node("n1", 1)]), View(5, (member("n1", 1, "draining"),)))
    assert (status.nodes[0].state, status.nodes[0].partitions) == ("draining", 0)


def test_without_the_registry_the_processes_are_still_told() -> None:
    status = combine(ClusterState(nodes=[node("n1", 1)]), None)
    assert status.epoch is None
    assert status.nodes[0].state == "ready"
    assert not status.is_well


def test_the_json_has_the_documented_names() -> None:
    status = combine(ClusterState(nodes=[node("n1", 1)]), None).as_json()
    assert list(status) == ["epoch", "nodes", "public_url", "redis_url", "postgres_dsn", "nginx"]
    assert list(status["nodes"][0]) == ["id", "name", "pid", "state", "url", "ops_url", "partitions"]

"""Each fault of README's table on a real network: a load through nginx while it happens, and an audit at its end."""

from __future__ import annotations

import subprocess
from time import monotonic

import pytest

from tests.chaos.local_cluster import until
from tests.compose.stack import NGINX, PARTITIONS, POSTGRES, RATE, REDIS, Stack, docker, inspect

INCREMENT = b"key=asked+directly&value=1"  # a form
DEADLINE_S = 2.0  # a node's own
SLACK_S = 5.0  # what a busy machine may add


@pytest.fixture
def three(stack: Stack) -> list[str]:
    """Three nodes, all in nginx and each an owner."""
    stack.until_nodes(3)
    nodes = stack.nodes()

    def share_all() -> bool:
        owned = [stack.owned([node]) for node in nodes]
        return all(owned) and set().union(*owned) == PARTITIONS

    until(share_all, "each owns partitions, and together they own all")
    return nodes


def test_a_node_cut_off_from_redis_answers_503_and_leaves_nginx_and_nothing_fails(
    stack: Stack, three: list[str]
) -> None:
    node, *others = three
    with stack.attack() as attack:
        stack.cut(node, REDIS)
        asked_at = monotonic()
        status, said = stack.ask(node, "/increment", INCREMENT)
        assert status == 503
        assert said["error"]["counted"] in (False, "unknown")
        assert monotonic() - asked_at < DEADLINE_S + SLACK_S
        until(lambda: stack.ask(node, "/readyz")[0] == 503, "it is not ready")
        until(lambda: not stack.in_nginx(node), "it has left nginx")
        until(lambda: stack.owned(others) == PARTITIONS, "the others own everything")
        assert not stack.owned([node])
        stack.mend(node, REDIS)
        until(lambda: stack.in_nginx(node), "it is back in nginx")
        attack.audit_without_failure()


def test_a_node_cut_off_from_postgres_counts_on_and_the_others_settle_for_it(stack: Stack, three: list[str]) -> None:
    node, *others = three
    with stack.attack() as attack:
        stack.cut(node, POSTGRES)
        until(lambda: stack.owned(others) == PARTITIONS, "the others own everything")
        assert stack.ask(node, "/readyz")[0] == 200
        assert stack.in_nginx(node)
        assert stack.ask(node, "/increment", INCREMENT)[0] == 204
        attack.audit_without_failure()  # which waits until Postgres has everything
    stack.mend(node, POSTGRES)


def test_a_node_cut_off_from_nginx_fails_no_request_and_comes_back_at_its_new_address(
    stack: Stack, three: list[str]
) -> None:
    node = three[0]
    with stack.attack() as attack:
        stack.cut(node, NGINX)
        attack.until_more(5 * RATE)
        assert stack.owned([node]), "it reaches Redis and Postgres, so it settles on"
        stack.mend(node, NGINX)
        until(lambda: stack.in_nginx(node), "nginx has its address")
        until(lambda: stack.ask(node, "/increment", INCREMENT)[0] == 204, "it answers there")
        attack.audit_without_failure()


def test_a_node_paused_past_its_lease_leaves_nginx_and_nothing_fails(stack: Stack, three: list[str]) -> None:
    node, *others = three
    with stack.attack() as attack:
        docker("pause", node)
        try:
            until(lambda: not stack.in_nginx(node), "it has left nginx")
            until(lambda: stack.owned(others) == PARTITIONS, "the others own everything")
        finally:
            docker("unpause", node)
        until(lambda: stack.in_nginx(node), "it is back in nginx")
        attack.audit_without_failure()


def test_a_node_killed_under_load_fails_no_request_and_is_started_again(stack: Stack, three: list[str]) -> None:
    node, *others = three
    member = stack.cluster(node)["node"]["id"]
    with stack.attack() as attack:
        started = inspect(node, ".State.StartedAt")
        kill_everything_in(node)
        until(lambda: inspect(node, ".State.StartedAt") != started, "it is started again")
        until(lambda: stack.in_nginx(node), "it is back in nginx")
        until(lambda: is_no_member(stack, others[0], member), "its lease is over")
        attack.audit_without_failure()


def test_redis_killed_and_started_again_loses_and_doubles_nothing(stack: Stack, three: list[str]) -> None:
    redis = stack.container("redis")
    with stack.attack() as attack:
        docker("kill", redis)
        until(lambda: stack.ask(three[0], "/readyz")[0] == 503, "nodes are not ready without it")
        docker("start", redis)
        until(lambda: all(stack.ask(node, "/readyz")[0] == 200 for node in three), "all are ready again")
        until(lambda: stack.upstreams() == stack.addresses(), "nginx has all")
        attack.until_more(RATE)
        attack.audit()  # requests fail meanwhile; what they were told must be true


def kill_everything_in(container: str) -> None:
    """But its init, which then ends too; whether the shell that does it gets to its own end, nobody knows."""
    subprocess.run(
        ["docker", "exec", container, "sh", "-c", "kill -9 -1"], capture_output=True, timeout=60, check=False
    )


def is_no_member(stack: Stack, asked: str, member: str) -> bool:
    told = stack.cluster(asked)
    return bool(told) and member not in {each["id"] for each in told["members"]}

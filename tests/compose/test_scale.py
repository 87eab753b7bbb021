"""More nodes, fewer nodes, another image: under load, and nobody notices."""

from __future__ import annotations

import pytest

from tests.chaos.local_cluster import until
from tests.compose import lines
from tests.compose.stack import BROKEN_IMAGE, IMAGE, NEXT_IMAGE, PARTITIONS, Stack, docker, inspect


def test_scaling_from_three_to_five_to_two_fails_no_request_and_loses_and_doubles_nothing(stack: Stack) -> None:
    stack.until_nodes(3)
    with stack.attack() as attack:
        stack.shell(lines.SCALE)
        stack.until_nodes(5)
        until(lambda: all(stack.owned([node]) for node in stack.nodes()), "each of the five owns partitions")
        stack.shell(lines.SCALE.replace("node=5", "node=2"))
        stack.until_nodes(2)
        until(lambda: stack.owned(stack.nodes()) == PARTITIONS, "the two own everything")
        attack.audit_without_failure()


def built_from(image: str, folder: str) -> None:
    docker("build", "--quiet", "--build-arg", f"NOW={IMAGE}", "--tag", image, folder)


def test_rolling_to_another_image_fails_no_request_and_loses_and_doubles_nothing(stack: Stack) -> None:
    stack.shell(lines.BUILD)
    built_from(NEXT_IMAGE, "tests/compose/next")
    before = stack.nodes()
    with stack.attack() as attack:
        stack.environment["TALLY_IMAGE"] = NEXT_IMAGE
        stack.shell(lines.ROLL)
        assert len(stack.nodes()) == len(before)
        assert not set(stack.nodes()) & set(before)
        stack.until_nodes(len(before))
        attack.audit_without_failure()
    wanted = inspect(NEXT_IMAGE, ".Id")
    replaced = [*stack.nodes(), stack.container("balancer")]
    assert {inspect(each, ".Image") for each in replaced} == {wanted}


def test_an_image_that_does_not_become_ready_is_taken_back_and_the_old_nodes_serve_on(stack: Stack) -> None:
    built_from(BROKEN_IMAGE, "tests/compose/broken")
    before = stack.nodes()
    with stack.attack() as attack:
        with pytest.raises(AssertionError, match="was not ready within 3 s"):
            stack.shell(f"TALLY_IMAGE={BROKEN_IMAGE} READY_S=3 {lines.ROLL}")
        assert stack.nodes() == before
        assert stack.upstreams() == stack.addresses()
        attack.audit_without_failure()

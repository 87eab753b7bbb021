"""A node dies at each named point of its life, under load; another goes on with what it left; the audit is exact."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from node.points import POINTS
from tests.conftest import Servers
from tests.faults.load import load
from tests.faults.nodes import Node, Nodes, nodes, until
from tests.http.conftest import empty_stores

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

PARTITIONS = 64
COMING_BACK = ["fenced", "repaired", "remembered", "replaying", "replayed"]
STRATEGY = {"committed": "sync", "appended": "rollup", "rolled-up": "rollup"}
AT_PASS = {
    "append-sent": 5,
    "append-answered": 5,
    "sealed": 3,
    "settled": 3,
    "dropped": 3,
    "committed": 5,
    "appended": 5,
}
AT_PASS |= {"fenced": 2, "repaired": 2, "remembered": 2, "replayed": 2}  # the first is at the node's own start


@dataclass
class Pair:
    """A node that lives, and the way to one that dies."""

    nodes: Nodes
    survivor: Node
    strategy: str

    def victim(self, point: str) -> Node:
        armed = f"{point}:{AT_PASS.get(point, 1)}"
        return self.nodes.start(strategy=self.strategy, kill_point=armed).ready()

    def takes_over(self) -> None:
        until(lambda: self.survivor.owned() == list(range(PARTITIONS)), "the other one owns everything")


@pytest.fixture(scope="module")
def pair(servers: Servers, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("points")
    with empty_stores(servers) as dsn, nodes(folder, servers.redis_url(), dsn) as made:
        yield Pair(made, made.start(strategy=request.param).ready(), request.param)


def test_every_point_is_passed_in_one_place() -> None:
    text = "".join(path.read_text() for path in Path("node").rglob("*.py"))
    assert sorted(re.findall(r'reach\("([\w-]+)"\)', text)) == sorted(POINTS)


@pytest.mark.parametrize(
    ("pair", "point"),
    [(STRATEGY.get(point, "dist"), point) for point in POINTS if point not in COMING_BACK],
    indirect=["pair"],
    scope="module",
)
def test_a_node_that_dies_at_a_point_loses_and_doubles_nothing(pair: Pair, point: str) -> None:
    victim = pair.victim(point)
    with load(victim.url, pair.survivor.url) as running:
        if point == "drained":
            running.more(100)
            victim.process.send_signal(signal.SIGTERM)
        until(lambda: victim.died_at(point), f"it dies at {point}")
        pair.takes_over()
        running.more(100)
    running.is_exact(pair.survivor.url, pair.nodes.postgres_dsn)


@pytest.mark.parametrize(
    ("pair", "point"), [("dist", point) for point in COMING_BACK], indirect=["pair"], scope="module"
)
def test_a_node_that_dies_while_it_comes_back_to_a_redis_that_forgot_everything_loses_and_doubles_nothing(
    pair: Pair, point: str
) -> None:
    """The victim has settled what it wrote: a call that Redis forgets and whose writer dies, too, is lost."""
    victim = pair.victim(point)
    with load(victim.url) as before:
        before.more(100)
    before.is_exact(pair.survivor.url, pair.nodes.postgres_dsn)
    with load(pair.survivor.url) as running, Redis.from_url(pair.nodes.redis_url) as redis:
        running.more(100)
        redis.flushall()
        until(lambda: victim.died_at(point), f"it dies at {point}")
        pair.takes_over()
        running.more(100)
    for each in (before, running):
        each.is_exact(pair.survivor.url, pair.nodes.postgres_dsn)

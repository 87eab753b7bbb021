"""The simulation of the ring."""

from __future__ import annotations

from cluster.bench import balance
from cluster.bench.balance import Shares


def test_shares_are_told_against_the_mean() -> None:
    assert Shares.of("aab", 3) == Shares(most=2.0, none=1)
    assert Shares.of("abc", 3) == Shares(most=1.0, none=0)


def test_one_node_has_everything() -> None:
    assert balance.of_nodes(1, 64) == Shares(1.0, 0)


def test_with_many_partitions_a_node_every_node_has_some() -> None:
    shares = balance.of_nodes(30, 4096)
    assert shares.none == 0
    assert shares.most < 1.5


def test_about_its_own_share_moves_when_a_node_leaves() -> None:
    assert 0.5 / 30 < balance.moved(30, 4096) < 2 / 30


def test_keys_share_partitions_evenly() -> None:
    assert balance.of_keys(100_000, 64).most < 1.2


def test_the_table_has_a_line_for_each_number_of_nodes() -> None:
    lines = balance.table((1, 3), (64,), keys=1000).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["nodes", "---", "1", "3", "1,000 keys over partitions"]

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cluster.local.errors import LocalError
from cluster.local.state import ClusterState, NodeState, without_password

STATE = ClusterState(launcher=7, nodes=[NodeState("n1", "http://a", "http://b", pid=8)], ports={"n1": 20_001})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@h:1/0", "redis://:***@h:1/0"),
        ("postgresql://tally:s%2F:@h:1/tally", "postgresql://tally:***@h:1/tally"),
        ("postgresql://tally:s/@b@h:1/tally", "postgresql://tally:***@h:1/tally"),
        ("postgresql://tally@h/tally", "postgresql://tally@h/tally"),
        ("postgresql://h/tally?user=u&password=s@t&a=b", "postgresql://h/tally?user=u&password=***&a=b"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    STATE.save(tmp_path / "cluster.json")
    assert ClusterState.load(tmp_path / "cluster.json") == STATE


def test_only_its_owner_may_read_the_file_for_it_holds_a_password(tmp_path: Path) -> None:
    STATE.save(tmp_path / "cluster.json")
    assert stat.S_IMODE((tmp_path / "cluster.json").stat().st_mode) == 0o600


def test_without_a_file_there_is_no_state(tmp_path: Path) -> None:
    assert ClusterState.load(tmp_path / "cluster.json") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"nodes": [{"name": 1}]}', '{"nodes": [], "more": 1}'])
def test_a_file_that_is_not_ours_is_an_error_with_a_next_step(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(LocalError, match="--fresh"):
        ClusterState.load(tmp_path / "cluster.json")


def test_a_node_is_found_by_its_name() -> None:
    assert STATE.node("n1") is STATE.nodes[0]
    assert STATE.node("n2") is None

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.local import operate
from cluster.local.errors import LocalError
from cluster.local.folder import Folder
from cluster.local.guard import process_table
from cluster.local.state import ClusterState, NodeState


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, as nodes are in the guard's."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], process_group=0)
    yield process
    process.kill()
    process.wait()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def of(sleeper: subprocess.Popen[bytes]) -> ClusterState:
    return ClusterState(guard=sleeper.pid, nodes=[NodeState("n1", "u", "o", sleeper.pid, "ready")])


def test_an_unknown_node_is_an_error_that_lists_the_nodes() -> None:
    state = ClusterState(nodes=[NodeState("n1", "u", "o"), NodeState("n2", "u", "o")])
    with pytest.raises(LocalError, match="n1, n2"):
        operate.find_node(state, "n3")


def test_a_node_is_found_by_name_and_by_member_id() -> None:
    state = ClusterState(nodes=[NodeState("n1", "u", "o"), NodeState("n2", "u", "o")])
    assert operate.find_node(state, "n2").name == "n2"
    assert operate.find_node(state, "n2-4f9c2a", {"n2": "n2-4f9c2a"}).name == "n2"


def test_without_a_cluster_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"`up`.*--data"):
        operate.running(Folder(tmp_path))


def test_a_killed_node_is_gone_when_the_command_returns(sleeper: subprocess.Popen[bytes]) -> None:
    state = of(sleeper)
    assert operate.kill(state, state.nodes[0]) == sleeper.pid
    assert sleeper.wait(5) == -signal.SIGKILL
    with pytest.raises(LocalError, match="does not run"):
        operate.kill(state, state.nodes[0])


def test_a_process_outside_the_cluster_is_never_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    state = of(sleeper)
    state.guard = os.getpid()  # as if the pid had been given to another process meanwhile
    with pytest.raises(LocalError, match="does not run"):
        operate.kill(state, state.nodes[0])
    assert sleeper.poll() is None


def test_a_server_of_the_clusters_own_is_killed_and_a_given_one_is_refused(sleeper: subprocess.Popen[bytes]) -> None:
    state = of(sleeper)
    state.servers = {"redis": {"source": "PATH", "pid": sleeper.pid}, "postgres": {"source": "given"}}
    with pytest.raises(LocalError, match="did not start postgres"):
        operate.kill_server(state, "postgres")
    assert operate.kill_server(state, "redis") == sleeper.pid
    assert sleeper.wait(5) == -signal.SIGKILL
    with pytest.raises(LocalError, match="redis does not run"):
        operate.kill_server(state, "redis")


def test_a_server_pid_outside_the_cluster_is_never_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    state = of(sleeper)
    state.servers = {"redis": {"pid": sleeper.pid}}
    state.guard = os.getpid()
    with pytest.raises(LocalError, match="does not run"):
        operate.kill_server(state, "redis")
    assert sleeper.poll() is None


def test_a_kill_point_can_be_laid_down_and_taken_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    operate.arm(folder, "n1", "sealed:2")
    assert (folder.armed / "n1").read_text() == "sealed:2"
    operate.disarm(folder)
    operate.disarm(folder)
    assert not folder.armed.exists()


def test_a_paused_node_goes_on_also_when_the_pause_is_interrupted(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        until(lambda: process_table()[sleeper.pid][0] == "T")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(operate, "time", SimpleNamespace(sleep=interrupted))
    state = of(sleeper)
    with pytest.raises(SystemExit):
        operate.pause(state, state.nodes[0], 60)
    until(lambda: process_table()[sleeper.pid][0] != "T")

"""What the other commands do to a running cluster: they read its state file, signal processes, and wait."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from cluster.local.errors import LocalError
from cluster.local.folder import Folder
from cluster.local.guard import process_table
from cluster.local.state import ClusterState, NodeState

POLL_S = 0.05
KILL_TIMEOUT_S = 5.0
DRAIN_TIMEOUT_S = 60.0
ADD_TIMEOUT_S = 60.0
PAUSE_S_MAX = 3600.0


def running(folder: Folder) -> ClusterState:
    """The state of the cluster that runs on the folder. LocalError when none does."""
    if not folder.is_running():
        raise LocalError(f"No cluster runs on {folder.path}: start one with `up`, or name its folder with --data.")
    state = ClusterState.load(folder.state)
    if state is None or state.launcher != folder.holder():  # the file is an earlier cluster's
        raise LocalError(f"The cluster on {folder.path} is just starting: try again in a moment.")
    return state


def find_node(state: ClusterState, wanted: str, ids: dict[str, str] | None = None) -> NodeState:
    """The node by its name (n1) or its member id (n1-4f9c2a); `ids` is {name: id}. LocalError lists the
    nodes."""
    for node in state.nodes:
        if wanted in (node.name, (ids or {}).get(node.name)):
            return node
    names = ", ".join(node.name for node in state.nodes)
    raise LocalError(f"There is no node {wanted}: the nodes are {names or 'none'}.")


def living_pid(state: ClusterState, node: NodeState) -> int:
    """The node's pid, certainly this node's and running; LocalError otherwise."""
    pid = node.pid
    entry = process_table().get(pid) if pid is not None else None
    if pid is None or entry is None or entry[0] in "ZX" or entry[1] != state.guard:
        raise LocalError(f"Node {node.name} does not run ({node.state}): see `status`.")
    return pid


def kill(state: ClusterState, node: NodeState) -> int:
    """SIGKILL. Returns the pid it had, when the process is gone."""
    pid = living_pid(state, node)
    os.kill(pid, signal.SIGKILL)
    _wait(lambda: not _runs(state, pid), KILL_TIMEOUT_S, f"Process {pid} does not end: see `ps -p {pid}`.")
    return pid


def kill_server(state: ClusterState, name: str) -> int:
    """SIGKILL to Redis or Postgres; the launcher starts it again. Returns the pid it had, when the process is gone.

    LocalError when it was given by its URL: then it is not this cluster's to kill.
    """
    pid = state.servers.get(name, {}).get("pid")
    if pid is None:
        raise LocalError(f"This cluster did not start {name}, so it does not kill it: that is for who runs it.")
    if not _runs(state, pid):
        raise LocalError(f"{name} does not run: see `status`, and {name}.log.")
    os.kill(pid, signal.SIGKILL)
    _wait(lambda: not _runs(state, pid), KILL_TIMEOUT_S, f"Process {pid} does not end: see `ps -p {pid}`.")
    return int(pid)


def arm(folder: Folder, node: str, point: str) -> None:
    """At its next start, and only then, the node gets `point` (name:n) to kill itself at; see node/points.py."""
    folder.armed.mkdir(exist_ok=True)
    (folder.armed / node).write_text(point)


def disarm(folder: Folder) -> None:
    """Takes back what has not been used."""
    shutil.rmtree(folder.armed, ignore_errors=True)


def pause(state: ClusterState, node: NodeState, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after so many seconds, also when this command is interrupted meanwhile."""
    pid = living_pid(state, node)
    with _signals_raise():
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
        finally:
            if _runs(state, pid):
                os.kill(pid, signal.SIGCONT)


def drain(folder: Folder, state: ClusterState, node: NodeState) -> None:
    """SIGTERM, and waits until the node has left."""
    pid = living_pid(state, node)
    os.kill(pid, signal.SIGTERM)
    _wait(lambda: not _runs(state, pid), DRAIN_TIMEOUT_S, f"Node {node.name} still drains: see its log.")

    def settled() -> bool:
        now = running(folder).node(node.name)
        return now is None or now.pid != pid or now.state in ("left", "dead")

    _wait(settled, KILL_TIMEOUT_S, "The launcher does not see that the node has ended: see `status`.")
    after = running(folder).node(node.name)
    if after is None or after.state != "left":
        raise LocalError(f"Node {node.name} died instead of leaving: see {folder.logs / node.name}.log.")


def add(folder: Folder, state: ClusterState) -> NodeState:
    """Asks the launcher for one more node and waits until it is ready."""
    assert state.launcher is not None
    before = {node.name for node in state.nodes}
    os.kill(state.launcher, signal.SIGUSR1)
    added: list[NodeState] = []

    def ready() -> bool:
        new = [node for node in running(folder).nodes if node.name not in before]
        if new and new[0].state == "dead":
            raise LocalError(f"The new node {new[0].name} died: see {folder.logs / new[0].name}.log.")
        added[:] = [node for node in new if node.state == "ready"]
        return bool(added)

    _wait(ready, ADD_TIMEOUT_S, f"The new node is not ready after {ADD_TIMEOUT_S:.0f} s: see `status`.")
    return added[0]


def _runs(state: ClusterState, pid: int) -> bool:
    entry = process_table().get(pid)
    return entry is not None and entry[0] not in "ZX" and entry[1] == state.guard


def _wait(condition: Callable[[], bool], timeout_s: float, or_else: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LocalError(or_else)
        time.sleep(POLL_S)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP are exceptions, as SIGINT is, so that `finally` runs."""

    def leave(signum: int, frame: object) -> NoReturn:
        raise SystemExit(128 + signum)

    before = [(signum, signal.signal(signum, leave)) for signum in (signal.SIGTERM, signal.SIGHUP)]
    try:
        yield
    finally:
        for signum, handler in before:
            signal.signal(signum, handler)

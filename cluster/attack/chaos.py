"""Carries out the planned faults on a local cluster while the load runs, and says which of them happened.

A fault counts when it was seen: a process is gone, or stopped, or has left; a member is out of the registry. Each waits
until the cluster can bear it, which is when another node than the one it meets is ready.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from cluster import registry
from cluster.attack.faults import FLAPS, PAUSE_MORE_S, Fault, Happened, Kind
from cluster.errors import ClusterError
from cluster.local import operate
from cluster.local.errors import LocalError
from cluster.local.folder import Folder
from cluster.local.state import ClusterState, NodeState

T = TypeVar("T")
POLL_S = 0.1
BEAR_TIMEOUT_S = 20.0  # until the cluster can bear the fault
DEATH_TIMEOUT_S = 30.0  # of a node that is to die at a point
BACK_TIMEOUT_S = 60.0  # until everything is ready again


class Chaos:
    """On the cluster of a folder. `say` gets a line for each fault that happens."""

    def __init__(self, folder: Folder, say: Callable[[str], None], lease_s: float = registry.LEASE_MS / 1000) -> None:
        self._folder, self._say, self._lease_s = folder, say, lease_s
        self._began = time.monotonic()
        self._busy: set[str] = set()  # nodes that a fault has not finished with
        self._moving = asyncio.Lock()  # one node is added or drained at a time
        self._over = asyncio.Event()
        self.happened: list[Happened] = []

    def kinds(self) -> list[Kind]:
        """Those that can happen here: a server that was given by its URL is not ours to kill."""
        own = {name for name, server in operate.running(self._folder).servers.items() if "pid" in server}
        missing = {Kind.REDIS: "redis", Kind.POSTGRES: "postgres"}
        for name in missing.values():
            if name not in own:
                self._say(f"{name} was given by its URL, so it is left alone")
        return [kind for kind in Kind if missing.get(kind, "redis") in own or kind not in missing]

    async def run(self, faults: Sequence[Fault]) -> None:
        """Returns when every fault is over. What could not be made to happen is said, and does not count."""
        self._began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as tasks:
                for fault in faults:
                    tasks.create_task(self._one(fault))
        finally:
            operate.disarm(self._folder)

    def finish(self) -> None:
        """The load is over: what has not begun to happen does not happen any more."""
        self._over.set()

    async def until_well(self) -> None:
        """Waits until every node that has not left is ready. LocalError when that takes too long."""
        await _until(
            lambda: all(node.state in ("ready", "left") for node in self._state().nodes),
            BACK_TIMEOUT_S,
            "Not every node has come back: see `status`, and the logs.",
        )

    async def _one(self, fault: Fault) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._began + fault.at_s - time.monotonic()):
                await self._over.wait()
        if self._over.is_set():
            return
        try:
            match fault.kind:
                case Kind.REDIS | Kind.POSTGRES:
                    await self._server(fault)
                case Kind.DRAIN:
                    async with self._moving:
                        await self._meet(fault)
                case _:
                    await self._meet(fault)
        except (LocalError, ClusterError, ProcessLookupError) as error:
            self._say(f"{fault.kind.value} did not happen: {error}")

    def _note(self, fault: Fault, what: str) -> None:
        happened = Happened(time.monotonic() - self._began, fault.kind, what)
        self.happened.append(happened)
        self._say(str(happened))

    def _state(self) -> ClusterState:
        return operate.running(self._folder)

    # --- servers --------------------------------------------------------------------------------------------------

    async def _server(self, fault: Fault) -> None:
        name = "redis" if fault.kind is Kind.REDIS else "postgres"
        pid = await asyncio.to_thread(operate.kill_server, self._state(), name)
        self._note(fault, f"pid {pid}")

    # --- nodes ----------------------------------------------------------------------------------------------------

    async def _meet(self, fault: Fault) -> None:
        node = await self._choose(fault)
        self._busy.add(node.name)
        try:
            match fault.kind:
                case Kind.KILL:
                    await self._kill(fault, node)
                case Kind.POINT:
                    await self._kill_at_point(fault, node)
                case Kind.PAUSE:
                    await self._pause(fault, node)
                case Kind.DRAIN:
                    await self._replace(fault, node)
                case Kind.FLAP:
                    await self._flap(fault, node)
        finally:
            self._busy.discard(node.name)

    async def _choose(self, fault: Fault) -> NodeState:
        """A ready node beside another one, if the cluster has more than one at all. LocalError."""
        give_up_at = time.monotonic() + BEAR_TIMEOUT_S
        while True:
            nodes = [node for node in self._state().nodes if node.state != "left"]
            ready = [node for node in nodes if node.state == "ready"]
            free = [node for node in ready if node.name not in self._busy]
            if free and len(ready) >= min(2, len(nodes)):
                return free[int(fault.choice * len(free))]
            if self._over.is_set() or time.monotonic() > give_up_at:
                raise LocalError("too few nodes were ready")
            await asyncio.sleep(POLL_S)

    async def _kill(self, fault: Fault, node: NodeState) -> None:
        pid = await asyncio.to_thread(operate.kill, self._state(), node)
        self._note(fault, f"{node.name}, pid {pid}")
        await self._until_other(node.name, pid)

    async def _kill_at_point(self, fault: Fault, node: NodeState) -> None:
        """The point is armed at a start, so the node is killed before it, which is a fault as well."""
        log = self._folder.logs / f"{node.name}.log"
        before = log.stat().st_size
        operate.arm(self._folder, node.name, fault.point)
        pid = await asyncio.to_thread(operate.kill, self._state(), node)
        self._note(Fault(fault.at_s, Kind.KILL, fault.choice), f"{node.name}, pid {pid}")
        armed = await self._until_other(node.name, pid)
        if fault.point.startswith("drained"):
            await self._until_state(node.name, "ready")
            os.kill(operate.living_pid(self._state(), self._node(node.name)), signal.SIGTERM)
        await self._until_other(node.name, armed, DEATH_TIMEOUT_S)
        if f"kill point {fault.point.partition(':')[0]}".encode() not in log.read_bytes()[before:]:
            raise LocalError(f"{node.name} died before it came to {fault.point}")
        self._note(fault, f"{node.name} at {fault.point}, pid {armed}")

    async def _pause(self, fault: Fault, node: NodeState) -> None:
        state, seconds = self._state(), self._lease_s + PAUSE_MORE_S
        pid = operate.living_pid(state, node)
        os.kill(pid, signal.SIGSTOP)
        try:
            self._note(fault, f"{node.name} for {seconds:g} s, pid {pid}")
            await asyncio.sleep(seconds)
        finally:
            with suppress(LocalError, ProcessLookupError):
                os.kill(operate.living_pid(state, node), signal.SIGCONT)

    async def _replace(self, fault: Fault, node: NodeState) -> None:
        added = await asyncio.to_thread(operate.add, self._folder, self._state())
        self._busy.add(added.name)
        try:
            await asyncio.to_thread(operate.drain, self._folder, self._state(), node)
        finally:
            self._busy.discard(added.name)
        self._note(fault, f"{node.name} has left, {added.name} came in its place")

    async def _flap(self, fault: Fault, node: NodeState) -> None:
        """Struck off the registry again and again, the member joins again at its next beat."""
        members, times = registry.connect(self._state().redis_url), 0
        try:
            for _ in range(FLAPS):
                found = [each.id for each in (await members.view()).members if each.name == node.name]
                for member_id in found:
                    await members.leave(member_id)
                    times += 1
                await asyncio.sleep(self._lease_s / 6)
        finally:
            await members.close()
        if times:
            self._note(fault, f"{node.name} out of the registry {times} times")

    # --- waiting --------------------------------------------------------------------------------------------------

    def _node(self, name: str) -> NodeState:
        return operate.find_node(self._state(), name)

    async def _until_other(self, name: str, pid: int, timeout_s: float = BACK_TIMEOUT_S) -> int:
        """The pid that a node has after this one. LocalError."""

        def found() -> int | None:
            now = self._node(name).pid
            return None if now == pid else now

        return await _until(found, timeout_s, f"{name} is process {pid} still after {timeout_s:g} s")

    async def _until_state(self, name: str, state: str) -> None:
        late = f"{name} is not {state} after {BACK_TIMEOUT_S:g} s"
        await _until(lambda: self._node(name).state == state, BACK_TIMEOUT_S, late)


async def _until(look: Callable[[], T | None], timeout_s: float, late: str) -> T:
    """What `look` finds, once that is something. LocalError, which says `late`, when it takes too long."""
    give_up_at = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > give_up_at:
            raise LocalError(late)
        await asyncio.sleep(POLL_S)
    return found

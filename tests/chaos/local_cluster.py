"""A real local cluster for the tests: `python -m cluster up` on a folder of the test, and the commands against it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.local import guard
from cluster.local.folder import Folder

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
LEASE_MS = "1500"  # half of the default: others take over long before the launcher starts a killed node again


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits for the condition and returns what made it true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: did not come about in {DEADLINE_S:.0f} s"
        time.sleep(0.05)
    return found


class Up:
    """One `python -m cluster up` on a folder of this test, its events, and the commands against it."""

    python = sys.executable
    root = ROOT
    popen: dict[str, Any] = {}  # noqa: RUF012  a test gives its own

    def __init__(self, path: Path) -> None:
        self.folder = Folder(path)
        self.out = path.with_suffix(".events")
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = dict(os.environ) | {"TALLY_FLUSH_INTERVAL_MS": "200", "TALLY_STATSD": ""}

    def start(self, *options: str) -> Up:
        """Begins, without waiting."""
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                self.command("up", "--port", "0", "--nodes", "2", *options),
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.root,
                env=self.environment,
                **self.popen,
            )
        return self

    def command(self, name: str, *arguments: str) -> list[str]:
        return [self.python, "-m", "cluster", name, "--data", str(self.folder.path), *arguments]

    def ready(self) -> dict[str, Any]:
        """Waits for the event `ready` and returns it."""

        def found() -> dict[str, Any] | None:
            assert self.process is not None
            assert self.process.poll() is None, self.out.read_text()
            return next(iter(self.events("ready")), None)

        event: dict[str, Any] = until(found, "ready")
        return event

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        lines = [line for line in self.out.read_text().splitlines(keepends=True) if line.endswith("}\n")]
        events = [json.loads(line) for line in lines]
        return [event for event in events if kind in (None, event["event"])]

    def run(self, name: str, *arguments: str, timeout_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
        """Another command on the same folder, to its end."""
        return subprocess.run(
            self.command(name, *arguments),
            capture_output=True,
            text=True,
            cwd=self.root,
            env=self.environment,
            timeout=timeout_s,
            check=False,
            **self.popen,
        )

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.folder.state.read_text())
        return state

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.state()["nodes"] if node["name"] == name)

    def until_node(self, name: str, state: str) -> dict[str, Any]:
        until(lambda: self.node(name)["state"] == state, f"{name} {state}")
        return self.node(name)

    def increment(self, value: int) -> None:
        """Increments the counter `a`; 503 is tried again, for the servers may just be coming back."""
        body = json.dumps({"key": "a", "value": value}).encode()
        request = urllib.request.Request(
            self.state()["public_url"] + "/increment", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 204

    def value(self) -> int:
        with urllib.request.urlopen(self.state()["public_url"] + "/increment/a", timeout=10) as answer:
            value: int = json.load(answer)["a"]
        return value

    def signal_launcher(self, signum: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def stop(self) -> int:
        self.signal_launcher(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(DEADLINE_S)

    def until_nothing_is_left(self, group: int, pids: list[int]) -> None:
        until(lambda: not guard.members(group), "the group is empty")
        until(lambda: not any(guard.alive(pid) for pid in pids), "everyone is gone")
        until(lambda: not self.folder.is_locked(), "the lock is free")

    def everyone(self) -> tuple[int, list[int]]:
        """The guard's group, and the pids in it, and those of Postgres' own sessions."""
        group = self.state()["guard"]
        pids = guard.members(group)
        named = [node["pid"] for node in self.state()["nodes"]]
        assert set(named) <= set(pids)
        return group, [*pids, group]

    def pid_of(self, part: str) -> int:
        """The pid of the first process of the group whose command line has `part` in it."""
        group = self.state()["guard"]
        return next(pid for pid in sorted(guard.members(group)) if part in guard.command_of(pid))

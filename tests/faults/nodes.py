"""Bare nodes, without a launcher: real processes that a test may kill, pause, or make kill themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from cluster.local.ports import Ports

DEADLINE_S = 60.0
PORTS = Ports()
LEASE_S = 1.5  # more than a busy machine holds up a node that is well: others would take it for dead


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits for the condition and returns what made it true."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < give_up_at, f"{what}: did not come about in {DEADLINE_S:.0f} s"
        time.sleep(0.02)
    return found


@dataclass
class Node:
    """One `python -m node`."""

    process: subprocess.Popen[bytes]
    url: str
    ops_url: str
    log: Path

    def ready(self) -> Node:
        until(self._answers, f"{self.url} is ready")
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return get(f"{self.url}/readyz") is not None

    def died_at(self, point: str) -> bool:
        """Whether it has ended, which it may only at this point."""
        if (code := self.process.poll()) is None:
            return False
        assert (code, f"kill point {point}" in self.log.read_text()) == (-signal.SIGKILL, True), self.log.read_text()
        return True

    def owned(self) -> list[int]:
        seen = get(f"{self.ops_url}/cluster")
        owned: list[int] = seen["partitions"]["owned"] if seen else []
        return owned

    def drained(self) -> None:
        """SIGTERM, and it leaves in good order."""
        self.process.terminate()
        assert self.process.wait(DEADLINE_S) == 0, self.log.read_text()


@dataclass
class Nodes:
    """All nodes of one test, on one Redis and one Postgres, or on proxies before them."""

    folder: Path
    redis_url: str
    postgres_dsn: str
    started: list[Node] = field(default_factory=list)

    def start(self, **settings: str) -> Node:
        """Begins, without waiting."""
        name = f"n{len(self.started) + 1}"
        port, ops_port = PORTS.take(f"faults-{os.urandom(4).hex()}"), PORTS.take(f"faults-{os.urandom(4).hex()}")
        env = {key: value for key, value in os.environ.items() if not key.startswith("TALLY_")}
        env |= {
            "TALLY_NODE": name,
            "TALLY_PORT": str(port),
            "TALLY_OPS_PORT": str(ops_port),
            "TALLY_REDIS_URL": self.redis_url,
            "TALLY_POSTGRES_DSN": self.postgres_dsn,
            "TALLY_RATE_LIMIT": "0",
            "TALLY_STATSD": "",
            "TALLY_FLUSH_INTERVAL_MS": "100",
            "TALLY_LEASE_MS": str(int(LEASE_S * 1000)),
            "TALLY_DRAIN_NOTICE_MS": "0",
            **{f"TALLY_{key.upper()}": value for key, value in settings.items()},
        }
        log = self.folder / f"{name}-{os.urandom(3).hex()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "node"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        node = Node(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}", log)
        self.started.append(node)
        return node

    def end(self) -> None:
        for node in self.started:
            if node.process.poll() is None:
                node.process.kill()
            node.process.wait()


@contextmanager
def nodes(folder: Path, redis_url: str, postgres_dsn: str) -> Iterator[Nodes]:
    """None of them is left afterwards, and none has met an error that nobody expected."""
    made = Nodes(folder, redis_url, postgres_dsn)
    try:
        yield made
    finally:
        made.end()
    for node in made.started:
        assert "Traceback" not in node.log.read_text(), node.log.read_text()


def get(url: str) -> Any:
    """The JSON of a 200; None otherwise."""
    try:
        with urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None

"""The state file, `cluster.json` in the data folder: what runs where. The launcher writes it, everyone else
reads it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cluster.local.errors import LocalError


def without_password(url: str) -> str:
    """The URL as it may be shown. Programs find the whole one in `status --json`."""
    url = re.sub(r"(?<=[?&]password=)[^&]*", "***", url)
    return re.sub(r"(?<=://)([^/@]*?):.*@", r"\1:***@", url)  # up to the last @: an odd password may hold one, or a /


@dataclass
class NodeState:
    """One node. `state`: starting, ready, unready (runs, but does not answer as ready), dead, draining,
    left."""

    name: str
    url: str
    ops_url: str
    pid: int | None = None
    state: str = "starting"
    started_at: float | None = None  # seconds since 1970
    restarts: int = 0


@dataclass
class ClusterState:
    """Everything about a running cluster. After it stopped, `ports` says where the next one is to listen."""

    launcher: int | None = None  # pid
    guard: int | None = None  # pid, and the process group of every child
    public_url: str = ""
    redis_url: str = ""
    postgres_dsn: str = ""
    partitions: int = 64
    nginx: int | None = None  # pid
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: list[NodeState] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Replaces the file whole, so that a reader never sees half of it. Mode 600: it holds the
        password."""
        partial = path.with_name(path.name + ".new")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file, indent=1)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> ClusterState | None:
        """None when there is no such file. LocalError when it cannot be read or understood."""
        try:
            values = json.loads(path.read_text())
            nodes = [NodeState(**node) for node in values.pop("nodes")]
            return cls(**values, nodes=nodes)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise LocalError(f"{path} belongs to another user: do this as that user.") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise LocalError(f"Cannot read {path} ({error}): is it your cluster? `up --fresh` starts anew.") from error

    def node(self, name: str) -> NodeState | None:
        return next((node for node in self.nodes if node.name == name), None)

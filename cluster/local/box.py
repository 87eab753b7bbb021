"""The box that `up` prints, and the table of nodes that `up` and `status` share."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cluster.local.state import ClusterState, without_password

COLOURS = {"ready": "green", "starting": "cyan", "draining": "yellow", "left": "dim"}


@dataclass(frozen=True)
class Facts:
    """What there is to tell about a cluster that has just got ready."""

    state: ClusterState
    data: str
    rate_limit: str
    durability: str
    psql: str | None  # the program to show, None when the database is not ours
    command: str  # how this program was called: "python3 -m cluster" or "tally"

    def as_json(self) -> dict[str, Any]:
        """Without passwords: where nobody reads it on a terminal it goes into a log."""
        state = self.state
        return {
            "public_url": state.public_url,
            "nodes": [{"name": n.name, "pid": n.pid, "url": n.url, "ops_url": n.ops_url} for n in state.nodes],
            "redis_url": without_password(state.redis_url),
            "postgres_dsn": without_password(state.postgres_dsn),
            "nginx": state.nginx,
            "data": self.data,
            "rate_limit": self.rate_limit,
            "durability": self.durability,
            "servers": state.servers,
        }


def draw(facts: Facts) -> Iterator[RenderableType]:
    """The box, the nodes, the lines to try."""
    yield Panel(_facts(facts), title="Tally, local cluster", box=ROUNDED, expand=False, padding=(0, 2))
    yield nodes_table((n.name, n.pid, n.state, n.url, n.ops_url) for n in facts.state.nodes)
    yield Text("Try:")
    for line in lines_to_try(facts):
        yield Text(f"  {line}")
    yield Text("Ctrl-C drains and stops.\n")


def _facts(facts: Facts) -> Table:
    state = facts.state
    rows = []
    through = "through nginx" if state.nginx else "nodes share the port, no nginx"
    rows.append(("API", f"{state.public_url}   {through}"))
    for name, server in state.servers.items():
        rows.append((name.capitalize(), f"{server['version']} from {server['source']}, {server['where']}"))
    rows.append(("Durability", facts.durability))
    off = facts.rate_limit == "0"
    rows.append(("Rate limit", "off (TALLY_RATE_LIMIT=1000/5s turns it on)" if off else facts.rate_limit))
    rows.append(("Data", f"{facts.data}   logs in {facts.data}/logs"))
    grid = Table.grid(padding=(0, 2))
    for name, text in rows:
        grid.add_row(name, Text(text))  # Text: a path may hold what rich takes for markup
    return grid


def nodes_table(rows: Iterable[tuple[Any, ...]], more: tuple[str, ...] = ()) -> Table:
    """A row per node: name, pid, state, url, ops_url, and what `more` names. It fits 80 columns."""
    table = Table("node", "pid", "state", "address", "operations", *more, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        name, pid, state, *rest = row
        colour = COLOURS.get(state, "red")
        shown = (str(value).removeprefix("http://") for value in rest)
        table.add_row(name, str(pid or "-"), Text(state, style=colour), *shown)
    return table


def lines_to_try(facts: Facts) -> list[str]:
    """Lines that work as they are when pasted into a shell."""
    url, command = facts.state.public_url, facts.command
    data = "" if facts.data == ".tally" else f" --data {shlex.quote(facts.data)}"
    lines = [
        f"""curl -i -H 'Content-Type: application/json' -d '{{"key":"a","value":1}}' {url}/increment""",
        f"curl {url}/increment/a",
        f"{command} attack{data} --rate 500 --duration 20",
        f"{command} kill{data} {facts.state.nodes[min(1, len(facts.state.nodes) - 1)].name}",
        f"{command} status{data}",
    ]
    query = "-c 'select key, value from key_counters'"
    if facts.psql is not None:
        lines.append(f"{shlex.quote(facts.psql)} {facts.state.postgres_dsn} {query}")
    return lines

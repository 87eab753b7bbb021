"""What a run says: one JSON object, and the table made from it."""

from __future__ import annotations

import contextlib
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.local.programs import nginx_version, postgres_programs, redis_programs, which

DURABILITY = "Redis appendfsync always on both sides, no rewrite of its file while measured; Postgres fsync on"
COLOURS = {"goal": "green", "floor": "yellow", "below": "red", "failed": "red", "left out": "dim"}
VERSION_TIMEOUT_S = 10.0
FIGURE_WIDTHS = {"ours": 9, "peer": 9}


def versions() -> dict[str, str]:
    """Of everything that takes part; "-" for what is not here."""
    nginx = which("nginx")
    redis, postgres = redis_programs(), postgres_programs()
    return {
        "python": platform.python_version(),
        "redis": redis[0].version if redis else "-",
        "postgres": postgres[0].version if postgres else "-",
        "nginx": nginx_version(nginx) if nginx else "-",
        "wrk": _asked("wrk", "-v"),
        "webdis": _packaged("webdis"),
    }


def _asked(name: str, option: str) -> str:
    said = _said([name, option]) if which(name) else ""
    found = re.search(r"\d+\.\d+[^\s]*", said)
    return found.group() if found else "-"


def _packaged(name: str) -> str:
    """webdis takes any argument for its configuration, so the package is asked."""
    return (_said(["dpkg-query", "-W", "-f", "${Version}", name]) or "?") if which(name) else "-"


def _said(command: Sequence[str]) -> str:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False)
        return done.stdout + ("" if done.returncode == 0 and done.stdout else done.stderr)
    return ""


def draw(run: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The facts, the ratios, how cost grows."""
    machine, cores = run["machine"], run["cores"]
    yield Text(
        f"{machine['cores']} cores {machine['model']}, {machine['kernel']}, load {machine['load_average_before']}"
    )
    yield Text(" ".join(f"{name} {version}" for name, version in run["versions"].items()))
    yield Text(run["durability"])
    pinned = f"server core {cores['server']}, load core {cores['load']}" if cores["pinned"] else "nothing is pinned"
    yield Text(f"{pinned}; {run['rounds']} rounds of {run['seconds']:g} s, ours and the peer in turn")
    if run["rows"]:
        yield _ratios(run["rows"])
        yield from _remarks(run["rows"])
    for growth in run["growth"]:
        yield _growth(growth)


def _ratios(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("row", "against", "ids"):
        table.add_column(name, no_wrap=True)
    for name in ("ours", "peer", "min", "median", "max", "goal", "floor"):
        table.add_column(name, justify="right", no_wrap=True, min_width=FIGURE_WIDTHS.get(name, 6))
    table.add_column("reached", no_wrap=True, min_width=8)
    for row in rows:
        figures = [_figure(row, "ours_median"), _figure(row, "peer_median")]
        ratios = [_ratio(row.get(name)) for name in ("min", "median", "max", "goal", "floor")]
        verdict = Text(row["verdict"], style=COLOURS.get(row["verdict"], ""))
        table.add_row(row["title"], row["against"], row["ids"], *figures, *ratios, verdict)
    return table


def _figure(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    return f"{row[name]:.2f} ms" if row["unit"] == "ms" else f"{row[name]:,.0f}/s"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _remarks(rows: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    for cores in dict.fromkeys(row["cores"] for row in rows):
        named = ", ".join(row["name"] for row in rows if row["cores"] == cores)
        yield Text(f"{cores}: {named}")
    for row in rows:
        if row["problem"]:
            yield Text(f"{row['name']} {row['verdict']}: {row['problem']}", style="yellow")
        if row.get("peer_failed"):
            yield Text(f"{row['name']}: {row['peer_failed']} requests of the peer failed", style="yellow")


def _growth(growth: Mapping[str, Any]) -> Table:
    points = growth["points"]
    names = list(dict.fromkeys(name for point in points for name in point["figures"]))
    table = Table(growth["title"], box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, justify="right")
    for point in points:
        figures = [point["figures"].get(name) for name in names]
        table.add_row(point["label"], *("" if figure is None else f"{figure:,.4g}" for figure in figures))
    if growth["problem"]:
        table.caption = growth["problem"]
    return table

"""What `up` tells: one JSON line per event, or lines and a box on a terminal.

Nobody may be listening any more (a closed pipe, a terminal that is gone): that is no reason to end a cluster.
"""

from __future__ import annotations

import json
import time
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.markup import escape

from cluster.local.box import Facts, draw

GOOD, BAD, NEUTRAL = "[green]ok[/]", "[red]!![/]", "[cyan]..[/]"


class Reporter(Protocol):
    """Where the launcher's events go. Events: started, node, part, ready, stopping, stopped, warning."""

    def event(self, event: str, **facts: Any) -> None:
        """Something happened. `facts` are JSON values."""

    def ready(self, facts: Facts) -> None:
        """The cluster is up."""


class JsonReporter:
    """One JSON object per line: {"event": ..., "at": seconds since 1970, ...}."""

    def __init__(self, out: TextIO) -> None:
        self._out: TextIO | None = out

    def event(self, event: str, **facts: Any) -> None:
        if self._out is None:
            return
        try:
            print(json.dumps({"event": event, "at": round(time.time(), 3)} | facts), file=self._out, flush=True)
        except (OSError, ValueError):
            self._out = None

    def ready(self, facts: Facts) -> None:
        self.event("ready", **facts.as_json())


class TerminalReporter:
    """Lines for people."""

    def __init__(self, console: Console) -> None:
        self._console: Console | None = console

    def event(self, event: str, **facts: Any) -> None:
        line = self._line(event, facts)
        if line:
            self._print(line)

    def ready(self, facts: Facts) -> None:
        for drawn in draw(facts):
            self._print(drawn)

    def _print(self, drawn: Any) -> None:
        if self._console is None:
            return
        try:
            self._console.print(drawn, soft_wrap=True, highlight=False)
        except OSError:
            self._console = None

    def _line(self, event: str, facts: dict[str, Any]) -> str:
        if event == "started":
            part, version, source = facts["part"], facts["version"], facts["source"]
            return f"  {GOOD}  {part:<9} {version:<14} {source:<6} {facts['seconds']:.1f} s"
        if event in ("node", "part"):
            name, state = facts["name"], facts["state"]
            mark = {"ready": GOOD, "left": GOOD, "dead": BAD, "unready": BAD}.get(state, NEUTRAL)
            return f"  {mark}  {name:<9} {state}"
        if event == "stopping":
            return "\n  stopping: the nodes drain; again (Ctrl-C) stops at once"
        if event == "stopped":
            return "  stopped; the data is kept"
        return f"  {BAD}  {escape(str(facts.get('message', event)))}"

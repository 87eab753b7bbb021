"""Which process runs on which core, what it costs there, and what machine this is.

A child inherits the cores of the thread that starts it, so `on` is put around a start. Where the system has no
affinity (it is Linux's), nothing is pinned and the report says so.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Place = Literal["server", "load", "both"]
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """The core under test, and the one for what it is tested with. Empty sets: nothing is pinned."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def choose(cls) -> Cores:
        """The first two this process may use; with one alone, both are that one."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(frozenset(), frozenset())
        allowed = sorted(os.sched_getaffinity(0))
        return cls(frozenset(allowed[:1]), frozenset(allowed[1:2] or allowed[:1]))

    def of(self, place: Place) -> frozenset[int]:
        return {"server": self.server, "load": self.load, "both": self.server | self.load}[place]

    def as_json(self) -> dict[str, Any]:
        return {"server": sorted(self.server), "load": sorted(self.load), "pinned": bool(self.server)}

    @contextlib.contextmanager
    def on(self, place: Place) -> Iterator[None]:
        """What is started inside runs on these cores, and so do its children."""
        wanted = self.of(place)
        if not wanted:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, wanted)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process and all that descend from it, as /proc shows them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = _fields(entry)
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found = [pid]
    for each in found:  # grows while it is gone through
        found += children.get(each, [])
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that processes and their descendants, the ended and waited-for ones too, have used."""
    return sum(_cpu_s(each) for pid in pids for each in family(pid))


def _cpu_s(pid: int) -> float:
    try:
        fields = _fields(Path(f"/proc/{pid}/stat"))
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in fields[11:15]) / TICKS_A_SECOND


def _fields(stat: Path) -> list[str]:
    """From the third on: the second, the command, is in parentheses and may hold anything."""
    return stat.read_text(errors="replace").rpartition(")")[2].split()


def machine() -> dict[str, Any]:
    """What the figures were measured on. The load average tells whether the machine was quiet."""
    return {
        "cores": os.cpu_count(),
        "model": _model(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def _model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "?"

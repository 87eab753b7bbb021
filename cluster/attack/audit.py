"""What was counted against what was sent. Pure: a history in, findings out. It needs nothing from inside.

An acknowledged increment (204) must be counted exactly once. A refused one (4xx but 429, or 503 that says
`counted: false`) must not be counted. One of unknown outcome (timeout, reset, 429, other 5xx) may be counted
once or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from cluster.attack.plan import BASE, DIGITS


class Outcome(Enum):
    """What the client knows of one increment."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class KeyHistory:
    """All that was sent on one key: sums by outcome, and for a digit key the outcome of each place."""

    sums: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    places: dict[int, Outcome] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One key whose value cannot be explained by what was sent; `lost` and `doubled` are increments."""

    key: str
    value: int
    lost: int
    doubled: int
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings, and the totals in increments. On a plain key one unit is one increment."""

    counted: int
    findings: tuple[Finding, ...]

    @property
    def lost(self) -> int:
        return sum(finding.lost for finding in self.findings)

    @property
    def doubled(self) -> int:
        return sum(finding.doubled for finding in self.findings)

    @property
    def exact(self) -> bool:
        return not self.findings


class History:
    """What was sent and what came back, by key. A key is a digit key by its first increment."""

    def __init__(self) -> None:
        self.keys: dict[str, KeyHistory] = {}

    def add(self, key: str, value: int, outcome: Outcome, *, digit: bool) -> None:
        """Record one increment. ValueError for a place of a digit key that was sent before."""
        told = self.keys.get(key)
        if told is None:
            told = self.keys[key] = KeyHistory(places={} if digit else None)
        told.sums[outcome] += value
        if told.places is None:
            return
        place = (value.bit_length() - 1) // 3
        if value != BASE**place or place in told.places:
            raise ValueError(f"{key}: {value} is no new power of {BASE}")
        told.places[place] = outcome


def audit(history: History, values: Mapping[str, int]) -> Verdict:
    """Compare with what the cluster (or Postgres) says. A key missing from `values` has the value 0 here."""
    counted, findings = 0, []
    for key, told in history.keys.items():
        value = values.get(key, 0)
        if told.places is None:
            counted += value
            finding = _plain(key, told, value)
        else:
            counted += sum(digits(value))
            finding = _named(key, told.places, value)
        if finding is not None:
            findings.append(finding)
    return Verdict(counted, tuple(findings))


def _plain(key: str, told: KeyHistory, value: int) -> Finding | None:
    least = told.sums[Outcome.ACKNOWLEDGED]
    most = least + told.sums[Outcome.UNKNOWN]
    if least <= value <= most:
        return None
    detail = f"{value} is not from {least} (acknowledged) to {most} (and of unknown outcome)"
    return Finding(key, value, max(0, least - value), max(0, value - most), detail)


def _named(key: str, places: Mapping[int, Outcome], value: int) -> Finding | None:
    lost, doubled, said = 0, 0, []
    for place, times in enumerate(digits(value)):
        least, most = _allowed(places.get(place))
        if least <= times <= most:
            continue
        lost += max(0, least - times)
        doubled += max(0, times - most)
        outcome = places[place].value if place in places else "never sent"
        said.append(f"{BASE}^{place} ({outcome}) counted {times} times")
    if not said:
        return None
    return Finding(key, value, lost, doubled, "; ".join(said))


def _allowed(outcome: Outcome | None) -> tuple[int, int]:
    """How often an increment of this outcome may be counted: at least, at most."""
    if outcome is Outcome.ACKNOWLEDGED:
        return 1, 1
    return (0, 1) if outcome is Outcome.UNKNOWN else (0, 0)


def digits(value: int) -> list[int]:
    """How often each power is in the value, lowest first; the last one may exceed 7."""
    found = []
    for _ in range(DIGITS - 1):
        value, digit = divmod(value, BASE)
        found.append(digit)
    return [*found, value]

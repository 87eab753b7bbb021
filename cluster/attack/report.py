"""What an attack says at its end: one value, shown as a small table or as one JSON object."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from cluster.attack.audit import Outcome, Verdict
from cluster.attack.faults import Happened, by_kind
from cluster.attack.load import Tally

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
MAX_FINDINGS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Report:
    """The load, the audit of the public port and, where Postgres was asked, of its rows."""

    run: str
    seconds: float
    tally: Tally
    public: Verdict
    postgres: Verdict | None
    unsettled: int  # keys whose row differs from the public value at the deadline
    faults: Sequence[Happened] | None = None  # that happened; None when none was asked for

    @property
    def audit_passed(self) -> bool:
        """Nothing lost, nothing doubled, nothing read that cannot be. A run that shows nothing does not pass."""
        settled = self.postgres is None or (self.postgres.exact and self.unsettled == 0)
        shows = self.tally.outcomes[Outcome.ACKNOWLEDGED] > 0 and (self.faults is None or len(self.faults) > 0)
        return shows and self.public.exact and settled and not self.tally.bounds.wrong

    @property
    def lost(self) -> int:
        return max(self.public.lost, self.postgres.lost if self.postgres else 0)

    @property
    def doubled(self) -> int:
        return max(self.public.doubled, self.postgres.doubled if self.postgres else 0)

    def as_json(self) -> dict[str, Any]:
        """One JSON object; counts are increments, latencies milliseconds."""
        tally = self.tally
        return {
            "run": self.run,
            "seconds": round(self.seconds, 3),
            "sent": tally.sent,
            "acknowledged": tally.outcomes[Outcome.ACKNOWLEDGED],
            "failed": tally.failed,
            "unknown": tally.outcomes[Outcome.UNKNOWN],
            "resent": tally.resent,
            "replayed": tally.replayed,
            "counted": self.public.counted,
            "settled": self.postgres.counted if self.postgres else None,
            "unsettled_keys": self.unsettled,
            "lost": self.lost,
            "doubled": self.doubled,
            "reads": tally.bounds.reads,
            "unread": tally.unread,
            "wrong_reads": [str(wrong) for wrong in tally.bounds.wrong[:MAX_FINDINGS_SHOWN]],
            "audit": "passed" if self.audit_passed else "failed",
            "faults": None if self.faults is None else [str(fault) for fault in self.faults],
            "fault_kinds": None if self.faults is None else by_kind(self.faults),
            "keys": len(tally.history.keys),
            "answers": dict(sorted(tally.answers.items())),
            "latency_ms": latencies_ms(tally.latencies_s),
            "waited_for_a_connection": tally.waited,
            "failures": tally.failures,
            "findings": [*_findings("counted", self.public), *_findings("settled", self.postgres)],
        }

    def as_text(self) -> str:
        """The table a person reads."""
        said = self.as_json()
        shown = {name: said[name] for name in ("sent", "acknowledged", "failed", "unknown", "counted")}
        shown["settled"] = "not asked" if self.postgres is None else said["settled"]
        shown |= {"lost": self.lost, "doubled": self.doubled}
        lines = [f"  {name:<13}{number:>12}" for name, number in shown.items()]
        lines.append("  answers      " + ", ".join(f"{name}: {n}" for name, n in said["answers"].items()))
        lines.append("  latency ms   " + _pairs(said["latency_ms"]))
        lines += self._remarks()
        lines += [f"  failed: {failure}" for failure in self.tally.failures]
        lines += [f"  {found['where']}: {found['key']}: {found['detail']}" for found in said["findings"]]
        lines += [f"  wrong: {wrong}" for wrong in said["wrong_reads"]]
        return "\n".join([*lines, *self._faults_table(), f"  audit {said['audit']}"])

    def _faults_table(self) -> list[str]:
        if self.faults is None:
            return []
        table = [f"  {name:<24}{times:>4}" for name, times in sorted(by_kind(self.faults).items())]
        return [*table, f"  {'faults':<24}{len(self.faults):>4}"]

    def _remarks(self) -> list[str]:
        remarks = []
        if self.tally.bounds.reads:
            remarks.append(f"  {self.tally.bounds.reads} reads meanwhile, {len(self.tally.bounds.wrong)} wrong")
        if self.tally.outcomes[Outcome.ACKNOWLEDGED] == 0:
            remarks.append("  nothing was acknowledged, so nothing is shown: see `python3 -m cluster status`")
        if self.faults is not None and not self.faults:
            remarks.append("  no fault happened, so nothing is shown")
        if self.tally.resent:
            remarks.append(
                f"  {self.tally.resent} of unknown outcome were sent again under their keys: each counts once"
            )
        if self.tally.replayed:
            remarks.append(f"  {self.tally.replayed} had counted at a first try of nginx and were not counted twice")
        if self.tally.waited:
            remarks.append(f"  {self.tally.waited} were sent late: all --connections were in flight")
        if self.unsettled:
            remarks.append(f"  {self.unsettled} keys differ in Postgres from what the public port says")
        return remarks


def latencies_ms(latencies_s: array[float]) -> dict[str, float]:
    """Percentiles by nearest rank, and the largest, in milliseconds. Empty without a request."""
    ordered = sorted(latencies_s)
    if not ordered:
        return {}
    named = {f"p{percent:g}": ordered[rank(percent, len(ordered))] for percent in PERCENTILES}
    return {name: round(1000 * seconds, 3) for name, seconds in {**named, "max": ordered[-1]}.items()}


def rank(percent: float, size: int) -> int:
    """The index of a percentile among `size` ordered values."""
    return max(0, ceil(round(percent * size / 100, 6)) - 1)


def progress(elapsed_s: float, tally: Tally) -> str:
    """One line while it runs."""
    recent = sorted(tally.latencies_s[-2000:])
    p99 = 1000 * recent[rank(99, len(recent))] if recent else 0.0
    acknowledged = tally.outcomes[Outcome.ACKNOWLEDGED]
    return (
        f"{elapsed_s:5.0f} s  sent {tally.sent}  acknowledged {acknowledged}  failed {tally.failed}  "
        f"in flight {tally.in_flight}  p99 {p99:.1f} ms"
    )


def _findings(where: str, verdict: Verdict | None) -> Sequence[Mapping[str, Any]]:
    shown = verdict.findings[:MAX_FINDINGS_SHOWN] if verdict else ()
    return [
        {
            "where": where,
            "key": found.key,
            "value": found.value,
            "lost": found.lost,
            "doubled": found.doubled,
            "detail": found.detail,
        }
        for found in shown
    ]


def _pairs(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:g}" for name, value in values.items())

"""What is said at the end."""

from __future__ import annotations

import json
from array import array
from dataclasses import replace

from cluster.attack.audit import Outcome, Verdict, audit
from cluster.attack.faults import Happened, Kind
from cluster.attack.load import Tally
from cluster.attack.report import Report, latencies_ms, progress


def tally(acknowledged: int = 3, failed: int = 0) -> Tally:
    made = Tally(sent=acknowledged + failed)
    for outcome, times in ((Outcome.ACKNOWLEDGED, acknowledged), (Outcome.REFUSED, failed)):
        made.outcomes[outcome] += times
        for _ in range(times):
            made.history.add("k", 1, outcome, digit=False)
    made.answers["204"] = acknowledged
    made.latencies_s = array("d", [0.001] * made.sent)
    return made


def report(value: int, row: int | None = None, unsettled: int = 0) -> Report:
    made = tally()
    rows = None if row is None else audit(made.history, {"k": row})
    return Report("run", 1.0, made, audit(made.history, {"k": value}), rows, unsettled)


def test_percentiles_are_by_nearest_rank() -> None:
    assert latencies_ms(array("d", [i / 1000 for i in range(1, 1001)])) == {
        "p50": 500.0,
        "p90": 900.0,
        "p99": 990.0,
        "p99.9": 999.0,
        "max": 1000.0,
    }
    assert latencies_ms(array("d", [0.002]))["p50"] == 2.0
    assert latencies_ms(array("d")) == {}


def test_an_exact_run_passes() -> None:
    said = report(3, 3).as_json()
    assert {name: said[name] for name in ("sent", "acknowledged", "counted", "settled")} == dict.fromkeys(
        ("sent", "acknowledged", "counted", "settled"), 3
    )
    assert (said["lost"], said["doubled"], said["audit"]) == (0, 0, "passed")
    json.dumps(said)


def test_the_audit_fails_for_a_loss_a_double_or_a_row_that_never_settled() -> None:
    assert report(3).audit_passed
    assert not report(2, 2).audit_passed
    assert not report(4).audit_passed
    assert not report(3, 2).audit_passed
    assert not report(3, 3, unsettled=1).audit_passed
    assert report(3, 2).lost == 1


def test_the_table_names_each_number_and_each_finding() -> None:
    text = report(2, 3).as_text()
    for word in ("sent", "acknowledged", "counted", "settled", "lost", "doubled", "p99.9", "audit failed"):
        assert word in text
    assert "counted: k: 2 is not from 3" in text


def test_without_postgres_the_table_says_so() -> None:
    assert "not asked" in report(3).as_text()


def test_the_progress_line_tells_failures() -> None:
    assert "failed 2" in progress(1.0, tally(3, 2))
    assert "sent 0" in progress(1.0, Tally())


def test_many_findings_are_shown_in_part() -> None:
    made = Tally()
    for number in range(100):
        made.history.add(f"k{number}", 1, Outcome.ACKNOWLEDGED, digit=False)
    verdict = audit(made.history, {})
    shown = Report("run", 1.0, made, verdict, None, 0).as_json()
    assert (shown["lost"], len(shown["findings"])) == (100, 20)
    assert Verdict(0, ()).exact


def test_a_run_that_shows_nothing_does_not_pass() -> None:
    nothing = tally(acknowledged=0, failed=3)
    made = Report("run", 1.0, nothing, audit(nothing.history, {}), None, 0)
    assert made.public.exact
    assert not made.audit_passed
    assert "nothing was acknowledged" in made.as_text()
    assert not replace(report(3), faults=[]).audit_passed
    assert "no fault happened" in replace(report(3), faults=[]).as_text()


def test_the_faults_that_happened_are_told_one_by_one_and_by_kind() -> None:
    made = replace(report(3), faults=[Happened(1.0, Kind.KILL, "n1"), Happened(2.0, Kind.KILL, "n2")])
    assert made.audit_passed
    assert made.as_json()["faults"] == ["  1.0 s  node killed: n1", "  2.0 s  node killed: n2"]
    assert made.as_json()["fault_kinds"] == {"node killed": 2}
    assert "node killed                2" in made.as_text()


def test_a_wrong_read_fails_the_audit() -> None:
    made = report(3)
    made.tally.bounds.sent("k", 3)
    made.tally.bounds.end("k", made.tally.bounds.begin("k"), 2)
    assert not made.audit_passed
    assert "a read of k says 2, which is not from 3 to 3" in made.as_text()

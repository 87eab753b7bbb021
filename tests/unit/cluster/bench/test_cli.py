"""The command, without measuring."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from cluster.bench import cli, report
from cluster.bench.growth import GROWTHS
from cluster.bench.rows import ROWS


def run_of(*rows: dict[str, object]) -> dict[str, object]:
    told: dict[str, object] = {"machine": {"cores": 2, "model": "m", "kernel": "k", "load_average_before": 0.1}}
    told |= {"cores": {"server": [0], "load": [1], "pinned": True}, "versions": {"python": "3"}, "durability": "fsync"}
    growth = {"name": "g", "title": "nodes", "points": [{"label": "1", "figures": {"us": 2.5}}], "problem": None}
    return told | {"rounds": 1, "seconds": 1, "rows": list(rows), "growth": [growth]}


def row_of(**changes: object) -> dict[str, object]:
    told: dict[str, object] = {"name": "r", "title": "POST", "against": "webdis", "unit": "increments/s"}
    told |= {"cores": "c", "ids": "none", "goal": 1.0, "floor": 0.5, "verdict": "goal", "problem": None}
    return told | {"ours_median": 2000.0, "peer_median": 1000.0, "min": 1.9, "median": 2.0, "max": 2.1} | changes


def drawn(run: dict[str, object]) -> str:
    console = Console(width=cli.WIDTH, file=io.StringIO(), record=True)
    for part in report.draw(run):
        console.print(part)
    return console.export_text()


def test_the_list_names_every_row() -> None:
    said = CliRunner().invoke(cli.bench, ["--list"]).output
    assert [line.split()[0] for line in said.splitlines()] == [each.name for each in (*ROWS, *GROWTHS)]


def test_an_unknown_row_is_refused_with_those_there_are() -> None:
    result = CliRunner().invoke(cli.bench, ["--rows", "post-hot,nonsense"])
    assert result.exit_code == 2
    assert "nonsense" in result.output
    assert "post-1000" in result.output


def test_rows_come_in_our_order_and_growths_by_name() -> None:
    rows, growths = cli.choose("p99, nodes,post-hot")
    assert [each.name for each in rows] == ["post-hot", "p99"]
    assert [each.name for each in growths] == ["nodes"]


def test_the_table_has_ratios_cores_versions_and_durability() -> None:
    said = drawn(run_of(row_of()))
    for part in ("2,000/s", "1,000/s", "1.90", "2.00", "2.10", "goal", "server core [0]", "python 3", "fsync", "2.5"):
        assert part in said


def test_a_row_that_failed_has_its_reason_and_no_figures() -> None:
    row = row_of(verdict="failed", problem="503 came")
    for name in ("ours_median", "peer_median", "min", "median", "max"):
        del row[name]
    assert "r failed: 503 came" in drawn(run_of(row))


@pytest.mark.parametrize(("verdict", "code"), [("below", 0), ("left out", 0), ("failed", 1)])
def test_only_a_failed_row_makes_the_exit_code_1(monkeypatch: pytest.MonkeyPatch, verdict: str, code: int) -> None:
    async def measure(*_: object) -> dict[str, object]:
        return run_of(row_of(verdict=verdict))

    monkeypatch.setattr(cli, "measure", measure)
    result = CliRunner().invoke(cli.bench, ["--json", "--rounds", "1"])
    assert result.exit_code == code
    assert json.loads(result.stdout)["rows"][0]["verdict"] == verdict


def test_a_run_without_what_the_page_needs_says_so(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(run_of()))
    result = CliRunner().invoke(cli.bench, ["--capacity", str(file)])
    assert result.exit_code == 1
    assert "--rows costs,keys,stall,ids" in result.output

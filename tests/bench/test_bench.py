"""That the benchmark runs. Not how fast anything is: figures are printed, and judged by people."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.bench.rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 170
pytestmark = pytest.mark.cluster


def run(rows: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cluster", "bench", "--rounds", "1", "--seconds", "1", "--json", "--rows", rows]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_rows_are_measured_beside_every_kind_of_peer() -> None:
    """webdis may be missing: then its rows are left out, and the reason says how to get it."""
    names = ["post-ids", "post-naive", "batch", "batch-ids", "p99", "limit-nginx"]
    told = run(",".join(names))
    assert [row["name"] for row in told["rows"]] == names
    for row in told["rows"]:
        if row["verdict"] == "left out":
            assert "webdis" in row["against"]
            assert "apt-get install webdis" in row["problem"]
        else:
            assert row["min"] == row["median"] == row["max"] > 0
            assert len(row["ours"]) == len(row["peer"]) == 1
    assert told["machine"]["cores"] >= 1
    assert told["versions"]["redis"] != "-"
    assert "always" in told["durability"]


def test_how_cost_grows_is_measured() -> None:
    told = run("settle,nodes")
    settle, nodes = told["rows"][0], told["growth"][0]
    assert settle["verdict"] != "failed"
    assert [point["label"] for point in nodes["points"]] == ["1", "2", "3", "5"]
    assert all(point["figures"]["node us"] > 0 for point in nodes["points"])


def test_every_row_of_the_programs_here_says_what_it_is_against() -> None:
    assert all(row.against and row.cores for row in ROWS)

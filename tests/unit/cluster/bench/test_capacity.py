"""The arithmetic, and that the page beside the figures is the one they give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.bench import capacity
from cluster.bench.capacity import Cost, cores, rows_a_second

DEPLOY = Path(__file__).resolve().parents[4] / "deploy"


def test_cores_are_time_over_what_a_core_may_be_busy() -> None:
    assert cores(100_000, 6.0) == 1  # 0.6 s of work a second
    assert cores(100_001, 6.0) == 2
    assert cores(1, 0.001) == 1
    assert Cost("x", 20, 5).nodes(1_000_000) == 34
    assert Cost("x", 20, 5).shards(1_000_000) == 9


def test_a_key_is_one_row_an_interval_however_often_it_changes() -> None:
    assert rows_a_second(1_000_000, 1000, 5) == 200
    assert rows_a_second(100, 1_000_000, 5) == 100


def test_a_run_that_lacks_the_figures_says_which_rows_to_measure() -> None:
    with pytest.raises(ValueError, match="--rows costs,keys,stall,ids"):
        capacity.page({"growth": []})


def test_the_page_is_the_one_that_its_run_gives() -> None:
    run = json.loads((DEPLOY / "capacity.json").read_text(encoding="utf-8"))
    assert (DEPLOY / "CAPACITY.md").read_text(encoding="utf-8") == capacity.page(run)

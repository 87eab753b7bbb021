"""A row's verdict, and that what goes wrong in one does not end the others."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from cluster.bench.load import Load, LoadFailed, Sample
from cluster.bench.ours import Bench, check_counted
from cluster.bench.peers import PeerMissing, parse_redis_benchmark
from cluster.bench.rounds import Result, play
from cluster.bench.rows import ROWS, Contest, Row

BENCH = cast("Bench", None)


def row(prepare: Any = None, goal: float | None = 1.0, floor: float | None = 0.5, lower: bool = False) -> Row:
    return Row("r", "ours", "theirs", goal, floor, prepare, lower_is_better=lower)


@pytest.mark.parametrize(
    ("ours", "lower", "verdict"),
    [(10, False, "goal"), (6, False, "floor"), (4, False, "below"), (10, True, "goal"), (30, True, "below")],
)
def test_the_median_ratio_decides(ours: float, lower: bool, verdict: str) -> None:
    result = Result(row(lower=lower, floor=2.0 if lower else 0.5), [ours, ours, 0], [10, 10, 10])
    assert result.verdict == verdict


async def test_the_sides_take_turns() -> None:
    turns = []

    def side(name: str, figure: float) -> Any:
        async def measure(_: float) -> Sample:
            turns.append(name)
            return Sample(1, 1.0, figure)

        return measure

    async def prepare(_bench: Bench, _stack: AsyncExitStack) -> Contest:
        return side("ours", 3), side("peer", 2)

    result = await play(BENCH, row(prepare), 3, 1, lambda _: None)
    assert turns == ["ours", "peer"] * 3
    assert result.as_json()["median"] == 1.5


@pytest.mark.parametrize(("error", "verdict"), [(PeerMissing("get it"), "left out"), (LoadFailed("503"), "failed")])
async def test_trouble_is_told_in_place_of_figures(error: Exception, verdict: str) -> None:
    async def prepare(_bench: Bench, _stack: AsyncExitStack) -> Contest:
        raise error

    told = (await play(BENCH, row(prepare), 3, 1, lambda _: None)).as_json()
    assert (told["verdict"], told["problem"]) == (verdict, str(error))
    assert "median" not in told


def test_what_was_answered_must_be_counted_and_hardly_more() -> None:
    load, sample = Load("POST", "/", weight=10, connections=2), Sample(100, 1.0, 1000)
    for counted in (1000, 1020):
        check_counted(load, sample, counted)
    for counted in (999, 1021):
        with pytest.raises(LoadFailed, match=str(counted)):
            check_counted(load, sample, counted)


def test_redis_benchmark_tells_its_rate_in_the_second_cell() -> None:
    said = '"test","rps","avg"\n"HINCRBY h f:__rand_int__ 1","843881.88","3.6"\n'
    assert parse_redis_benchmark(said, 1000).figure == 843881.88
    with pytest.raises(LoadFailed):
        parse_redis_benchmark('"HINCRBY h","0.00"', 1000)


def test_rows_have_names_of_their_own_and_floors_below_goals() -> None:
    assert len({each.name for each in ROWS}) == len(ROWS)
    for each in ROWS:
        if each.goal is not None and each.floor is not None:
            assert (each.floor > each.goal) is each.lower_is_better

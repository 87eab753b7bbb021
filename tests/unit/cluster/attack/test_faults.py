"""The plan of faults."""

from __future__ import annotations

import pytest

from cluster.attack.faults import COMING_BACK, POINTS, Happened, Kind, by_kind, plan_faults
from node.points import POINTS as KNOWN

ALL = list(Kind)


def test_a_minute_has_at_least_ten_faults_of_every_kind_in_time() -> None:
    for seed in range(50):
        faults = plan_faults(seed, 60, ALL)
        assert len(faults) >= 10
        assert {fault.kind for fault in faults} == set(ALL)
        times = [fault.at_s for fault in faults]
        assert times == sorted(times)
        assert 0 < times[0] < times[-1] < 60


def test_a_short_attack_has_a_fault_too_and_one_without_room_is_refused() -> None:
    assert len(plan_faults(1, 5, ALL)) == 1
    with pytest.raises(ValueError, match="more than 4 s"):
        plan_faults(1, 4, ALL)
    with pytest.raises(ValueError, match="faults need"):
        plan_faults(1, 60, [])


def test_a_seed_gives_the_same_plan_again_and_another_gives_another() -> None:
    assert plan_faults(7, 60, ALL) == plan_faults(7, 60, ALL) != plan_faults(8, 60, ALL)


def test_only_kinds_that_can_happen_are_planned() -> None:
    assert {fault.kind for fault in plan_faults(1, 60, [Kind.KILL, Kind.FLAP])} == {Kind.KILL, Kind.FLAP}


def test_a_point_is_one_that_a_node_knows_and_is_not_armed_for_its_own_start() -> None:
    assert set(POINTS) <= set(KNOWN)
    for seed in range(100):
        for fault in plan_faults(seed, 60, ALL):
            name, _, passes = fault.point.partition(":")
            assert bool(name) == (fault.kind is Kind.POINT)
            assert name not in COMING_BACK or int(passes) > 1


def test_what_happened_is_told_with_its_time_and_summed_by_kind() -> None:
    happened = [Happened(3.21, Kind.KILL, "n1, pid 5"), Happened(9.0, Kind.KILL, "n2, pid 6")]
    assert str(happened[0]) == "  3.2 s  node killed: n1, pid 5"
    assert by_kind(happened) == {"node killed": 2}

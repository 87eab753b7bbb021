"""Who is taken for dead, and who might only have been missed."""

from __future__ import annotations

from node.absence import APART_MAX_S, Absence


def test_who_is_missing_for_longer_than_a_lease_is_dead() -> None:
    absence = Absence(3.0)
    assert absence.dead(["n1"], 0.0) == []
    assert absence.dead(["n1", "n2"], 3.0) == []
    assert absence.dead(["n1", "n2"], 3.5) == ["n1"]
    assert absence.dead(["n2"], 6.5) == ["n2"]


def test_who_was_seen_meanwhile_is_not() -> None:
    absence = Absence(3.0)
    assert [absence.dead(missing, now) for now, missing in enumerate([["n1"], ["n1"], [], ["n1"], ["n1"]])] == [[]] * 5
    assert absence.dead(["n1"], 6.5) == ["n1"]


def test_what_was_seen_before_it_was_forgotten_does_not_count() -> None:
    absence = Absence(3.0)
    absence.dead(["n1"], 0.0)
    absence.forget()
    assert absence.dead(["n1"], 4.0) == []
    assert absence.dead(["n1"], 7.5) == ["n1"]


def test_a_time_in_which_nobody_looked_does_not_count() -> None:
    for dead_after_s, apart_max_s in ((3.0, APART_MAX_S), (600.0, 600.0)):
        absence = Absence(dead_after_s)
        absence.dead(["n1"], 0.0)
        assert absence.dead(["n1"], apart_max_s + 1) == []
        assert absence.dead(["n1"], apart_max_s + 1 + dead_after_s) == []
        assert absence.dead(["n1"], apart_max_s + 2 + dead_after_s) == ["n1"]

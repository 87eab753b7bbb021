"""Kill points, without dying: the process that ends itself is in tests/faults."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from node import points
from node.points import Point, arm, reach


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """What was sent to whom."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    yield sent
    arm("")


def test_nothing_happens_at_a_point_that_is_not_armed(killed: list[tuple[int, int]]) -> None:
    reach("sealed")
    arm("settled:1")
    reach("sealed")
    assert killed == []


def test_the_process_ends_at_the_pass_that_was_asked_for(killed: list[tuple[int, int]]) -> None:
    arm("sealed:3")
    reach("sealed")
    reach("dropped")
    reach("sealed")
    assert killed == []
    reach("sealed")
    assert killed == [(os.getpid(), signal.SIGKILL)]


def test_without_a_number_it_is_the_first_pass() -> None:
    assert Point.parse("sealed") == ("sealed", 1)
    assert Point.parse("sealed:12") == ("sealed", 12)


@pytest.mark.parametrize("text", ["", "nowhere:1", "sealed:0", "sealed:-1", "sealed:x", "sealed:²", "Sealed:1"])
def test_what_is_no_point_is_an_error_that_lists_them(text: str) -> None:
    with pytest.raises(ValueError, match="append-sent"):
        Point.parse(text)


def test_points_are_told_what_they_stand_for() -> None:
    assert all(what and name == name.lower() for name, what in points.POINTS.items())

"""Members at an epoch, and what changes between two."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from cluster.view import Change, Member, State, View, change


def member(name: str, state: State = "ready") -> Member:
    return Member(f"{name}-000001", name, f"http://127.0.0.1/{name}", "http://127.0.0.1", 1, state)


def test_only_ready_members_take_requests_and_own_partitions() -> None:
    view = View(7, (member("n1"), member("n2", "draining"), member("n3", "starting"), member("n4")))
    assert [each.name for each in view.ready] == ["n1", "n4"]
    ring = view.ring(64)
    assert ring.owned_by("n1-000001") | ring.owned_by("n4-000001") == set(range(64))
    assert not ring.owned_by("n2-000001") | ring.owned_by("n3-000001")


def test_a_view_without_a_ready_member_has_a_ring_without_owners() -> None:
    assert View(0).ready == ()
    assert View(1, (member("n1", "draining"),)).ring(8).owner_of(3) is None


def test_the_ring_depends_on_who_is_ready_and_not_on_the_epoch_or_addresses() -> None:
    one = View(1, (member("n1"), member("n2")))
    other = View(9, (replace(member("n1"), url="http://elsewhere", pid=9), member("n2"), member("n3", "draining")))
    assert [one.ring(64).owner_of(p) for p in range(64)] == [other.ring(64).owner_of(p) for p in range(64)]


def test_members_that_are_not_willing_own_nothing_and_are_ready_all_the_same() -> None:
    cut_off = replace(member("n2"), willing=False)
    view = View(3, (member("n1"), cut_off, replace(member("n3", "draining"), willing=True)))
    assert cut_off in view.ready
    assert view.ring(64).owned_by("n1-000001") == set(range(64))


def test_where_nobody_is_willing_all_own_what_they_owned() -> None:
    usual = View(1, (member("n1"), member("n2")))
    unwilling = View(2, tuple(replace(each, willing=False) for each in usual.members))
    assert [unwilling.ring(64).owner_of(p) for p in range(64)] == [usual.ring(64).owner_of(p) for p in range(64)]


def test_members_sort_by_id() -> None:
    assert [each.name for each in sorted([member("n2"), member("n10"), member("n1")])] == ["n1", "n10", "n2"]


def test_a_members_new_state_is_a_new_member_with_all_else_the_same() -> None:
    before = member("n1", "starting")
    assert before.becoming("ready") == member("n1", "ready")
    assert before.state == "starting"
    with pytest.raises(FrozenInstanceError):
        before.state = "ready"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "gained", "lost"),
    [
        ({1, 2}, {2, 3}, {3}, {1}),
        (set(), {1, 2}, {1, 2}, set()),
        ({1, 2}, set(), set(), {1, 2}),
        ({1}, {1}, set(), set()),
        (set(), set(), set(), set()),
    ],
)
def test_a_change_is_what_was_gained_and_lost(old: set[int], new: set[int], gained: set[int], lost: set[int]) -> None:
    difference = change(frozenset(old), frozenset(new))
    assert difference == Change(frozenset(gained), frozenset(lost))
    assert bool(difference) == (old != new)
